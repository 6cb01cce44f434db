// Package tiers is a read cache over three tiers: memory, local disk and the upstream. It knows
// which object each key holds and how recent that knowledge is, fills missing blocks once for all
// readers that wait for them, and keeps outdated bytes from reappearing.
//
// It promises that the bytes of one response belong to one version that the freshness mode allows,
// and that a body which cannot be served to its end ends in an error. Writers tell it before and
// after the upstream changes (Begin).
//
// It has no journal: an Overlay shows it the pending writes. It knows nothing of HTTP routing,
// signatures or S3's error documents: those belong to package gateway. It moves and pins objects on
// request; package placement decides which. An Observer is notified of each access.
//
// Its types form layers, from the bottom:
//   - storage is memory and disk;
//   - catalog is what is stored there and may be used, under the fence;
//   - directory lists the catalog, pinner pins objects in it;
//   - fetcher fills missing blocks from the upstream, once for all readers;
//   - uploads keeps the parts of multipart uploads until they are an object's;
//   - changes handles writes and events, which invalidate cached data;
//   - validator decides what may be served, and asks the upstream where necessary;
//   - source finds objects and opens Readers; mover moves objects between the tiers;
//   - Store combines them, below the overlay.
package tiers

import (
	"context"
	"log/slog"
	"sync"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
)

// Store is the cache. All methods except Import, Run and Close are safe for concurrent use.
type Store struct {
	*catalog
	directory
	*pinner
	*mover
	*changes
	*uploads
	*listings

	tasks   *tasks
	fetcher *fetcher
	source  *source
	overlay Overlay
}

// withDefaults returns the options with a default for each nil field.
func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	if o.Pins == nil {
		o.Pins = noPins{}
	}
	if o.Overlay == nil {
		o.Overlay = noOverlay{}
	}
	return o
}

// New opens the tiers. Errors are those of the encryption key file.
func New(o Options) (*Store, error) {
	o = o.withDefaults()
	storage, first, err := openStorage(&o)
	if err != nil {
		return nil, err
	}
	c := &catalog{storage: storage, fence: newFence(first), rules: o.Rules, pins: o.Pins, origins: o.Upstream, own: o.Overlay.Own}
	d, background, revised, predictions := directory{c}, newTasks(), &revisions{}, newPredictions(storage)
	uploads := newUploads(c)
	fetcher := newFetcher(c, o.Upstream, background)
	changes := &changes{directory: d, openings: fetcher, revisions: revised, tasks: background, observers: o.Observers, uploads: uploads, predictions: predictions}
	validator := newValidator(c, o.Upstream, background, newFollower(c, o.Upstream, background, changes.Changed), predictions)
	validator.results = o.Validations
	source := &source{
		catalog: c, fetcher: fetcher, validator: validator, upstream: o.Upstream, observers: o.Observers,
		copies: newWindows(int64(o.Config.FillBytes), c.counters),
	}
	return &Store{
		catalog: c, directory: d, pinner: &pinner{directory: d}, mover: &mover{catalog: c, source: source}, changes: changes, uploads: uploads,
		listings: &listings{catalog: c, upstream: o.Upstream, revisions: revised},
		tasks:    background, fetcher: fetcher, source: source, overlay: o.Overlay,
	}, nil
}

// Run does the background work until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	var wait sync.WaitGroup
	defer wait.Wait()
	if s.warm == nil {
		<-ctx.Done()
		return nil
	}
	version, _ := s.rules.Pinning()
	s.repinAll(ctx) // before anything is evicted
	wait.Go(func() { s.repinOnChange(ctx, version) })
	return s.warm.Run(ctx)
}

// Close ends all fills and closes the tiers. No other method may be running.
func (s *Store) Close() error {
	s.tasks.stop()
	s.dropUnended()
	s.forgetAll()
	return s.storage.close()
}

// Warnings describes what does not work although the gateway runs, and what to do about it.
func (s *Store) Warnings() (all []string) {
	if problem := s.WarmProblem(); problem != "" && (s.warm == nil || !s.warm.Full()) {
		all = append(all, "warm tier: "+problem)
	}
	return all
}

// Get opens an object for reading. Apart from those of the context, its errors are:
// akigw.ErrNotModified and akigw.ErrPreconditionFailed (with a Reader that describes the object and
// has no bytes), akigw.ErrRangeNotSatisfiable (likewise), *cold.ResponseError with the upstream's
// own response, akigw.ErrNoSuchKey for a pending deletion, akigw.ErrUpstreamUnavailable and
// ErrUncacheable.
func (s *Store) Get(ctx context.Context, key akigw.Key, spec akigw.RangeSpec, conditions akigw.Conditions) (*Reader, error) {
	if r, err := s.pendingReader(ctx, key, spec, conditions, true); r != nil || err != nil {
		return r, err
	}
	p := s.overlay.Promise(key)
	r, err := s.source.get(ctx, key, spec, upstreamConditions(p, conditions))
	s.promised(key, p, r)
	return r, err
}

// Local is Get for an object that is in memory or on disk and needs no request to the upstream. It
// returns nil if the caller must use Get: in all other cases, and after any error.
func (s *Store) Local(ctx context.Context, key akigw.Key, spec akigw.RangeSpec, conditions akigw.Conditions) *Reader {
	if spec.Part() > 0 || s.hasPending(key) {
		return nil
	}
	p := s.overlay.Promise(key)
	r := s.source.local(ctx, key, spec, upstreamConditions(p, conditions))
	s.promised(key, p, r)
	return r
}

// Head describes an object, or a part of it: from the entry that would serve a GET. Errors are
// those of Get.
func (s *Store) Head(ctx context.Context, key akigw.Key, spec akigw.RangeSpec, conditions akigw.Conditions) (*Reader, error) {
	if r, err := s.pendingReader(ctx, key, spec, conditions, false); r != nil || err != nil {
		return r, err
	}
	p := s.overlay.Promise(key)
	r, err := s.source.head(ctx, key, spec, upstreamConditions(p, conditions))
	s.promised(key, p, r)
	return r, err
}
