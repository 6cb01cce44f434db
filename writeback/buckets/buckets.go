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
