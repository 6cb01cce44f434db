package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/snapshot"
	"github.com/akidb/akigw/snapshot/s3"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/writeback"
)

// catalog is the catalog of a gateway as snapshots want it.
type catalog struct{ *placement.Catalog }

// Entries implements snapshot.Catalog.
func (c catalog) Entries(ctx context.Context, yield func(*akigw.CatalogEntry) bool) error {
	return c.Each(ctx, akigw.Pattern{}, yield)
}

// openSnapshots makes the snapshots of a gateway.
func openSnapshots(c *config, store *tiers.Store, upstream cold.Doer, writes *writeback.WriteBack, place *placement.Placement, log *slog.Logger) (*snapshot.Store, error) {
	s := &snapshot.Store{Config: c.Snapshot, Dir: c.Snapshot.Dir, Gateway: gatewayID(filepath.Join(c.Process.Data, "gateway-id"), log), Catalog: catalog{place.Catalog}, Log: log}
	if s.Dir == "" {
		s.Dir = filepath.Join(c.Process.Data, "snapshots")
	}
	if c.Snapshot.Upload != "" {
		bucket, prefix, err := snapshot.Place(c.Snapshot.Upload)
		if err != nil {
			return nil, fmt.Errorf("snapshot.upload: %w", err)
		}
		if prefix != "" && !strings.HasSuffix(prefix, "/") {
			prefix += "/"
		}
		begin := func(key akigw.Key) func() { return store.Begin(key).End }
		s.Remote = &s3.Remote{Bucket: bucket, Prefix: prefix, Upstream: upstream, Sender: writes, Begin: begin}
	}
	s.Open()
	return s, nil
}

// gatewayID is what snapshots know this gateway by: made once, and kept. One that cannot be kept
// is for this run alone.
func gatewayID(path string, log *slog.Logger) string {
	raw, err := os.ReadFile(path)
	if id := strings.TrimSpace(string(raw)); err == nil && id != "" {
		return id
	}
	id := "gw-" + strings.ToLower(rand.Text()[:12])
	if err == nil || errors.Is(err, os.ErrNotExist) {
		err = vfs.Replace(path, []byte(id))
	}
	if err != nil {
		log.Warn("the id by which snapshots know this gateway could not be kept: it has another one after a restart", "file", path, "error", err)
	}
	return id
}

// restore brings the catalog back from a snapshot, and returns what brings the hottest
// objects back while the gateway serves.
func restore(ctx context.Context, id string, snapshots *snapshot.Store, place *placement.Placement, rate int64, log *slog.Logger) (func(context.Context) error, error) {
	started := time.Now()
	i, err := snapshots.Find(id)
	if errors.Is(err, snapshot.ErrNone) && snapshots.Remote != nil {
		i, err = snapshots.Fetch(ctx, id)
	}
	if err != nil {
		return nil, fmt.Errorf("--restore %s: %w", id, err)
	}
	restored, err := place.Restore(ctx, func(yield func(akigw.CatalogEntry) bool) error { return snapshots.Read(ctx, i, yield) })
	if err != nil {
		return nil, fmt.Errorf("--restore %s: %w", id, err)
	}
	log.Info("restored the catalog from a snapshot; each object is validated before it is served", "id", i.ID, "objects", restored.Objects, "known", restored.Known, "seconds", time.Since(started).Seconds())
	return func(ctx context.Context) error {
		var last placement.PrefetchProgress
		err := place.Refetch(ctx, restored, rate, func(p placement.PrefetchProgress) { last = p })
		if ctx.Err() == nil {
			log.Info("fetched what was used most before the snapshot", "objects", last.Fetched, "bytes", last.Bytes, "already", last.Already, "failed", last.Failed, "error", err)
		}
		return nil
	}, nil
}

// snapshotCommand is "akigw snapshot".
type snapshotCommand struct {
	Create snapshotCreate `cmd:"" help:"Make one now."`
	List   snapshotList   `cmd:"" help:"List them, the newest first."`
	Show   snapshotShow   `cmd:"" help:"Print what one says of itself. It is read whole and compared with its digest."`
	Verify snapshotVerify `cmd:"" help:"Read all of them, or one, and compare them with their digests."`
	Diff   snapshotDiff   `cmd:"" help:"Print what happened to objects between two."`
	Delete snapshotDelete `cmd:"" help:"Remove one. The last good one stays, unless --force says otherwise."`
}

type snapshotCreate struct{ remote }

// Run makes a snapshot.
func (s *snapshotCreate) Run() error {
	var i snapshot.Info
	if err := s.into(&i, http.MethodPost, "/api/v1/snapshots", nil); err != nil {
		return err
	}
	if s.JSON {
		return printJSON(i)
	}
	fmt.Printf("made snapshot %s (%s)\n", i.ID, size.Human(i.Bytes))
	return nil
}

type snapshotList struct{ remote }

// Run lists the snapshots.
func (s *snapshotList) Run() error {
	all, err := s.snapshots()
	if err != nil {
		return err
	}
	if s.JSON {
		return printJSON(all)
	}
	return table([]string{"ID", "SIZE", "MADE", "FILE"}, all, func(i snapshot.Info) []any {
		return []any{i.ID, size.Human(i.Bytes), when(i.Created), i.File}
	})
}

func (r *remote) snapshots() (all []snapshot.Info, err error) {
	err = r.into(&all, http.MethodGet, "/api/v1/snapshots", nil)
	return all, err
}

// details asks for what a snapshot says of itself.
func (r *remote) details(id string) (d snapshot.Details, err error) {
	err = r.into(&d, http.MethodGet, "/api/v1/snapshots/"+url.PathEscape(id), nil)
	return d, err
}

type snapshotShow struct {
	remote
	ID string `arg:"" help:"Its id, or latest." default:"latest"`
}

// Run prints a snapshot.
func (s *snapshotShow) Run() error {
	d, err := s.details(s.ID)
	if err != nil {
		return err
	}
	if s.JSON {
		return printJSON(d)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "id\t%s\nmade\t%s\nby gateway\t%s\nobjects\t%d\nsize\t%s in %d row groups\nschema\t%d\nfile\t%s\n", d.ID, when(d.Created), d.Gateway, d.Rows, size.Human(d.Bytes), d.RowGroups, d.Schema, d.File)
	return w.Flush()
}

type snapshotVerify struct {
	remote
	ID string `arg:"" optional:"" help:"Its id; without one, all."`
}

// Run verifies.
func (s *snapshotVerify) Run() error {
	ids := []string{s.ID}
	if s.ID == "" {
		all, err := s.snapshots()
		if err != nil {
			return err
		}
		ids = nil
		for _, i := range all {
			ids = append(ids, i.ID)
		}
	}
	bad := 0
	for _, id := range ids {
		d, err := s.details(id)
		if err != nil {
			bad++
			fmt.Printf("%s: %s\n", id, strings.TrimSpace(err.Error()))
			continue
		}
		fmt.Printf("%s: good, %d objects\n", d.ID, d.Rows)
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d snapshots are not good", bad, len(ids))
	}
	return nil
}

type snapshotDiff struct {
	remote
	From string `arg:"" help:"Id of the earlier one."`
	To   string `arg:"" help:"Id of the later one, or latest." default:"latest"`
}

// Run prints the differences, a line of JSON each, or for people.
func (s *snapshotDiff) Run() error {
	body, err := s.ask(http.MethodGet, "/api/v1/snapshots-diff", url.Values{"from": {s.From}, "to": {s.To}})
	if err != nil {
		return err
	}
	defer body.Close()
	if s.JSON {
		_, err = io.Copy(os.Stdout, body)
		return err
	}
	changes := 0
	err = admin.ReadChanges(body, func(c snapshot.Change) {
		changes++
		fmt.Printf("%-8s %s/%q", c.What, c.Bucket, c.Key)
		if c.From != "" && c.To != "" {
			fmt.Printf("  %s -> %s", c.From, c.To)
		}
		fmt.Println()
	})
	if err == nil && changes == 0 {
		fmt.Println("nothing differs")
	}
	return err
}

type snapshotDelete struct {
	remote
	ID    string `arg:"" help:"Its id."`
	Force bool   `help:"Also the last good one."`
}

// Run removes a snapshot.
func (s *snapshotDelete) Run() error {
	query := url.Values{}
	if s.Force {
		query.Set("force", "true")
	}
	body, err := s.ask(http.MethodDelete, "/api/v1/snapshots/"+url.PathEscape(s.ID), query)
	if err != nil {
		return err
	}
	fmt.Printf("removed snapshot %s\n", s.ID)
	return body.Close()
}
