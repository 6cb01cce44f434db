package tiers

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/akidb/akigw"
)

// ErrBusy: there is no memory for what the read would bring in. The client should retry later.
const ErrBusy = akigw.Error("too much is being fetched from the upstream at once")

// windows is the memory for data that fills or the disk have brought in and readers have not
// consumed yet. A reader that finds none waits until some is released; while more memory is waited
// for than there is, new reads are refused. The nil windows has no bound.
//
// With several upstreams, a fill also takes its memory from the share of its upstream, which leaves
// some for the others: an upstream that stalls its fills, and the reads that wait for it, holds up
// no others.
type windows struct {
	supply
	parts map[string]*supply         // by upstream; nil: there is one
	owner func(bucket string) string // the upstream that has a bucket
}

// supply is a number of bytes that can be taken, and waited for.
type supply struct {
	limit   int64
	free    *semaphore.Weighted
	waiting atomic.Int64 // bytes

	counters *counters
}

// acquire takes n bytes, waiting for them until ctx ends. It reports whether it got them.
func (s *supply) acquire(ctx context.Context, n int64) bool {
	if s.free.TryAcquire(n) {
		return true
	}
	s.counters.windowWaits.Inc()
	s.waiting.Add(n)
	defer s.waiting.Add(-n)
	return s.free.Acquire(ctx, n) == nil
}

// contended reports whether anyone is waiting.
func (s *supply) contended() bool { return s.waiting.Load() > 0 }

const (
	// windowPatience is how long a fill waits for memory.
	windowPatience = 10 * time.Second
	// yieldAfter is how long a fill waits for a slow reader while others wait for memory or for the
	// upstream. Then the fill ends, and the reader starts another one when it needs the rest.
	yieldAfter = 2 * time.Second
)

func newWindows(limit int64, c *counters) *windows {
	if limit == 0 {
		return nil
	}
	return &windows{supply: supply{limit: limit, free: semaphore.NewWeighted(limit), counters: c}}
}

// Owners is a group of upstreams, each of which has some of the buckets.
type Owners interface {
	// Owner returns the name of the upstream that has a bucket.
	Owner(bucket string) string
	// Names returns the names of all upstreams.
	Names() []string
}

// divided reserves half of the memory for the upstreams in equal shares, if there are several.
func (w *windows) divided(o Owners) *windows {
	if w == nil || o == nil || len(o.Names()) < 2 {
		return w
	}
	names := o.Names()
	w.owner, w.parts = o.Owner, make(map[string]*supply, len(names))
	kept := w.limit / int64(2*len(names))
	for _, name := range names {
		most := w.limit - kept*int64(len(names)-1)
		w.parts[name] = &supply{limit: most, free: semaphore.NewWeighted(most), counters: w.counters}
	}
	return w
}

// of returns the supplies for a key, the share of its upstream first: a read that waits for its
// share does not hold the shared memory.
func (w *windows) of(key akigw.Key) []*supply {
	if w.parts != nil {
		if part := w.parts[w.owner(key.Bucket)]; part != nil {
			return []*supply{part, &w.supply}
		}
	}
	return []*supply{&w.supply}
}

// take reserves n bytes, or at most all there are for a key, until release is called.
func (w *windows) take(ctx context.Context, key akigw.Key, n int64) (release func(), err error) {
	if w == nil {
		return func() {}, nil
	}
	supplies := w.of(key)
	n = min(n, supplies[0].limit)
	wait, cancel := context.WithTimeout(ctx, windowPatience)
	defer cancel()
	for i, s := range supplies {
		if !s.acquire(wait, n) {
			releaseAll(supplies[:i], n)
			w.counters.windowRefused.Inc()
			return nil, fmt.Errorf("%w: %s", ErrBusy, key)
		}
	}
	return func() { releaseAll(supplies, n) }, nil
}

func releaseAll(supplies []*supply, n int64) {
	for _, s := range supplies {
		s.free.Release(n)
	}
}

// takeUpTo reserves want bytes if they are free, otherwise it waits for least. It is for data from
// disk, which belongs to no upstream's share.
func (w *windows) takeUpTo(ctx context.Context, key akigw.Key, want, least int64) (n int64, release func(), err error) {
	if w == nil {
		return want, func() {}, nil
	}
	if want <= w.limit && w.free.TryAcquire(want) {
		return want, func() { w.free.Release(want) }, nil
	}
	release, err = w.take(ctx, key, least)
	return least, release, err
}

// contended reports whether anyone waits for memory that a fill of a key holds.
func (w *windows) contended(key akigw.Key) bool {
	return w != nil && slices.ContainsFunc(w.of(key), (*supply).contended)
}

// admit refuses a new read while more memory is waited for than there is.
func (w *windows) admit(key akigw.Key) error {
	if w == nil {
		return nil
	}
	for _, s := range w.of(key) {
		if s.waiting.Load() > s.limit {
			w.counters.windowRefused.Inc()
			return fmt.Errorf("%w: %s", ErrBusy, key)
		}
	}
	return nil
}

// windowBytes is the largest amount of memory that a fill of blocks first up to end of e uses.
func windowBytes(e *entry, first, end int64) int64 {
	return min(end-first, window+2) * e.block
}
