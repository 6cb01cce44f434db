package tiers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/writeback/facts"
)

const (
	// factTrust is how long a fact about a bucket is used before it is refreshed.
	factTrust = time.Minute
	// factPatience is how long one question may take, whoever waits for it: two requests
	// to an upstream that takes eight seconds for each.
	factPatience = 20 * time.Second
	// factPause is how long an unknown bucket is not asked about after a question that met
	// its deadline.
	factPause = time.Second
	// pausedEvery is how often a bucket whose flush is paused is asked about.
	pausedEvery = 10 * time.Second
	// maxFlushWait bounds the wait between two questions before a flush, and minFlushWait how
	// often a flush looks whether it can be asked.
	maxFlushWait = 2 * time.Second
	minFlushWait = 50 * time.Millisecond
	// soonFlushWait bounds it after the first soonFailures questions without an answer: most
	// outages are short.
	soonFlushWait = 500 * time.Millisecond
	soonFailures  = 20
	// maxQuestions is how many questions nobody waits for may be under way.
	maxQuestions = 16
	// doubtAfter is how old an answer about a bucket has to be before an upload to another one
	// that got no answer casts doubt on it.
	doubtAfter = 10 * time.Second
	// outageAfter is how long it takes for uploads without an answer to be an outage. One that
	// succeeds in that time says that the upstream is there, and lost an answer.
	outageAfter = time.Second
	// maxInquiries bounds what is remembered of questions, in buckets.
	maxInquiries = 10_000
	// askAgain is how often a question is asked whose bucket changes meanwhile.
	askAgain = 3
)

// errUnanswered: a question about a bucket met its deadline.
var errUnanswered = fmt.Errorf("%w: it did not answer a question about the bucket in %s", akigw.ErrUpstreamUnavailable, factPatience)

// errChanging: a bucket was changed each time that it was asked about.
var errChanging = errors.New("the bucket is being changed")

// buckets knows which buckets may be written back, and whose pending writes may be uploaded.
// It asks one question at a time about a bucket. All methods may be called from any goroutine.
type buckets struct {
	book   *facts.Book
	maxAge time.Duration // of facts
	id     func(bucket string) facts.ID
	ask    func(ctx context.Context, bucket string) (facts.Reason, error)
	ctx    context.Context // of questions: the store's
	work   *sync.WaitGroup
	slots  chan struct{}       // for questions nobody waits for
	ready  func(bucket string) // called when pending writes can be uploaded
	log    *slog.Logger

	mu        sync.Mutex
	inquiries map[string]*inquiry // by bucket; guarded by mu
}

// inquiry is what is going on about one bucket.
type inquiry struct {
	endpoint uint64          // of the bucket's upstream
	running  *bucketQuestion // nil if none is
	next     time.Time       // when the next question may be asked after one without an answer
	failures int             // questions without an answer, in a row
	err      error           // of the last one, nil if it was answered
	sure     bool            // there was an answer in this run, and all went well since
	answered time.Time       // when it came
	doubted  time.Time       // when an upload without an answer ended sure, zero if none did
	paused   facts.Reason    // why pending writes are not uploaded, None if they are
	since    time.Time       // of paused
	changing int             // changes of the bucket through this gateway that are under way
}

// bucketQuestion is a question under way.
type bucketQuestion struct {
	ctx    context.Context // ends with its deadline
	cancel context.CancelFunc
	done   chan struct{} // closed when it is over; then the rest is set
	reason facts.Reason
	err    error
}

// at needs mu.
func (b *buckets) at(bucket string) *inquiry {
	q := b.inquiries[bucket]
	if q == nil {
		b.trim()
		q = &inquiry{endpoint: b.id(bucket).Endpoint}
		b.inquiries[bucket] = q
	}
	return q
}

// trim makes room for one more inquiry. A bucket that is forgotten is asked about once more
// than it has to be. It needs mu.
func (b *buckets) trim() {
	for bucket, q := range b.inquiries {
		if len(b.inquiries) < maxInquiries {
			return
		}
		if q.running == nil && q.paused == facts.None && q.changing == 0 {
			delete(b.inquiries, bucket)
		}
	}
}

// know returns why writes to a bucket have to go through, None if they need not. A fact that is
// known is used at once, and refreshed in the background when it is old; else the upstream
// is asked. The error is errUnanswered, or that of ctx, if there was no answer in time.
func (b *buckets) know(ctx context.Context, bucket string) (through, error) {
	b.mu.Lock()
	changing := b.inquiries[bucket] != nil && b.inquiries[bucket].changing > 0
	b.mu.Unlock()
	if changing {
		return throughChanging, nil
	}
	now := time.Now()
	f := b.book.Get(b.id(bucket))
	if f.Known(now, b.maxAge) {
		if now.Sub(f.Asked).Abs() > factTrust {
			b.refresh(bucket, now)
		}
		return because(f.Why()), nil
	}
	if f.OtherETags {
		return because(facts.OtherETags), nil
	}
	return b.wait(ctx, bucket, now)
}

// still reports whether a write that was accepted in an epoch of its bucket can be acknowledged
// now: its body may have taken long to come, and the bucket may have been changed.
func (b *buckets) still(ctx context.Context, bucket string, epoch uint64) error {
	if b.book.Get(b.id(bucket)).Epoch == epoch {
		return nil
	}
	why, err := b.know(ctx, bucket)
	if err == nil && why != throughNone {
		err = fmt.Errorf("%w: the bucket was changed while the body came in: %s", ErrPending, meanings[why])
	}
	return err
}

// refresh asks about a bucket in the background.
func (b *buckets) refresh(bucket string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.at(bucket)
	if q.running == nil && !now.Before(q.next) {
		b.tryStart(bucket, q)
	}
}

// tryStart starts a question nobody waits for, unless too many are under way. It needs mu.
func (b *buckets) tryStart(bucket string, q *inquiry) {
	select {
	case b.slots <- struct{}{}:
		b.start(bucket, q, func() { <-b.slots })
	default:
		q.next = time.Now().Add(factPause)
	}
}

// wait waits for an answer about a bucket.
func (b *buckets) wait(ctx context.Context, bucket string, now time.Time) (through, error) {
	b.mu.Lock()
	q := b.at(bucket)
	if q.running == nil && errors.Is(q.err, errUnanswered) && now.Before(q.next) {
		b.mu.Unlock()
		return throughUnanswered, errUnanswered
	}
	if q.running == nil {
		b.start(bucket, q, func() {})
	}
	asked := q.running
	b.mu.Unlock()
	select {
	case <-asked.done:
	case <-asked.ctx.Done():
		select {
		case <-asked.done: // both: it has an answer, or an error of its own
		default:
			return throughUnanswered, errUnanswered
		}
	case <-ctx.Done():
		return throughUnanswered, ctx.Err()
	}
	switch {
	case errors.Is(asked.err, errUnanswered):
		return throughUnanswered, asked.err
	case errors.Is(asked.err, errChanging):
		return throughChanging, nil
	case asked.err != nil: // the write itself finds out
		return throughUnanswered, nil
	}
	f := b.book.Get(b.id(bucket))
	if asked.reason == facts.None && f.OtherETags {
		return because(facts.OtherETags), nil
	}
	return because(asked.reason), nil
}

// start starts a question; end is called when it is over. It needs mu.
func (b *buckets) start(bucket string, q *inquiry, end func()) {
	ctx, cancel := context.WithTimeout(b.ctx, factPatience)
	asked := &bucketQuestion{ctx: ctx, cancel: cancel, done: make(chan struct{})}
	q.running = asked
	b.work.Go(func() {
		defer end()
		defer cancel() // after all who wait have heard
		asked.reason, asked.err = b.answer(ctx, bucket)
		b.over(bucket, asked)
	})
}

// answer asks until there is an answer that no change of the bucket has overtaken.
func (b *buckets) answer(ctx context.Context, bucket string) (facts.Reason, error) {
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

// over takes the end of a question down, and tells who has to know.
func (b *buckets) over(bucket string, asked *bucketQuestion) {
	f := b.book.Get(b.id(bucket))
	b.mu.Lock()
	q := b.at(bucket)
	q.running, q.err = nil, asked.err
	was, wasSure := q.paused, q.sure
	q.doubted = time.Time{}
	if asked.err != nil {
		q.sure = false
		if !errors.Is(asked.ctx.Err(), context.Canceled) { // else it is asked again at once, see revive
			q.failures++
			q.next = time.Now().Add(backOff(q.failures, asked.err))
		}
	} else {
		q.failures, q.next, q.sure, q.answered = 0, time.Time{}, true, time.Now()
		if was != facts.None {
			q.pause(pauseOf(&f))
		}
	}
	now := q.paused
	b.mu.Unlock()
	close(asked.done)
	b.report(bucket, was, now)
	if asked.err != nil || now == facts.None && (!wasSure || was != facts.None) {
		b.ready(bucket) // without an answer it is told when to ask again, which is sooner than it knows
	}
}

// revive ends the questions to an upstream that answers again: they may wait on a
// connection that is dead, and would keep others from being asked.
func (b *buckets) revive(theirs func(bucket string) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for bucket, q := range b.inquiries {
		if !theirs(bucket) {
			continue
		}
		q.failures, q.next = 0, time.Time{}
		if q.running != nil {
			q.running.cancel()
		}
	}
}

// pauseOf is why pending writes of a bucket are to be held back, None if they are not.
func pauseOf(f *facts.Fact) facts.Reason {
	if pauses[f.Reason] && f.Resumed != f.Reason {
		return f.Reason
	}
	return facts.None
}

// pause takes down why pending writes are held back. It needs the buckets' mu.
func (q *inquiry) pause(reason facts.Reason) {
	if reason != q.paused {
		q.paused, q.since = reason, time.Now()
	}
}

// pauses are the reasons for which pending writes are held back until an operator has decided:
// they were acknowledged for another bucket than there is now. A refusal is none: the flush
// finds it out and waits.
var pauses = map[facts.Reason]bool{facts.Absent: true, facts.Versioned: true, facts.Encrypted: true}

// report logs that the flush of a bucket is paused, or goes on.
func (b *buckets) report(bucket string, was, now facts.Reason) {
	switch {
	case was == now:
	case now == facts.None:
		b.log.Info("pending writes of a bucket are uploaded again", "bucket", bucket)
	default:
		b.log.Error("pending writes of a bucket are not uploaded; they are kept and can be read", "bucket", bucket, "reason", now.String(), "what_to_do", Remedy(bucket, now))
	}
}

// backOff is how long to wait after the n-th question without an answer, from 1. An upstream that
// refuses is asked again soon, one that hangs has kept the question for long already.
func backOff(n int, err error) time.Duration {
	most := maxFlushWait
	if n <= soonFailures {
		most = soonFlushWait
	}
	wait := rand.N(min(most, 50*time.Millisecond<<min(n, 10))) + 1
	if errors.Is(err, errUnanswered) {
		wait = max(wait, factPause)
	}
	return wait
}

// mayFlush implements uploadpool.Config.Admit: it returns how long the flush of a bucket has to
// wait, 0 if it may go on. After a restart, and after the upstream gave no answer, the bucket
// is asked about first.
func (b *buckets) mayFlush(bucket string) time.Duration {
	now := time.Now()
	f := b.book.Get(b.id(bucket))
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.at(bucket)
	if f.Asked.IsZero() { // it was changed
		q.sure, q.doubted = false, time.Time{}
	}
	age := now.Sub(f.Asked).Abs()
	due := !q.sure || age > factTrust || q.paused != facts.None && age > pausedEvery
	if due && q.running == nil && !now.Before(q.next) {
		b.tryStart(bucket, q)
	}
	if !q.sure && q.paused == facts.None {
		if q.running != nil {
			return maxFlushWait // ready says so sooner
		}
		return max(minFlushWait, q.next.Sub(now))
	}
	if q.sure {
		was := q.paused
		if q.pause(pauseOf(&f)); q.paused != was {
			now := q.paused
			b.work.Go(func() { b.report(bucket, was, now) }) // the caller holds locks
		}
	}
	if q.paused != facts.None {
		return pausedEvery
	}
	return 0
}

// doubt says that the upstream gave no answer to an upload to a bucket: it may be the beginning of
// an outage. The bucket is asked about before its next upload, and so are others of the same
// upstream unless they were just now.
func (b *buckets) doubt(bucket string) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	this := b.at(bucket)
	for _, q := range b.inquiries {
		if q.sure && q.endpoint == this.endpoint && (q == this || now.Sub(q.answered) > doubtAfter) {
			q.sure, q.doubted = false, now
		}
	}
}

// alive says that an upload to a bucket succeeded: what was doubted just now is no outage.
func (b *buckets) alive(bucket string) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	this := b.at(bucket)
	for _, q := range b.inquiries {
		if q.endpoint == this.endpoint && !q.doubted.IsZero() && now.Sub(q.doubted) < outageAfter {
			q.sure, q.doubted = true, time.Time{}
		}
	}
}

// gone says that an upload was answered with NoSuchBucket. It reports whether the bucket is asked
// about before the next one: not if an operator wants its pending writes tried all the same.
func (b *buckets) gone(bucket string) bool {
	if f := b.book.Get(b.id(bucket)); f.Resumed == facts.Absent {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.at(bucket)
	q.sure, q.doubted = false, time.Time{}
	return true
}

// pausedBy is why pending writes of a bucket are not uploaded, None if they are.
func (b *buckets) pausedBy(bucket string) facts.Reason {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q := b.inquiries[bucket]; q != nil {
		return q.paused
	}
	return facts.None
}

// paused are the buckets whose pending writes are not uploaded.
func (b *buckets) paused() (all []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for bucket, q := range b.inquiries {
		if q.paused != facts.None {
			all = append(all, bucket)
		}
	}
	return all
}

// resume has pending writes of a bucket uploaded in spite of what was found out.
func (b *buckets) resume(bucket string) bool {
	b.mu.Lock()
	q := b.inquiries[bucket]
	was := facts.None
	if q != nil {
		was, q.paused = q.paused, facts.None
	}
	b.mu.Unlock()
	if was == facts.None {
		return false
	}
	b.book.Resume(b.id(bucket), was)
	b.report(bucket, was, facts.None)
	b.ready(bucket)
	return true
}

// bucketOutcome is what became of a request that changes a bucket.
type bucketOutcome int

const (
	bucketUnchanged bucketOutcome = iota
	bucketChanged                 // or it may have been
	bucketRemoved
)

// change says that a bucket is being changed through this gateway: answers to questions of
// before do not count, and writes go through until end.
func (b *buckets) change(bucket string) (end func(bucketOutcome)) {
	id := b.id(bucket)
	b.book.Raise(id)
	b.mu.Lock()
	b.at(bucket).changing++
	b.mu.Unlock()
	return func(o bucketOutcome) {
		switch o {
		case bucketChanged:
			b.book.Forget(id)
		case bucketRemoved:
			b.book.Reset(id)
			b.book.Answer(id, b.book.Epoch(), facts.Absent, time.Now())
		}
		b.mu.Lock()
		q := b.at(bucket)
		q.changing--
		if o != bucketUnchanged {
			q.sure, q.doubted = false, time.Time{}
		}
		paused := q.paused != facts.None
		b.mu.Unlock()
		if paused && o != bucketUnchanged {
			b.ready(bucket) // it may be what the pause waited for
		}
	}
}
