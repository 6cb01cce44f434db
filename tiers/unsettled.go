package tiers

import (
	"sync"
	"time"

	"github.com/akidb/akigw/tiers/cold"
)

// maxUnsettled bounds the memory, at about 300 bytes each. Beyond it, the oldest change is ended
// early.
const maxUnsettled = 100_000

// unsettled holds changes that the upstream may still apply, until it no longer can. The zero value
// is ready to use.
type unsettled struct {
	mu      sync.Mutex
	writes  []unsettledWrite // in the order in which they end; guarded by mu
	running bool             // the goroutine that ends them is running; guarded by mu
}

type unsettledWrite struct {
	write *Write
	until time.Time
}

// Unsettled ends a change without knowing whether the upstream has applied it or still will: its
// deadline was met, or its client disconnected. The key stays fenced until the upstream can no
// longer apply it, so that no earlier response is trusted. After Written or End it does nothing.
func (w *Write) Unsettled() {
	if w.ended {
		return
	}
	c := w.changes
	c.counters.unsettledWrites.Inc()
	w.ended = true
	w.drop()
	w.body.free()
	oldest, first := c.unsettled.add(w)
	if oldest != nil {
		oldest.release()
	}
	if first && !c.tasks.closing() {
		c.tasks.start(c.endUnsettled)
	}
}

// add adds a change. It returns the change to end early in exchange, nil for none, and whether the
// goroutine that ends changes must be started.
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

// due removes the first change whose time has come. If there is none, it returns how long to wait;
// more is false if no change is left and the goroutine must stop.
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

// release ends the fence of an unsettled change.
func (w *Write) release() {
	w.end()
	w.drop()
	w.write.leave()
}

// dropUnended drops what was cached of keys with changes that have not ended, unsettled ones or others:
// the next epoch does not know of them. No change may begin any more.
func (c *changes) dropUnended() {
	for _, key := range c.fence.changing() {
		c.dropEntry(key)
	}
}

// endUnsettled ends changes as their time comes, until none is left.
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
