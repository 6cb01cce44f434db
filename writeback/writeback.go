// Package writeback acknowledges writes before the upstream has them: it decides which writes may
// be acknowledged, receives their bodies into the journal, and lets the upload pool upload them. It
// keeps multipart uploads until they are completed, and dead letters until an operator decides.
//
// It promises that an acknowledged write is synced to disk and is what every read of the key sees
// from then on; and that a request forwarded to the upstream does not overtake it. A write whose
// outcome cannot be known in advance goes through to the upstream.
//
// Package overlay shows pending writes to readers. The read cache is built on top of it:
//
//	pending, err := writeback.Open(config, upstream, log)
//	cache, err := tiers.New(tiers.Options{Overlay: pending, ...})
//	writes := writeback.New(writeback.Options{Overlay: pending, Cache: cache, ...})
//
// They are closed in the opposite order.
package writeback

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/pack"
	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/uploadpool"
	"github.com/akidb/akigw/writeback/buckets"
	"github.com/akidb/akigw/writeback/flush"
	"github.com/akidb/akigw/writeback/overlay"
)

// Upstream is where pending writes are uploaded.
type Upstream interface {
	// Do sends a signed request and returns the response, whatever its status.
	Do(ctx context.Context, r *cold.Request) (*http.Response, error)
	// Owner returns the name of the upstream that has a bucket.
	Owner(bucket string) string
	// Origin returns a number for the endpoint that a bucket's objects come from.
	Origin(bucket string) uint64
}

// Open opens the journal in config.Dir, and returns the overlay of its content. If there is no
// journal and none can be created, nothing was ever acknowledged: the overlay is off and says why,
// and writes go through until a restart.
func Open(c Config, upstream overlay.Upstream, log *slog.Logger) (*overlay.Overlay, error) {
	var fs vfs.FS = vfs.Disk{}
	if c.Fault != nil {
		fs = vfs.Watched(fs, c.Fault)
	}
	j, err := journal.Open(journal.Config{
		Dir: c.Dir, SecondDir: c.SecondDir, FS: fs, Log: log, InlineBytes: int(c.InlineBytes), SegmentBytes: int64(c.SegmentBytes), ReserveBytes: int64(c.ReserveBytes),
		SyncTimeout: time.Duration(c.SyncTimeoutSecs) * time.Second, MaxDates: c.MaxDates, ScrubRate: int64(c.ScrubBytesPerSec),
	})
	if vfs.Unwritable(err) && journal.Empty(c.Dir) && (c.SecondDir == "" || journal.Empty(c.SecondDir)) {
		log.Error("the journal cannot be created; nothing was acknowledged from it, and writes go through: free some space or repair the disk, and restart the gateway", "dir", c.Dir, "error", err)
		return overlay.Off(fmt.Sprintf("it cannot be created, so writes go through until a restart: %v", err)), nil
	}
	if err != nil {
		return nil, err
	}
	if st := j.Stats(); st.Pending+st.Dead > 0 {
		log.Info("the journal holds writes that are not in the upstream yet", "pending", st.Pending, "bytes", st.Bytes, "dead_letters", st.Dead)
	}
	return overlay.New(j, upstream), nil
}

// Options configure a WriteBack.
type Options struct {
	Config   Config
	Parallel uploadpool.ParallelConfig
	Batch    uploadpool.BatchConfig
	// Overlay is what Open returned. nil: nothing is written back, and all other fields may be
	// zero.
	Overlay  *overlay.Overlay
	Cache    overlay.Cache
	Upstream Upstream
	Rules    Rules
	Log      *slog.Logger // nil: nothing is logged
	// Metrics is the set of the metrics of writes and of the journal; nil: a private one.
	Metrics *metrics.Set
}

// WriteBack writes back. Without a journal it accepts nothing, and has nothing pending. All methods
// except Run and Close are safe for concurrent use.
type WriteBack struct {
	// Flusher has pending writes uploaded.
	*flush.Flusher
	// Overlay shows the pending writes to reads.
	Overlay *overlay.Overlay
	// Uploads are the multipart uploads in the journal.
	Uploads *Uploads
	// DeadLetters are the writes that could not be uploaded.
	DeadLetters *DeadLetters

	journal  *journal.Journal // nil: nothing is written back
	pool     *uploadpool.Pool // nil if journal is nil
	buckets  *buckets.Buckets
	acceptor *acceptor
	hashers  *hashers
	counters *counters
	gauges   *gauges
	rules    Rules
	cache    overlay.Cache
	upstream Upstream
}

// New returns a WriteBack over a journal that was just opened. It uploads nothing until Run.
func New(o Options) *WriteBack {
	if o.Overlay == nil {
		o.Overlay = overlay.Off("")
	}
	o.Log, o.Metrics = cmp.Or(o.Log, slog.New(slog.DiscardHandler)), cmp.Or(o.Metrics, metrics.NewSet())
	w := &WriteBack{Overlay: o.Overlay, journal: o.Overlay.Journal(), hashers: &hashers{}, counters: newCounters(o.Metrics), rules: o.Rules, cache: o.Cache, upstream: o.Upstream}
	w.buckets = buckets.New(buckets.Options{
		FactsFile: o.Config.FactsFile, MaxAge: time.Duration(o.Config.MaxFactSecs) * time.Second, Upstream: o.Upstream, Log: o.Log,
		Ready: func(bucket string) { w.pool.Ready(bucket) },
	})
	w.acceptor = &acceptor{journal: w.journal, rules: o.Rules, buckets: w.buckets, space: &space{config: &o.Config, journal: w.journal}, counters: w.counters, log: o.Log}
	if w.journal != nil {
		w.pool = uploadpool.New(uploadpool.Config{
			Parallel: o.Parallel, Batch: o.Batch, Journal: w.journal, Upstream: o.Upstream, Log: o.Log, Metrics: o.Metrics,
			Begin: func(key akigw.Key) uploadpool.Change { return o.Cache.Begin(key) }, Packs: w.packs,
			Admit: w.buckets.MayFlush, OnNoResponse: w.buckets.NoResponse, OnRecovery: w.buckets.Recovered, OnNoSuchBucket: w.buckets.NoSuchBucket, OnRejected: w.buckets.Rejected, OnETagMismatch: w.buckets.ETagMismatch,
		})
		w.gauges = newGauges(o.Metrics, w.journal, w.pool, w.pausedBuckets)
	}
	w.Flusher = flush.New(flush.Options{Journal: w.journal, Pool: w.pool, Buckets: w.buckets, Unanswered: unanswered(o.Upstream)})
	w.Uploads = &Uploads{journal: w.journal, pool: w.pool, cache: o.Cache, acceptor: w.acceptor, hashers: w.hashers, maxAge: time.Duration(o.Config.MaxUploadSecs) * time.Second, log: o.Log}
	w.DeadLetters = &DeadLetters{journal: w.journal, bodies: o.Overlay, cache: o.Cache, send: w.Send}
	return w
}

// pausedBuckets returns the number of buckets whose pending writes are held back until an operator
// decides.
func (w *WriteBack) pausedBuckets() (n int) {
	for _, bucket := range w.buckets.Paused() {
		if w.Overlay.Any(bucket) {
			n++
		}
	}
	return n
}

// Run uploads pending writes until ctx ends.
func (w *WriteBack) Run(ctx context.Context) error {
	if w.journal == nil {
		<-ctx.Done()
		return nil
	}
	var wait sync.WaitGroup
	wait.Go(func() { _ = w.pool.Run(ctx) }) // it returns nil when ctx ends
	wait.Go(func() { w.Uploads.runExpiry(ctx) })
	wait.Go(func() { w.buckets.Run(ctx) })
	wait.Wait()
	return nil
}

// Close ends the background work of Run and the other methods. The Overlay, and with it the
// journal, must be closed after it. No other method may be running.
func (w *WriteBack) Close() error {
	if w.gauges != nil {
		w.gauges.close()
	}
	w.hashers.close()
	w.buckets.Close()
	return nil
}

// unanswered returns a function that returns the error for a request for a key whose upstream has
// stopped responding, nil for one that has not.
func unanswered(upstream Upstream) func(akigw.Key) error {
	u, ok := upstream.(interface {
		Suspect(bucket string) (suspect bool, begins <-chan struct{})
	})
	if !ok {
		return func(akigw.Key) error { return nil }
	}
	return func(key akigw.Key) error {
		if suspect, _ := u.Suspect(key.Bucket); suspect {
			return fmt.Errorf("%w: %s: %w", akigw.ErrUpstreamUnavailable, key, cold.ErrSuspect)
		}
		return nil
	}
}

// packs reports whether a rule puts an object of size bytes into a pack.
func (w *WriteBack) packs(key akigw.Key, size int64) bool {
	settings := w.rules.For(key.Bucket, key.Name)
	return settings.Back && size <= settings.Pack && settings.Pack > 0
}

// WritesBack reports whether a listing of a bucket must use the overlay: a rule may write something
// in it back, or something in it is pending or translated.
func (w *WriteBack) WritesBack(bucket string) bool {
	return w.journal != nil && (w.Overlay.Any(bucket) || w.rules.Backs(bucket) || w.Overlay.Translates(bucket))
}

// Reserved reports whether a key belongs to the gateway itself, see overlay.ReservedPrefix.
func (w *WriteBack) Reserved(key akigw.Key) bool {
	return pack.IsName(key.Name) && w.WritesBack(key.Bucket)
}

// ChangeBucket says that a bucket is being created, deleted or configured: until end, no write to
// it is acknowledged in the journal. The arguments of end say whether the bucket was or may have
// been changed, and whether it was deleted.
func (w *WriteBack) ChangeBucket(bucket string) (end func(changed, deleted bool)) {
	if w.journal == nil {
		return func(bool, bool) {}
	}
	over := w.buckets.Change(bucket)
	return func(changed, deleted bool) {
		switch {
		case deleted:
			over(buckets.Removed)
		case changed:
			over(buckets.Changed)
			if w.rules.Backs(bucket) {
				w.buckets.Refresh(bucket)
			}
		default:
			over(buckets.Unchanged)
		}
	}
}

// Resume uploads the pending writes for an upstream at once, because it responds again.
func (w *WriteBack) Resume(upstream string) {
	if w.journal == nil {
		return
	}
	w.buckets.Revive(func(bucket string) bool { return w.upstream.Owner(bucket) == upstream })
	w.pool.Resume(upstream)
}

// errOff: there is no journal to record the parts of an upload in.
const errOff = akigw.Error("the journal is not open")

// Send writes an object as one multipart upload that leaves nothing behind, even if the process
// ends meanwhile. body may be read concurrently.
func (w *WriteBack) Send(ctx context.Context, to akigw.Key, contentType string, body io.ReaderAt, size int64) error {
	if w.journal == nil {
		return errOff
	}
	defer w.cache.Begin(to).End()
	return w.pool.Send(ctx, to, contentType, body, size)
}
