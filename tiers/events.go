package tiers

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// Notifier is an upstream that tells when its objects change.
type Notifier interface {
	// Events says how changes of a bucket are heard of, "" for not at all.
	Events(bucket string) cold.EventSource
	// Listen follows a bucket's changes until the stream of them ends: see
	// cold.Upstreams.
	Listen(ctx context.Context, bucket string, alive func(), changed func(cold.Change)) error
}

const (
	// silence is how long a stream may say nothing before it counts as broken:
	// MinIO is asked for a sign of life every ten seconds.
	silence = 25 * time.Second
	// reopenLeast and reopenMost bound the wait before a stream is opened again.
	reopenLeast = 500 * time.Millisecond
	reopenMost  = 30 * time.Second
	// maxFeeds bounds the streams. The buckets beyond are treated as strict.
	maxFeeds = 256
)

// feeds are the streams of changes, one for each bucket that was read in mode
// Events. The zero value is ready.
type feeds struct {
	mu       sync.Mutex
	byBucket map[string]*feed // guarded by mu
}

// feed is one bucket's stream. What was confirmed since it began holds until it
// says otherwise; while it is broken, nothing does.
type feed struct {
	mu    sync.Mutex
	since time.Time // when it began, zero while there is none; guarded by mu
	last  time.Time // last sign of life; guarded by mu
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

// silent reports whether a stream that has begun says nothing any more.
func (f *feed) silent() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.since.IsZero() && time.Since(f.last) >= silence
}

// covers reports whether each change since t has been heard of.
func (f *feed) covers(t time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.since.IsZero() && !t.Before(f.since) && time.Since(f.last) < silence
}

// unchanged reports whether a change of e since it was confirmed would have been
// heard of, in mode Events. A bucket's stream is opened when the bucket is first
// read. A service may drop events without a word, as MinIO does when they pile
// up, so a confirmation holds no longer than in mode TTL.
func (s *Store) unchanged(e *entry, settings *rules.Settings) bool {
	if s.notifier == nil || e.run != s.run || e.Key.Version != "" || !within(e, settings.TTL) {
		return false
	}
	if s.notifier.Events(e.Key.Bucket) == cold.Webhook {
		return true
	}
	f := s.feed(e.Key.Bucket)
	return f != nil && f.covers(e.validated)
}

// feed returns the stream of a bucket, nil if there are too many.
func (s *Store) feed(bucket string) *feed {
	s.feeds.mu.Lock()
	defer s.feeds.mu.Unlock()
	f := s.feeds.byBucket[bucket]
	if f != nil || len(s.feeds.byBucket) >= maxFeeds || s.ctx.Err() != nil {
		return f
	}
	if s.feeds.byBucket == nil {
		s.feeds.byBucket = make(map[string]*feed)
	}
	f = &feed{}
	s.feeds.byBucket[bucket] = f
	s.work.Go(func() { s.follow(bucket, f) })
	return f
}

// follow keeps a bucket's stream open until the store closes.
func (s *Store) follow(bucket string, f *feed) {
	wait := reopenLeast
	for s.ctx.Err() == nil {
		err := s.listen(bucket, f)
		if began := f.close(); began {
			wait = reopenLeast
			s.counters.eventGaps.Inc()
		}
		if s.ctx.Err() != nil {
			return
		}
		s.log.Warn("no events of a bucket at the moment: its objects are validated at each read until there are", "bucket", bucket, "error", err)
		select {
		case <-time.After(wait/2 + rand.N(wait/2)):
		case <-s.ctx.Done():
		}
		wait = min(2*wait, reopenMost)
	}
}

var errSilent = errors.New("the stream of events is silent")

// listen follows one stream to its end.
func (s *Store) listen(bucket string, f *feed) error {
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	s.work.Go(func() {
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
	return s.notifier.Listen(ctx, bucket, f.alive, s.Changed)
}

// Changed takes what an event says of an object. If the version that it speaks
// of is the one that is known, its bytes stay, and have to be confirmed before
// they are served: the headers can be others.
func (s *Store) Changed(c cold.Change) {
	s.counters.events.Inc()
	s.epoch(c.Key.Bucket).Add(1)
	if c.Key.Version != "" {
		s.changed(c)
	}
	c.Key = c.Key.Current()
	s.changed(c)
}

func (s *Store) changed(c cold.Change) {
	known, _ := s.lookup(c.Key)
	generation := s.fence.raise(c.Key)
	defer s.fence.leave(c.Key)
	s.forgetOpening(c.Key, nil)
	if known == nil || c.Removed || known.ETag != c.ETag || known.Size != c.Size {
		s.dropEntry(c.Key)
		return
	}
	marked := *known
	marked.Generation, marked.validated = generation, time.Time{}
	s.publish(&marked)
}
