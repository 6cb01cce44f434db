package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/akidb/akigw/tiers/cold"
)

// deadliner is an upstream that limits how long its requests may take.
type deadliner interface {
	Deadlines(bucket string) cold.Deadlines
}

// deadline is the context of a call. It ends with the client's request, or with the cause
// cold.ErrDeadline when the call has not been answered in time: everything that the call waits for
// shares this deadline. Its clock is paused while a body is read, and stops with the head of the
// response.
//
// It starts neither a timer nor a context before something waits for it, so hits do not pay for it.
type deadline struct {
	context.Context // the request's

	mu     sync.Mutex
	limit  time.Duration           // guarded by mu, like all fields below
	due    time.Time               // zero while the clock does not run
	left   time.Duration           // the time that was left at paused
	paused time.Time               // when the clock stopped for the body, zero if it did not
	over   bool                    // the response has begun
	inner  context.Context         // nil until something waits
	cancel context.CancelCauseFunc // of inner
	timer  *time.Timer             // nil until something waits
}

// begin starts the clock. A limit of zero never ends.
func (d *deadline) begin(limit time.Duration) {
	if limit <= 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limit = limit
	d.runLocked(limit)
}

// runLocked lets the clock run until left has passed.
func (d *deadline) runLocked(left time.Duration) {
	d.due = time.Now().Add(left)
	switch {
	case d.timer != nil:
		d.timer.Reset(left)
	case d.inner != nil:
		d.timer = time.AfterFunc(left, d.expire)
	}
}

// haltLocked stops the clock.
func (d *deadline) haltLocked() {
	d.due = time.Time{}
	if d.timer != nil {
		d.timer.Stop()
	}
}

func (d *deadline) expire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.due.IsZero() && !time.Now().Before(d.due) { // unless it was stopped at the same moment
		d.cancel(cold.ErrDeadline)
	}
}

// atOnce is how long a body may take to be read and still count as sent with the head.
const atOnce = time.Second

// pause stops the clock while the call waits for the client's body.
func (d *deadline) pause() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.limit == 0 || d.over || !d.paused.IsZero() {
		return
	}
	d.paused, d.left = time.Now(), time.Until(d.due)
	d.haltLocked()
}

// resume starts the clock again when the body has ended. After a body that was not sent at once,
// the call gets the full limit again, because the client measures from its last byte.
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
	d.runLocked(left)
}

// answered stops the clock for good.
func (d *deadline) answered() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	d.haltLocked()
}

// release frees the resources of the context.
func (d *deadline) release() {
	d.answered()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cancel != nil {
		d.cancel(nil)
	}
}

// met reports whether the call has exceeded its deadline.
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
			d.runLocked(time.Until(d.due))
		}
	}
	return d.inner
}

// Err implements context.Context.
func (d *deadline) Err() error { return d.base().Err() }

// Value implements context.Context.
func (d *deadline) Value(key any) any { return d.base().Value(key) }

// base returns the inner context if there is one, else that of the request.
func (d *deadline) base() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inner != nil {
		return d.inner
	}
	return d.Context
}

// Deadline implements context.Context. There is a deadline while the clock runs.
func (d *deadline) Deadline() (time.Time, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.due, !d.due.IsZero()
}
