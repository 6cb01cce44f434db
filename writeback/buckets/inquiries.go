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
	// questionTimeout is how long one query may take, whoever waits for it: two requests to an
	// upstream that needs eight seconds for each.
	questionTimeout = 20 * time.Second
	// minBackOff is how long no query about an unknown bucket is sent after one that met its
	// deadline.
	minBackOff = time.Second
	// maxBackOff is the upper bound of the wait between two queries before a flush.
	maxBackOff = 2 * time.Second
	// maxEarlyBackOff is the upper bound after the first earlyFailures queries without an answer:
	// most outages are short.
	maxEarlyBackOff = 500 * time.Millisecond
	earlyFailures   = 20
	// maxQuestions is how many queries that no request waits for may be running.
	maxQuestions = 16
	// maxInquiries is the number of buckets whose queries are remembered.
	maxInquiries = 10_000
	// askAgain is how often a query is repeated because its bucket changes meanwhile.
	askAgain = 3
)

// errUnanswered: a query about a bucket met its deadline.
var errUnanswered = fmt.Errorf("%w: it did not respond to a query about the bucket within %s", akigw.ErrUpstreamUnavailable, questionTimeout)

// errChanging: a bucket was changed during each query about it.
const errChanging = akigw.Error("the bucket is being changed")

// inquiry is the state of the queries about one bucket. It is guarded by the mu of its Buckets.
type inquiry struct {
	endpoint  uint64       // endpoint of the bucket's upstream
	running   *question    // the running query, nil for none
	next      time.Time    // when the next query may be sent after one without an answer
	failures  int          // consecutive queries without an answer
	err       error        // error of the last query, nil if it was answered
	confirmed bool         // there was an answer in this epoch, and uploads have succeeded since
	answered  time.Time    // when the answer arrived
	doubted   time.Time    // when an upload without a response cleared confirmed, zero if none did
	paused    facts.Reason // why pending writes are not uploaded, None if they are
	changing  int          // changes of the bucket through this gateway that are under way
}

// unconfirm requires a query about the bucket before its next upload.
func (q *inquiry) unconfirm() { q.confirmed, q.doubted = false, time.Time{} }

// question is a running query.
type question struct {
	ctx    context.Context // ends at the deadline
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended; then the rest is set
	reason facts.Reason
	err    error
}

// atLocked returns the inquiry of a bucket, a new one if there is none.
func (b *Buckets) atLocked(bucket string) *inquiry {
	q := b.inquiries[bucket]
	if q == nil {
		b.trimLocked()
		q = &inquiry{endpoint: b.id(bucket).Endpoint}
		b.inquiries[bucket] = q
	}
	return q
}

// trimLocked removes inquiries until one more fits. A dropped bucket costs one more query than
// necessary.
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

// refresh queries the upstream about a bucket in the background.
func (b *Buckets) refresh(bucket string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.atLocked(bucket)
	if q.running == nil && !now.Before(q.next) {
		b.tryStartLocked(bucket, q)
	}
}

// tryStartLocked starts a query that no request waits for, unless too many are running.
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
		case <-asked.done: // both are done: prefer the query's answer or error
		default:
			if errors.Is(asked.ctx.Err(), context.Canceled) { // the upstream responds again, see Revive
				return Unanswered, nil
			}
			return Unanswered, errUnanswered
		}
	case <-ctx.Done():
		return Unanswered, ctx.Err()
	}
	return b.causeOf(bucket, asked)
}

// causeOf returns what an ended query means for new writes.
func (b *Buckets) causeOf(bucket string, asked *question) (Cause, error) {
	switch {
	case errors.Is(asked.err, errUnanswered):
		return Unanswered, asked.err
	case errors.Is(asked.err, errChanging):
		return Changing, nil
	case asked.err != nil: // the write itself will find out
		return Unanswered, nil
	}
	if asked.reason == facts.None && b.book.Get(b.id(bucket)).OtherETags {
		return because(facts.OtherETags), nil
	}
	return because(asked.reason), nil
}

// startLocked starts a query; end is called when it has ended.
func (b *Buckets) startLocked(bucket string, q *inquiry, end func()) {
	ctx, cancel := context.WithTimeout(b.ctx, questionTimeout)
	asked := &question{ctx: ctx, cancel: cancel, done: make(chan struct{})}
	q.running = asked
	b.work.Go(func() {
		defer end()
		defer cancel() // after all waiting requests were notified
		asked.reason, asked.err = b.answer(ctx, bucket)
		b.over(bucket, asked)
	})
}

// answer queries the upstream until there is an answer that no change of the bucket has overtaken.
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

// over records the end of a query, and notifies the requests that wait for it.
func (b *Buckets) over(bucket string, asked *question) {
	f := b.book.Get(b.id(bucket))
	b.mu.Lock()
	q := b.atLocked(bucket)
	q.running, q.err = nil, asked.err
	was, wasConfirmed := q.paused, q.confirmed
	q.doubted = time.Time{}
	if asked.err != nil {
		q.confirmed = false
		if !errors.Is(asked.ctx.Err(), context.Canceled) { // otherwise the query is repeated at once, see Revive
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
		b.ready(bucket) // also without an answer: the pool then learns when to ask again, which is sooner than it would by itself
	}
}

// backOff returns how long to wait after the n-th query without an answer, from 1. An upstream that
// refuses connections is asked again soon; one that hangs has already delayed the query for long.
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
