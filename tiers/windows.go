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

// ErrBusy: there is no memory for what the read would bring in. The client
// should come again later.
const ErrBusy = akigw.Error("too much is being fetched from the upstream at once")

// windows is the memory for what was brought in, by fills or from disk, and
// readers have not taken yet. Readers that find none wait until some is released; if more waits
// than there is, new reads are refused. The nil windows has no bound.
//
// What fills of one of several upstreams take comes out of a part, too, which leaves some for
// the others: fills that an upstream holds up, and reads that wait for it, hold up no others.
type windows struct {
	supply
	parts map[string]*supply         // by upstream; nil: there is one
	owner func(bucket string) string // the upstream that has a bucket
}

// supply is a number of bytes that can be taken and waited for.
type supply struct {
	limit   int64
	free    *semaphore.Weighted
	waiting atomic.Int64 // bytes

	counters *counters
}

// acquire takes n bytes, and waits for them until ctx ends. It reports whether it got them.
func (s *supply) acquire(ctx context.Context, n int64) bool {
	if s.free.TryAcquire(n) {
		return true
	}
	s.counters.windowWaits.Inc()
	s.waiting.Add(n)
	defer s.waiting.Add(-n)
	return s.free.Acquire(ctx, n) == nil
}

// contended reports whether somebody waits.
func (s *supply) contended() bool { return s.waiting.Load() > 0 }

const (
	// windowPatience is how long a fill waits for memory.
	windowPatience = 10 * time.Second
	// yieldAfter is how long a fill waits for a slow reader while others wait for
	// memory or for the upstream; then it ends, and the reader has the rest
	// fetched when it wants it.
	yieldAfter = 2 * time.Second
)

func newWindows(limit int64, c *counters) *windows {
	if limit == 0 {
		return nil
	}
	return &windows{supply: supply{limit: limit, free: semaphore.NewWeighted(limit), counters: c}}
}

// Owners is several upstreams, each of which has some of the buckets.
type Owners interface {
	// Owner is the name of the upstream that has a bucket.
	Owner(bucket string) string
	// Names are the names of all upstreams.
	Names() []string
}

// divided keeps half of the memory for upstreams in equal shares, if there are several.
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

// of are the supplies that memory for a key comes out of, its part first: reads that wait for
// that do not stand in the way of others.
func (w *windows) of(key akigw.Key) []*supply {
	if w.parts != nil {
		if part := w.parts[w.owner(key.Bucket)]; part != nil {
			return []*supply{part, &w.supply}
		}
	}
	return []*supply{&w.supply}
}

// take reserves n bytes, or as many as there are for a key in all, until release.
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

// takeUpTo reserves want bytes if they are free, else it waits for least. It is for what comes from
// disk, which comes out of no upstream's part first.
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

// contended reports whether somebody waits for memory that a fill of a key holds.
func (w *windows) contended(key akigw.Key) bool {
	return w != nil && slices.ContainsFunc(w.of(key), (*supply).contended)
}

// admit refuses a new read while more waits than there is memory.
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

// windowBytes is how much memory a fill of blocks first to end of e takes at the
// most.
func windowBytes(e *entry, first, end int64) int64 {
	return min(end-first, window+2) * e.block
}
