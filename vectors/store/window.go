package store

import (
	"sync"
	"time"
)

// slots is how many counters a window has: it forgets a search at most a twelfth late.
const slots = 12

// window counts the searches of the last time, and when a collection was used last.
type window struct {
	mu     sync.Mutex
	length time.Duration // 0: an hour
	counts [slots]int
	slot   int64 // number of the newest slot since the epoch of Unix
	last   time.Time
}

// touch says that the collection was used.
func (w *window) touch(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = now
}

// add counts a search.
func (w *window) add(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = now
	w.advance(now)
	w.counts[w.slot%slots]++
}

// state returns how many searches the window has, and when the collection was used last, zero for never.
func (w *window) state(now time.Time) (searches int, last time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance(now)
	for _, n := range w.counts {
		searches += n
	}
	return searches, w.last
}

// setLength sets the length of the window.
func (w *window) setLength(length time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.length = length
}

// advance clears the slots that the window has left. A clock that went back changes nothing.
func (w *window) advance(now time.Time) {
	length := w.length
	if length <= 0 {
		length = time.Hour
	}
	slot := now.UnixNano() / int64(length/slots)
	for range min(max(slot-w.slot, 0), slots) {
		w.slot++
		w.counts[w.slot%slots] = 0
	}
	w.slot = max(w.slot, slot)
}
