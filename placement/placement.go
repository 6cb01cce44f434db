// Package placement decides what moves between the tiers, and why: an operator promotes, demotes
// and pins objects, a worker follows the policy, and a prefetch or a restore brings objects in
// before they are requested. For that it counts accesses, and reports where objects are stored.
//
// It moves nothing itself: package tiers does, which knows neither operators nor policies, and is
// told which object to bring in or remove. What it reads from the tiers is the catalog: Catalog
// joins it with the access statistics.
//
// Pins and Accesses are created first, because the store uses the former and reports to the latter;
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

// Placement moves objects between the tiers for operators and by the policy. Its methods are safe
// for concurrent use.
type Placement struct {
	*Catalog
	pins   *Pins
	rules  Rules
	mover  *mover
	worker *worker // nil: the policy moves nothing
}

// New returns a Placement. The policy moves objects while Run runs.
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

// Run does the background work until ctx ends: it moves objects by the policy, and writes access
// statistics to disk, a last time at the end. The store must stay open until then.
func (p *Placement) Run(ctx context.Context) error {
	var wait sync.WaitGroup
	if p.worker != nil {
		wait.Go(func() { p.worker.run(ctx) })
	}
	p.usage.run(ctx)
	wait.Wait()
	return p.usage.flush()
}

// Worker returns the state of the worker; nil if the policy moves nothing.
func (p *Placement) Worker() *WorkerReport {
	if p.worker == nil {
		return nil
	}
	return p.worker.current()
}

// Pins returns the operators' pins in the order of their creation. They must not be changed.
func (p *Placement) Pins() []Pin { return p.pins.state.Load().all }
