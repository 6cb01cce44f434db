package uploadpool

import (
	"slices"
	"time"
)

// parking holds the keys of buckets whose uploads have to wait, so that however many there are they
// cost nothing until they may go on. It is guarded by queue.mu.
type parking struct {
	admit   func(bucket string) time.Duration // Config.Admit; nil: all buckets may be uploaded
	buckets map[string]*parked
}

// parked are the keys of one bucket.
type parked struct {
	turns []*turn
	due   time.Time // when admit is asked again
}

// wait returns how long the uploads of a bucket have to wait, 0 if they may go on.
func (s *parking) wait(bucket string) time.Duration {
	if s.admit == nil {
		return 0
	}
	return s.admit(bucket)
}

// park keeps a key back if its bucket may not be uploaded, and reports whether it did.
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

// release takes out the keys of the buckets that may be uploaded by now.
func (s *parking) release(now time.Time) (turns []*turn) {
	for bucket, w := range s.buckets {
		if w.due.After(now) {
			continue
		}
		w.turns = slices.DeleteFunc(w.turns, func(t *turn) bool { return t.gone })
		if wait := s.wait(bucket); wait > 0 && len(w.turns) > 0 {
			w.due = now.Add(wait)
			continue
		}
		delete(s.buckets, bucket)
		turns = append(turns, w.turns...)
	}
	return turns
}

// expedite has admit asked again at once about some buckets.
func (s *parking) expedite(which func(bucket string) bool) {
	for bucket, w := range s.buckets {
		if which(bucket) {
			w.due = time.Time{}
		}
	}
}

// next is when admit is asked again about some bucket; zero if nothing is parked.
func (s *parking) next() (due time.Time) {
	for _, w := range s.buckets {
		due = earlier(due, w.due)
	}
	return due
}

// len is the number of keys that are parked.
func (s *parking) len() (n int) {
	for _, w := range s.buckets {
		for _, t := range w.turns {
			if !t.gone {
				n++
			}
		}
	}
	return n
}

// earlier is the earlier of two times, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
