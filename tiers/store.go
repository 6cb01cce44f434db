// Package tiers is a read cache over three tiers: memory, local disk and the upstream. It knows
// which object each key holds and which generation of knowledge that is, fills what is missing
// once for everybody who waits for it, and keeps old bytes from coming back.
//
// It promises that the bytes of one answer are the bytes of one version that the freshness mode
// allows, and that a body which cannot be served to its end ends in an error. Writes tell it before
// and after the upstream changes (Begin).
//
// It knows no journal: pending writes are shown to it by an Overlay. It knows nothing of HTTP routing, signatures or S3's error documents: those are the gateway's.
// It moves objects between the tiers when it is told to, and keeps what it is told to keep; who
// says so, and why, is package placement. Those who want to know of accesses are Observers.
//
// Its layers, from below: storage is memory and disk; catalog is what lies there and may be used;
// Store asks the upstream for the rest.
package tiers

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/budget"
)

// Store is the cache. All methods but Import, Run and Close may be called from any goroutine.
type Store struct {
	*catalog
	pinner
	upstream Upstream

	// fills outlive the requests that started them.
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex
	openings map[akigw.Key]*fill // fills that will learn what a key holds; guarded by mu
	fills    map[uint64][]*fill  // fills of a known object, by run of blocks; guarded by mu

	listEpochs  [epochs]atomic.Uint64 // changes of buckets
	validations validations
	notifier    Notifier // nil if the upstream tells nothing
	feeds       feeds

	overlay Overlay

	observers []Observer

	suspects  suspects
	readAhead *budget.Budget // memory for what is fetched ahead
	windows   *windows       // memory for what fills bring in
	copies    *windows       // memory for what readers have from disk
	crowd     Crowd          // nil if nobody has to wait for the upstream
	silence   Silence        // nil if nobody notices that the upstream hangs
	unsettled unsettled      // writes that the upstream may still carry out
	owners    Owners         // nil if there is one upstream
	sequences sequences

	bare304  originSet // whose 304 has no Last-Modified: ask without a condition
	noRanges originSet // that ignore Range: parts cost as much as the whole
}

// New opens the tiers.
func New(o Options) (*Store, error) {
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
	storage, first, err := openStorage(&o)
	if err != nil {
		return nil, err
	}
	c := &catalog{storage: storage, fence: newFence(first), rules: o.Rules, pins: o.Pins, origins: o.Upstream, own: o.Overlay.Own}
	s := &Store{
		catalog:   c,
		pinner:    pinner{catalog: c},
		upstream:  o.Upstream,
		overlay:   o.Overlay,
		observers: o.Observers,
		copies:    newWindows(int64(o.Config.FillBytes), c.counters),
		openings:  make(map[akigw.Key]*fill),
		fills:     make(map[uint64][]*fill),
	}
	var names []string
	if s.owners, _ = o.Upstream.(Owners); s.owners != nil {
		names = s.owners.Names()
	}
	s.windows = newWindows(int64(o.Config.FillBytes), c.counters).divided(s.owners)
	s.readAhead = budget.New(int64(o.Config.ReadAheadBytes), c.counters.readAheadRefused, names...)
	s.notifier, _ = o.Upstream.(Notifier)
	s.crowd, _ = o.Upstream.(Crowd)
	s.silence, _ = o.Upstream.(Silence)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Run works in the background until ctx ends.
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
	s.cancel()
	s.work.Wait()
	s.dropUnsettled()
	return s.storage.close()
}

// Warnings say what does not work, though the gateway does, and what to do about it.
func (s *Store) Warnings() (all []string) {
	if problem := s.WarmProblem(); problem != "" && (s.warm == nil || !s.warm.Full()) {
		all = append(all, "warm tier: "+problem)
	}
	return all
}
