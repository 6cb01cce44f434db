package tiers

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/sync/semaphore"

	"github.com/akidb/akigw"
)

// ErrBusy: there is no memory for what the read would bring in. The client
// should come again later.
var ErrBusy = errors.New("too much is being fetched from the upstream at once")

// windows is the memory for what was brought in, by fills or from disk, and
// readers have not taken yet. Who finds none waits for his turn; if more waits than there is,
// new reads are refused. The nil windows has no bound.
type windows struct {
	limit   int64
	free    *semaphore.Weighted
	waiting atomic.Int64 // bytes
}

const (
	// windowPatience is how long a fill waits for memory.
	windowPatience = 10 * time.Second
	// yieldAfter is how long a fill waits for a slow reader while others wait for
	// memory or for the upstream; then it ends, and the reader has the rest
	// fetched when it wants it.
	yieldAfter = 2 * time.Second
)

var (
	windowWaits   = metrics.NewCounter("akigw_tiers_fill_memory_waits_total")
	windowRefused = metrics.NewCounter("akigw_tiers_fill_memory_refused_total")
	yields        = metrics.NewCounter("akigw_tiers_fills_yielded_total")
)

func newWindows(limit int64) *windows {
	if limit == 0 {
		return nil
	}
	return &windows{limit: limit, free: semaphore.NewWeighted(limit)}
}

// take reserves n bytes, or as many as there are in all, until release.
func (w *windows) take(ctx context.Context, key akigw.Key, n int64) (release func(), err error) {
	if w == nil {
		return func() {}, nil
	}
	n = min(n, w.limit)
	if !w.free.TryAcquire(n) {
		windowWaits.Inc()
		w.waiting.Add(n)
		defer w.waiting.Add(-n)
		wait, cancel := context.WithTimeout(ctx, windowPatience)
		defer cancel()
		if w.free.Acquire(wait, n) != nil {
			windowRefused.Inc()
			return nil, fmt.Errorf("%w: %s", ErrBusy, key)
		}
	}
	return func() { w.free.Release(n) }, nil
}

// some reserves want bytes, or else waits for least.
func (w *windows) some(ctx context.Context, key akigw.Key, want, least int64) (n int64, release func(), err error) {
	if w == nil {
		return want, func() {}, nil
	}
	if want <= w.limit && w.free.TryAcquire(want) {
		return want, func() { w.free.Release(want) }, nil
	}
	release, err = w.take(ctx, key, least)
	return least, release, err
}

// crowded reports whether somebody waits.
func (w *windows) crowded() bool { return w != nil && w.waiting.Load() > 0 }

// admit refuses a new read while more waits than there is memory.
func (w *windows) admit(key akigw.Key) error {
	if w == nil || w.waiting.Load() <= w.limit {
		return nil
	}
	windowRefused.Inc()
	return fmt.Errorf("%w: %s", ErrBusy, key)
}

// windowBytes is how much memory a fill of blocks first to end of e takes at the
// most.
func windowBytes(e *entry, first, end int64) int64 {
	return min(end-first, window+2) * e.block
}

// contended reports whether others wait for what a fill of key holds.
func (s *Store) contended(key akigw.Key) bool {
	return s.windows.crowded() || s.crowd != nil && s.crowd.Crowded(key.Bucket)
}

// Crowd is an upstream that knows whether requests wait for it.
type Crowd interface {
	// Crowded reports whether requests wait for the upstream that has a bucket.
	Crowded(bucket string) bool
}
