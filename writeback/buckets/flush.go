package buckets

import (
	"time"

	"github.com/akidb/akigw/writeback/facts"
)

const (
	// pausedEvery is how often the upstream is asked about a bucket whose flush is paused.
	pausedEvery = 10 * time.Second
	// minFlushWait is how often a waiting flush is checked again.
	minFlushWait = 50 * time.Millisecond
	// doubtAfter is the age from which an answer about a bucket is doubted when an upload to
	// another bucket of the upstream gets no response.
	doubtAfter = 10 * time.Second
	// outageAfter is how long uploads must get no response to count as an outage. A success within
	// that time means that the upstream is up and only a response was lost.
	outageAfter = time.Second
)

// MayFlush implements uploadpool.Config.Admit: it returns how long the flush of a bucket must wait,
// 0 if it may proceed. After a restart, and after the upstream did not respond, it first asks about
// the bucket. It does not block.
func (b *Buckets) MayFlush(bucket string) time.Duration {
	now := time.Now()
	id := b.id(bucket)
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.book.Get(id) // not earlier: the bucket may be resumed meanwhile
	q := b.atLocked(bucket)
	if f.Asked.IsZero() { // the bucket was changed
		q.unconfirm()
	}
	age := now.Sub(f.Asked).Abs()
	due := !q.confirmed || age > factTrust || q.paused != facts.None && age > pausedEvery
	if due && q.running == nil && !now.Before(q.next) {
		b.tryStartLocked(bucket, q)
	}
	if !q.confirmed && q.paused == facts.None {
		if q.running != nil {
			return maxBackOff // Ready ends the wait sooner
		}
		return max(minFlushWait, q.next.Sub(now))
	}
	if q.confirmed {
		was := q.paused
		if q.paused = pauseOf(&f); q.paused != was {
			now := q.paused
			b.work.Go(func() { b.report(bucket, was, now) }) // the caller holds locks
		}
	}
	if q.paused != facts.None {
		return pausedEvery
	}
	return 0
}

// NoResponse implements uploadpool.Config.OnNoResponse: the upstream did not respond to an upload
// to a bucket, which may be the beginning of an outage. The upstream is asked about the bucket
// before its next upload, and about its other buckets unless it was asked just now.
func (b *Buckets) NoResponse(bucket string) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	this := b.atLocked(bucket)
	for _, q := range b.inquiries {
		if q.confirmed && q.endpoint == this.endpoint && (q == this || now.Sub(q.answered) > doubtAfter) {
			q.confirmed, q.doubted = false, now
		}
	}
}

// Recovered implements uploadpool.Config.OnRecovery: doubts younger than a second were due to a
// lost response, not to an outage.
func (b *Buckets) Recovered(bucket string) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	this := b.atLocked(bucket)
	for _, q := range b.inquiries {
		if q.endpoint == this.endpoint && !q.doubted.IsZero() && now.Sub(q.doubted) < outageAfter {
			q.confirmed, q.doubted = true, time.Time{}
		}
	}
}

// NoSuchBucket implements uploadpool.Config.OnNoSuchBucket. It reports whether the upstream is
// asked about the bucket before the next upload: not if an operator wants its pending writes tried
// anyway.
func (b *Buckets) NoSuchBucket(bucket string) bool {
	if f := b.book.Get(b.id(bucket)); f.Resumed == facts.Absent {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.atLocked(bucket).unconfirm()
	return true
}

// PausedBy returns the reason why pending writes of a bucket are not uploaded, None if they are.
func (b *Buckets) PausedBy(bucket string) facts.Reason {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q := b.inquiries[bucket]; q != nil {
		return q.paused
	}
	return facts.None
}

// Paused returns the buckets whose pending writes are not uploaded.
func (b *Buckets) Paused() (all []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for bucket, q := range b.inquiries {
		if q.paused != facts.None {
			all = append(all, bucket)
		}
	}
	return all
}

// Reset drops everything known about a bucket.
func (b *Buckets) Reset(bucket string) { b.book.Reset(b.id(bucket)) }

// Resume uploads the pending writes of a bucket despite what was learned about it. It returns false
// if they are not held back.
func (b *Buckets) Resume(bucket string) bool {
	id := b.id(bucket)
	b.mu.Lock()
	q := b.inquiries[bucket]
	was := facts.None
	if q != nil {
		was, q.paused = q.paused, facts.None
	}
	if was != facts.None {
		b.book.Resume(id, was)
	}
	b.mu.Unlock()
	if was == facts.None {
		return false
	}
	b.report(bucket, was, facts.None)
	b.ready(bucket)
	return true
}
