package tiers

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/akidb/akigw"
)

const (
	// window is the number of blocks that a fill runs ahead of its fastest
	// reader, and keeps for those close behind, if it is not read ahead.
	window = 4
	// finishBlocks is how much may be missing for a fill to go on when its
	// last reader has left.
	finishBlocks = 32
	// mostBlocks is how many missing blocks one upstream range fetches at most for a known
	// object.
	mostBlocks = 256
	// reachBlocks is how far ahead of a fill a reader waits for it, rather
	// than having what it needs fetched apart.
	reachBlocks = 64
)

const (
	// errAbandoned ends a fill whose last reader left.
	errAbandoned = akigw.Error("no reader left")
	// errYielded ends a fill whose readers are slow, while others wait for what
	// it holds.
	errYielded = akigw.Error("others wait")
	// errPresent ends a fill whose first block was in memory or on disk when it began.
	errPresent = akigw.Error("the block is there")
)

// ErrUncacheable: the upstream's answer has no strong ETag or no length, so
// that the object can only be passed through.
const ErrUncacheable = akigw.Error("object cannot be cached")

// fillPlan is how a fill runs. It does not change once the fill has begun.
type fillPlan struct {
	repeat bool // it takes the place of one that failed
	// lookFirst says that the first block may be in memory or on disk by now: then nothing is
	// fetched, and the fill ends with errPresent.
	lookFirst bool
	// wantedLater says that what it brings is going to be read by another
	// request.
	wantedLater bool
	// window is how many blocks it runs ahead of its fastest reader; finish
	// how many may be missing for it to go on when its last reader has left.
	window, finish int64
}

// fill is one upstream GET that brings blocks in, for all readers that wait for
// them. It runs on its own goroutine under its own context; its readers come
// and go. An opening fill does not know the object yet and learns it from the
// answer; the others fetch missing blocks of a known object.
type fill struct {
	key    akigw.Key
	cancel context.CancelCauseFunc
	fillPlan
	// ready is closed when entry is known or the fill has failed.
	ready chan struct{}

	mu      sync.Mutex
	entry   *entry
	start   int64            // the first block
	next    int64            // the first block that has not arrived
	end     int64            // the first block behind the fill
	recent  map[int64][]byte // the last blocks that arrived
	wanted  int64            // the furthest block that a reader asked for
	readers int
	given   bool // cancelled because the last reader left
	ended   bool
	err     error
	moved   chan struct{} // closed and replaced at each change of the above
	release func()        // gives its memory back; nil if none was reserved
	begun   uint64        // when it was made, of an opening, as a generation
}

// freeLocked gives reserved memory back once neither the fill nor a reader needs it.
func (f *fill) freeLocked() {
	if f.release != nil && f.ended && f.readers == 0 {
		f.release()
		f.release = nil
	}
}

// notifyLocked wakes those that wait for a change.
func (f *fill) notifyLocked() {
	close(f.moved)
	f.moved = make(chan struct{})
}

// detach takes a reader away. A fill without readers ends, unless little is
// missing.
func (f *fill) detach() { f.leave(nil) }

// leave is detach for a cause. A reader that met its deadline says that the upstream did not
// answer in time; a client that disconnected says nothing of the upstream.
func (f *fill) leave(cause error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readers--
	if f.readers == 0 {
		if f.entry == nil || f.end-f.next > f.finish {
			f.given = true
			f.cancel(cause)
		}
		f.freeLocked()
		f.notifyLocked()
	}
}

// block waits for block n. ok is false if n has already left the window.
// waited tells that it was not there at once.
func (f *fill) block(ctx context.Context, n int64) (data []byte, ok, waited bool, err error) {
	for ; ; waited = true {
		f.mu.Lock()
		data, here := f.recent[n]
		passed, ended, err, moved := n < f.next, f.ended, f.err, f.moved
		if f.wanted < n {
			f.wanted = n
			f.notifyLocked()
			moved = f.moved
		}
		f.mu.Unlock()
		switch {
		case here:
			return data, true, waited, nil
		case err != nil && !passed:
			return nil, false, waited, err
		case passed || ended:
			return nil, false, waited, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, false, waited, ctx.Err()
		}
	}
}

// waitForReaders waits until block n is not too far ahead of the readers, if there are any. While
// others wait for what f holds, as contended reports, it ends soon, with errYielded.
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

// arrived hands block n to the readers.
func (f *fill) arrived(n int64, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.recent[n] = data
	delete(f.recent, n-f.window-1)
	f.next = n + 1
	f.notifyLocked()
}

// open publishes what the answer says about the object.
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
	if errors.Is(err, errYielded) && f.release != nil { // its readers start fills of their own
		clear(f.recent)
		f.release()
		f.release = nil
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

// attach adds a reader, unless the fill is over.
func (f *fill) attach() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended || f.given {
		return false
	}
	f.readers++
	return true
}

// covers reports whether block n just came, or is still to come within the next
// reach blocks.
func (f *fill) covers(n, reach int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, here := f.recent[n]
	return here || n >= f.next && n < min(f.end, f.next+reach)
}
