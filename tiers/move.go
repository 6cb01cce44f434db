package tiers

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/warm"
)

// Action is what an operator can have done with objects.
type Action string

// The actions.
const (
	PromoteToHot  Action = "promote_to_hot"  // into memory, as a whole
	PromoteToWarm Action = "promote_to_warm" // onto disk, as a whole
	DemoteToWarm  Action = "demote_to_warm"  // out of memory; they are on disk then
	DemoteToCold  Action = "demote_to_cold"  // out of both; the upstream has them
	PinObjects    Action = "pin"             // keep them on disk, and in memory if wanted
	UnpinObjects  Action = "unpin"
)

// Actions are all of them.
var Actions = []Action{PromoteToHot, PromoteToWarm, DemoteToWarm, DemoteToCold, PinObjects, UnpinObjects}

// MoveResult says what an action has done.
type MoveResult struct {
	// Moved objects are where they were to go and were not before; for unpin, it counts
	// pins.
	Moved int `json:"moved"`
	// Already is how many were there.
	Already int   `json:"already"`
	Bytes   int64 `json:"bytes"` // of those that moved
}

var (
	// ErrMoving: somebody else is moving the same objects, or some of them.
	ErrMoving = errors.New("another move of these objects is under way; nothing was done")
	// ErrTierOff: the tier does not exist, or may not hold the object.
	ErrTierOff = errors.New("the tier does not take it")
	// ErrAction: there is no such action.
	ErrAction = fmt.Errorf("action must be one of %q", Actions)
)

// moved counts objects by where they went, and who had them moved.
func moved(action Action, by string) *metrics.Counter {
	return metrics.GetOrCreateCounter(fmt.Sprintf("akigw_tiers_moves_total{action=%q,by=%q}", action, by))
}

// moves are those under way. The zero value is ready.
type moves struct {
	mu  sync.Mutex
	all map[*moving]bool // guarded by mu
}

type moving struct {
	what akigw.Pattern
	done chan struct{} // closed at the end of a move of the worker, which is short; else nil
}

// begin takes objects for a move. A move of the worker, which takes one object for a
// moment, is waited for, and gives way to any other.
func (m *moves) begin(ctx context.Context, what akigw.Pattern, worker bool) (end func(), err error) {
	mine := &moving{what: what}
	if worker {
		mine.done = make(chan struct{})
	}
	for {
		other := m.add(mine)
		switch {
		case other == nil:
			return func() { m.remove(mine) }, nil
		case worker || other.done == nil:
			return nil, ErrMoving
		}
		select {
		case <-other.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// add adds a move, unless one is under way that has objects in common with it: then it
// returns that one.
func (m *moves) add(mine *moving) *moving {
	m.mu.Lock()
	defer m.mu.Unlock()
	for other := range m.all {
		if other.what.Holds(mine.what) || mine.what.Holds(other.what) {
			return other
		}
	}
	if m.all == nil {
		m.all = make(map[*moving]bool)
	}
	m.all[mine] = true
	return nil
}

func (m *moves) remove(mine *moving) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.all, mine)
	if mine.done != nil {
		close(mine.done)
	}
}

// Move does with objects what an operator wants: with one key, whatever is known of it, or
// with all that is known with a prefix. hot is for pins: they keep objects in memory, too.
//
// All of it is done, or nothing that matters: what fails half-way is taken back. Errors:
// ErrMoving, ErrAction, ErrPinned, ErrNotPinned, ErrNoRoom, ErrTierOff, ErrUncacheable,
// those of Get, and those of the upstream, which has to answer before anything leaves the
// disk.
func (s *Store) Move(ctx context.Context, action Action, what akigw.Pattern, hot bool) (MoveResult, error) {
	if s.pins == nil {
		return MoveResult{}, fmt.Errorf("%w: nothing is under control", ErrTierOff)
	}
	end, err := s.moves.begin(ctx, what, false)
	if err != nil {
		return MoveResult{}, err
	}
	defer end()
	switch action {
	case PinObjects:
		return s.pin(ctx, what, hot)
	case UnpinObjects:
		return s.unpin(ctx, what)
	case PromoteToHot, PromoteToWarm, DemoteToWarm, DemoteToCold:
		return s.moveAll(ctx, action, what)
	}
	return MoveResult{}, ErrAction
}

// step is what is done with each object of a move. It reports whether there was anything
// to do.
type step func(ctx context.Context, key akigw.Key) (did bool, bytes int64, err error)

// moveAll moves what a pattern names.
func (s *Store) moveAll(ctx context.Context, action Action, what akigw.Pattern) (result MoveResult, err error) {
	var prepare func(ctx context.Context, key akigw.Key) error
	var do step
	undo := false
	switch action {
	case PromoteToHot:
		do, undo = s.toHot, true
	case PromoteToWarm:
		do, undo = s.toWarm, true
	case DemoteToWarm:
		prepare, do = s.keepOnDisk, s.outOfHot
	case DemoteToCold:
		prepare, do = s.demotable, s.outOfBoth
	}
	switch {
	case what.Exactly: // it says itself
	case undo:
		err = s.fits(ctx, action, what)
	case action == DemoteToCold:
		err = s.reachable(ctx, what.Bucket)
		prepare = s.drained
	}
	if err == nil && prepare != nil {
		err = s.eachKey(ctx, what, func(key akigw.Key) error { return prepare(ctx, key) })
	}
	if err != nil {
		return result, err
	}
	done := map[akigw.Key]bool{} // and whether they were on disk before
	err = s.eachKey(ctx, what, func(key akigw.Key) error {
		onDisk := false
		if undo {
			e := s.peek(key)
			onDisk = e != nil && s.warm != nil && s.onDisk(e)
		}
		did, bytes, err := do(ctx, key)
		for attempt := 1; errors.Is(err, akigw.ErrChanged) && attempt < maxChanges; attempt++ { // as a read does
			did, bytes, err = do(ctx, key)
		}
		if err != nil || !did {
			if err == nil {
				result.Already++
			}
			return err
		}
		result.Moved++
		result.Bytes += bytes
		if undo {
			done[key] = onDisk
		}
		return nil
	})
	if err != nil {
		for key, onDisk := range done {
			s.takeBack(key, onDisk)
		}
		return MoveResult{}, err
	}
	moved(action, "operator").Add(result.Moved)
	return result, nil
}

// eachKey calls f with each key that a pattern names and that is known, until it returns an
// error; for a pattern of one key, with that one, known or not.
func (s *Store) eachKey(ctx context.Context, what akigw.Pattern, f func(key akigw.Key) error) error {
	if what.Exactly {
		return f(what.Key())
	}
	const batch = 256
	for after, more := warm.Place(""), true; more; {
		var keys []akigw.Key
		more = false
		if err := s.catalog(what, after, func(k known) bool {
			keys = append(keys, k.Key)
			after, more = k.place, len(keys) == batch && s.warm != nil
			return len(keys) < batch || s.warm == nil
		}); err != nil {
			return err
		}
		for _, key := range keys {
			if err := errors.Join(ctx.Err(), f(key)); err != nil {
				return err
			}
		}
	}
	return nil
}

// fits refuses to promote more than a tier could hold.
func (s *Store) fits(ctx context.Context, action Action, what akigw.Pattern) error {
	var size, missing int64
	err := s.catalog(what, "", func(k known) bool {
		size += k.Size
		return ctx.Err() == nil
	})
	if err = errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	if action == PromoteToHot {
		missing = size - s.hotRoom()
	}
	if action == PromoteToWarm && s.warm != nil {
		missing = size - s.warm.MostHeld()
	}
	if missing > 0 {
		return fmt.Errorf("%w: s3://%s/%s has %d bytes, %d more than the tier can hold", ErrNoRoom, what.Bucket, what.Prefix, size, missing)
	}
	return nil
}
