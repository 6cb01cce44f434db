package buckets

import (
	"time"

	"github.com/akidb/akigw/writeback/facts"
)

const (
	// pausedEvery is how often a bucket whose flush is paused is asked about.
	pausedEvery = 10 * time.Second
	// minFlushWait is how often a flush looks whether its bucket can be asked about.
	minFlushWait = 50 * time.Millisecond
	// doubtAfter is how old an answer about a bucket has to be before an upload to another one
	// that got no answer casts doubt on it.
	doubtAfter = 10 * time.Second
	// outageAfter is how long it takes for uploads without an answer to be an outage. One that
	// succeeds in that time says that the upstream is there, and lost an answer.
	outageAfter = time.Second
)

// MayFlush implements uploadpool.Config.Admit: it returns how long the flush of a bucket has to
// wait, 0 if it may go on. After a restart, and after the upstream gave no answer, the bucket
// is asked about first. It does not block.
func (b *Buckets) MayFlush(bucket string) time.Duration {
	now := time.Now()
	id := b.id(bucket)
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.book.Get(id) // not before: the bucket may be resumed meanwhile
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
			return maxBackOff // ready ends the wait sooner
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

// Unanswered implements uploadpool.Config.Unanswered: the upstream gave no answer to an upload to
// a bucket, which may be the beginning of an outage. The bucket is asked about before its next
// upload, and so are others of the same upstream unless they were asked about just now.
func (b *Buckets) Unanswered(bucket string) {
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

// Succeeded implements uploadpool.Config.Succeeded: doubts that are younger than a second were
// about a lost answer, not about an outage.
func (b *Buckets) Succeeded(bucket string) {
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

// Gone implements uploadpool.Config.Gone: an upload was answered with NoSuchBucket. It reports
// whether the bucket is asked about before the next one: not if an operator wants its pending
// writes tried all the same.
func (b *Buckets) Gone(bucket string) bool {
	if f := b.book.Get(b.id(bucket)); f.Resumed == facts.Absent {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.atLocked(bucket).unconfirm()
	return true
}

// PausedBy is why pending writes of a bucket are not uploaded, None if they are.
func (b *Buckets) PausedBy(bucket string) facts.Reason {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q := b.inquiries[bucket]; q != nil {
		return q.paused
	}
	return facts.None
}

// Paused are the buckets whose pending writes are not uploaded.
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

// Reset forgets all that is known of a bucket.
func (b *Buckets) Reset(bucket string) { b.book.Reset(b.id(bucket)) }

// Resume has pending writes of a bucket uploaded in spite of what was found out. It returns false
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
