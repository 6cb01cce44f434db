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
	// drainTimeout is how long a request waits for what has to be upstream before it.
	drainTimeout = 30 * time.Second
	// unpackTimeout is how long Unpack waits for unpackAtOnce objects.
	unpackTimeout = 5 * time.Minute
	// unpackAtOnce is about how many objects are taken out of packs before their uploads
	// are waited for.
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
	unanswered func(akigw.Key) error // the error of a key whose upstream has stopped answering
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

// HasPending reports whether a write of a key is acknowledged and not upstream yet.
func (f *Flusher) HasPending(key akigw.Key) bool {
	return f.journal != nil && f.journal.Last(key.Current()) != nil
}

// Drain returns when what was acknowledged of a key is upstream: then a request
// can be forwarded that reads it. An error says that nothing may be.
func (f *Flusher) Drain(ctx context.Context, key akigw.Key) error {
	if f.journal == nil || f.journal.Idle() {
		return nil
	}
	return f.drain(ctx, key, f.journal.Wait)
}

// Hold is Drain for a request that changes the key: until release what is acknowledged of it
// stays in the journal, so that the two are not mixed up at the upstream. It waits, some seconds
// at the most, for requests of earlier flushes that the upstream may still carry out. Keys that
// are held together are to be held in order.
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
		return nil, fmt.Errorf("%w: %s has a write that the upstream may still carry out: %w", ErrPending, key, err)
	}
	return func() { f.pool.Release(key) }, nil
}

// Doubt says that the upstream may still carry out a forwarded request that changes a key, though
// nobody waits for it any more: what is acknowledged of the key next is confirmed upstream after
// its upload.
func (f *Flusher) Doubt(key akigw.Key) {
	if f.journal != nil && key.Version == "" {
		f.pool.Doubt(key)
	}
}

// drain has a key uploaded before others, and waits.
func (f *Flusher) drain(ctx context.Context, key akigw.Key, wait func(context.Context, akigw.Key) error) error {
	key = key.Current()
	if f.journal.Last(key) != nil {
		if err := f.unanswered(key); err != nil {
			return fmt.Errorf("%w: %w", ErrPending, err)
		}
		if why := f.buckets.PausedBy(key.Bucket); why != facts.None { // it is not going to be upstream soon
			return fmt.Errorf("%w: %s: %s", ErrPending, key, buckets.Held(key.Bucket, why))
		}
		f.pool.Hurry(key)
	}
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	if err := wait(ctx, key); err != nil {
		return fmt.Errorf("%w: %s has a write that is not upstream yet: %w", ErrPending, key, err)
	}
	return nil
}

// entries are the pending writes of a bucket, dead letters among them.
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

// DrainAll waits until nothing is pending, dead letters apart, or ctx ends, or the
// journal does not let go of anything any more, or all that is pending is held back.
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

// heldBack is the number of entries, dead letters among them, of buckets whose pending writes
// are not uploaded.
func (f *Flusher) heldBack() (n int) {
	for _, bucket := range f.buckets.Paused() {
		n += len(f.entries(bucket))
	}
	return n
}

// Unpack makes objects of their own of all that is in packs in a bucket, and returns
// how many that were. What is written meanwhile is packed, as long as a rule says so.
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

// waitUnpacked waits until what a key has now has left the journal.
func (f *Flusher) waitUnpacked(ctx context.Context, key akigw.Key) error {
	ctx, cancel := context.WithTimeout(ctx, unpackTimeout)
	defer cancel()
	if err := f.journal.Wait(ctx, key); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrPending, key, err)
	}
	return nil
}
