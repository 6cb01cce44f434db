package warm

import (
	"context"
	"sync/atomic"
	"time"
)

// Eviction begins when highTenths of the limit are taken, and ends at lowTenths: what is between is
// for writes that come meanwhile.
const (
	highTenths = 9
	lowTenths  = 8
	// crowdedTenths is from where on a value has to be popular to be admitted. It is below
	// lowTenths, or values that nobody reads again would fill what eviction freed.
	crowdedTenths = 7
)

const (
	// tick is how often space is measured; fastTick is how often it is made
	// while it is short.
	tick     = 250 * time.Millisecond
	fastTick = 25 * time.Millisecond
	// liveShare is the part of the limit that live values keep whatever happens:
	// when there is no room beside so few of them, it is rewrites that are due.
	liveShare = 2
	// sweepShare is the part of the limit that one tick evicts, and sweepLeast
	// the bytes that it evicts of a small one: each tick has a cost of its own.
	sweepShare = 16
	sweepLeast = 4 << 20
)

// evictor keeps the tier within its quota. It measures the disk, evicts what is not used (a clock with
// a counter for each key), and lets Badger rewrite value log files. Its methods are for one goroutine.
type evictor struct {
	*database
	quota   int64
	space   *space
	heat    *heat
	popular *popularity
	pins    *pins
	live    *atomic.Int64 // bytes of values that are reachable, about
	average *atomic.Int64 // bytes of a value, lately
	crowded *atomic.Bool  // space is being freed, or will be soon

	next []byte // where the hand of the clock is
	owed int64  // bytes that were evicted and that the disk has not freed yet
	seen int64  // bytes of the values that stayed in this pass
	busy bool   // space is being freed
}

// run measures the disk, evicts and reclaims space until ctx ends or the directory is gone.
func (e *evictor) run(ctx context.Context) {
	timer := time.NewTimer(tick)
	defer timer.Stop()
	e.scan(nil, nil, func(_ []byte, size int64) bool {
		e.live.Add(size)
		return ctx.Err() == nil
	})
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if !e.health.intact() {
			return
		}
		timer.Reset(e.step())
	}
}

// step measures the disk and frees space if it has to. It returns how long to wait before the next one.
func (e *evictor) step() time.Duration {
	e.space.measure()
	e.makeRoom()
	if e.busy {
		return fastTick
	}
	return tick
}

// makeRoom evicts when the disk is nearly full of live data, and lets Badger rewrite value log files.
// What was evicted is freed only by a rewrite, so while much of it is owed nothing more is evicted.
func (e *evictor) makeRoom() {
	e.busy = e.space.full(highTenths) || e.busy && e.space.full(lowTenths)
	e.crowded.Store(e.space.full(crowdedTenths))
	if e.health.off.Load() {
		return
	}
	if e.space.free.Load() < vlogFileSize(e.quota) {
		return // others have filled the disk: without space for a rewritten file nothing is freed
	}
	if e.busy && e.owed < e.space.limit()/3 && e.live.Load() > e.space.limit()/liveShare {
		e.owed += e.sweep(max(e.space.limit()/sweepShare, sweepLeast))
	}
	if e.busy && e.removed.Swap(0) > 0 {
		e.stir()
	}
	share := 0.5
	if e.busy {
		share = 0.2
	}
	before := e.space.used.Load()
	e.reclaim(share)
	e.space.measure()
	freed := before - e.space.used.Load()
	e.owed = max(0, e.owed-max(freed, 0))
	if e.busy && freed <= 0 {
		e.owed -= e.owed / 8 // what was not freed may never be: evict more
	}
}

// sweep moves the hand on until it has evicted want bytes or passed every key once: what was used since
// the last pass gets another one. It returns the bytes that it evicted.
func (e *evictor) sweep(want int64) (bytes int64) {
	wrapped := false
	e.popular.learn()
	e.popular.Holds(e.space.limit() / max(e.average.Load(), 1))
	for bytes < want {
		victims, size := e.victims(want - bytes)
		bytes += size
		if !e.evict(victims) {
			return bytes
		}
		if e.next == nil { // all keys were seen: what is live is known
			e.live.Store(e.seen)
			e.seen = 0
			if wrapped {
				break
			}
			wrapped = true
		}
	}
	return bytes
}

// victims moves the hand over some thousand keys at most, until it has found keys to evict of want
// bytes. It sets next to nil behind the last key.
func (e *evictor) victims(want int64) (keys [][]byte, bytes int64) {
	passed, start := 0, e.next
	e.next = nil
	e.scan(nil, start, func(key []byte, size int64) bool {
		passed++
		if passed > 4096 || bytes >= want {
			e.next = key
			return false
		}
		if (key[0] != entryPrefix && key[0] != blockPrefix) || e.pins.has(key) || e.heat.cool(key) {
			e.seen += size
			return true
		}
		keys = append(keys, key)
		bytes += size
		e.live.Add(-size)
		if size >= valueThreshold {
			e.popular.evicted(popularityKey(key))
		}
		return true
	})
	return keys, bytes
}

// evict removes values, and what is stored beside records. It returns false if that failed.
func (e *evictor) evict(keys [][]byte) bool {
	for _, key := range keys {
		all := [][]byte{key}
		if key[0] == entryPrefix {
			all = append(all, companion(summaryPrefix, key), companion(accessPrefix, key))
		}
		if e.remove(all...) != nil {
			return false
		}
		e.counters.evicted.Inc()
	}
	return true
}
