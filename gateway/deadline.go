package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/akidb/akigw/tiers/cold"
)

// deadliner is an upstream that says how long its requests may take. One that does
// not has no deadlines.
type deadliner interface {
	Deadlines(bucket string) cold.Deadlines
}

// deadline is the context of a call. It ends with the client's request, or with the
// cause cold.ErrDeadline when the call has had no answer in time: everything that the
// call waits for shares the one deadline. Its clock stands still while a body comes
// in, and stops with the head of the answer.
//
// It costs nothing until somebody waits for it, so that hits do not pay.
type deadline struct {
	context.Context // the request's

	mu     sync.Mutex
	limit  time.Duration           // guarded by mu, as all that follows
	due    time.Time               // zero while the clock stands still
	left   time.Duration           // when the clock stopped for a body
	paused time.Time               // when it did, zero if it did not
	over   bool                    // there is an answer
	inner  context.Context         // nil until somebody waits
	cancel context.CancelCauseFunc // of inner
	timer  *time.Timer             // nil until somebody waits
}

// begin starts the clock. A limit of zero never ends.
func (d *deadline) begin(limit time.Duration) {
	if limit <= 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limit = limit
	d.run(limit)
}

// run lets the clock run for d more. It needs mu.
func (d *deadline) run(left time.Duration) {
	d.due = time.Now().Add(left)
	switch {
	case d.timer != nil:
		d.timer.Reset(left)
	case d.inner != nil:
		d.timer = time.AfterFunc(left, d.expire)
	}
}

// halt stops the clock. It needs mu.
func (d *deadline) halt() {
	d.due = time.Time{}
	if d.timer != nil {
		d.timer.Stop()
	}
}

func (d *deadline) expire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.due.IsZero() && !time.Now().Before(d.due) { // else it was halted at the same moment
		d.cancel(cold.ErrDeadline)
	}
}

// atOnce is how long a body may take that counts as having been there from the start.
const atOnce = time.Second

// pause stops the clock, because the call waits for the client's body.
func (d *deadline) pause() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.limit == 0 || d.over || !d.paused.IsZero() {
		return
	}
	d.paused, d.left = time.Now(), time.Until(d.due)
	d.halt()
}

// resume starts the clock again when the body has ended. One that took its time has
// the whole limit from its last byte on. Of one that was there at once the client sent
// the last byte when the call began.
func (d *deadline) resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.paused.IsZero() || d.over || !d.due.IsZero() {
		return
	}
	left := d.left
	if time.Since(d.paused) > atOnce {
		left = d.limit
	}
	d.run(left)
}

// answered stops the clock for good.
func (d *deadline) answered() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	d.halt()
}

// release frees what belongs to the context.
func (d *deadline) release() {
	d.answered()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cancel != nil {
		d.cancel(nil)
	}
}

// met reports whether the call has met its deadline.
func (d *deadline) met() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.inner != nil && errors.Is(context.Cause(d.inner), cold.ErrDeadline)
}

// Done implements context.Context.
func (d *deadline) Done() <-chan struct{} { return d.opened().Done() }

func (d *deadline) opened() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inner == nil {
		d.inner, d.cancel = context.WithCancelCause(d.Context)
		if !d.due.IsZero() {
			d.run(time.Until(d.due))
		}
	}
	return d.inner
}

// Err implements context.Context.
func (d *deadline) Err() error { return d.base().Err() }

// Value implements context.Context.
func (d *deadline) Value(key any) any { return d.base().Value(key) }

// base is the context that knows most.
func (d *deadline) base() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inner != nil {
		return d.inner
	}
	return d.Context
}

// Deadline implements context.Context. It is known while the clock runs.
func (d *deadline) Deadline() (time.Time, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.due, !d.due.IsZero()
}
