package store

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/part"
	"github.com/akidb/akigw/vectors/search"
	"github.com/akidb/akigw/vectors/segment"
)

// collection is one incarnation of an index: its parts, and the acknowledged rows that no part has.
//
// A call takes its sequence and queues its record under mu, so the records of a collection are in the
// journal in the order of their sequences. The journal's committing goroutine only adds to the queue of
// durable calls, and never waits for mu. Whoever locks mu next applies them.
type collection struct {
	index vectors.Index // as it was created: its tags are in the catalog
	turn  turn          // one flush, merge or move at a time
	queue queue
	use   usage
	made  *written // the segment of a flush that failed, nil for none; used by the holder of turn

	mu       sync.Mutex
	next     uint64 // sequence of the next call
	active   *memtable
	frozen   *memtable // what is being flushed, nil if nothing is; its rows do not change
	parts    []held    // the base, then deltas, later ones override earlier ones; nil while the collection is cold
	alive    []search.Bitmap
	snap     *snapshot         // of the present state, nil if it has to be made
	manifest *segment.Manifest // nil before the first flush
	etag     string            // of the manifest in the upstream
	tier     Tier
	degraded string   // why nothing is written any more, "" if it is
	uploads  []upload // what was uploaded, or may have been, since the manifest was committed
	unsaved  bool     // the local copy of the manifest is older
	kept     []uint64 // records that the manifest has and its local copy does not

	deleted atomic.Bool
}

// held is a part that can be searched, and what the manifest says about it.
type held struct {
	part.Part
	ref segment.Part
}

// queue holds calls that are durable and not applied yet, in the order of the journal.
type queue struct {
	mu    sync.Mutex
	calls []call
}

func (q *queue) add(c call) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.calls = append(q.calls, c)
}

func (q *queue) take() []call {
	q.mu.Lock()
	defer q.mu.Unlock()
	calls := q.calls
	q.calls = nil
	return calls
}

func newCollection(index vectors.Index) *collection {
	return &collection{index: index, turn: newTurn(), next: 1, active: newMemtable(), tier: Hot}
}

// settle applies the calls that are durable. c.mu is locked.
func (c *collection) settle() {
	calls := c.queue.take()
	if len(calls) == 0 {
		return
	}
	c.changing()
	for _, call := range calls {
		c.active.apply(call)
		for _, r := range call.rows {
			c.override(r.hash)
		}
	}
}

// changing makes the state changeable: a snapshot keeps what it has. c.mu is locked.
func (c *collection) changing() {
	if c.snap == nil {
		return
	}
	c.snap = nil
	c.alive = slices.Clone(c.alive)
	for i := range c.alive {
		c.alive[i] = slices.Clone(c.alive[i])
	}
}

// override marks the rows of a key in all parts as overridden. c.mu is locked, and the state changeable.
func (c *collection) override(hash vectors.Hash) {
	for i, p := range c.parts {
		if at, ok := position(p.Hashes(), hash); ok {
			c.alive[i].Clear(uint32(at))
		}
	}
}

// position finds a hash in the sorted hashes of a part, or where it would be. Two keys of one hash are
// taken to be the same key: with 128 bits of SHA-256 there are no two.
func position(hashes []vectors.Hash, hash vectors.Hash) (at int, ok bool) {
	return slices.BinarySearchFunc(hashes, hash, func(a, b vectors.Hash) int { return bytes.Compare(a[:], b[:]) })
}

// snapshot returns the state of the collection, with all calls that were acknowledged.
func (c *collection) snapshot() *snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	if c.snap == nil {
		mems := []tree{c.active.rows.Copy()}
		if c.frozen != nil {
			mems = append(mems, c.frozen.rows)
		}
		c.snap = &snapshot{index: c.index, tier: c.tier, mems: mems, parts: c.parts, alive: c.alive, rows: sync.OnceValue(func() []*row { return merged(mems) })}
	}
	return c.snap
}

// install replaces the parts, and the frozen memtable if flushed says that the parts have it. Then it
// marks what the memtables override. parts and alive belong to the collection from now on.
func (c *collection) install(parts []held, tier Tier, flushed bool) {
	alive := aliveIn(parts) // before the lock: it takes milliseconds if there are many vectors
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	c.snap = nil
	if flushed {
		c.frozen = nil
	}
	c.parts, c.tier = parts, tier
	c.alive = alive
	for _, m := range []*memtable{c.active, c.frozen} {
		if m == nil {
			continue
		}
		m.rows.Scan(func(r *row) bool {
			c.override(r.hash)
			return true
		})
	}
}

// aliveIn returns the vectors of each part that no later part overrides, by vectors or tombstones.
func aliveIn(parts []held) []search.Bitmap {
	alive := make([]search.Bitmap, len(parts))
	for i, p := range parts {
		alive[i] = search.FullBitmap(p.Vectors())
		for older := range i {
			clearCommon(alive[older], parts[older].Hashes(), p.Hashes())
			clearCommon(alive[older], parts[older].Hashes(), p.Tombstones())
		}
	}
	return alive
}

// clearCommon clears the bits of the rows whose hashes are among later ones.
func clearCommon(alive search.Bitmap, hashes, later []vectors.Hash) {
	from := 0
	for _, hash := range later {
		at, ok := position(hashes[from:], hash)
		if from += at; ok {
			alive.Clear(uint32(from))
		}
	}
}

// turn lets one caller at a time work on something, in no particular order.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// take waits for the turn until ctx ends.
func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// try takes the turn if nobody has it.
func (t turn) try() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}

func (t turn) release() { <-t }
