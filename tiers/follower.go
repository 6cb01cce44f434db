package tiers

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// Notifier is an upstream that reports changes of its objects.
type Notifier interface {
	// Events returns the source of a bucket's events, "" for none.
	Events(bucket string) cold.EventSource
	// Listen follows a bucket's changes until the event stream ends: see cold.Upstreams.
	Listen(ctx context.Context, bucket string, alive func(), changed func(cold.Change)) error
}

const (
	// silence is how long a stream may be silent before it counts as broken: MinIO is asked to send
	// a keep-alive every ten seconds.
	silence = 25 * time.Second
	// reopenLeast and reopenMost bound the wait before a stream is opened again.
	reopenLeast = 500 * time.Millisecond
	reopenMost  = 30 * time.Second
	// maxFeeds bounds the number of streams. Further buckets are treated as strict.
	maxFeeds = 256
)

// follower follows the changes of the buckets that are read in mode Events: it keeps an event
// stream open for each.
type follower struct {
	notifier Notifier // nil if the upstream reports no changes
	changed  func(cold.Change)
	tasks    *tasks
	epoch    uint64
	counters *counters
	log      *slog.Logger

	mu    sync.Mutex
	feeds map[string]*feed // by bucket; guarded by mu
}

func newFollower(c *catalog, upstream Upstream, background *tasks, changed func(cold.Change)) *follower {
	w := &follower{changed: changed, tasks: background, epoch: c.epoch, counters: c.counters, log: c.log, feeds: make(map[string]*feed)}
	w.notifier, _ = upstream.(Notifier)
	return w
}

// feed is the event stream of one bucket. Objects confirmed since it began are current until an
// event says otherwise; while the stream is broken, none are.
type feed struct {
	mu    sync.Mutex
	since time.Time // when it began, zero while there is none; guarded by mu
	last  time.Time // when it last received anything; guarded by mu
}

func (f *feed) alive() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = time.Now()
	if f.since.IsZero() {
		f.since = f.last
	}
}

// close ends the stream and reports whether it ever began.
func (f *feed) close() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	began := !f.since.IsZero()
	f.since = time.Time{}
	return began
}

// silent reports whether a stream that has begun has gone silent.
func (f *feed) silent() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.since.IsZero() && time.Since(f.last) >= silence
}

// covers reports whether the stream has received each change since t.
func (f *feed) covers(t time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.since.IsZero() && !t.Before(f.since) && time.Since(f.last) < silence
}

const errSilent = akigw.Error("the stream of events is silent")

// unchanged reports whether, in mode Events, a change of e since its confirmation would have been
// reported. A bucket's stream is opened when the bucket is first read. A service may drop events
// silently, as MinIO does when they pile up, so a confirmation holds no longer than in mode TTL.
func (w *follower) unchanged(e *entry, settings *rules.Settings) bool {
	if w.notifier == nil || e.epoch != w.epoch || e.Key.Version != "" || !within(e, settings.TTL) {
		return false
	}
	if w.notifier.Events(e.Key.Bucket) == cold.Webhook {
		return true
	}
	f := w.feed(e.Key.Bucket)
	return f != nil && f.covers(e.validated)
}

// feed returns the stream of a bucket, nil if there are too many.
func (w *follower) feed(bucket string) *feed {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.feeds[bucket]
	if f != nil || len(w.feeds) >= maxFeeds || w.tasks.closing() {
		return f
	}
	f = &feed{}
	w.feeds[bucket] = f
	w.tasks.start(func() { w.follow(bucket, f) })
	return f
}

// follow keeps a bucket's stream open until the store closes.
func (w *follower) follow(bucket string, f *feed) {
	wait := reopenLeast
	for !w.tasks.closing() {
		err := w.listen(bucket, f)
		if began := f.close(); began {
			wait = reopenLeast
			w.counters.eventGaps.Inc()
		}
		if w.tasks.closing() {
			return
		}
		w.log.Warn("no events are received for a bucket: until they are, its objects are validated at each read", "bucket", bucket, "error", err)
		select {
		case <-time.After(wait/2 + rand.N(wait/2)):
		case <-w.tasks.ctx.Done():
		}
		wait = min(2*wait, reopenMost)
	}
}

// listen follows one stream to its end.
func (w *follower) listen(bucket string, f *feed) error {
	ctx, cancel := context.WithCancelCause(w.tasks.ctx)
	defer cancel(nil)
	w.tasks.start(func() {
		tick := time.NewTicker(silence / 5)
		defer tick.Stop()
		for !f.silent() {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
		cancel(errSilent)
	})
	return w.notifier.Listen(ctx, bucket, f.alive, w.changed)
}
