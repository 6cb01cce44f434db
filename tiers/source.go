package tiers

import (
	"context"
	"errors"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
)

// source finds out what keys hold, and opens readers of it: from memory and disk if that is fresh,
// else from the upstream.
type source struct {
	*catalog
	fetcher   *fetcher
	validator *validator
	upstream  Upstream
	observers observers
	copies    *windows // memory for what readers have from disk
	sequences sequences
}

// maxFailures is how many fills may fail below one reader.
const maxFailures = 3

// reader makes a reader of an entry that a tier had. It reads nothing so far. f is the fill that the
// reader is attached to, nil for none.
func (s *source) reader(e *entry, outcome akigw.Outcome, f *fill) *Reader {
	return &Reader{Object: &e.Object, Outcome: outcome, Age: age(e), Hold: mostHeld, source: s, entry: e, fill: f, left: maxFailures}
}

// maxChanges is how often a read starts over because the object was replaced
// between learning of it and reading it.
const maxChanges = 3

// get is Store.Get of what is not pending.
func (s *source) get(ctx context.Context, key akigw.Key, spec akigw.RangeSpec, conditions akigw.Conditions) (*Reader, error) {
	settings := s.settings(key)
	if !settings.Cached() {
		return nil, ErrUncacheable
	}
	for attempt := 1; ; attempt++ {
		e, outcome, f, err := s.find(ctx, key, settings, spec, conditions)
		if err != nil {
			return nil, err
		}
		r := s.reader(e, outcome, f)
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

// local is Store.Local of what is not pending.
func (s *source) local(ctx context.Context, key akigw.Key, spec akigw.RangeSpec, conditions akigw.Conditions) *Reader {
	settings := s.settings(key)
	if !settings.Cached() {
		return nil
	}
	e, outcome := s.lookup(key)
	if e == nil || !s.validator.fresh(e, settings, conditions) || !settings.CachedSize(e.Size) || conditions.Check(&e.Object) != nil {
		return nil
	}
	r := s.reader(e, outcome, nil)
	if r.resolve(ctx, spec) != nil || !r.local() {
		return nil
	}
	if r.open(ctx, settings) != nil {
		r.Close()
		return nil
	}
	return r
}

// head is Store.Head of what is not pending.
func (s *source) head(ctx context.Context, key akigw.Key, spec akigw.RangeSpec, conditions akigw.Conditions) (*Reader, error) {
	settings := s.settings(key)
	if !settings.Cached() {
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
	r := &Reader{Object: &e.Object, Outcome: outcome, Age: age(e), source: s, entry: e}
	if err := conditions.Check(&e.Object); err != nil {
		return r, err
	}
	return r, r.resolve(ctx, spec)
}

// opened begins to read an object for a move: no access is counted. What is not known is
// learned from the answer that brings it.
func (s *source) opened(ctx context.Context, key akigw.Key, settings *rules.Settings) (*Reader, error) {
	e, outcome, f, err := s.find(ctx, key, settings, akigw.RangeSpec{}, akigw.Conditions{})
	if err != nil {
		return nil, absentOr(key, err)
	}
	r := s.reader(e, outcome, f)
	r.Range.Length = e.Size
	return r, nil
}
