package buckets

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/writeback/facts"
)

const (
	// questionTimeout is how long one question may take, whoever waits for it: two requests
	// to an upstream that takes eight seconds for each.
	questionTimeout = 20 * time.Second
	// minBackOff is how long an unknown bucket is not asked about after a question that met
	// its deadline.
	minBackOff = time.Second
	// maxBackOff bounds the wait between two questions before a flush.
	maxBackOff = 2 * time.Second
	// maxEarlyBackOff bounds it after the first earlyFailures questions without an answer: most
	// outages are short.
	maxEarlyBackOff = 500 * time.Millisecond
	earlyFailures   = 20
	// maxQuestions is how many questions nobody waits for may be under way.
	maxQuestions = 16
	// maxInquiries bounds what is remembered of questions, in buckets.
	maxInquiries = 10_000
	// askAgain is how often a question is asked whose bucket changes meanwhile.
	askAgain = 3
)

// errUnanswered: a question about a bucket met its deadline.
var errUnanswered = fmt.Errorf("%w: it did not answer a question about the bucket in %s", akigw.ErrUpstreamUnavailable, questionTimeout)

// errChanging: a bucket was changed each time that it was asked about.
const errChanging = akigw.Error("the bucket is being changed")

// inquiry is the state of what is asked about one bucket. It is guarded by the mu of its Buckets.
type inquiry struct {
	endpoint  uint64       // of the bucket's upstream
	running   *question    // nil if none is
	next      time.Time    // when the next question may be asked after one without an answer
	failures  int          // questions without an answer, in a row
	err       error        // of the last one, nil if it was answered
	confirmed bool         // there was an answer in this epoch of the process, and uploads went well since
	answered  time.Time    // when it came
	doubted   time.Time    // when an upload without an answer ended confirmed, zero if none did
	paused    facts.Reason // why pending writes are not uploaded, None if they are
	changing  int          // changes of the bucket through this gateway that are under way
}

// unconfirm has the bucket asked about before its next upload.
func (q *inquiry) unconfirm() { q.confirmed, q.doubted = false, time.Time{} }

// question is a question under way.
type question struct {
	ctx    context.Context // ends with its deadline
	cancel context.CancelFunc
	done   chan struct{} // closed when it is over; then the rest is set
	reason facts.Reason
	err    error
}

// atLocked is the inquiry of a bucket, a new one if there is none.
func (b *Buckets) atLocked(bucket string) *inquiry {
	q := b.inquiries[bucket]
	if q == nil {
		b.trimLocked()
		q = &inquiry{endpoint: b.id(bucket).Endpoint}
		b.inquiries[bucket] = q
	}
	return q
}

// trimLocked removes inquiries until one more fits. A bucket that is forgotten is asked about
// once more than necessary.
func (b *Buckets) trimLocked() {
	for bucket, q := range b.inquiries {
		if len(b.inquiries) < maxInquiries {
			return
		}
		if q.running == nil && q.paused == facts.None && q.changing == 0 {
			delete(b.inquiries, bucket)
		}
	}
}

// refresh asks about a bucket in the background.
func (b *Buckets) refresh(bucket string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.atLocked(bucket)
	if q.running == nil && !now.Before(q.next) {
		b.tryStartLocked(bucket, q)
	}
}

// tryStartLocked starts a question nobody waits for, unless too many are under way.
func (b *Buckets) tryStartLocked(bucket string, q *inquiry) {
	select {
	case b.slots <- struct{}{}:
		b.startLocked(bucket, q, func() { <-b.slots })
	default:
		q.next = time.Now().Add(minBackOff)
	}
}

// wait waits for an answer about a bucket.
func (b *Buckets) wait(ctx context.Context, bucket string, now time.Time) (Cause, error) {
	b.mu.Lock()
	q := b.atLocked(bucket)
	if q.running == nil && errors.Is(q.err, errUnanswered) && now.Before(q.next) {
		b.mu.Unlock()
		return Unanswered, errUnanswered
	}
	if q.running == nil {
		b.startLocked(bucket, q, func() {})
	}
	asked := q.running
	b.mu.Unlock()
	select {
	case <-asked.done:
	case <-asked.ctx.Done():
		select {
		case <-asked.done: // both: it has an answer, or an error of its own
		default:
			if errors.Is(asked.ctx.Err(), context.Canceled) { // the upstream answers again, see Revive
				return Unanswered, nil
			}
			return Unanswered, errUnanswered
		}
	case <-ctx.Done():
		return Unanswered, ctx.Err()
	}
	return b.causeOf(bucket, asked)
}

// causeOf is what a question that is over says about new writes.
func (b *Buckets) causeOf(bucket string, asked *question) (Cause, error) {
	switch {
	case errors.Is(asked.err, errUnanswered):
		return Unanswered, asked.err
	case errors.Is(asked.err, errChanging):
		return Changing, nil
	case asked.err != nil: // the write itself finds out
		return Unanswered, nil
	}
	if asked.reason == facts.None && b.book.Get(b.id(bucket)).OtherETags {
		return because(facts.OtherETags), nil
	}
	return because(asked.reason), nil
}

// startLocked starts a question; end is called when it is over.
func (b *Buckets) startLocked(bucket string, q *inquiry, end func()) {
	ctx, cancel := context.WithTimeout(b.ctx, questionTimeout)
	asked := &question{ctx: ctx, cancel: cancel, done: make(chan struct{})}
	q.running = asked
	b.work.Go(func() {
		defer end()
		defer cancel() // after all who wait have heard
		asked.reason, asked.err = b.answer(ctx, bucket)
		b.over(bucket, asked)
	})
}

// answer asks until there is an answer that no change of the bucket has overtaken.
func (b *Buckets) answer(ctx context.Context, bucket string) (facts.Reason, error) {
	for range askAgain {
		epoch, asked := b.book.Epoch(), time.Now()
		reason, err := b.ask(ctx, bucket)
		switch {
		case err != nil && (errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(err, cold.ErrDeadline)):
			return facts.None, errUnanswered
		case err != nil:
			return facts.None, err
		case b.book.Answer(b.id(bucket), epoch, reason, asked):
			return reason, nil
		}
	}
	return facts.None, errChanging
}

// over records the end of a question, and tells those who wait for it.
func (b *Buckets) over(bucket string, asked *question) {
	f := b.book.Get(b.id(bucket))
	b.mu.Lock()
	q := b.atLocked(bucket)
	q.running, q.err = nil, asked.err
	was, wasConfirmed := q.paused, q.confirmed
	q.doubted = time.Time{}
	if asked.err != nil {
		q.confirmed = false
		if !errors.Is(asked.ctx.Err(), context.Canceled) { // else it is asked again at once, see Revive
			q.failures++
			q.next = time.Now().Add(backOff(q.failures, asked.err))
		}
	} else {
		q.failures, q.next, q.confirmed, q.answered = 0, time.Time{}, true, time.Now()
		if was != facts.None {
			q.paused = pauseOf(&f)
		}
	}
	now := q.paused
	b.mu.Unlock()
	close(asked.done)
	b.report(bucket, was, now)
	if asked.err != nil || now == facts.None && (!wasConfirmed || was != facts.None) {
		b.ready(bucket) // without an answer the pool is told when to ask again, which is sooner than it would by itself
	}
}

// backOff is how long to wait after the n-th question without an answer, from 1. An upstream that
// refuses is asked again soon; one that hangs has kept the question for long already.
func backOff(n int, err error) time.Duration {
	most := maxBackOff
	if n <= earlyFailures {
		most = maxEarlyBackOff
	}
	wait := rand.N(min(most, 50*time.Millisecond<<min(n, 10))) + 1
	if errors.Is(err, errUnanswered) {
		wait = max(wait, minBackOff)
	}
	return wait
}
