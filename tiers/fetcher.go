package tiers

import (
	"context"
	"math"
	"slices"
	"sync"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/budget"
	"github.com/akidb/akigw/tiers/cold"
)

// Crowd is an upstream that knows whether requests wait for it.
type Crowd interface {
	// Crowded reports whether requests wait for the upstream that has a bucket.
	Crowded(bucket string) bool
}

// fetcher fills blocks from the upstream. Readers that miss the same block share one fill: they
// attach to a running one or start one.
type fetcher struct {
	*catalog
	upstream  Upstream
	tasks     *tasks
	crowd     Crowd          // nil if requests never wait for the upstream
	owners    Owners         // nil if there is one upstream
	readAhead *budget.Budget // memory for data fetched ahead
	windows   *windows       // memory for data that fills bring in
	suspects  suspects
	noRanges  originSet // upstreams that ignore Range: parts cost as much as the whole
	// look says which tier has a block, see storage.locate. It may read the disk, so mu must not be
	// held.
	look func(e *entry, n int64) akigw.Outcome

	mu       sync.Mutex
	openings map[akigw.Key]*fill // fills that will learn which object a key holds; guarded by mu
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

// newFill creates a fill on behalf of the client that from belongs to.
func (ft *fetcher) newFill(from context.Context, key akigw.Key) (*fill, context.Context) {
	ctx, cancel := context.WithCancelCause(&cold.FlowContext{Context: ft.tasks.ctx, Flow: cold.FlowOf(from)})
	return &fill{
		key: key, cancel: cancel, fillPlan: fillPlan{window: window, finish: finishBlocks}, ready: make(chan struct{}), readers: 1, wanted: -1,
		recent: make(map[int64]*sharedBlock, window+1), moved: make(chan struct{}),
	}, ctx
}

// join returns the fill that will learn which object key holds, and whether this call started it.
// The caller must detach from it.
//
// Another fill may have ended since the caller looked the key up. Unless missing says that an entry
// would not help, a new fill therefore looks again, and ends with errPresent if there is one.
func (ft *fetcher) join(from context.Context, key akigw.Key, spec akigw.RangeSpec, missing bool) (f *fill, leader bool) {
	ft.mu.Lock()
	defer ft.mu.Unlock()
	if f := ft.openings[key]; f != nil && f.attach() {
		return f, false
	}
	f, ctx := ft.newFill(from, key)
	f.begun, f.lookFirst = ft.fence.generation(), !missing
	ft.openings[key] = f
	ft.tasks.start(func() {
		var err error = errPresent
		if !f.lookFirst || ft.peek(key) == nil {
			err = ft.fillOpening(ctx, f, spec)
		}
		ft.forgetOpening(key, f)
		ft.forget(f)
		f.close(err)
	})
	return f, true
}

// forgetOpening keeps later readers from joining an opening fill, f or any that there is, because
// it may have sent its request before a write. Readers that follow it already are older than the
// write, or overlap it.
func (ft *fetcher) forgetOpening(key akigw.Key, f *fill) {
	ft.mu.Lock()
	defer ft.mu.Unlock()
	if f == nil || ft.openings[key] == f {
		delete(ft.openings, key)
	}
}

// fetch returns a fill that covers block n of e: a running one, or a new one over the missing
// blocks from n up to end. The caller must detach.
//
// The block may have arrived since the caller looked for it. Unless missing says that it is known
// to be missing, a new fill therefore looks again, and ends with errPresent if the block is cached.
// It does so after it was registered: any other fill of the block was either attached to here, or
// ended before, and then the block is found. So no block is fetched twice, although mu is not held
// while the disk is read.
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

// prefetch returns a fill that covers the first missing block from first up to end, and those after
// it: a running one or a new one; nil if none is missing. ok is false if there is no memory for it.
// A fill that stays continues without a reader, and its blocks are admitted as if they had been
// requested often.
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

// readAheadFor returns the memory for data fetched ahead from a bucket: the share of its upstream.
func (ft *fetcher) readAheadFor(bucket string) budget.Taker {
	if ft.owners == nil {
		return ft.readAhead
	}
	return ft.readAhead.Of(ft.owners.Owner(bucket))
}

// missingUntil returns the end of the consecutive missing blocks from n on, at most end.
func (ft *fetcher) missingUntil(e *entry, n, end int64) int64 {
	for n < end && ft.look(e, n) == akigw.Cold {
		n++
	}
	return n
}

// attachLocked attaches to a fill that covers block n of e and is at most reach blocks away from
// it; nil if there is none.
func (ft *fetcher) attachLocked(e *entry, n, reach int64) *fill {
	for _, f := range ft.fills[e.extent] {
		if f.covers(n, reach) && f.attach() {
			return f
		}
	}
	return nil
}

// beginLocked starts f on blocks first up to end of e.
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

// register lets readers of a known object attach to an opening fill that has learned which object
// it is.
func (ft *fetcher) register(f *fill) {
	ft.mu.Lock()
	defer ft.mu.Unlock()
	ft.fills[f.entry.extent] = append(ft.fills[f.entry.extent], f)
}

// forget removes f from the fills of its object.
func (ft *fetcher) forget(f *fill) {
	if f.entry == nil {
		return // it never learned its object
	}
	extent := f.entry.extent
	ft.mu.Lock()
	defer ft.mu.Unlock()
	ft.fills[extent] = slices.DeleteFunc(ft.fills[extent], func(other *fill) bool { return other == f })
	if len(ft.fills[extent]) == 0 {
		delete(ft.fills, extent)
	}
}

// underway returns the keys that a pattern matches and that have a running fill.
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

// contended reports whether others wait for resources that a fill of key holds.
func (ft *fetcher) contended(key akigw.Key) bool {
	return ft.windows.contended(key) || ft.crowd != nil && ft.crowd.Crowded(key.Bucket)
}

// discard removes blocks first up to end of an object that turned out to be corrupt, and its entry,
// which a validation may have published. The entry of another version stays.
func (ft *fetcher) discard(e *entry, first, end int64) {
	if now := ft.peekSummary(e.Key); now == nil || now.extent == e.extent {
		ft.dropEntry(e.Key)
	}
	for n := first; n < end; n++ {
		ft.hot.Drop(hotKey{extent: e.extent, n: n})
	}
	ft.freeBlocks(e.extent)
}
