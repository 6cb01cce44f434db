package buckets

import (
	"context"
	"time"

	"github.com/akidb/akigw/writeback/facts"
)

// Know returns why writes to a bucket must go through, NoCause if they need not. A known fact is
// used at once, and refreshed in the background when it is old; otherwise the upstream is asked.
// The error wraps akigw.ErrUpstreamUnavailable, or is that of ctx, if there was no answer in time.
func (b *Buckets) Know(ctx context.Context, bucket string) (Cause, error) {
	b.mu.Lock()
	changing := b.inquiries[bucket] != nil && b.inquiries[bucket].changing > 0
	b.mu.Unlock()
	if changing {
		return Changing, nil
	}
	now := time.Now()
	f := b.book.Get(b.id(bucket))
	if f.Known(now, b.maxAge) {
		if now.Sub(f.Asked).Abs() > factTrust {
			b.refresh(bucket, now)
		}
		return because(f.Why()), nil
	}
	if f.OtherETags {
		return because(facts.OtherETags), nil
	}
	return b.wait(ctx, bucket, now)
}

// Epoch returns the number of the last change of a bucket through this gateway, for Still.
func (b *Buckets) Epoch(bucket string) uint64 { return b.book.Get(b.id(bucket)).Epoch }

// Still is Know for a write that was accepted in an epoch of its bucket: the body may have taken
// long to arrive, and the bucket may have been changed meanwhile. Nothing is asked about an
// unchanged bucket.
func (b *Buckets) Still(ctx context.Context, bucket string, epoch uint64) (Cause, error) {
	if b.Epoch(bucket) == epoch {
		return NoCause, nil
	}
	return b.Know(ctx, bucket)
}

// ETagMismatch implements uploadpool.Config.OnETagMismatch: the upstream gave an object of a bucket
// an ETag other than the promised one. No more ETags are promised for that bucket.
func (b *Buckets) ETagMismatch(bucket string) { b.book.SetOtherETags(b.id(bucket)) }

// Outcome is the outcome of a request that changes a bucket.
type Outcome int

// The outcomes.
const (
	Unchanged Outcome = iota
	Changed           // the bucket was, or may have been, changed
	Removed
)

// Change says that a bucket is being changed through this gateway: answers to earlier queries do
// not count, and writes go through until end.
func (b *Buckets) Change(bucket string) (end func(Outcome)) {
	id := b.id(bucket)
	b.mu.Lock()
	b.atLocked(bucket).changing++
	b.book.Raise(id) // at once, so that a write accepted before has an older epoch, see Still
	b.mu.Unlock()
	return func(o Outcome) {
		switch o {
		case Changed:
			b.book.Forget(id)
		case Removed:
			b.book.Reset(id)
			b.book.Answer(id, b.book.Epoch(), facts.Absent, time.Now())
		}
		if o != Unchanged {
			_ = b.book.Save() // before the client hears of the change; an error was logged
		}
		b.mu.Lock()
		q := b.atLocked(bucket)
		q.changing--
		if o != Unchanged {
			q.unconfirm()
		}
		paused := q.paused != facts.None
		b.mu.Unlock()
		if paused && o != Unchanged {
			b.ready(bucket) // the pause may have waited for this change
		}
	}
}

// Refresh queries the upstream about a bucket in the background, unless a query is running.
func (b *Buckets) Refresh(bucket string) { b.refresh(bucket, time.Now()) }

// Revive ends the queries to an upstream that responds again, about the buckets for which theirs
// returns true: they may wait on a dead connection, and would keep new ones from being sent.
func (b *Buckets) Revive(theirs func(bucket string) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for bucket, q := range b.inquiries {
		if !theirs(bucket) {
			continue
		}
		q.failures, q.next = 0, time.Time{}
		if q.running != nil {
			q.running.cancel()
		}
	}
}
