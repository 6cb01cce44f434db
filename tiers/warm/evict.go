package warm

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/akidb/akigw/tiers/warm/internal/blockfile"
	"github.com/akidb/akigw/tiers/warm/policy"
)

// evictor keeps the tier within its quota. It measures the disk, evicts values that are not used (a
// clock with a counter for each key, which has one hand for the segments of blocks and one for the
// keys of Badger), and has segments and value log files rewritten. Its methods are for one goroutine.
type evictor struct {
	*database
	blocks  *blocks
	quota   policy.Quota
	space   *space
	heat    *heat
	popular *policy.Popularity
	pins    *pins
	live    *atomic.Int64 // approximate size of the reachable values in Badger in bytes
	average *atomic.Int64 // recent average size of a value in bytes
	crowded *atomic.Bool  // space is being freed, or will be soon

	policy.Pressure
	next []byte // position of the clock's hand among the keys of Badger
	owed int64  // bytes evicted from Badger that the disk has not freed yet
	seen int64  // bytes of Badger's values kept in this pass
	said string // the last error of the segments that was logged
}

// run measures the disk, evicts and reclaims space until ctx ends or the directory disappears.
func (e *evictor) run(ctx context.Context) {
	timer := time.NewTimer(e.Pause())
	defer timer.Stop()
	e.scan(nil, nil, func(key []byte, size int64) bool {
		if evictable(key) {
			e.live.Add(size)
		}
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

// step measures the disk and frees space if necessary. It returns how long to wait before the next
// step.
func (e *evictor) step() time.Duration {
	e.space.measure()
	e.makeRoom()
	return e.Pause()
}

// makeRoom evicts when the disk is nearly full of live data, and has files rewritten that are full of
// garbage. Only a rewrite frees what was evicted, so while Badger owes much of it nothing more is
// evicted.
func (e *evictor) makeRoom() {
	e.Measure(e.full)
	e.crowded.Store(e.Crowded)
	if e.health.off.Load() {
		return
	}
	if e.space.free.Load() < e.quota.ValueLogBytes() {
		e.compact(math.Inf(1)) // other programs have filled the disk: there is no space for rewritten files
		return
	}
	if e.Evicts(e.space.limit(), max(e.live.Load(), 0)+e.blocks.weight(), e.owed) {
		e.owed += e.sweep(e.quota.Sweep())
	}
	e.compact(e.Garbage())
	if e.Busy && e.removed.Swap(0) > 0 {
		e.stir()
	}
	e.reclaimBadger(e.Garbage())
}

// full reports whether more than a number of tenths of the limit are taken, in bytes or in blocks.
func (e *evictor) full(tenths int64) bool { return e.space.full(tenths) || e.blocks.full(tenths) }

// compact has segments removed of which at least a share is garbage. What lives in them is moved to
// others, so much in one step as is evicted in one.
func (e *evictor) compact(share float64) {
	copied, _, err := e.blocks.Compact(share, e.quota.Sweep())
	e.counters.copied.AddInt64(copied)
	e.complain(errors.Join(e.blocks.Seal(), err))
}

// complain logs an error of the segments, once: the next step tries again.
func (e *evictor) complain(err error) {
	said := ""
	if err != nil {
		said = err.Error()
	}
	if said != "" && said != e.said {
		e.log.Warn("the warm tier could not reclaim space of blocks", "error", err)
	}
	e.said = said
}

// reclaimBadger lets Badger rewrite value log files of which at least a share is garbage.
func (e *evictor) reclaimBadger(share float64) {
	e.space.measure()
	before := e.space.used.Load()
	e.reclaim(share)
	e.space.measure()
	freed := before - e.space.used.Load()
	e.owed = max(0, e.owed-max(freed, 0))
	if e.Busy && freed <= 0 {
		e.owed -= e.owed / 8 // bytes still owed may never be freed, so evict more
	}
}

// sweep evicts want bytes: from the segments and from Badger in proportion to what they hold, so that
// both hands take the same time for a pass. It returns the number of bytes evicted from Badger.
//
// Badger can restore removed values while it rewrites files, and then live says too little: what
// occupies the disk counts as well.
func (e *evictor) sweep(want int64) (bytes int64) {
	e.popular.Learn(e.space.limit() / max(e.average.Load(), 1))
	inBlocks, inBadger := e.blocks.weight(), max(e.live.Load(), e.space.used.Load()-e.blocks.Disk()-e.owed-policy.BadgerLeast, 1)
	part := int64(float64(want) * float64(inBlocks) / float64(inBlocks+inBadger))
	e.blocks.Sweep(part, func(id blockfile.ID, size int64) bool {
		key := heatKey(id)
		if e.pins.hasRun(id.Extent) || e.heat.cool(key) {
			return true
		}
		if size >= policy.ValueThreshold {
			e.popular.Evicted(popularityHash(key))
		}
		e.counters.evicted.Inc()
		return false
	})
	return e.sweepBadger(want - part)
}

// sweepBadger moves the hand on until it has evicted want bytes or passed every key once. A key used
// since the last pass is kept for another one. It returns the number of evicted bytes.
func (e *evictor) sweepBadger(want int64) (bytes int64) {
	wrapped := false
	for bytes < want {
		victims, size := e.victims(want - bytes)
		bytes += size
		if !e.evict(victims) {
			return bytes
		}
		if e.next == nil { // all keys were seen, so the live size is known
			e.live.Store(e.seen)
			e.seen = 0
			e.blocks.lookForLegacy()
			if wrapped {
				break
			}
			wrapped = true
		}
	}
	return bytes
}

// victims moves the hand over a few thousand keys at most, until it has found keys to evict with
// want bytes. It sets next to nil after the last key.
func (e *evictor) victims(want int64) (keys [][]byte, bytes int64) {
	passed, start := 0, e.next
	e.next = nil
	e.scan(nil, start, func(key []byte, size int64) bool {
		passed++
		if passed > 4096 || bytes >= want {
			e.next = key
			return false
		}
		if !evictable(key) {
			return true
		}
		if e.pins.has(key) || e.heat.cool(key) {
			e.seen += size
			return true
		}
		keys = append(keys, key)
		bytes += size
		e.live.Add(-size)
		if size >= policy.ValueThreshold {
			e.popular.Evicted(popularityHash(key))
		}
		return true
	})
	return keys, bytes
}

// evictable reports whether what is stored under a key is evicted by itself. What belongs to a record goes
// with it.
func evictable(key []byte) bool { return key[0] == entryPrefix || key[0] == blockPrefix }

// evict removes values, and the companions of records. It returns false if that failed.
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
