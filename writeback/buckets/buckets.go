// Package buckets decides which buckets may be written back, and whose pending writes may be
// uploaded: it asks the upstream whether a bucket exists, keeps versions or is encrypted, and
// remembers the answers in package facts.
//
// A write is acknowledged before the upstream has it only if the outcome is known in advance. A
// bucket can be changed without the gateway's knowledge, and after an outage there may be a
// different bucket: so the upstream is also asked before pending writes are uploaded after a
// restart, or after an upload without a response. If the bucket is not as it was when they were
// acknowledged, they are held back until an operator decides.
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
	// defaultMaxAge is how old a fact may be where the configuration does not say.
	defaultMaxAge = 7 * 24 * time.Hour
)

// Options configure a Buckets.
type Options struct {
	// FactsFile stores the answers across restarts, "" for memory only.
	FactsFile string
	// MaxAge is how long an answer stays valid while the upstream does not respond; 0: a week.
	MaxAge   time.Duration
	Upstream Upstream
	// Ready is called when pending writes of a bucket can be uploaded. It is not called before
	// the first call of a method.
	Ready func(bucket string)
	Log   *slog.Logger
}

// Buckets knows which buckets may be written back, and whose pending writes may be uploaded. It
// sends one query at a time about a bucket. All methods except Close are safe for concurrent use.
type Buckets struct {
	book   *facts.Book
	maxAge time.Duration // of facts
	id     func(bucket string) facts.ID
	ask    func(ctx context.Context, bucket string) (facts.Reason, error)
	ready  func(bucket string)
	log    *slog.Logger

	// Queries outlive the requests that started them.
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	slots  chan struct{} // one for each query that no request waits for

	mu        sync.Mutex
	inquiries map[string]*inquiry // by bucket; guarded by mu
}

// New returns a Buckets. It sends no query before it is asked for something.
func New(o Options) *Buckets {
	p := prober{o.Upstream}
	b := &Buckets{book: facts.Open(o.FactsFile, o.Log), maxAge: o.MaxAge, id: p.id, ask: p.ask, ready: o.Ready, log: o.Log, slots: make(chan struct{}, maxQuestions), inquiries: map[string]*inquiry{}}
	if b.maxAge == 0 {
		b.maxAge = defaultMaxAge
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// Run saves what was learned until ctx ends.
func (b *Buckets) Run(ctx context.Context) { b.book.Run(ctx) }

// Close ends all queries and saves what was learned. No other method may be running.
func (b *Buckets) Close() {
	b.cancel()
	b.work.Wait()
	_ = b.book.Save() // an error was logged; without the file the upstream is asked again
}
