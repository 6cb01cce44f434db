package tiers

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/facts"
	"github.com/akidb/akigw/uploadpool"
)

// BackConfig bounds and places what is written back: [write_back].
type BackConfig struct {
	Dir              string     `toml:"dir" help:"directory of the journal; empty: journal in the data directory. Losing it loses writes that were acknowledged and are not upstream yet"`
	SecondDir        string     `toml:"second_dir" help:"a second directory for the journal, on another disk: a write is acknowledged when it is on both. Empty: none"`
	MaxPendingBytes  size.Bytes `toml:"max_pending_bytes" help:"bodies that may be acknowledged and not upstream yet; beyond that writes go through"`
	MaxPending       int        `toml:"max_pending" help:"the same, counted; each takes about 1 KiB of memory"`
	MaxPendingSecs   int        `toml:"max_pending_secs" help:"if the oldest of them is older than so many seconds, writes go through"`
	InlineBytes      size.Bytes `toml:"inline_bytes" help:"bodies up to this size share a journal file, and its syncs, with others"`
	SegmentBytes     size.Bytes `toml:"segment_bytes" help:"how long a file of the journal gets before the next one is begun"`
	ScrubBytesPerSec size.Bytes `toml:"scrub_bytes_per_sec" help:"with second_dir: bytes of the journal that are read in a second, in the background, to verify both copies: what is damaged in one is repaired from the other. 0: none"`
	MinFreeBytes     size.Bytes `toml:"min_free_bytes" help:"space that is left free on the journal's disk; with less writes go through"`
	ReserveBytes     size.Bytes `toml:"reserve_bytes" help:"space on the journal's disk that is kept for the journal: when the disk is full, what was acknowledged is still taken to the upstream with it; 0: none"`
	MaxUploadSecs    int        `toml:"max_upload_secs" help:"seconds after which a multipart upload in the journal is aborted if no part came; 0: never. Its parts count as pending bytes"`
	SyncTimeoutSecs  int        `toml:"sync_timeout_secs" help:"seconds that the disk may take for a sync before writes go through"`
	MaxDates         int        `toml:"max_dates" help:"number of flushed objects that keep the Last-Modified that their writers were promised; beyond it the objects that were flushed first get the upstream's. Each takes about 0.3 KiB of memory and 0.1 to 0.4 KiB of disk, plus its key in both. 0: an object gets the upstream's date when it is flushed"`
	DrainTimeoutSecs int        `toml:"drain_timeout_secs" help:"seconds that a stop waits for what is pending; what is left then is flushed by the next start"`
	MaxFactSecs      int        `toml:"bucket_facts_max_age_secs" help:"how old, in seconds, the upstream's last answer about a bucket (versioned? encrypted?) may be for writes to be acknowledged by it while the upstream does not answer, also after a restart. While it answers, it is asked once a minute"`

	// FactsFile is where what is known of buckets is kept, "" for memory only.
	FactsFile string
}

// Check reports every impossible value by its key.
func (c *BackConfig) Check(report func(key, problem string)) {
	if c.SecondDir != "" && filepath.Clean(c.SecondDir) == filepath.Clean(c.Dir) {
		report("second_dir", "must be another directory than dir")
	}
	if c.MaxPendingBytes < 1<<20 {
		report("max_pending_bytes", "must be at least 1MiB")
	}
	if c.MaxPending < 1 || c.MaxPending > 10_000_000 {
		report("max_pending", "must be 1 to 10000000")
	}
	if c.MaxPendingSecs < 1 || c.MaxPendingSecs > 365*24*3600 {
		report("max_pending_secs", "must be 1 to 31536000")
	}
	if c.InlineBytes < 0 || c.InlineBytes > 1<<20 {
		report("inline_bytes", "must be 0 to 1MiB")
	}
	if c.SegmentBytes < 1<<20 || c.SegmentBytes > 1<<30 {
		report("segment_bytes", "must be 1MiB to 1GiB")
	}
	if c.ScrubBytesPerSec < 0 {
		report("scrub_bytes_per_sec", "must not be negative")
	}
	if c.MinFreeBytes < 0 {
		report("min_free_bytes", "must not be negative")
	}
	if c.ReserveBytes != 0 && (c.ReserveBytes < 64<<10 || c.ReserveBytes > 1<<30) {
		report("reserve_bytes", "must be 0, or 64KiB to 1GiB")
	}
	if c.MaxUploadSecs < 0 || c.MaxUploadSecs > 365*24*3600 {
		report("max_upload_secs", "must be 0 to 31536000")
	}
	if c.SyncTimeoutSecs < 1 || c.SyncTimeoutSecs > 3600 {
		report("sync_timeout_secs", "must be 1 to 3600")
	}
	if c.MaxFactSecs < 60 || c.MaxFactSecs > 365*24*3600 {
		report("bucket_facts_max_age_secs", "must be 60 to 31536000")
	}
	if c.MaxDates < 0 || c.MaxDates > 10_000_000 {
		report("max_dates", "must be 0 to 10000000")
	}
	if c.DrainTimeoutSecs < 0 || c.DrainTimeoutSecs > 24*3600 {
		report("drain_timeout_secs", "must be 0 to 86400")
	}
}

// back is what writes back.
type back struct {
	config  BackConfig
	fault   akigw.DiskFault // nil for none
	journal *journal.Journal
	pool    *uploadpool.Pool
	metrics *metrics.Set

	incoming atomic.Int64 // bytes of bodies on their way into the journal
	hashers  hashers

	buckets *buckets
	logged  throughLog
}

var backWrites = map[string]*metrics.Counter{
	"journal": metrics.NewCounter(`akigw_tiers_back_writes_total{commit="journal"}`),
	"through": metrics.NewCounter(`akigw_tiers_back_writes_total{commit="upstream"}`),
}

// WriteBack opens the journal in dir: what it holds is visible from then on. It
// must be called before anything else is done with the store.
func (s *Store) WriteBack(c BackConfig, dir string, parallel uploadpool.ParallelConfig, batch uploadpool.BatchConfig, upstream uploadpool.Upstream) error {
	c.Dir = dir
	var fs vfs.FS = vfs.Disk{}
	if s.config.JournalFault != nil {
		fs = vfs.Watched(fs, s.config.JournalFault)
	}
	j, err := journal.Open(journal.Config{
		Dir: dir, FS: fs, Log: s.log, InlineBytes: int(c.InlineBytes), SegmentBytes: int64(c.SegmentBytes), ReserveBytes: int64(c.ReserveBytes), SyncTimeout: time.Duration(c.SyncTimeoutSecs) * time.Second, MaxDates: c.MaxDates,
		SecondDir: c.SecondDir, ScrubRate: int64(c.ScrubBytesPerSec),
	})
	if vfs.Unwritable(err) && journal.Empty(dir) && (c.SecondDir == "" || journal.Empty(c.SecondDir)) {
		s.backOff = fmt.Sprintf("it cannot be made, so writes go through until a restart: %v", err)
		s.log.Error("the journal cannot be made; nothing was acknowledged from it, and writes go through: make room or mend the disk, and restart the gateway", "dir", dir, "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	b := &back{config: c, fault: s.config.JournalFault, journal: j, metrics: metrics.NewSet()}
	s.openBuckets(b)
	b.pool = uploadpool.New(uploadpool.Config{Parallel: parallel, Batch: batch, Journal: j, Upstream: upstream, Log: s.log, Metrics: metrics.GetDefaultSet(),
		Begin: func(key akigw.Key) uploadpool.Change { return s.Begin(key) }, Packs: s.packs, OnETagMismatch: b.unlike, Admit: b.buckets.mayFlush, OnNoResponse: b.buckets.doubt, OnRecovery: b.buckets.alive, OnNoSuchBucket: b.buckets.gone, OnRejected: s.refusedKind})
	gauge := func(name string, value func(journal.Stats) float64) {
		b.metrics.NewGauge(name, func() float64 { return value(j.Stats()) })
	}
	gauge("akigw_journal_pending", func(st journal.Stats) float64 { return float64(st.Pending) })
	gauge("akigw_journal_dead_letters", func(st journal.Stats) float64 { return float64(st.Dead) })
	gauge("akigw_journal_packed", func(st journal.Stats) float64 { return float64(st.Packed) })
	gauge("akigw_journal_packs", func(st journal.Stats) float64 { return float64(st.Packs) })
	gauge("akigw_journal_translated_etags", func(st journal.Stats) float64 { return float64(st.Translations) })
	gauge("akigw_journal_promised_dates", func(st journal.Stats) float64 { return float64(st.Dates) })
	gauge("akigw_journal_uploads", func(st journal.Stats) float64 { return float64(st.Uploads) })
	gauge("akigw_journal_pending_bytes", func(st journal.Stats) float64 { return float64(st.Bytes) })
	gauge("akigw_journal_segment_bytes", func(st journal.Stats) float64 { return float64(st.SegmentBytes) })
	gauge("akigw_journal_oldest_seconds", func(st journal.Stats) float64 { return sinceOldest(st).Seconds() })
	gauge("akigw_journal_failed", func(st journal.Stats) float64 {
		if st.Problem != nil {
			return 1
		}
		return 0
	})
	b.metrics.RegisterMetricsWriter(func(w io.Writer) {
		st := j.Stats()
		metrics.WriteCounterUint64(w, "akigw_journal_repaired_total", uint64(st.Repaired))
		metrics.WriteCounterUint64(w, "akigw_journal_lost_bodies_total", uint64(st.Lost))
	})
	b.metrics.NewGauge("akigw_uploadpool_active", func() float64 { return float64(b.pool.Progress().Active) })
	b.metrics.NewGauge("akigw_uploadpool_unconfirmed", func() float64 { return float64(b.pool.Progress().Unconfirmed) })
	b.metrics.NewGauge("akigw_uploadpool_limit", func() float64 { return b.pool.Progress().Limit })
	b.metrics.NewGauge("akigw_uploadpool_paused_buckets", func() float64 { return float64(s.PausedBuckets()) })
	b.metrics.NewGauge("akigw_uploadpool_paused", func() float64 { return float64(len(b.pool.Progress().Paused)) })
	metrics.RegisterSet(b.metrics)
	s.back = b
	if st := j.Stats(); st.Pending+st.Dead > 0 {
		s.log.Info("the journal holds writes that are not upstream yet", "pending", st.Pending, "bytes", st.Bytes, "dead_letters", st.Dead)
	}
	return nil
}

func (b *back) close() error {
	metrics.UnregisterSet(b.metrics, true)
	b.hashers.close()
	_ = b.buckets.book.Save() // it was logged; without it the upstream is asked anew
	return b.journal.Close()
}

// openBuckets opens what is known of buckets.
func (s *Store) openBuckets(b *back) {
	account := func(string) string { return "" }
	if u, ok := s.upstream.(interface{ Account(bucket string) string }); ok {
		account = u.Account
	}
	b.buckets = &buckets{
		book: facts.Open(b.config.FactsFile, s.log), maxAge: time.Duration(b.config.MaxFactSecs) * time.Second,
		id: func(bucket string) facts.ID {
			return facts.ID{Endpoint: s.upstream.Origin(bucket), Account: account(bucket), Bucket: bucket}
		},
		ask: s.askBucket, ctx: s.ctx, work: &s.work, slots: make(chan struct{}, maxQuestions), log: s.log, inquiries: map[string]*inquiry{},
		ready: func(bucket string) { b.pool.Ready(bucket) },
	}
	if b.config.MaxFactSecs == 0 {
		b.buckets.maxAge = defaultFactAge
	}
}

// defaultFactAge is used where no configuration says how old a fact may be.
const defaultFactAge = 7 * 24 * time.Hour

// unlike says that the upstream gave an object of a bucket another ETag than the one that was
// promised: no more are promised for that bucket.
func (b *back) unlike(bucket string) { b.buckets.book.SetOtherETags(b.buckets.id(bucket)) }

func sinceOldest(st journal.Stats) time.Duration {
	if st.Oldest.IsZero() {
		return 0
	}
	return max(0, time.Since(st.Oldest))
}

// pendingReader opens what the journal holds of a key. It returns nil if that is
// nothing, or a question that only the upstream can answer, by then. With read its
// bytes can be read.
func (s *Store) pendingReader(ctx context.Context, key akigw.Key, spec akigw.RangeSpec, conditions akigw.Conditions, read bool) (*Reader, error) {
	if s.back == nil || key.Version != "" {
		return nil, nil
	}
	j := s.back.journal
	for {
		e := j.Last(key)
		switch {
		case e == nil:
			return nil, nil
		case e.Deleted:
			outcomes[akigw.Overlay].Inc()
			return nil, akigw.ErrNoSuchKey
		case spec.Part() > 0 && len(e.Parts) == 0:
			return nil, s.Drain(ctx, key)
		}
		object := pendingObject(e)
		r := &Reader{Object: object, Outcome: akigw.Overlay, Hold: mostHeld, store: s}
		if err := conditions.Check(object); err != nil {
			return r, err
		}
		var err error
		if spec.Part() > 0 {
			if r.Part = pendingPart(e, spec.Part()); r.Part == nil {
				return nil, s.Drain(ctx, key) // the upstream says what it says of a part that is not there
			}
			r.Range = r.Part.Range
		} else if r.Range, err = spec.Resolve(object.Size); err != nil {
			return r, err
		}
		r.at = r.Range.Start
		if read {
			if r.pending, r.Outcome, err = s.pendingBody(ctx, e, r.Range); errors.Is(err, journal.ErrGone) {
				continue // it is upstream by now
			}
			if err != nil {
				return nil, fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, err)
			}
		}
		outcomes[r.Outcome].Inc()
		return r, nil
	}
}

// Pending opens what the journal has of a key, or a range of it. It returns nil if that
// is nothing, and akigw.ErrNoSuchKey if the key was deleted; with a Reader the error
// says what is wrong with the range.
func (s *Store) Pending(ctx context.Context, key akigw.Key, spec akigw.RangeSpec) (*Reader, error) {
	return s.pendingReader(ctx, key, spec, akigw.Conditions{}, true)
}

// pendingObject describes a pending object as the upstream is going to.
func pendingObject(e *journal.Entry) *akigw.Object {
	h := objectHeader(e.Header)
	h.Del("X-Amz-Checksum-Algorithm") // it is said of an upload
	if h.Get("X-Amz-Storage-Class") == "STANDARD" {
		h.Del("X-Amz-Storage-Class") // S3 names every class but this one (GetObject)
	}
	for name := range h {
		if strings.HasPrefix(name, "X-Amz-Checksum-") && len(e.Parts) == 0 {
			h.Set("X-Amz-Checksum-Type", "FULL_OBJECT")
			break
		}
	}
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "binary/octet-stream") // S3's default
	}
	h["Etag"], h["Last-Modified"], h["Accept-Ranges"] = []string{e.ETag}, []string{e.Modified.UTC().Format(http.TimeFormat)}, []string{"bytes"}
	return &akigw.Object{Key: e.Key, Size: e.Size, ETag: e.ETag, LastModified: e.Modified, Header: h}
}

// Drain returns when what was acknowledged of a key is upstream: then a request
// can be forwarded that reads it. An error says that nothing may be.
func (s *Store) Drain(ctx context.Context, key akigw.Key) error {
	if s.back == nil || s.back.journal.Idle() {
		return nil
	}
	return s.drain(ctx, key, s.back.journal.Wait)
}

// Hold is Drain for a request that changes the key: until release what is acknowledged of it
// stays in the journal, so that the two are not mixed up at the upstream. It waits, some seconds
// at the most, for requests of earlier flushes that the upstream may still carry out. Keys that
// are held together are to be held in order.
func (s *Store) Hold(ctx context.Context, key akigw.Key) (release func(), err error) {
	if s.back == nil {
		return func() {}, nil
	}
	if err := s.drain(ctx, key, s.back.journal.Hold); err != nil {
		return nil, err
	}
	key = key.Current()
	if err := s.back.pool.Clear(ctx, key); err != nil {
		s.back.pool.Release(key)
		return nil, fmt.Errorf("%w: %s has a write that the upstream may still carry out: %w", ErrPending, key, err)
	}
	return func() { s.back.pool.Release(key) }, nil
}

func (s *Store) drain(ctx context.Context, key akigw.Key, wait func(context.Context, akigw.Key) error) error {
	key = key.Current()
	if s.back.journal.Last(key) != nil {
		if err := s.unanswered(key); err != nil {
			return fmt.Errorf("%w: %w", ErrPending, err)
		}
		if why := s.back.buckets.pausedBy(key.Bucket); why != facts.None { // it is not going to be there soon
			return fmt.Errorf("%w: %s: %s; %s", ErrPending, key, meanings[because(why)], Remedy(key.Bucket, why))
		}
		s.back.pool.Hurry(key)
	}
	ctx, cancel := context.WithTimeout(ctx, drainPatience)
	defer cancel()
	if err := wait(ctx, key); err != nil {
		return fmt.Errorf("%w: %s has a write that is not upstream yet: %w", ErrPending, key, err)
	}
	return nil
}

// drainPatience is how long a request waits for what has to go before it.
const drainPatience = 30 * time.Second

// ErrPending: a request cannot be forwarded, because something that was
// acknowledged before has to be upstream first, and is not.
var ErrPending = errors.New("an acknowledged write has to be upstream first")

// DrainBucket is Drain for all keys of a bucket.
func (s *Store) DrainBucket(ctx context.Context, bucket string) error {
	if s.back == nil {
		return nil
	}
	var keys []akigw.Key
	s.back.journal.Ascend(bucket, "", func(e *journal.Entry) bool {
		keys = append(keys, e.Key)
		return true
	})
	for _, key := range keys {
		if err := s.Drain(ctx, key); err != nil {
			return err
		}
	}
	if s.back.pool.DropPacks(ctx, bucket); s.back.journal.Packs(bucket) > 0 {
		return fmt.Errorf("%w: %s has packs that could not be deleted", ErrPending, bucket)
	}
	return nil
}

// accepts reports whether a write may be acknowledged by the journal, and reserves size bytes
// there if so. header has the write's headers, nil for a deletion. An error says that the
// write cannot go through either, because the upstream does not answer.
func (s *Store) accepts(ctx context.Context, key akigw.Key, size int64, header http.Header) (bool, error) {
	b := s.back
	if b == nil || !s.settings(key).Back {
		return false, nil
	}
	if s.unusual(key, header) {
		return false, nil
	}
	why, err := b.buckets.know(ctx, key.Bucket)
	if err == nil && why == throughNone {
		why = b.reserve(size)
	}
	if err != nil || why != throughNone {
		s.goesThrough(key.Bucket, why)
	}
	return err == nil && why == throughNone, err
}

// reserve makes room in the journal for size bytes more, if there is any; else it says why not.
// What is reserved is counted until it is released.
func (b *back) reserve(size int64) through {
	incoming := b.incoming.Add(size)
	st := b.journal.Stats()
	why := throughFull
	switch {
	case st.Problem != nil:
		why = throughJournal
	case st.Bytes+incoming <= int64(b.config.MaxPendingBytes) && st.Pending+st.Dead < b.config.MaxPending &&
		sinceOldest(st) < time.Duration(b.config.MaxPendingSecs)*time.Second && b.room() >= int64(b.config.MinFreeBytes)+incoming:
		return throughNone
	}
	b.incoming.Add(-size)
	return why
}

// room is how much space is free for the journal, in bytes.
func (b *back) room() int64 {
	if b.fault != nil {
		if _, err := b.fault(akigw.DiskFree, b.config.Dir, 0); err != nil {
			return 0
		}
	}
	if b.config.SecondDir == "" {
		return free(b.config.Dir)
	}
	return min(free(b.config.Dir), free(b.config.SecondDir))
}

// BackWrite is a body that is going to be acknowledged by the journal. It is for
// one goroutine, which must call Discard at the end.
type BackWrite struct {
	store *Store
	key   akigw.Key
	draft *journal.Draft
	size  int64  // that is reserved
	epoch uint64 // of the bucket
	end   func() // of its MD5
}

// Accept starts a PUT of size bytes, with these headers, that is acknowledged by the journal. It
// returns nil if it has to be written through: no rule says otherwise, the bucket is
// versioned, the upstream has not accepted a write of such an unusual kind yet, or the
// journal takes no more. With an error it cannot be written through either.
func (s *Store) Accept(ctx context.Context, key akigw.Key, size int64, header http.Header) (*BackWrite, error) {
	size = max(size, 0)
	epoch := uint64(0)
	if s.back != nil {
		epoch = s.back.buckets.book.Get(s.back.buckets.id(key.Bucket)).Epoch
	}
	if ok, err := s.accepts(ctx, key, size, header); !ok {
		return nil, err
	}
	return &BackWrite{store: s, key: key, draft: s.back.journal.Receive(size), size: size, epoch: epoch}, nil
}

// Write implements io.Writer. It does not keep p.
func (w *BackWrite) Write(p []byte) (int, error) {
	n, err := w.draft.Write(p)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrJournal, err)
	}
	return n, err
}

// MD5 starts an MD5 of the body, to be written to along with it. It ends with Discard.
func (w *BackWrite) MD5() hash.Hash {
	sum, end := w.store.back.hashers.start(w.size)
	w.end = end
	return sum
}

// Discard drops a body that is not going to be committed. It must be called, after
// Commit too.
func (w *BackWrite) Discard() {
	w.draft.Discard()
	if w.end != nil {
		w.end()
		w.end = nil
	}
	w.store.back.incoming.Add(-w.size)
	w.size = 0
}

// Commit acknowledges the body: when it returns nil it is on disk, synced, and what
// the key holds. etag is its MD5 in hex and quotes, header what goes upstream with
// it. It returns the object's Last-Modified. The error is ErrPending if the bucket was changed
// since Accept, and cannot be written back any more.
func (w *BackWrite) Commit(ctx context.Context, etag string, header http.Header) (modified time.Time, err error) {
	if err := w.store.back.buckets.still(ctx, w.key.Bucket, w.epoch); err != nil {
		return modified, err
	}
	change := w.store.Begin(w.key)
	defer change.End()
	e := journal.Entry{Key: w.key, ETag: etag, Modified: now(), Header: header}
	return e.Modified, acknowledged(w.store.back.journal.Commit(ctx, w.draft, e))
}

// ErrJournal: the journal could not acknowledge a write. It may be kept or not.
var ErrJournal = errors.New("the journal did not acknowledge the write")

// acknowledged counts an answer of the journal, and wraps its errors.
func acknowledged(err error) error {
	if err != nil {
		return fmt.Errorf("%w: %w", ErrJournal, err)
	}
	backWrites["journal"].Inc()
	return nil
}

// Remove acknowledges the deletion of keys, at least one, of one bucket by the journal. It returns
// false if it has to go through, for one of the reasons of Accept.
func (s *Store) Remove(ctx context.Context, keys []akigw.Key) (bool, error) {
	if s.back == nil {
		return false, nil
	}
	for _, key := range keys {
		if !s.settings(key).Back {
			return false, nil
		}
	}
	for _, key := range keys[1:] { // they are of one bucket: the first one stands for it
		if s.unusual(key, nil) {
			return false, nil
		}
	}
	if ok, err := s.accepts(ctx, keys[0], 0, nil); !ok {
		return false, err
	}
	for _, key := range keys {
		defer s.Begin(key).End()
	}
	return true, acknowledged(s.back.journal.Delete(ctx, keys, now()))
}

// Pending is a pending change of a key, as a listing needs it.
type Pending struct {
	Name     string
	Deleted  bool
	Size     int64
	ETag     string
	Modified time.Time
}

// Overlay returns the pending changes of a bucket from a key on that begin with a
// prefix, in order, at most limit. More says that there are others behind.
func (s *Store) Overlay(bucket, prefix, from string, limit int) (all []Pending, more bool) {
	if s.back == nil {
		return nil, false
	}
	s.back.journal.Ascend(bucket, max(prefix, from), func(e *journal.Entry) bool {
		if !strings.HasPrefix(e.Key.Name, prefix) {
			return false
		}
		if more = len(all) == limit; more {
			return false
		}
		all = append(all, Pending{e.Key.Name, e.Deleted, e.Size, e.ETag, e.Modified})
		return true
	})
	return all, more
}

// Translates reports whether something was promised of an object of a bucket that the
// upstream has, and says otherwise.
func (s *Store) Translates(bucket string) bool {
	return s.back != nil && s.back.journal.Translates(bucket)
}

// WritesBack reports whether a listing of a bucket has to look at the journal: a
// rule lets something of it be written back, or it knows something of it.
func (s *Store) WritesBack(bucket string) bool {
	if s.back == nil {
		return false
	}
	pending, _ := s.Overlay(bucket, "", "", 1)
	return len(pending) > 0 || s.rules.Backs(bucket) || s.back.journal.Translates(bucket)
}

// DrainAll waits until nothing is pending, dead letters apart, or ctx ends, or the
// journal does not let go of anything any more, or all that is pending is held back.
func (s *Store) DrainAll(ctx context.Context) {
	if s.back == nil {
		return
	}
	s.back.pool.Eager()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := 1; ; n++ {
		st := s.back.journal.Stats()
		if st.Pending == 0 || st.Stopped != nil || n%50 == 0 && s.heldBack() >= st.Pending+st.Dead {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// heldBack is the number of entries, dead letters among them, of buckets whose pending writes
// are not uploaded.
func (s *Store) heldBack() (n int) {
	for _, bucket := range s.back.buckets.paused() {
		s.back.journal.Ascend(bucket, "", func(*journal.Entry) bool {
			n++
			return true
		})
	}
	return n
}

// BackStatus is the state of what is written back.
type BackStatus struct {
	journal.Stats
	uploadpool.Progress
	Damage []string // files with what was found damaged, for an operator to look at
	Broken []string // buckets whose breakers are open
	// Suspects are the upstreams that have stopped answering, by name.
	Suspects []string
}

// BackStatus returns the present state, nil if nothing is written back.
func (s *Store) BackStatus() *BackStatus {
	if s.back == nil {
		return nil
	}
	st := &BackStatus{Stats: s.back.journal.Stats(), Progress: s.back.pool.Progress(), Damage: s.back.journal.Damage()}
	if b, ok := s.upstream.(interface{ Broken() []string }); ok {
		st.Broken = b.Broken()
	}
	if u, ok := s.upstream.(interface{ Suspects() []string }); ok {
		st.Suspects = u.Suspects()
	}
	return st
}

// Resume takes what is pending for an upstream there at once, because it has answered
// again.
func (s *Store) Resume(upstream string) {
	if s.back != nil {
		s.back.buckets.revive(func(bucket string) bool { return s.back.pool.Upstream.Owner(bucket) == upstream })
		s.back.pool.Resume(upstream)
	}
}

// DrainTimeout is how long a stop waits for what is pending.
func (c *BackConfig) DrainTimeout() time.Duration {
	return time.Duration(c.DrainTimeoutSecs) * time.Second
}

// Place is the directory of the journal.
func (c *BackConfig) Place(data string) string {
	if c.Dir != "" {
		return c.Dir
	}
	return filepath.Join(data, "journal")
}

// AcceptDamage goes on with a journal that was found damaged.
func (s *Store) AcceptDamage() error {
	if s.back == nil {
		return nil
	}
	if err := s.back.journal.Accept(); err != nil {
		return err
	}
	s.back.pool.Again()
	return nil
}
