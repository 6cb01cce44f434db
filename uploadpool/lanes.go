package uploadpool

import "time"

// lane is what the pool has and does for one upstream: what waits for it, and how many uploads
// it bears. Part of the pool is kept for each lane, so that an upstream that hangs cannot hold
// all of it. Its fields are guarded by the pool's mu.
type lane struct {
	name      string
	urgent    []*turn   // that somebody waits for: they go before all others, in order
	queue     []*turn   // the others that may go now, in order
	left      int       // turns in queue that are gone
	active    int       // uploads under way
	limit     float64   // how many may be, as the upstream bears it
	throttled time.Time // when limit was cut last
	slower    error     // why it was
	down      bool      // tries failed, and none has gone well since
	since     time.Time // when the first of them did
	heard     time.Time // when something of it was upstream for the first time
	sweeping  bool      // what nobody needs any more is being cleared
}

// lane returns the lane of the upstream that has a bucket. It needs mu.
func (p *Pool) lane(bucket string) *lane {
	name := p.Upstream.Owner(bucket)
	for _, l := range p.lanes {
		if l.name == name {
			return l
		}
	}
	return p.addLane(name)
}

// addLane needs mu.
func (p *Pool) addLane(name string) *lane {
	l := &lane{name: name, limit: float64(p.Parallel.Concurrency)}
	p.lanes = append(p.lanes, l)
	return l
}

// laneOf is lane, for who does not hold mu.
func (p *Pool) laneOf(bucket string) *lane {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lane(bucket)
}

// share is how many uploads at a time are kept for each lane: half of the pool is divided. It
// needs mu.
func (p *Pool) share() int { return max(1, p.Parallel.Concurrency/(2*len(p.lanes))) }

// room reports whether one more upload may begin in a lane. An upstream that does not answer
// gets no more than its share, any other what is not kept for the rest. It needs mu.
func (p *Pool) room(l *lane) bool {
	if l.active >= int(l.limit) {
		return false
	}
	share, used := p.share(), l.active
	if l.active < share {
		return true
	}
	for _, other := range p.lanes {
		if other != l {
			used += max(share, other.active)
		}
	}
	return used < p.Parallel.Concurrency && (!l.down || len(p.lanes) == 1)
}

// next takes the key whose turn it is, nil if there is none that has room in its lane. Lanes
// take turns. It needs mu.
func (p *Pool) next() (*lane, *turn) {
	for _, urgent := range []bool{true, false} {
		for i := range p.lanes {
			l := p.lanes[(p.after+i)%len(p.lanes)]
			if !p.room(l) {
				continue
			}
			if t := l.pop(urgent); t != nil {
				p.after = (p.after + i + 1) % len(p.lanes)
				return l, t
			}
		}
	}
	return nil, nil
}

// pop takes the first turn of one of the queues of a lane, nil if there is none.
func (l *lane) pop(urgent bool) *turn {
	q := &l.queue
	if urgent {
		q = &l.urgent
	}
	for len(*q) > 0 {
		t := (*q)[0]
		(*q)[0] = nil
		if *q = (*q)[1:]; !t.gone {
			t.urgent, t.queued = false, false
			return t
		}
		if t.queued {
			l.left--
		}
	}
	return nil
}

// leave takes a turn out of whatever it is in: its place there is skipped.
func (l *lane) leave(t *turn) {
	t.gone = true
	if t.queued {
		l.left++
	}
}

// queued is how many may go now in a lane, or a few more.
func (l *lane) queued() int { return len(l.urgent) + len(l.queue) - l.left }

// queued is how many may go now, or a few more. It needs mu.
func (p *Pool) queued() (n int) {
	for _, l := range p.lanes {
		n += l.queued()
	}
	return n
}

// wanting reports whether something waits that could go if a lane had one upload less. It needs
// mu.
func (p *Pool) wanting(l *lane) bool {
	l.active--
	defer func() { l.active++ }()
	for _, other := range p.lanes {
		if other.queued() > 0 && p.room(other) {
			return true
		}
	}
	return false
}

// active is how many uploads are under way. It needs mu.
func (p *Pool) active() (n int) {
	for _, l := range p.lanes {
		n += l.active
	}
	return n
}

// limit is how many uploads may be under way, as the upstreams bear them. It needs mu.
func (p *Pool) limit() (sum float64) {
	for _, l := range p.lanes {
		sum += l.limit
	}
	return min(sum, float64(p.Parallel.Concurrency))
}
