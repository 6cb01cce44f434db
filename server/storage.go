package server

import (
	"context"
	"fmt"

	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/snapshot"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

// storage is what serves objects: the upstreams, the tiers over them, and what is kept beside
// the tiers.
type storage struct {
	upstream  *cold.Upstreams
	rules     *rules.Book
	store     *tiers.Store
	snapshots *snapshot.Store
}

// openStorage opens the storage. It fails if the clock of an upstream is too far away to sign
// requests for it.
func openStorage(c *Config, i *instruments, opened *closers) (_ *storage, err error) {
	s := &storage{}
	if s.upstream, err = openUpstreams(c, i, opened); err != nil {
		return nil, err
	}
	clocks := s.upstream.CheckClock(context.Background()) // while the rest is opened
	if s.rules, err = c.OpenRules(i.log, i.metrics); err != nil {
		return nil, err
	}
	if s.store, err = openTiers(c, s.rules, s.upstream, i, opened); err != nil {
		return nil, err
	}
	if s.snapshots, err = openSnapshots(c, s.store, i); err != nil {
		return nil, err
	}
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

// openTiers opens the tiers, the journal of acknowledged writes, and the policy worker.
func openTiers(c *Config, book *rules.Book, upstream *cold.Upstreams, i *instruments, opened *closers) (*tiers.Store, error) {
	if i.faults != nil {
		c.Cache.WarmFault, c.Cache.JournalFault = i.faults.Disk(faults.Warm), i.faults.Disk(faults.Journal)
	}
	store, err := tiers.New(c.Cache, book, c.path("warm"), upstream, i.log)
	if err != nil {
		return nil, err
	}
	opened.add(store.Close)
	c.Back.FactsFile = c.FactsFile()
	if err := store.WriteBack(c.Back, c.Back.Place(c.Process.Data), c.Storage.Parallel, c.Storage.Batch, upstream); err != nil {
		return nil, err
	}
	return store, store.Control(c.Tiering.Policy, c.path("tiers"))
}

// reportSuspect logs when an upstream stops answering and when it answers again, and has its
// pending writes uploaded then.
func (s *storage) reportSuspect(i *instruments) func(name string, suspect bool) {
	return func(name string, suspect bool) {
		if suspect {
			i.log.Error("the upstream has stopped answering: requests that need it are refused with 503 until it answers a probe; check the service, and the network between here and there", "upstream", name)
			return
		}
		i.log.Info("the upstream answers again", "upstream", name)
		s.store.Resume(name)
	}
}

// journalProblem says why the journal can neither acknowledge writes nor release them, nil if it
// can.
func (s *storage) journalProblem() error {
	if b := s.store.BackStatus(); b != nil && b.Stopped != nil {
		return fmt.Errorf("the journal takes no writes: %w", b.Stopped)
	}
	return nil
}
