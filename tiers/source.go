package tiers

import (
	"context"
	"errors"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
)

// source finds the object that a key holds, and opens a Reader for it: from memory and disk if the
// entry is fresh, otherwise from the upstream.
type source struct {
	*catalog
	fetcher   *fetcher
	validator *validator
	upstream  Upstream
	observers observers
	copies    *windows // memory for blocks that readers hold from disk
	sequences sequences
}

// maxFailures is how many fills may fail during one read.
const maxFailures = 3

// reader creates a reader for an entry from a tier. It reads nothing yet. f is the fill that the
// reader is attached to, nil for none.
func (s *source) reader(e *entry, settings *rules.Settings, outcome akigw.Outcome, f *fill) *Reader {
	return &Reader{Object: &e.Object, Settings: settings, Outcome: outcome, Age: age(e), Hold: mostHeld, source: s, entry: e, fill: f, left: maxFailures}
}

// maxChanges is how often a read restarts because the object was replaced between looking it up and
// reading it.
const maxChanges = 3

// get is Store.Get for an object that is not pending.
func (s *source) get(ctx context.Context, key akigw.Key, spec akigw.RangeSpec, conditions akigw.Conditions) (*Reader, error) {
	settings := s.settings(key)
	if !settings.Served() {
		return nil, ErrUncacheable
	}
	for attempt := 1; ; attempt++ {
		e, outcome, f, err := s.find(ctx, key, settings, spec, conditions, false)
		if err != nil {
			return nil, err
		}
		r := s.reader(e, settings, outcome, f)
		if err := conditions.Check(&e.Object); err != nil {
			return r, err
		}
		err = r.resolve(ctx, spec)
		if errors.Is(err, akigw.ErrRangeNotSatisfiable) {
			return r, err
		}
		if err == nil {
			err = r.open(ctx, settings)
		}
		if err == nil {
			return r, nil
		}
		r.Close()
		if !errors.Is(err, akigw.ErrChanged) || attempt == maxChanges {
			return nil, err
		}
	}
}

// local is Store.Local for an object that is not pending.
func (s *source) local(ctx context.Context, key akigw.Key, spec akigw.RangeSpec, conditions akigw.Conditions) *Reader {
	settings := s.settings(key)
	if !settings.Served() {
		return nil
	}
	e, outcome := s.lookup(key)
	if e == nil || !s.validator.fresh(e, settings, conditions) || !settings.CachedSize(e.Size) || conditions.Check(&e.Object) != nil {
		return nil
	}
	r := s.reader(e, settings, outcome, nil)
	if r.resolve(ctx, spec) != nil || !r.local() {
		return nil
	}
	if r.open(ctx, settings) != nil {
		r.Close()
		return nil
	}
	return r
}

// head is Store.Head for an object that is not pending.
func (s *source) head(ctx context.Context, key akigw.Key, spec akigw.RangeSpec, conditions akigw.Conditions) (*Reader, error) {
	settings := s.settings(key)
	if !settings.Served() {
		return nil, ErrUncacheable
	}
	e, outcome, err := s.validator.current(ctx, key, settings, conditions)
	if e == nil && err == nil {
		err = s.absent(key, settings, conditions, true)
	}
	if e == nil && err == nil {
		e, err = s.validator.ask(ctx, key, nil)
	}
	if err != nil {
		return nil, err
	}
	s.counters.reads[outcome].Inc()
	r := &Reader{Object: &e.Object, Settings: settings, Outcome: outcome, Age: age(e), source: s, entry: e}
	if err := conditions.Check(&e.Object); err != nil {
		return r, err
	}
	return r, r.resolve(ctx, spec)
}

// opened starts to read an object in order to move it: no access is counted. An unknown object is
// learned from the response that brings it in.
func (s *source) opened(ctx context.Context, key akigw.Key, settings *rules.Settings) (*Reader, error) {
	e, outcome, f, err := s.find(ctx, key, settings, akigw.RangeSpec{}, akigw.Conditions{}, false)
	if err != nil {
		return nil, absentOr(key, err)
	}
	r := s.reader(e, settings, outcome, f)
	r.Range.Length = e.Size
	return r, nil
}
