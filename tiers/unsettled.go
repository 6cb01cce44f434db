package tiers

import (
	"sync"
	"time"

	"github.com/akidb/akigw/tiers/cold"
)

// maxUnsettled bounds the memory, about 300 bytes each. Beyond it the oldest change
// ends early.
const maxUnsettled = 100_000

// unsettled holds changes that the upstream may still carry out, until it cannot carry
// them out any more. The zero value is ready.
type unsettled struct {
	mu      sync.Mutex
	writes  []unsettledWrite // in the order in which they end; guarded by mu
	running bool             // a goroutine ends them; guarded by mu
}

type unsettledWrite struct {
	write *Write
	until time.Time
}

// Unsettled ends a change of which the caller does not know whether the upstream has
// carried it out, or still will: its deadline was met, or its client disconnected. The
// key stays fenced until that cannot happen any more, so that nothing is trusted that
// the upstream said before. After Written or End it does nothing.
func (w *Write) Unsettled() {
	if w.ended {
		return
	}
	c := w.changes
	c.counters.unsettledWrites.Inc()
	w.ended, w.block = true, nil
	w.drop()
	oldest, first := c.unsettled.add(w)
	if oldest != nil {
		oldest.release()
	}
	if first && !c.tasks.closing() {
		c.tasks.start(c.endUnsettled)
	}
}

// add returns the change that has to make room, nil for none, and whether no goroutine ends
// changes so far.
func (u *unsettled) add(w *Write) (oldest *Write, first bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.writes) == maxUnsettled {
		oldest = u.writes[0].write
		u.writes = u.writes[1:]
	}
	u.writes = append(u.writes, unsettledWrite{w, time.Now().Add(cold.UnfinishedFor)})
	first, u.running = !u.running, true
	return oldest, first
}

// due takes the first change whose time has come. Without one it returns how long that
// takes, and false if none is left and the goroutine that ends changes has to stop.
func (u *unsettled) due() (w *Write, wait time.Duration, more bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.writes) == 0 {
		u.running = false
		return nil, 0, false
	}
	if wait = time.Until(u.writes[0].until); wait > 0 {
		return nil, wait, true
	}
	w = u.writes[0].write
	u.writes = u.writes[1:]
	return w, 0, true
}

// release ends the fence of a change that was unsettled.
func (w *Write) release() {
	w.end()
	w.drop()
	w.write.leave()
}

// dropUnsettled drops what was read while changes were held: the next epoch does not know of
// them. No work may be under way.
func (c *changes) dropUnsettled() {
	c.unsettled.mu.Lock()
	writes := c.unsettled.writes
	c.unsettled.mu.Unlock()
	for _, u := range writes {
		c.dropEntry(u.write.key)
	}
}

// endUnsettled ends changes as their time comes, until there is none.
func (c *changes) endUnsettled() {
	for {
		w, wait, more := c.unsettled.due()
		if !more {
			return
		}
		if w != nil {
			w.release()
			continue
		}
		select {
		case <-time.After(wait):
		case <-c.tasks.ctx.Done():
			return
		}
	}
}
