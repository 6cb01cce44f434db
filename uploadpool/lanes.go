package uploadpool

import "time"

// lane is the queue and the concurrency limit of one upstream. Part of the pool is reserved for each
// lane, so that an upstream that hangs cannot take all of it. Its fields are guarded by queue.mu.
type lane struct {
	name      string
	urgent    []*turn   // keys that a request waits for, in order; they precede all others
	queue     []*turn   // the other keys that may be uploaded now, in order
	left      int       // turns in queue that are superseded
	active    int       // uploads under way
	limit     float64   // maximum of active: halved when the upstream throttles, raised by success
	throttled time.Time // when limit was cut last
	slower    error     // the error that caused the cut
	down      bool      // attempts failed, and none has succeeded since
	since     time.Time // time of the first failure
	heard     time.Time // time of the first successful upload in this epoch
	sweeping  bool      // its garbage is being removed
}

// pop removes the first turn of one of the queues of a lane; nil if it is empty.
func (l *lane) pop(urgent bool) *turn {
	q := &l.queue
	if urgent {
		q = &l.urgent
	}
	for len(*q) > 0 {
		t := (*q)[0]
		(*q)[0] = nil
		*q = (*q)[1:]
		if !t.superseded {
			t.urgent, t.queued = false, false
			return t
		}
		if t.queued {
			l.left--
		}
	}
	return nil
}

// leave supersedes a turn, whatever queue it is in: its place there is skipped.
func (l *lane) leave(t *turn) {
	t.superseded = true
	if t.queued {
		l.left++
	}
}

// queued returns how many turns of a lane may start now.
func (l *lane) queued() int { return len(l.urgent) + len(l.queue) - l.left }

// cutLocked halves the maximum of parallel uploads, because the upstream throttles, with err.
func (l *lane) cutLocked(now time.Time, err error) {
	if now.Sub(l.throttled) > cutEvery {
		l.throttled, l.slower = now, err
		l.limit = max(1, l.limit/2)
	}
}

// cutEvery is the minimum time between two cuts of a limit: responses to requests that were under
// way at the first cut are no new information.
const cutEvery = time.Second

// lanes are the lanes of all upstreams, and share the pool among them. They are guarded by queue.mu.
type lanes struct {
	concurrency int                        // of the whole pool
	owner       func(bucket string) string // the name of the upstream that has a bucket
	all         []*lane
	after       int // the lane whose turn it is
}

// of returns the lane of the upstream that has a bucket.
func (s *lanes) of(bucket string) *lane {
	name := s.owner(bucket)
	for _, l := range s.all {
		if l.name == name {
			return l
		}
	}
	return s.add(name)
}

// add adds the lane of an upstream.
func (s *lanes) add(name string) *lane {
	l := &lane{name: name, limit: float64(s.concurrency)}
	s.all = append(s.all, l)
	return l
}

// share is how many uploads are reserved for each lane: half of the pool is divided among them.
func (s *lanes) share() int { return max(1, s.concurrency/(2*len(s.all))) }

// hasRoom reports whether another upload may start in a lane. An upstream that does not respond
// gets no more than its share; any other gets what is not reserved for the rest.
func (s *lanes) hasRoom(l *lane) bool {
	if l.active >= int(l.limit) {
		return false
	}
	share, used := s.share(), l.active
	if l.active < share {
		return true
	}
	for _, other := range s.all {
		if other != l {
			used += max(share, other.active)
		}
	}
	return used < s.concurrency && (!l.down || len(s.all) == 1)
}

// next takes the next turn of a lane that has a free slot; nil if there is none. Lanes take turns.
func (s *lanes) next() (*lane, *turn) {
	for _, urgent := range []bool{true, false} {
		for i := range s.all {
			l := s.all[(s.after+i)%len(s.all)]
			if !s.hasRoom(l) {
				continue
			}
			if t := l.pop(urgent); t != nil {
				s.after = (s.after + i + 1) % len(s.all)
				return l, t
			}
		}
	}
	return nil, nil
}

// contended reports whether a queued turn could start if a lane had one upload less.
func (s *lanes) contended(l *lane) bool {
	l.active--
	defer func() { l.active++ }()
	for _, other := range s.all {
		if other.queued() > 0 && s.hasRoom(other) {
			return true
		}
	}
	return false
}

// totals returns the running uploads, their maximum, and the number of queued turns.
func (s *lanes) totals() (active int, limit float64, queued int) {
	for _, l := range s.all {
		active += l.active
		limit += l.limit
		queued += l.queued()
	}
	return active, min(limit, float64(s.concurrency)), queued
}
