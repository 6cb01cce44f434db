package writeback

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/writeback/buckets"
	"github.com/akidb/akigw/writeback/flush"
)

const (
	// ErrJournal: the journal could not acknowledge a write. It may be kept or not.
	ErrJournal = akigw.Error("the journal did not acknowledge the write")
	// ErrPending: a request cannot be forwarded, because something that was
	// acknowledged before has to be upstream first, and is not.
	ErrPending = flush.ErrPending
)

// Rules say which writes are written back.
type Rules interface {
	// For returns the settings of a key; they are shared.
	For(bucket, key string) *rules.Settings
	// Backs reports whether writes to some key of a bucket may be written back.
	Backs(bucket string) bool
}

// acceptor decides which writes the journal acknowledges, and says why others go through.
type acceptor struct {
	journal  *journal.Journal // nil: none
	rules    Rules
	buckets  *buckets.Buckets
	space    *space
	counters *counters
	logged   logged
	log      *slog.Logger
}

// wanted reports whether a rule wants writes to a key written back.
func (a *acceptor) wanted(key akigw.Key) bool {
	return a.journal != nil && a.rules.For(key.Bucket, key.Name).Back
}

// accepts reports whether a write may be acknowledged by the journal, and reserves size bytes
// there if so. header has the write's headers, nil for a deletion. An error says that the
// write cannot go through either, because the upstream does not answer.
func (a *acceptor) accepts(ctx context.Context, key akigw.Key, size int64, header http.Header) (bool, error) {
	if !a.wanted(key) || a.unusual(key, header) {
		return false, nil
	}
	why, err := a.buckets.Know(ctx, key.Bucket)
	if err == nil && why == buckets.NoCause {
		why = a.space.reserve(size)
	}
	if err != nil || why != buckets.NoCause {
		a.goesThrough(key.Bucket, why)
	}
	return err == nil && why == buckets.NoCause, err
}

// unusual reports whether a write goes through because it is of a kind that the upstream is not
// known to accept.
func (a *acceptor) unusual(key akigw.Key, header http.Header) bool {
	missing := a.buckets.Missing(key, header)
	if len(missing) == 0 {
		return false
	}
	a.goesThrough(key.Bucket, buckets.Kind, missing...)
	return true
}

// still is the error of a write that was accepted in an epoch of its bucket and cannot be
// acknowledged any more, nil if it can be.
func (a *acceptor) still(ctx context.Context, bucket string, epoch uint64) error {
	why, err := a.buckets.Still(ctx, bucket, epoch)
	if err == nil && why != buckets.NoCause {
		err = fmt.Errorf("%w: the bucket was changed while the body came in: %s", ErrPending, why.Meaning())
	}
	return err
}

// goesThrough records why a write that a rule wants written back is not. kinds are those that
// the upstream does not accept yet.
func (a *acceptor) goesThrough(bucket string, why buckets.Cause, kinds ...string) {
	a.counters.upstream.Inc()
	a.counters.through[why].Inc()
	if !a.logged.first(bucket, why) {
		return
	}
	level := slog.LevelWarn
	if why == buckets.Kind { // it is the client's doing, and ends with the first write that is accepted
		level = slog.LevelInfo
	}
	a.log.Log(context.Background(), level, `a rule says write = "back", and the journal does not take writes to the bucket`, "bucket", bucket, "reason", string(why), "meaning", why.Meaning(), "kinds", kinds)
}

// acknowledged counts a success of the journal, and wraps its errors.
func (a *acceptor) acknowledged(err error) error {
	if err != nil {
		return fmt.Errorf("%w: %w", ErrJournal, err)
	}
	a.counters.journal.Inc()
	return nil
}

// logged remembers what was logged: one line for each bucket and cause. The zero value is ready.
type logged struct {
	mu   sync.Mutex
	seen map[throughBucket]bool // guarded by mu
}

type throughBucket struct {
	bucket string
	why    buckets.Cause
}

// maxLogged bounds what is remembered; beyond it some lines are logged once more.
const maxLogged = 10_000

// first reports whether this is the first call for a bucket and a cause.
func (l *logged) first(bucket string, why buckets.Cause) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	this := throughBucket{bucket, why}
	if l.seen[this] {
		return false
	}
	if l.seen == nil || len(l.seen) >= maxLogged {
		l.seen = map[throughBucket]bool{}
	}
	l.seen[this] = true
	return true
}

// now is the present as S3 tells it, in whole seconds.
func now() time.Time { return time.Now().Truncate(time.Second) }
