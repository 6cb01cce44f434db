// Package flush has the pending writes of the journal uploaded when a request cannot wait for their
// turn, and waits for them: for one key, for a bucket, or for all at the end. It uploads nothing itself:
// package uploadpool does.
package flush

import (
	"context"
	"fmt"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/uploadpool"
	"github.com/akidb/akigw/writeback/buckets"
	"github.com/akidb/akigw/writeback/facts"
)

const (
	// drainTimeout is how long a request waits for pending writes to be uploaded.
	drainTimeout = 30 * time.Second
	// unpackTimeout is how long Unpack waits for unpackAtOnce objects.
	unpackTimeout = 5 * time.Minute
	// unpackAtOnce is the approximate number of objects that are taken out of packs before Unpack
	// waits for their uploads.
	unpackAtOnce = 100
)

// ErrPending: a request cannot be forwarded, because something that was acknowledged before has to
// be upstream first, and is not.
const ErrPending = akigw.Error("an acknowledged write has to be upstream first")

// Flusher has pending writes uploaded, and waits for them. All methods may be called from any
// goroutine.
type Flusher struct {
	journal    *journal.Journal // nil: nothing is written back
	pool       *uploadpool.Pool
	buckets    *buckets.Buckets
	unanswered func(akigw.Key) error // the error for a key whose upstream has stopped responding
}

// Options is what a Flusher is made of.
type Options struct {
	Journal *journal.Journal // nil: nothing is written back, and all other fields may be zero
	Pool    *uploadpool.Pool
	Buckets *buckets.Buckets
	// Unanswered returns the error of a request for a key whose upstream has stopped answering, nil
	// for one that has not.
	Unanswered func(akigw.Key) error
}

// New makes a Flusher.
func New(o Options) *Flusher {
	return &Flusher{journal: o.Journal, pool: o.Pool, buckets: o.Buckets, unanswered: o.Unanswered}
}

// HasPending reports whether a key has an acknowledged write that is not in the upstream yet.
func (f *Flusher) HasPending(key akigw.Key) bool {
	return f.journal != nil && f.journal.Last(key.Current()) != nil
}

// Drain returns when the acknowledged writes of a key have been uploaded: then a request that reads
// it can be forwarded. After an error nothing may be forwarded.
func (f *Flusher) Drain(ctx context.Context, key akigw.Key) error {
	if f.journal == nil || f.journal.Idle() {
		return nil
	}
	return f.drain(ctx, key, f.journal.Wait)
}

// Hold is Drain for a request that changes the key: until release, later acknowledged writes of it
// stay in the journal, so that they do not mix with the request in the upstream. It waits, for some
// seconds at most, for earlier uploads that the upstream may still apply. Several keys must be held
// in order.
func (f *Flusher) Hold(ctx context.Context, key akigw.Key) (release func(), err error) {
	if f.journal == nil {
		return func() {}, nil
	}
	if err := f.drain(ctx, key, f.journal.Hold); err != nil {
		return nil, err
	}
	key = key.Current()
	if err := f.pool.Clear(ctx, key); err != nil {
		f.pool.Release(key)
		return nil, fmt.Errorf("%w: %s has a write that the upstream may still apply: %w", ErrPending, key, err)
	}
	return func() { f.pool.Release(key) }, nil
}

// Doubt says that the upstream may still apply an abandoned forwarded request that changes a key:
// the next acknowledged write of the key is confirmed after its upload.
func (f *Flusher) Doubt(key akigw.Key) {
	if f.journal != nil && key.Version == "" {
		f.pool.Doubt(key)
	}
}

// drain has a key uploaded ahead of others, and waits.
func (f *Flusher) drain(ctx context.Context, key akigw.Key, wait func(context.Context, akigw.Key) error) error {
	key = key.Current()
	if f.journal.Last(key) != nil {
		if err := f.unanswered(key); err != nil {
			return fmt.Errorf("%w: %w", ErrPending, err)
		}
		if why := f.buckets.PausedBy(key.Bucket); why != facts.None { // it will not be uploaded soon
			return fmt.Errorf("%w: %s: %s", ErrPending, key, buckets.Held(key.Bucket, why))
		}
		f.pool.Hurry(key)
	}
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	if err := wait(ctx, key); err != nil {
		return fmt.Errorf("%w: %s has a write that is not in the upstream yet: %w", ErrPending, key, err)
	}
	return nil
}

// entries returns the pending writes of a bucket, including dead letters.
func (f *Flusher) entries(bucket string) (all []*journal.Entry) {
	f.journal.Ascend(bucket, "", func(e *journal.Entry) bool {
		all = append(all, e)
		return true
	})
	return all
}

// DrainBucket is Drain for all keys of a bucket.
func (f *Flusher) DrainBucket(ctx context.Context, bucket string) error {
	if f.journal == nil {
		return nil
	}
	for _, e := range f.entries(bucket) {
		if err := f.Drain(ctx, e.Key); err != nil {
			return err
		}
	}
	if f.pool.DropPacks(ctx, bucket); f.journal.Packs.Count(bucket) > 0 {
		return fmt.Errorf("%w: %s has packs that could not be deleted", ErrPending, bucket)
	}
	return nil
}

// DrainAll waits until nothing is pending except dead letters, ctx ends, the journal no longer
// releases anything, or everything that is pending is held back.
func (f *Flusher) DrainAll(ctx context.Context) {
	if f.journal == nil {
		return
	}
	f.pool.Eager()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := 1; ; n++ {
		st := f.journal.Stats()
		if st.Pending == 0 || st.Stopped != nil || n%50 == 0 && f.heldBack() >= st.Pending+st.Dead {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// heldBack returns the number of entries, including dead letters, of buckets whose pending writes
// are not uploaded.
func (f *Flusher) heldBack() (n int) {
	for _, bucket := range f.buckets.Paused() {
		n += len(f.entries(bucket))
	}
	return n
}

// Unpack makes separate objects of everything in the packs of a bucket, and returns how many there
// were. New writes are still packed as long as a rule says so.
func (f *Flusher) Unpack(ctx context.Context, bucket string) (n int, err error) {
	if f.journal == nil {
		return 0, nil
	}
	all := f.entries(bucket)
	for _, e := range all {
		if _, _, packed := f.journal.Packs.Find(e); !packed {
			continue
		}
		f.pool.Hurry(e.Key)
		if n++; n%unpackAtOnce == 0 {
			if err := f.waitUnpacked(ctx, e.Key); err != nil {
				return n, err
			}
		}
	}
	for _, e := range all {
		if _, _, packed := f.journal.Packs.Find(e); packed {
			if err := f.waitUnpacked(ctx, e.Key); err != nil {
				return n, err
			}
		}
	}
	f.pool.DropPacks(ctx, bucket)
	return n, nil
}

// waitUnpacked waits until the present entries of a key have left the journal.
func (f *Flusher) waitUnpacked(ctx context.Context, key akigw.Key) error {
	ctx, cancel := context.WithTimeout(ctx, unpackTimeout)
	defer cancel()
	if err := f.journal.Wait(ctx, key); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrPending, key, err)
	}
	return nil
}
