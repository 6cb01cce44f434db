package tiers

import (
	"context"
	"errors"
	"net/http"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// find determines which object a key holds: it looks the key up and validates the entry if
// necessary, or else loads the object once for all callers. The caller must detach from the
// returned fill, if any. missing is set when find calls itself: the entry in the cache, if there is one,
// was seen and does not help.
func (s *source) find(ctx context.Context, key akigw.Key, settings *rules.Settings, spec akigw.RangeSpec, conditions akigw.Conditions, missing bool) (*entry, akigw.Outcome, *fill, error) {
	known, outcome := s.lookup(key)
	if known != nil && s.bare(known) { // the GET that brings its bytes tells its headers as well
		known, outcome, missing = nil, akigw.Cold, true
	}
	e, outcome, err := s.validator.currentOf(ctx, known, outcome, settings, conditions)
	if err != nil {
		return nil, "", nil, err
	}
	if e == nil {
		if err := s.absent(key, settings, conditions, false); err != nil {
			return nil, "", nil, err
		}
	}
	if e == nil && (conditions.Any() || spec.Part() > 0) {
		// Do not start a download that a condition may forbid, or of data that may be in another
		// tier.
		var refused *cold.ResponseError
		if e, err = s.validator.ask(ctx, key, nil); err != nil && !errors.As(err, &refused) {
			return nil, "", nil, err
		}
	}
	if e != nil && !settings.CachedSize(e.Size) {
		return nil, "", nil, ErrUncacheable
	}
	if e != nil {
		return e, outcome, nil, nil
	}
	if err := s.fetcher.windows.admit(key); err != nil {
		return nil, "", nil, err
	}
	f, err := s.load(ctx, key, settings, spec, conditions, missing)
	if errors.Is(err, errPresent) { // another fill ended after the key was looked up
		return s.find(ctx, key, settings, spec, conditions, true)
	}
	if unsatisfiable(err) {
		// The upstream refused the range. The gateway decides from the size which ranges an object
		// has, as it does for known objects (akigw.RangeSpec.Resolve).
		if e, err = s.validator.ask(ctx, key, nil); err == nil && !settings.CachedSize(e.Size) {
			err = ErrUncacheable
		}
		return e, akigw.Cold, nil, err
	}
	if err != nil {
		return nil, "", nil, err
	}
	return f.entry, akigw.Cold, f, nil
}

// load waits for an opening fill. In strict mode, a reader that arrived after the fill had sent its
// request must send another; such readers share the next fill. The error is errPresent if there is an
// entry after all, unless it is missing for this reader.
func (s *source) load(ctx context.Context, key akigw.Key, settings *rules.Settings, spec akigw.RangeSpec, conditions akigw.Conditions, missing bool) (*fill, error) {
	if err := s.validator.unanswered(key); err != nil {
		return nil, err
	}
	arrived := s.fence.generation()
	for {
		f, leader := s.fetcher.join(ctx, key, spec, missing)
		asked := leader || f.begun > arrived // the fill began after this reader arrived
		select {
		case <-f.ready:
		case <-ctx.Done():
			f.leave(context.Cause(ctx))
			return nil, ctx.Err()
		}
		if f.entry == nil {
			f.detach()
			if !leader && (unsatisfiable(f.err) || missing && errors.Is(f.err, errPresent)) {
				continue // it was the leader's range, not ours; or there is what does not help us
			}
			var refused *cold.ResponseError
			errors.As(f.err, &refused)
			if refused != nil && !asked && (settings.Freshness == rules.Strict || settings.Freshness == rules.Events) {
				s.fetcher.forgetOpening(key, f)
				continue
			}
			return nil, f.err
		}
		if asked || s.validator.fresh(f.entry, settings, conditions) {
			return f, nil
		}
		e, err := s.validator.validate(ctx, f.entry)
		if err == nil && e != nil && e.extent == f.entry.extent {
			return f, nil
		}
		f.detach()
		if err != nil {
			return nil, err
		}
		s.fetcher.forgetOpening(key, f) // it brings a version that no longer exists
	}
}

// unsatisfiable reports whether the upstream responded that the object has no such range.
func unsatisfiable(err error) bool {
	var refused *cold.ResponseError
	return errors.As(err, &refused) && refused.Status == http.StatusRequestedRangeNotSatisfiable
}
