package cold

import (
	"context"
	"sync"
	"time"
)

// watchdog cancels a request that makes no progress. It is armed by start, rearmed by each piece of
// progress and disarmed by stop. Long before it cancels a request, it reports the silence.
type watchdog struct {
	cancel    context.CancelCauseFunc
	suspicion *suspicion // is told of each sign of life, and of silence
	patient   bool       // silence says nothing: the operation may take long

	mu     sync.Mutex
	timer  *time.Timer   // guarded by mu
	due    time.Time     // when it may fire, zero if it is disarmed; guarded by mu
	left   time.Duration // what follows then of the wait; guarded by mu
	wait   time.Duration // the whole of it; guarded by mu
	silent bool          // this request is counted as silent; guarded by mu
	closed bool          // the request is over; guarded by mu
}

// stalled is the error of a request that made no progress for so long.
type stalled time.Duration

func (s stalled) Error() string {
	return "no progress for " + time.Duration(s).String()
}

// Is reports that a stalled request has met its deadline.
func (s stalled) Is(target error) bool { return target == ErrDeadline }

// start has the request cancelled after d without progress.
func (w *watchdog) start(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.endSilenceLocked(false)
	first := d
	if !w.patient {
		first = min(d, w.suspicion.after)
	}
	w.wait, w.left = d, d-first
	w.armLocked(first)
}

// armLocked sets the timer.
func (w *watchdog) armLocked(d time.Duration) {
	w.due = time.Now().Add(d)
	if w.timer == nil {
		w.timer = time.AfterFunc(d, w.fire)
		return
	}
	w.timer.Reset(d)
}

func (w *watchdog) fire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.due.IsZero() || time.Now().Before(w.due) { // it was disarmed or rearmed at the same moment
		return
	}
	if !w.patient && !w.silent {
		w.silent = true
		w.suspicion.becameSilent()
	}
	if w.left == 0 {
		w.cancel(stalled(w.wait))
		return
	}
	w.armLocked(w.left)
	w.left = 0
}

// stop disarms the watchdog: the request does not wait for the upstream now.
func (w *watchdog) stop() { w.end(false) }

// end disarms the watchdog. byDeadline says that the request met a deadline of the gateway.
func (w *watchdog) end(byDeadline bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	w.due = time.Time{}
	w.endSilenceLocked(byDeadline)
}

// close disarms the watchdog for good. net/http may still read the body of a request that has ended, and
// would arm a watchdog that nothing disarms.
func (w *watchdog) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.stop()
}

// progress notes that a byte arrived.
func (w *watchdog) progress() { w.suspicion.hears() }

// endSilenceLocked ends the silence of the request.
func (w *watchdog) endSilenceLocked(byDeadline bool) {
	if w.silent {
		w.silent = false
		w.suspicion.silenceEnded(byDeadline)
	}
}
