package uploadpool

import (
	"slices"
	"time"
)

// parking holds the keys of buckets whose uploads must wait, so that they cost nothing until they
// may proceed, however many there are. It is guarded by queue.mu.
type parking struct {
	admit   func(bucket string) time.Duration // Config.Admit; nil: no bucket waits
	buckets map[string]*parked
}

// parked are the keys of one bucket.
type parked struct {
	turns []*turn
	due   time.Time // when admit is called again
}

// wait returns how long the uploads of a bucket must wait, 0 if they may proceed.
func (s *parking) wait(bucket string) time.Duration {
	if s.admit == nil {
		return 0
	}
	return s.admit(bucket)
}

// park parks a key if its bucket must wait, and reports whether it did.
func (s *parking) park(t *turn, now time.Time) bool {
	w := s.buckets[t.key.Bucket]
	if w == nil {
		wait := s.wait(t.key.Bucket)
		if wait <= 0 {
			return false
		}
		w = &parked{due: now.Add(wait)}
		s.buckets[t.key.Bucket] = w
	}
	w.turns = append(w.turns, t)
	return true
}

// release removes the keys of the buckets that may be uploaded by now.
func (s *parking) release(now time.Time) (turns []*turn) {
	for bucket, w := range s.buckets {
		if w.due.After(now) {
			continue
		}
		w.turns = slices.DeleteFunc(w.turns, func(t *turn) bool { return t.superseded })
		if wait := s.wait(bucket); wait > 0 && len(w.turns) > 0 {
			w.due = now.Add(wait)
			continue
		}
		delete(s.buckets, bucket)
		turns = append(turns, w.turns...)
	}
	return turns
}

// expedite makes the next check of some buckets due at once.
func (s *parking) expedite(which func(bucket string) bool) {
	for bucket, w := range s.buckets {
		if which(bucket) {
			w.due = time.Time{}
		}
	}
}

// next returns when admit is called again for a bucket; zero if nothing is parked.
func (s *parking) next() (due time.Time) {
	for _, w := range s.buckets {
		due = earlier(due, w.due)
	}
	return due
}

// len returns the number of parked keys.
func (s *parking) len() (n int) {
	for _, w := range s.buckets {
		for _, t := range w.turns {
			if !t.superseded {
				n++
			}
		}
	}
	return n
}

// earlier returns the earlier of two times, where zero means none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
