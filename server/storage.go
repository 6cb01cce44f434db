package server

import (
	"context"
	"fmt"

	"github.com/akidb/akigw/advise"
	"github.com/akidb/akigw/compare"
	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/snapshot"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/trace"
	"github.com/akidb/akigw/writeback"
)

// storage serves objects: the upstreams, the tiers over them, the write-back over both, and the state
// beside the tiers.
type storage struct {
	upstream  *cold.Upstreams
	rules     *rules.Book
	store     *tiers.Store
	writes    *writeback.WriteBack
	placement *placement.Placement
	traces    *trace.Recorder
	validated *advise.Validations
	snapshots *snapshot.Store
	compare   *compare.Comparer
	vectors   *vectorStorage // nil: none are configured
}

// openStorage opens the storage. It fails if the clock of an upstream is too far away to sign
// requests for it.
func openStorage(c *Config, i *instruments, opened *closers) (_ *storage, err error) {
	s := &storage{}
	if s.upstream, err = openUpstreams(c, i, opened); err != nil {
		return nil, err
	}
	clocks := s.upstream.CheckClock(context.Background()) // runs while the rest is opened
	if s.rules, err = c.OpenRules(i.log, i.metrics); err != nil {
		return nil, err
	}
	if err := s.openTiers(c, i, opened); err != nil {
		return nil, err
	}
	if s.snapshots, err = openSnapshots(c, s, i); err != nil {
		return nil, err
	}
	s.compare = compare.New(compare.Options{Config: c.Compare, Upstream: s.upstream, Log: i.log, Metrics: i.metrics})
	s.upstream.OnSuspect(s.reportSuspect(i))
	return s, clocks()
}

// openUpstreams opens the configured upstreams.
func openUpstreams(c *Config, i *instruments, opened *closers) (*cold.Upstreams, error) {
	c.Upstream.Log, c.Upstream.Metrics = i.log, i.metrics
	for n := range c.Further {
		c.Further[n].Log = i.log
	}
	upstream, err := cold.NewUpstreams(c.Upstream, c.Further, c.Storage.Pool, i.transport)
	if err != nil {
		return nil, err
	}
	opened.add(upstream.Close)
	return upstream, nil
}

// openTiers opens the journal of acknowledged writes, the tiers below it, and the placement, which moves
// objects between the tiers.
func (s *storage) openTiers(c *Config, i *instruments, opened *closers) error {
	if i.faults != nil {
		c.Cache.WarmFault, c.Back.Fault = i.faults.Disk(faults.Warm), i.faults.Disk(faults.Journal)
	}
	c.Back.Dir, c.Back.FactsFile = c.Back.Place(c.Process.Data), c.FactsFile()
	pending, err := writeback.Open(c.Back, s.upstream, i.log)
	if err != nil {
		return err
	}
	opened.add(pending.Close)
	accesses, pins := placement.NewAccesses(), placement.OpenPins(c.path("tiers"), i.log)
	s.traces, s.validated = new(trace.Recorder), advise.NewValidations()
	s.store, err = tiers.New(tiers.Options{
		Config: c.Cache, Rules: s.rules, Dir: c.path("warm"), Upstream: s.upstream, Overlay: pending, Pins: pins,
		Observers: []tiers.Observer{accesses, s.traces}, Validations: s.validated, Log: i.log, Metrics: i.metrics,
	})
	if err != nil {
		return err
	}
	opened.add(s.store.Close)
	s.writes = writeback.New(writeback.Options{
		Config: c.Back, Parallel: c.Storage.Parallel, Batch: c.Storage.Batch, Overlay: pending, Cache: s.store,
		Upstream: s.upstream, Rules: s.rules, Log: i.log, Metrics: i.metrics,
	})
	opened.add(s.writes.Close)
	s.placement = placement.New(placement.Options{
		Policy: c.Tiering.Policy, Dir: c.path("tiers"), Store: s.store, Pins: pins, Accesses: accesses, Rules: s.rules,
		Upstream: s.upstream, Writes: s.writes, Log: i.log, Metrics: i.metrics,
	})
	s.vectors, err = openVectors(c, pending, s, i, opened)
	return err
}

// reportSuspect logs when an upstream stops responding and when it responds again. In the latter case it
// also resumes the uploads of pending writes.
func (s *storage) reportSuspect(i *instruments) func(name string, suspect bool) {
	return func(name string, suspect bool) {
		if suspect {
			i.log.Error("the upstream has stopped answering: requests that need it are refused with 503 until it answers a probe; check the service, and the network between here and there", "upstream", name)
			return
		}
		i.log.Info("the upstream answers again", "upstream", name)
		s.writes.Resume(name)
	}
}

// journalProblem returns why the journal can neither acknowledge writes nor release them, nil if it can.
func (s *storage) journalProblem() error {
	if stopped := s.writes.Status().Stopped; stopped != nil {
		return fmt.Errorf("the journal takes no writes: %w", stopped)
	}
	return nil
}
