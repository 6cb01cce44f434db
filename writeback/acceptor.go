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
	// ErrJournal: the journal could not acknowledge a write. The write may or may not survive.
	ErrJournal = akigw.Error("the journal did not acknowledge the write")
	// ErrPending: a request cannot be forwarded, because an acknowledged write must be uploaded
	// first and is not.
	ErrPending = flush.ErrPending
)

// Rules decide which writes are written back.
type Rules interface {
	// For returns the settings of a key. They are shared.
	For(bucket, key string) *rules.Settings
	// Backs reports whether writes to any key of a bucket may be written back.
	Backs(bucket string) bool
}

// acceptor decides which writes the journal acknowledges, and why others go through.
type acceptor struct {
	journal  *journal.Journal // nil: nothing is written back
	rules    Rules
	buckets  *buckets.Buckets
	space    *space
	counters *counters
	logged   logged
	log      *slog.Logger
}

// wanted reports whether a rule wants writes to a key to be written back.
func (a *acceptor) wanted(key akigw.Key) bool {
	return a.journal != nil && a.rules.For(key.Bucket, key.Name).Back
}

// accepts reports whether the journal may acknowledge a write, and if so reserves size bytes there.
// header has the write's headers, nil for a deletion. An error means that the write cannot go
// through either, because the upstream does not respond.
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

// unusual reports whether a write goes through because the upstream is not known to accept its
// kind.
func (a *acceptor) unusual(key akigw.Key, header http.Header) bool {
	missing := a.buckets.Missing(key, header)
	if len(missing) == 0 {
		return false
	}
	a.goesThrough(key.Bucket, buckets.Kind, missing...)
	return true
}

// still returns nil if a write that was accepted in an epoch of its bucket can still be
// acknowledged, otherwise the reason.
func (a *acceptor) still(ctx context.Context, bucket string, epoch uint64) error {
	why, err := a.buckets.Still(ctx, bucket, epoch)
	if err == nil && why != buckets.NoCause {
		err = fmt.Errorf("%w: the bucket was changed while the body arrived: %s", ErrPending, why.Meaning())
	}
	return err
}

// goesThrough records why a write that a rule wants written back goes through. kinds are those that
// the upstream does not accept yet.
func (a *acceptor) goesThrough(bucket string, why buckets.Cause, kinds ...string) {
	a.counters.upstream.Inc()
	a.counters.through[why].Inc()
	if !a.logged.first(bucket, why) {
		return
	}
	level := slog.LevelWarn
	if why == buckets.Kind { // caused by the client, and ends with the first accepted write
		level = slog.LevelInfo
	}
	a.log.Log(context.Background(), level, `a rule says write = "back", but the journal does not accept writes to the bucket`, "bucket", bucket, "reason", string(why), "meaning", why.Meaning(), "kinds", kinds)
}

// acknowledged counts a success of the journal, and wraps its errors.
func (a *acceptor) acknowledged(err error) error {
	if err != nil {
		return fmt.Errorf("%w: %w", ErrJournal, err)
	}
	a.counters.journal.Inc()
	return nil
}

// logged remembers which lines were logged: one for each bucket and cause. The zero value is ready
// to use.
type logged struct {
	mu   sync.Mutex
	seen map[throughBucket]bool // guarded by mu
}

type throughBucket struct {
	bucket string
	why    buckets.Cause
}

// maxLogged bounds what is remembered; beyond it some lines are logged again.
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

// now returns the current time in whole seconds, the precision of S3.
func now() time.Time { return time.Now().Truncate(time.Second) }
