package tiers

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/akidb/akigw"
)

const (
	// window is the number of blocks that a fill runs ahead of its fastest reader, and keeps for
	// readers close behind, unless it is a read-ahead.
	window = 4
	// finishBlocks is the number of missing blocks up to which a fill continues when its last
	// reader has left.
	finishBlocks = 32
	// mostBlocks is the largest number of blocks that one range request fetches for a known object.
	mostBlocks = 256
	// reachBlocks is how many blocks ahead of a fill a reader still waits for it instead of
	// starting another fill.
	reachBlocks = 64
)

const (
	// errAbandoned ends a fill whose last reader left.
	errAbandoned = akigw.Error("no reader left")
	// errYielded ends a fill whose readers are slow, while others wait for what
	// it holds.
	errYielded = akigw.Error("others wait")
	// errPresent ends a fill whose first block, or whose entry, was already cached when it began.
	errPresent = akigw.Error("the block is cached already")
)

// ErrUncacheable: the upstream's response has no strong ETag or no length, so the object can only
// be passed through.
const ErrUncacheable = akigw.Error("object cannot be cached")

// fillPlan says how a fill proceeds. It does not change once the fill has begun.
type fillPlan struct {
	repeat bool // it replaces one that failed
	// lookFirst means that the first block, or the entry, may be cached by now: if it is, nothing is
	// fetched, and the fill ends with errPresent.
	lookFirst bool
	// wantedLater means that another request will read the blocks later.
	wantedLater bool
	// window is the number of blocks that the fill runs ahead of its fastest reader. finish is the
	// number of missing blocks up to which it continues when its last reader has left.
	window, finish int64
}

// fill is one upstream GET that brings in blocks for all readers that wait for them. It runs on its
// own goroutine with its own context; its readers come and go. An opening fill does not know the
// object yet and learns it from the response; the others fetch missing blocks of a known object.
type fill struct {
	key    akigw.Key
	cancel context.CancelCauseFunc
	fillPlan
	// ready is closed when entry is known or the fill has failed.
	ready chan struct{}

	mu        sync.Mutex
	entry     *entry
	start     int64                  // the first block
	next      int64                  // the first block that has not arrived
	end       int64                  // the first block after the fill
	recent    map[int64]*sharedBlock // the last blocks that arrived; the fill is a user of them
	wanted    int64                  // the furthest block that a reader requested
	readers   int
	abandoned bool // cancelled because the last reader left
	ended     bool
	err       error
	moved     chan struct{} // closed and replaced at each change of the above
	release   func()        // releases its memory; nil if none was reserved
	begun     uint64        // when it was created, as a generation; only of an opening fill
}

// freeLocked releases the blocks and the reserved memory once neither the fill nor a reader needs them.
func (f *fill) freeLocked() {
	if f.ended && f.readers == 0 {
		f.forgetLocked()
	}
}

// forgetLocked releases the blocks and the reserved memory.
func (f *fill) forgetLocked() {
	for _, b := range f.recent {
		b.release()
	}
	clear(f.recent)
	if f.release != nil {
		f.release()
		f.release = nil
	}
}

// notifyLocked wakes the goroutines that wait for a change.
func (f *fill) notifyLocked() {
	close(f.moved)
	f.moved = make(chan struct{})
}

// detach removes a reader. A fill without readers ends, unless few blocks are missing.
func (f *fill) detach() { f.leave(nil) }

// leave is detach with a cause. A reader that met its deadline proves that the upstream did not
// respond in time; a client that disconnected proves nothing about the upstream.
func (f *fill) leave(cause error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readers--
	if f.readers == 0 {
		if f.entry == nil || f.end-f.next > f.finish {
			f.abandoned = true
			f.cancel(cause)
		}
		f.freeLocked()
		f.notifyLocked()
	}
}

// block waits for block n, and makes the caller a user of it. It returns nil if n has already left
// the window. waited means that the block was not available at once.
func (f *fill) block(ctx context.Context, n int64) (b *sharedBlock, waited bool, err error) {
	for ; ; waited = true {
		f.mu.Lock()
		b, here := f.recent[n]
		if here {
			b.share()
		}
		passed, ended, err, moved := n < f.next, f.ended, f.err, f.moved
		if f.wanted < n {
			f.wanted = n
			f.notifyLocked()
			moved = f.moved
		}
		f.mu.Unlock()
		switch {
		case here:
			return b, waited, nil
		case err != nil && !passed:
			return nil, waited, err
		case passed || ended:
			return nil, waited, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, waited, ctx.Err()
		}
	}
}

// waitForReaders waits while block n is too far ahead of the readers, if there are any. While
// contended reports that others wait for resources that f holds, it gives up soon, with errYielded.
func (f *fill) waitForReaders(ctx context.Context, n int64, contended func(akigw.Key) bool) error {
	var slow <-chan time.Time
	for {
		f.mu.Lock()
		ok, moved := f.readers == 0 || n <= f.wanted+f.window, f.moved
		f.mu.Unlock()
		if ok {
			if ctx.Err() != nil {
				return errAbandoned
			}
			return nil
		}
		if slow == nil {
			slow = time.After(yieldAfter)
		}
		select {
		case <-moved:
		case <-slow:
			if contended(f.key) {
				return errYielded
			}
			slow = nil
		case <-ctx.Done():
			return errAbandoned
		}
	}
}

// arrived passes block n to the readers. The caller is a user of b.
func (f *fill) arrived(n int64, b *sharedBlock) {
	b.share()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.recent[n] = b
	if last := n - f.window - 1; f.recent[last] != nil {
		f.recent[last].release()
		delete(f.recent, last)
	}
	f.next = n + 1
	f.notifyLocked()
}

// open publishes what the response says about the object.
func (f *fill) open(e *entry, first, end int64) {
	f.mu.Lock()
	f.entry, f.start, f.next, f.end = e, first, first, end
	f.wanted = max(f.wanted, first)
	f.mu.Unlock()
	close(f.ready)
}

// close ends the fill for all readers.
func (f *fill) close(err error) {
	f.cancel(nil)
	f.mu.Lock()
	f.ended, f.err = true, err
	if errors.Is(err, errYielded) && f.release != nil { // its readers start new fills
		f.forgetLocked()
	}
	f.freeLocked()
	f.notifyLocked()
	f.mu.Unlock()
	select {
	case <-f.ready:
	default:
		close(f.ready)
	}
}

// attach adds a reader, unless the fill has ended.
func (f *fill) attach() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended || f.abandoned {
		return false
	}
	f.readers++
	return true
}

// covers reports whether block n has just arrived, or will arrive within the next reach blocks.
func (f *fill) covers(n, reach int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, here := f.recent[n]
	return here || n >= f.next && n < min(f.end, f.next+reach)
}
