package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/snapshot"
	"github.com/akidb/akigw/snapshot/s3"
)

// catalog adapts the catalog of a gateway for package snapshot.
type catalog struct{ *placement.Catalog }

// Entries implements snapshot.Catalog.
func (c catalog) Entries(ctx context.Context, yield func(*akigw.CatalogEntry) bool) error {
	return c.Each(ctx, akigw.Pattern{}, yield)
}

// openSnapshots opens the snapshots of a gateway.
func openSnapshots(c *Config, s *storage, i *instruments) (*snapshot.Store, error) {
	o := snapshot.Options{Config: c.Snapshot, Dir: c.Snapshot.Dir, Gateway: gatewayID(c.path("gateway-id"), i.log), Catalog: catalog{s.placement.Catalog}, Log: i.log, Metrics: i.metrics}
	if o.Dir == "" {
		o.Dir = c.path("snapshots")
	}
	if c.Snapshot.Upload != "" {
		bucket, prefix, err := snapshot.Place(c.Snapshot.Upload)
		if err != nil {
			return nil, fmt.Errorf("snapshot.upload: %w", err)
		}
		if prefix != "" && !strings.HasSuffix(prefix, "/") {
			prefix += "/"
		}
		begin := func(key akigw.Key) func() { return s.store.Begin(key).End }
		o.Remote = &s3.Remote{Bucket: bucket, Prefix: prefix, Upstream: s.upstream, Sender: s.writes, Begin: begin}
	}
	return snapshot.Open(o), nil
}

// restore fills the catalog from a snapshot. The returned task fetches the most used objects while the
// gateway serves requests.
func (s *storage) restore(ctx context.Context, id string, rate int64, log *slog.Logger) (refetch func(context.Context) error, err error) {
	started := time.Now()
	i, err := s.snapshots.Find(id)
	if errors.Is(err, snapshot.ErrNone) && s.snapshots.Remote != nil {
		i, err = s.snapshots.Fetch(ctx, id)
	}
	if err != nil {
		return nil, fmt.Errorf("--restore %s: %w", id, err)
	}
	restored, err := s.placement.Restore(ctx, func(yield func(akigw.CatalogEntry) bool) error { return s.snapshots.Read(ctx, i, yield) })
	if err != nil {
		return nil, fmt.Errorf("--restore %s: %w", id, err)
	}
	log.Info("restored the catalog from a snapshot; each object is validated before it is served", "id", i.ID, "objects", restored.Objects, "known", restored.Known, "seconds", time.Since(started).Seconds())
	return func(ctx context.Context) error {
		var last placement.PrefetchProgress
		err := s.placement.Refetch(ctx, restored, rate, func(p placement.PrefetchProgress) { last = p })
		if ctx.Err() == nil {
			log.Info("fetched the objects that were most used before the snapshot", "objects", last.Fetched, "bytes", last.Bytes, "already", last.Already, "failed", last.Failed, "error", err)
		}
		return nil
	}, nil
}
