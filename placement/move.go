package placement

import (
	"context"
	"errors"
	"fmt"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers"
)

// Action is what an operator can have done with objects.
type Action string

// The actions.
const (
	PromoteToHot  Action = "promote_to_hot"  // into memory, as a whole
	PromoteToWarm Action = "promote_to_warm" // onto disk, as a whole
	DemoteToWarm  Action = "demote_to_warm"  // out of memory; they are on disk then
	DemoteToCold  Action = "demote_to_cold"  // out of memory and off the disk; the upstream has them
	PinObjects    Action = "pin"             // keep them on disk, and in memory if wanted
	UnpinObjects  Action = "unpin"
)

// Actions are all of them.
var Actions = []Action{PromoteToHot, PromoteToWarm, DemoteToWarm, DemoteToCold, PinObjects, UnpinObjects}

// ErrAction says that there is no such action.
var ErrAction = fmt.Errorf("action must be one of %q", Actions)

// MoveResult says what an action has done.
type MoveResult struct {
	// Moved is how many objects have arrived where they were not before; for UnpinObjects, how
	// many pins have ended.
	Moved int `json:"moved"`
	// Already is how many were there.
	Already int   `json:"already"`
	Bytes   int64 `json:"bytes"` // of those that moved
}

// Move does what an operator wants done with objects: with one key, whether it is known or not,
// or with all known keys that begin with a prefix. hot is for PinObjects: the pin keeps objects
// in memory, too.
//
// Either all of it is done, or nothing that matters: a promotion that fails half-way is taken
// back. Errors: ErrMoving, ErrAction, ErrPinned, ErrNotPinned, tiers.ErrNoRoom, tiers.ErrTierOff,
// tiers.ErrUncacheable, those of tiers.Store.Get, and those of the upstream, which has to answer
// before anything leaves the disk.
func (p *Placement) Move(ctx context.Context, action Action, what akigw.Pattern, hot bool) (MoveResult, error) {
	end, err := p.mover.underway.begin(ctx, what)
	if err != nil {
		return MoveResult{}, err
	}
	defer end()
	switch action {
	case PinObjects:
		return p.pin(ctx, what, hot)
	case UnpinObjects:
		return p.unpin(what)
	case PromoteToHot, PromoteToWarm, DemoteToWarm, DemoteToCold:
		return p.moveAll(ctx, action, what)
	}
	return MoveResult{}, ErrAction
}

// prepare makes sure that an object can be moved. All objects of a move are prepared before the
// first of them moves.
type prepare func(ctx context.Context, key akigw.Key) error

// step moves one object. moved is false if there was nothing to do.
type step func(ctx context.Context, key akigw.Key) (moved bool, bytes int64, err error)

// plan checks whether a move of what a pattern names is possible, and returns its steps. prepare
// is nil if there is nothing to prepare.
func (p *Placement) plan(ctx context.Context, action Action, what akigw.Pattern) (prepare, step, error) {
	m := p.mover
	switch action {
	case PromoteToHot:
		return nil, m.toMemory, p.fits(ctx, what, akigw.Hot)
	case PromoteToWarm:
		return nil, m.toDisk, p.fits(ctx, what, akigw.Warm)
	case DemoteToWarm:
		return m.keepOnDisk, m.leaveMemory, nil
	}
	if what.Exactly { // the upstream is asked for the object itself
		return m.demotable, m.leave, nil
	}
	return m.drained, m.leave, m.reachable(ctx, what.Bucket)
}

// moveAll moves what a pattern names.
func (p *Placement) moveAll(ctx context.Context, action Action, what akigw.Pattern) (result MoveResult, err error) {
	ready, move, err := p.plan(ctx, action, what)
	if err == nil && ready != nil {
		err = p.eachKey(ctx, what, func(key akigw.Key) error { return ready(ctx, key) })
	}
	if err != nil {
		return result, err
	}
	promotion := action == PromoteToHot || action == PromoteToWarm
	promoted := map[akigw.Key]bool{} // and whether they were on disk before
	err = p.eachKey(ctx, what, func(key akigw.Key) error {
		onDisk := false
		if promotion {
			_, onDisk = p.store.Whole(key, akigw.Warm)
		}
		moved, bytes, err := again(ctx, move, key)
		if err != nil || !moved {
			if err == nil {
				result.Already++
			}
			return err
		}
		result.Moved++
		result.Bytes += bytes
		if promotion {
			promoted[key] = onDisk
		}
		return nil
	})
	if err != nil {
		for key, onDisk := range promoted {
			p.mover.takeBack(key, onDisk)
		}
		return MoveResult{}, err
	}
	p.mover.counters.moved(action, byOperator).Add(result.Moved)
	return result, nil
}

// attempts is how often an object is moved that is replaced meanwhile, before the move fails.
const attempts = 3

// again moves an object, once more if it was replaced meanwhile.
func again(ctx context.Context, move step, key akigw.Key) (moved bool, bytes int64, err error) {
	for attempt := 1; ; attempt++ {
		moved, bytes, err = move(ctx, key)
		if !errors.Is(err, akigw.ErrChanged) || attempt == attempts {
			return moved, bytes, err
		}
	}
}

// batch is how many keys are read from the catalog before something is done with them.
const batch = 256

// eachKey calls f with each key that a pattern names and that is known, until it returns an
// error; for a pattern of one key, with that one, known or not.
func (p *Placement) eachKey(ctx context.Context, what akigw.Pattern, f func(key akigw.Key) error) error {
	if what.Exactly {
		return f(what.Key())
	}
	for after, more := "", true; more; {
		var keys []akigw.Key
		var err error
		if after, more, err = p.slice(what, after, batch, func(k known) { keys = append(keys, k.Key) }); err != nil {
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

// fits refuses to promote more to a tier than it could hold. A single object is checked by the
// tier itself.
func (p *Placement) fits(ctx context.Context, what akigw.Pattern, tier akigw.Outcome) error {
	if what.Exactly || tier == akigw.Warm && !p.store.HasDisk() {
		return nil
	}
	room, size := p.store.Room().Disk, int64(0)
	if tier == akigw.Hot {
		room = p.store.Room().Memory
	}
	err := p.walk(what, "", func(k known) bool {
		size += k.Size
		return ctx.Err() == nil
	})
	if err = errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	if size > room {
		return fmt.Errorf("%w: s3://%s/%s has %d bytes, %d more than the tier can hold", tiers.ErrNoRoom, what.Bucket, what.Prefix, size, size-room)
	}
	return nil
}
