// Package buckets decides which buckets may be written back, and whose pending writes may be
// uploaded: it asks the upstream whether a bucket exists, keeps versions or is encrypted, and
// remembers the answers in package facts.
//
// A write is acknowledged before the upstream has it only if the outcome is known in advance.
// What a bucket is like can change behind the gateway, and after an outage the bucket may be
// another one: so a bucket is also asked about before pending writes are uploaded after a
// restart or an upload without an answer. If it is not as it was when they were acknowledged,
// they are held back until an operator decides.
package buckets

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/akidb/akigw/writeback/facts"
)

const (
	// factTrust is how long a fact about a bucket is used before it is refreshed.
	factTrust = time.Minute
	// defaultMaxAge is how old a fact may be where no configuration says it.
	defaultMaxAge = 7 * 24 * time.Hour
)

// Options is what a Buckets is made of.
type Options struct {
	// FactsFile is where answers are kept over restarts, "" for memory only.
	FactsFile string
	// MaxAge is how long an answer counts while the upstream gives no other; 0: a week.
	MaxAge   time.Duration
	Upstream Upstream
	// Ready is called when pending writes of a bucket can be uploaded. It is not called before
	// the first call of a method.
	Ready func(bucket string)
	Log   *slog.Logger
}

// Buckets knows which buckets may be written back, and whose pending writes may be uploaded. It
// asks one question at a time about a bucket. All methods but Close may be called from any
// goroutine.
type Buckets struct {
	book   *facts.Book
	maxAge time.Duration // of facts
	id     func(bucket string) facts.ID
	ask    func(ctx context.Context, bucket string) (facts.Reason, error)
	ready  func(bucket string)
	log    *slog.Logger

	// Questions outlive the requests that started them.
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	slots  chan struct{} // one for each question that nobody waits for

	mu        sync.Mutex
	inquiries map[string]*inquiry // by bucket; guarded by mu
}

// New makes a Buckets. It asks nothing until it is asked.
func New(o Options) *Buckets {
	p := prober{o.Upstream}
	b := &Buckets{book: facts.Open(o.FactsFile, o.Log), maxAge: o.MaxAge, id: p.id, ask: p.ask, ready: o.Ready, log: o.Log, slots: make(chan struct{}, maxQuestions), inquiries: map[string]*inquiry{}}
	if b.maxAge == 0 {
		b.maxAge = defaultMaxAge
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// Run saves what is learned until ctx ends.
func (b *Buckets) Run(ctx context.Context) { b.book.Run(ctx) }

// Close ends all questions and saves what was learned. No other method may be running.
func (b *Buckets) Close() {
	b.cancel()
	b.work.Wait()
	_ = b.book.Save() // it was logged; without it the upstream is asked anew
}

// Know returns why writes to a bucket have to go through, NoCause if they need not. A fact that is
// known is used at once, and refreshed in the background when it is old; else the upstream is
// asked. The error wraps akigw.ErrUpstreamUnavailable, or is that of ctx, if there was no answer
// in time.
func (b *Buckets) Know(ctx context.Context, bucket string) (Cause, error) {
	b.mu.Lock()
	changing := b.inquiries[bucket] != nil && b.inquiries[bucket].changing > 0
	b.mu.Unlock()
	if changing {
		return Changing, nil
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

// Epoch is the number of the last change of a bucket through this gateway, for Still.
func (b *Buckets) Epoch(bucket string) uint64 { return b.book.Get(b.id(bucket)).Epoch }

// Still is Know for a write that was accepted in an epoch of its bucket: the body may have taken
// long to come, and the bucket may have been changed meanwhile. An unchanged bucket is not asked
// about.
func (b *Buckets) Still(ctx context.Context, bucket string, epoch uint64) (Cause, error) {
	if b.Epoch(bucket) == epoch {
		return NoCause, nil
	}
	return b.Know(ctx, bucket)
}

// OtherETag implements uploadpool.Config.Unlike: the upstream gave an object of a bucket another
// ETag than was promised. No more are promised for that bucket.
func (b *Buckets) OtherETag(bucket string) { b.book.SetOtherETags(b.id(bucket)) }

// Outcome is what became of a request that changes a bucket.
type Outcome int

// The outcomes.
const (
	Unchanged Outcome = iota
	Changed           // or it may have been
	Removed
)

// Change says that a bucket is being changed through this gateway: answers to earlier questions
// do not count, and writes go through until end.
func (b *Buckets) Change(bucket string) (end func(Outcome)) {
	id := b.id(bucket)
	b.book.Raise(id)
	b.mu.Lock()
	b.atLocked(bucket).changing++
	b.mu.Unlock()
	return func(o Outcome) {
		switch o {
		case Changed:
			b.book.Forget(id)
		case Removed:
			b.book.Reset(id)
			b.book.Answer(id, b.book.Epoch(), facts.Absent, time.Now())
		}
		b.mu.Lock()
		q := b.atLocked(bucket)
		q.changing--
		if o != Unchanged {
			q.unconfirm()
		}
		paused := q.paused != facts.None
		b.mu.Unlock()
		if paused && o != Unchanged {
			b.ready(bucket) // it may be what the pause waited for
		}
	}
}

// Refresh asks about a bucket in the background, unless that is being done.
func (b *Buckets) Refresh(bucket string) { b.refresh(bucket, time.Now()) }

// Revive ends the questions to upstreams that answer again, about buckets for which theirs is
// true: they may wait on a connection that is dead, and would keep others from being asked.
func (b *Buckets) Revive(theirs func(bucket string) bool) {
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
