package tiers

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/budget"
	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/tiers/cold"
)

// Crowd is an upstream that knows whether requests wait for it.
type Crowd interface {
	// Crowded reports whether requests wait for the upstream that has a bucket.
	Crowded(bucket string) bool
}

// fetcher brings objects in from the upstream. Readers that miss the same block share one fill:
// they attach to one that is under way, or start one.
type fetcher struct {
	*catalog
	upstream  Upstream
	tasks     *tasks
	crowd     Crowd          // nil if requests never wait for the upstream
	owners    Owners         // nil if there is one upstream
	readAhead *budget.Budget // memory for what is fetched ahead
	windows   *windows       // memory for what fills bring in
	suspects  suspects
	noRanges  originSet // that ignore Range: parts cost as much as the whole
	// look says which tier has a block, as catalog.locate does. It may read the disk, so that mu
	// must not be held.
	look func(e *entry, n int64) akigw.Outcome

	mu       sync.Mutex
	openings map[akigw.Key]*fill // fills that will learn what a key holds; guarded by mu
	fills    map[uint64][]*fill  // fills of a known object, by extent; guarded by mu
}

func newFetcher(c *catalog, upstream Upstream, background *tasks) *fetcher {
	ft := &fetcher{
		catalog: c, upstream: upstream, tasks: background, look: c.locate,
		openings: make(map[akigw.Key]*fill), fills: make(map[uint64][]*fill),
	}
	var names []string
	if ft.owners, _ = upstream.(Owners); ft.owners != nil {
		names = ft.owners.Names()
	}
	ft.windows = newWindows(int64(c.config.FillBytes), c.counters).divided(ft.owners)
	ft.readAhead = budget.New(int64(c.config.ReadAheadBytes), c.counters.readAheadRefused, names...)
	ft.crowd, _ = upstream.(Crowd)
	return ft
}

// newFill makes a fill on behalf of the client that from is of.
func (ft *fetcher) newFill(from context.Context, key akigw.Key) (*fill, context.Context) {
	ctx, cancel := context.WithCancelCause(&cold.FlowContext{Context: ft.tasks.ctx, Flow: cold.FlowOf(from)})
	return &fill{
		key: key, cancel: cancel, fillPlan: fillPlan{window: window, finish: finishBlocks}, ready: make(chan struct{}), readers: 1, wanted: -1,
		recent: make(map[int64][]byte, window+1), moved: make(chan struct{}),
	}, ctx
}

// join returns the fill that will learn what key holds, and whether this call
// started it. The caller must detach from it.
func (ft *fetcher) join(from context.Context, key akigw.Key, spec akigw.RangeSpec) (f *fill, leader bool) {
	ft.mu.Lock()
	defer ft.mu.Unlock()
	if f := ft.openings[key]; f != nil && f.attach() {
		return f, false
	}
	f, ctx := ft.newFill(from, key)
	f.begun = ft.fence.generation()
	ft.openings[key] = f
	ft.tasks.start(func() {
		err := ft.fillOpening(ctx, f, spec)
		ft.forgetOpening(key, f)
		ft.forget(f)
		f.close(err)
	})
	return f, true
}

// forgetOpening keeps later readers from joining an opening fill, f or whichever
// there is, because it may have asked the upstream before a write. Readers that
// follow it already are older than the write, or overlap it.
func (ft *fetcher) forgetOpening(key akigw.Key, f *fill) {
	ft.mu.Lock()
	defer ft.mu.Unlock()
	if f == nil || ft.openings[key] == f {
		delete(ft.openings, key)
	}
}

// fetch returns a fill that brings block n of e: one under way, or a new one over the missing
// blocks from n up to end. The caller must detach. Block n may have come since the caller looked
// for it. So a new fill looks again, and ends with errPresent if the block is there, unless it is
// known to be missing. It looks after it was registered: another fill of the block has either
// been attached to here, or ended before, and then the block is found. So no block is fetched
// twice, although mu is not held while the disk is read.
func (ft *fetcher) fetch(from context.Context, e *entry, n, end int64, repeat, missing bool) *fill {
	last := ft.missingUntil(e, n+1, end)
	ft.mu.Lock()
	defer ft.mu.Unlock()
	if f := ft.attachLocked(e, n, reachBlocks); f != nil {
		return f
	}
	f, ctx := ft.newFill(from, e.Key)
	f.repeat, f.lookFirst = repeat, !missing
	ft.beginLocked(ctx, f, e, n, last)
	return f
}

// prefetch returns a fill that brings the first block of first to end that is
// missing, and those behind it: one under way, or a new one; nil if none is
// missing. It is not ok if there is no memory for it. A fill that stays goes on
// without a reader, and what it brings is kept as if it had been asked for often.
func (ft *fetcher) prefetch(from context.Context, e *entry, first, end int64, stays bool) (f *fill, ok bool) {
	for first < end && ft.look(e, first) != akigw.Cold {
		first++
	}
	last := ft.missingUntil(e, first, end)
	if first == last {
		return nil, true
	}
	ft.mu.Lock()
	defer ft.mu.Unlock()
	if f := ft.attachLocked(e, first, math.MaxInt32); f != nil {
		return f, true
	}
	size := (last - first) * e.block
	memory := ft.readAheadFor(e.Key.Bucket)
	if !memory.Acquire(size) {
		return nil, false
	}
	f, ctx := ft.newFill(from, e.Key)
	f.window, f.finish, f.wantedLater = last-first, 0, stays
	if stays {
		f.finish = last - first
	}
	f.release = func() { memory.Release(size) }
	ft.beginLocked(ctx, f, e, first, last)
	return f, true
}

// readAheadFor is the memory that what is fetched ahead of a bucket draws on: the part of its
// upstream.
func (ft *fetcher) readAheadFor(bucket string) budget.Taker {
	if ft.owners == nil {
		return ft.readAhead
	}
	return ft.readAhead.Of(ft.owners.Owner(bucket))
}

// missingUntil is the end of the missing blocks that follow each other from n on, at most end.
func (ft *fetcher) missingUntil(e *entry, n, end int64) int64 {
	for n < end && ft.look(e, n) == akigw.Cold {
		n++
	}
	return n
}

// attachLocked attaches to a fill that brings block n of e and is no more than reach blocks away
// from it, nil if there is none.
func (ft *fetcher) attachLocked(e *entry, n, reach int64) *fill {
	for _, f := range ft.fills[e.extent] {
		if f.covers(n, reach) && f.attach() {
			return f
		}
	}
	return nil
}

// beginLocked starts f on blocks first to end of e.
func (ft *fetcher) beginLocked(ctx context.Context, f *fill, e *entry, first, end int64) {
	f.open(e, first, end)
	ft.fills[e.extent] = append(ft.fills[e.extent], f)
	ft.tasks.start(func() {
		var err error = errPresent
		if !f.lookFirst || ft.look(e, first) == akigw.Cold {
			err = ft.fillRange(ctx, f, e, first, end)
		}
		ft.forget(f)
		f.close(err)
	})
}

// register lets readers of a known object attach to an opening fill that has learned of it.
func (ft *fetcher) register(f *fill) {
	ft.mu.Lock()
	defer ft.mu.Unlock()
	ft.fills[f.entry.extent] = append(ft.fills[f.entry.extent], f)
}

// forget takes f out of the fills that bring blocks of an object.
func (ft *fetcher) forget(f *fill) {
	if f.entry == nil {
		return // it never learned which
	}
	extent := f.entry.extent
	ft.mu.Lock()
	defer ft.mu.Unlock()
	ft.fills[extent] = slices.DeleteFunc(ft.fills[extent], func(other *fill) bool { return other == f })
	if len(ft.fills[extent]) == 0 {
		delete(ft.fills, extent)
	}
}

// underway are the keys that a pattern names and that a fill is under way for.
func (ft *fetcher) underway(what akigw.Pattern) map[akigw.Key]bool {
	ft.mu.Lock()
	defer ft.mu.Unlock()
	keys := map[akigw.Key]bool{}
	for key := range ft.openings {
		if what.Names(key) {
			keys[key] = true
		}
	}
	for _, fills := range ft.fills {
		for _, f := range fills {
			if what.Names(f.key) {
				keys[f.key] = true
			}
		}
	}
	return keys
}

// contended reports whether others wait for what a fill of key holds.
func (ft *fetcher) contended(key akigw.Key) bool {
	return ft.windows.contended(key) || ft.crowd != nil && ft.crowd.Crowded(key.Bucket)
}

// judge compares the digest of a whole body with what came with it. transfer is
// a generation that names the transfer which brought it.
func (ft *fetcher) judge(e *entry, digest *checksum.Digest, transfer uint64) error {
	if digest.OK() || ft.suspects.confirms(e, digest.Sum(nil), transfer) {
		return nil
	}
	ft.log.Error("the upstream sent a body that does not match its checksum; it is not cached and its readers are cut off", "key", e.Key.String(), "etag", e.ETag)
	return fmt.Errorf("%w: %s", akigw.ErrChecksum, e.Key)
}

// discard takes back blocks first to end of an object that turned out bad, and
// its entry, which a validation may have published.
func (ft *fetcher) discard(e *entry, first, end int64) {
	ft.dropEntry(e.Key)
	for n := first; n < end; n++ {
		ft.hot.Drop(hotKey{extent: e.extent, n: n})
	}
	ft.freeBlocks(e.extent)
}
