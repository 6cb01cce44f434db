package placement

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers"
)

// maxPins and maxPrefixes limit how much operators can pin by name. Prefixes are checked one by
// one.
const (
	maxPins     = 10_000
	maxPrefixes = 100
)

// pin adds a pin and brings in what it matches. The known objects must fit, and an object that is
// named exactly is fetched.
func (p *Placement) pin(ctx context.Context, what akigw.Pattern, hot bool) (MoveResult, error) {
	if err := p.pinFits(ctx, what, hot); err != nil {
		return MoveResult{}, err
	}
	former, err := p.pins.put(Pin{Bucket: what.Bucket, Prefix: what.Prefix, Exactly: what.Exactly, Hot: hot, Since: time.Now()})
	if err != nil {
		return MoveResult{}, err
	}
	to := PromoteToWarm
	if hot {
		to = PromoteToHot
	}
	result, err := p.moveAll(ctx, to, what)
	if err != nil {
		err = errors.Join(err, p.pins.restore(what, former))
	}
	p.store.Repin(what) // even if the client has disconnected: the pins have changed
	return result, err
}

// put adds a pin. It replaces and returns the one with the same pattern, if there is one.
func (p *Pins) put(pin Pin) (former []Pin, err error) {
	what := pin.pattern()
	err = p.change(func(pins []Pin) ([]Pin, error) {
		same := func(p Pin) bool { return p.pattern() == what }
		if i := slices.IndexFunc(pins, same); i >= 0 {
			former = []Pin{pins[i]}
		}
		pins = slices.DeleteFunc(pins, same)
		prefixes := 0
		for _, p := range pins {
			if !p.Exactly {
				prefixes++
			}
		}
		if len(pins) >= maxPins || !what.Exactly && prefixes >= maxPrefixes {
			return nil, fmt.Errorf("%w: %d keys and %d prefixes can be pinned by name; pin more by a rule (docs/rules.md)", tiers.ErrNoRoom, maxPins, maxPrefixes)
		}
		return append(pins, pin), nil
	})
	return former, err
}

// restore restores the former pin of a pattern, nil for none. It does not touch other pins, which
// may have changed meanwhile.
func (p *Pins) restore(what akigw.Pattern, former []Pin) error {
	return p.change(func(pins []Pin) ([]Pin, error) {
		pins = append(slices.DeleteFunc(pins, func(p Pin) bool { return p.pattern() == what }), former...)
		slices.SortStableFunc(pins, func(a, b Pin) int { return a.Since.Compare(b.Since) })
		return pins, nil
	})
}

// unpin removes the pin of a pattern and, for a prefix, all pins below it.
func (p *Placement) unpin(what akigw.Pattern) (MoveResult, error) {
	n := 0
	err := p.pins.change(func(pins []Pin) ([]Pin, error) {
		left := slices.DeleteFunc(slices.Clone(pins), func(p Pin) bool { return p.pattern() == what || !what.Exactly && what.Holds(p.pattern()) })
		n = len(pins) - len(left)
		for _, p := range left {
			if n == 0 && p.pattern().Holds(what) {
				return nil, fmt.Errorf("%w by a pin of s3://%s/%s: remove that one", ErrPinned, p.Bucket, p.Prefix)
			}
		}
		if n > 0 {
			return left, nil
		}
		if what.Exactly && p.rules.For(what.Bucket, what.Prefix).Pin {
			return nil, fmt.Errorf("%w by a rule: see akigw rules explain %s/%s", ErrPinned, what.Bucket, what.Prefix)
		}
		return nil, ErrNotPinned
	})
	if err == nil {
		p.store.Repin(what)
	}
	return MoveResult{Moved: n}, err
}

// pinFits refuses pins that would leave too little space.
func (p *Placement) pinFits(ctx context.Context, what akigw.Pattern, hot bool) error {
	if !p.store.HasDisk() {
		return fmt.Errorf("%w: pins keep objects on disk, and the warm tier is switched off (cache.warm_bytes)", tiers.ErrTierOff)
	}
	disk, memory, err := p.unpinned(ctx, what)
	if err != nil {
		return err
	}
	room := p.store.Room()
	if disk > room.DiskPins {
		return fmt.Errorf("%w: this pin needs %d bytes of disk, and only %d more can be pinned (three quarters of cache.warm_bytes in all)", tiers.ErrNoRoom, disk, max(room.DiskPins, 0))
	}
	if hot && memory > room.MemoryPins {
		return fmt.Errorf("%w: this pin needs %d bytes of memory, and only %d more can be pinned (three quarters of cache.hot_bytes in all)", tiers.ErrNoRoom, memory, max(room.MemoryPins, 0))
	}
	return ctx.Err()
}

// unpinned returns how many bytes of the objects that a pattern matches are not pinned yet, on disk
// and in memory.
func (p *Placement) unpinned(ctx context.Context, what akigw.Pattern) (disk, memory int64, err error) {
	count := func(key akigw.Key, size int64) {
		settings := p.store.Settings(key)
		if !settings.Pin {
			disk += size
		}
		if !settings.PinHot {
			memory += size
		}
	}
	if what.Exactly {
		o, err := p.store.Learn(ctx, what.Key())
		if err == nil {
			count(o.Key, o.Size)
		}
		return disk, memory, err
	}
	err = p.walk(what, "", func(k known) bool {
		count(k.Key, k.Size)
		return ctx.Err() == nil
	})
	return disk, memory, err
}
