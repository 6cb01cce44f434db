package placement

import (
	"context"
	"errors"
	"fmt"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers"
)

// prepare ensures that an object can be moved. All objects of a move are prepared before the first
// one is moved.
type prepare func(ctx context.Context, key akigw.Key) error

// step moves one object. moved is false if there was nothing to do.
type step func(ctx context.Context, key akigw.Key) (moved bool, bytes int64, err error)

// plan checks whether an action on what a pattern matches is possible, and returns its steps.
// prepare is nil if nothing needs preparation.
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
	if what.Exactly { // the step itself asks the upstream for the object
		return m.demotable, m.leave, nil
	}
	return m.drained, m.leave, m.reachable(ctx, what.Bucket)
}

// moveAll moves the objects that a pattern matches.
func (p *Placement) moveAll(ctx context.Context, action Action, what akigw.Pattern) (result MoveResult, err error) {
	ready, move, err := p.plan(ctx, action, what)
	if err == nil && ready != nil {
		err = p.eachKey(ctx, what, func(key akigw.Key) error { return ready(ctx, key) })
	}
	if err != nil {
		return result, err
	}
	promotion := action == PromoteToHot || action == PromoteToWarm
	promoted := map[akigw.Key]bool{} // value: whether it was on disk before
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

// attempts is how often the move of an object is tried if it is replaced meanwhile.
const attempts = 3

// again moves an object, and retries if it was replaced meanwhile.
func again(ctx context.Context, move step, key akigw.Key) (moved bool, bytes int64, err error) {
	for attempt := 1; ; attempt++ {
		moved, bytes, err = move(ctx, key)
		if !errors.Is(err, akigw.ErrChanged) || attempt == attempts {
			return moved, bytes, err
		}
	}
}

// batch is how many keys are read from the catalog before they are processed.
const batch = 256

// eachKey calls f with each known key that a pattern matches, until f returns an error; for a
// pattern of one key, with that key, known or not.
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

// fits refuses a promotion of more than a tier can hold. For a single object, the tier itself
// checks that.
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
