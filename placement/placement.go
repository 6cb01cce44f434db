// Package placement decides what moves between the tiers, and why: an operator promotes,
// demotes and pins objects, a worker follows the policy, a prefetch or a restore brings objects
// in before anybody asks for them. It counts accesses for that, and says where objects are.
//
// It moves nothing itself. Package tiers does, which knows neither operators nor policies:
// placement tells it which object to bring in or to let go of. What it reads of the tiers is the
// catalog: Catalog joins it with the statistics of accesses.
//
// Pins and Accesses are made first, because the store asks the former and observes the latter;
// then the store; then New:
//
//	accesses, pins := placement.NewAccesses(), placement.OpenPins(dir, log)
//	store, err := tiers.New(tiers.Options{Pins: pins, Observers: []tiers.Observer{accesses}, ...})
//	p := placement.New(placement.Options{Store: store, Pins: pins, Accesses: accesses, Dir: dir, ...})
package placement

import (
	"context"
	"log/slog"
	"sync"

	"github.com/VictoriaMetrics/metrics"
)

// Placement moves objects between the tiers for operators and by the policy. All methods may be
// called from any goroutine.
type Placement struct {
	*Catalog
	pins   *Pins
	rules  Rules
	mover  *mover
	worker *worker // nil: the policy moves nothing
}

// New makes a Placement. The policy moves objects while Run runs.
func New(o Options) *Placement {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Writes == nil {
		o.Writes = noWrites{}
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	p := &Placement{
		Catalog: &Catalog{store: o.Store, usage: newRecords(o.Accesses, o.Store, o.Log)},
		pins:    o.Pins,
		rules:   o.Rules,
		mover:   &mover{store: o.Store, writes: o.Writes, upstream: o.Upstream, counters: newCounters(o.Metrics)},
	}
	if o.Policy.WorkerIntervalSecs > 0 {
		p.worker = newWorker(&o, p.Catalog, p.mover)
	}
	return p
}

// Run works in the background until ctx ends: it moves objects by the policy, and writes down how
// they are used, a last time at its end. The store must be open until then.
func (p *Placement) Run(ctx context.Context) error {
	var wait sync.WaitGroup
	if p.worker != nil {
		wait.Go(func() { p.worker.run(ctx) })
	}
	p.usage.run(ctx)
	wait.Wait()
	return p.usage.flush()
}

// Worker returns what the worker is doing; nil if the policy moves nothing.
func (p *Placement) Worker() *WorkerReport {
	if p.worker == nil {
		return nil
	}
	return p.worker.current()
}

// Pins returns the pins of operators, in the order in which they were made. They must not be
// changed.
func (p *Placement) Pins() []Pin { return p.pins.state.Load().all }
