// Package storekit builds a read cache with write-back over it, for tests.
package storekit

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/uploadpool"
	"github.com/akidb/akigw/writeback"
	"github.com/akidb/akigw/writeback/overlay"
)

// Rules are the rules for both the cache and the write-back.
type Rules interface {
	tiers.Rules
	writeback.Rules
}

// Upstream is the upstream of both the cache and the write-back.
type Upstream interface {
	tiers.Upstream
	writeback.Upstream
}

// Options configure a Kit. Back.Dir is the directory of the journal, WarmDir that of the warm tier.
type Options struct {
	Cache     tiers.Config
	WarmDir   string
	Back      writeback.Config
	Parallel  uploadpool.ParallelConfig
	Batch     uploadpool.BatchConfig
	Rules     Rules
	Upstream  Upstream
	Pins      tiers.Pins // nil: none
	Observers []tiers.Observer
	Log       *slog.Logger // nil: none
	Metrics   *metrics.Set // nil: the kit creates its own set
}

// Kit is a cache and its write-back.
type Kit struct {
	Store   *tiers.Store
	Writes  *writeback.WriteBack
	Metrics *metrics.Set
	pending *overlay.Overlay
}

// Open opens both.
func Open(o Options) (*Kit, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	pending, err := writeback.Open(o.Back, o.Upstream, o.Log)
	if err != nil {
		return nil, err
	}
	store, err := tiers.New(tiers.Options{Config: o.Cache, Rules: o.Rules, Upstream: o.Upstream, Overlay: pending, Pins: o.Pins, Observers: o.Observers, Dir: o.WarmDir, Log: o.Log, Metrics: o.Metrics})
	if err != nil {
		return nil, errors.Join(err, pending.Close())
	}
	writes := writeback.New(writeback.Options{Config: o.Back, Parallel: o.Parallel, Batch: o.Batch, Overlay: pending, Cache: store, Upstream: o.Upstream, Rules: o.Rules, Log: o.Log, Metrics: o.Metrics})
	return &Kit{store, writes, o.Metrics, pending}, nil
}

// Run runs both until ctx ends.
func (k *Kit) Run(ctx context.Context) error {
	var uploads error
	var wait sync.WaitGroup
	wait.Go(func() { uploads = k.Writes.Run(ctx) })
	err := k.Store.Run(ctx)
	wait.Wait()
	return errors.Join(err, uploads)
}

// Close closes both.
func (k *Kit) Close() error {
	return errors.Join(k.Writes.Close(), k.Store.Close(), k.pending.Close())
}
