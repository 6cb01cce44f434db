package uploadpool

import (
	"container/heap"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
)

// queue decides when a key is uploaded: it orders the keys that have something pending, limits the
// number of parallel uploads, and delays those that failed. It knows no bodies and sends nothing.
type queue struct {
	config   ParallelConfig
	counters counters
	log      *slog.Logger
	// noResponse and recovered are Config.OnNoResponse and Config.OnRecovery.
	noResponse, recovered func(bucket string)
	known                 uint64        // entries up to this one may be upstream already: an earlier epoch tried
	wake                  chan struct{} // receives when there may be something to start

	mu      sync.Mutex
	lanes   lanes
	later   delays // keys that wait for their time
	parking parking
	packing packing
	turns   map[akigw.Key]*turn     // the valid turn of each key in lanes, later, parking or packing
	tries   map[akigw.Key]*failures // of keys whose last attempt failed
	paused  map[string]pause        // upstreams that refuse the gateway, by name
	wanted  map[akigw.Key]uint64    // keys that a request waits for, with the newest entry that it may wait for; they are not packed
}

// failures describes a key whose last attempt failed.
type failures struct {
	entry   uint64
	n       int  // attempts so far
	unknown bool // the upstream may have applied the last one
	err     error
}

// pause says until when nothing is uploaded to an upstream, and why.
type pause struct {
	until time.Time
	err   error
}

func newQueue(c *Config, counters counters) *queue {
	q := &queue{
		config: c.Parallel, counters: counters, log: c.Log, noResponse: c.OnNoResponse, recovered: c.OnRecovery,
		wake:    make(chan struct{}, 1),
		lanes:   lanes{concurrency: c.Parallel.Concurrency},
		parking: parking{admit: c.Admit, buckets: map[string]*parked{}},
		packing: packing{config: c.Batch, buckets: map[string]*unpacked{}},
		turns:   map[akigw.Key]*turn{}, tries: map[akigw.Key]*failures{}, paused: map[string]pause{}, wanted: map[akigw.Key]uint64{},
	}
	if c.Upstream != nil {
		q.lanes.owner = c.Upstream.Owner
	}
	if several, ok := c.Upstream.(interface{ Names() []string }); ok {
		for _, name := range several.Names() { // each has its share from the start
			q.lanes.add(name)
		}
	}
	return q
}

// push queues a key, unless it is queued already.
func (q *queue) push(key akigw.Key) {
	q.mu.Lock()
	if q.turns[key] == nil {
		q.enqueueLocked(&turn{key: key})
	}
	q.mu.Unlock()
	q.stir()
}

// enqueueLocked appends a turn to its queue, as the valid one of its key.
func (q *queue) enqueueLocked(t *turn) {
	q.turns[t.key] = t
	l := q.lanes.of(t.key.Bucket)
	if t.urgent = q.wantedLocked(t.key); t.urgent {
		l.urgent = append(l.urgent, t)
	} else {
		t.queued = true
		l.queue = append(l.queue, t)
	}
}

// delayLocked makes a turn wait until due, as the valid one of its key.
func (q *queue) delayLocked(t *turn, due time.Time) {
	t.due = due
	q.turns[t.key] = t
	heap.Push(&q.later, t)
}

// stir makes the pool check whether something can start.
func (q *queue) stir() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// hurry moves a key ahead of all others except urgent ones, because a request waits for its entries
// up to newest. An entry in a pack becomes an object of its own.
func (q *queue) hurry(key akigw.Key, newest uint64) {
	q.mu.Lock()
	q.wanted[key] = max(q.wanted[key], newest)
	if t := q.turns[key]; t == nil || !t.urgent {
		if t != nil {
			q.lanes.of(key.Bucket).leave(t)
		}
		q.enqueueLocked(&turn{key: key})
	}
	q.mu.Unlock()
	q.stir()
}

// wantedLocked reports whether a request waits for a key.
func (q *queue) wantedLocked(key akigw.Key) bool {
	_, wanted := q.wanted[key]
	return wanted
}

// advanceLocked queues the keys whose time has come.
func (q *queue) advanceLocked(now time.Time) {
	for _, t := range q.parking.release(now) {
		q.enqueueLocked(t)
	}
	for len(q.later) > 0 && !q.later[0].due.After(now) {
		if t := heap.Pop(&q.later).(*turn); !t.superseded {
			q.enqueueLocked(t)
		}
	}
}

// nextLocked takes the next turn that may start now; nil if there is none.
func (q *queue) nextLocked(now time.Time) (*lane, *turn) {
	for {
		l, t := q.lanes.next()
		if t == nil {
			return nil, nil
		}
		if until := q.paused[l.name].until; until.After(now) {
			q.delayLocked(t, until)
			continue
		}
		if !q.parking.park(t, now) {
			return l, t
		}
	}
}

// takePackLocked takes the keys of a pack that can start now, or returns when to check again, zero
// for never.
func (q *queue) takePackLocked(now time.Time) (keys []akigw.Key, next time.Time) {
	return q.packing.take(now, func(bucket string) bool { return q.lanes.hasRoom(q.lanes.of(bucket)) }, q.parking.wait)
}

// dueLocked returns when the first waiting key is due; zero if none waits.
func (q *queue) dueLocked() (due time.Time) {
	if len(q.later) > 0 {
		due = q.later[0].due
	}
	return earlier(due, q.parking.next())
}

// ready retries the waiting uploads of a bucket at once.
func (q *queue) ready(bucket string) {
	q.mu.Lock()
	q.expediteLocked(func(other string) bool { return other == bucket })
	q.mu.Unlock()
	q.stir()
}

// resume retries the waiting uploads to an upstream that responds again at once, and counts their
// attempts from zero.
func (q *queue) resume(upstream string) {
	q.mu.Lock()
	q.beginAnewLocked(func(bucket string) bool { return q.lanes.owner(bucket) == upstream })
	q.mu.Unlock()
	q.stir()
}

// beginAnewLocked is expediteLocked after an outage. It counts attempts from zero, so that an
// upload that was running when the outage ended, and failed nevertheless, does not wait long.
func (q *queue) beginAnewLocked(which func(bucket string) bool) {
	for key, t := range q.tries {
		if which(key.Bucket) {
			t.n = 0
		}
	}
	q.expediteLocked(which)
}

// expediteLocked queues the waiting keys of some buckets at once.
func (q *queue) expediteLocked(which func(bucket string) bool) {
	var others delays
	for _, t := range q.later {
		switch {
		case t.superseded:
		case which(t.key.Bucket):
			q.enqueueLocked(t)
		default:
			others = append(others, t)
		}
	}
	heap.Init(&others)
	q.later = others
	q.parking.expedite(which)
}

// attempt returns the number of the next attempt of e, from 0, and whether the upstream may have
// applied an earlier one.
func (q *queue) attempt(e *journal.Entry) (n int, unknown bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	unknown = e.ID <= q.known
	if t := q.tries[e.Key]; t != nil && t.entry == e.ID {
		n, unknown = t.n, unknown || t.unknown
	}
	if n > 0 {
		q.counters.retries.Inc()
	}
	return n, unknown
}

// succeeded records that an entry is in the upstream. last is the newest entry of its key, nil for
// none. It reports whether there is more to upload: a later entry, or this one, if it is in a pack
// and a request waits for it.
func (q *queue) succeeded(e, last *journal.Entry) (more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	more = last != nil && (last != e || q.wantedLocked(e.Key))
	if last == nil || last != e && e.ID >= q.wanted[e.Key] {
		delete(q.wanted, e.Key) // otherwise the request waits for the later entry
	}
	q.deliveredLocked(e.Key)
	return more
}

// delivered records that something of a key was uploaded.
func (q *queue) delivered(key akigw.Key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.deliveredLocked(key)
}

// deliveredLocked is delivered for a caller that holds mu: it raises the limit of the key's lane.
func (q *queue) deliveredLocked(key akigw.Key) {
	delete(q.tries, key)
	l := q.lanes.of(key.Bucket)
	delete(q.paused, l.name)
	l.limit = min(l.limit+1/l.limit, float64(q.config.Concurrency))
	if l.heard.IsZero() {
		l.heard = time.Now()
	}
	if l.down { // the upstream is back
		l.down = false
		if q.recovered != nil {
			q.recovered(key.Bucket)
		}
		if time.Since(l.since) >= outage {
			q.beginAnewLocked(func(bucket string) bool { return q.lanes.of(bucket) == l })
		}
	}
}

// heard returns the time of the first successful upload to the upstream of a bucket in this epoch:
// now, if there was none yet.
func (q *queue) heard(bucket string) time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lanes.of(bucket)
	if l.heard.IsZero() {
		l.heard = time.Now()
	}
	return l.heard
}

// forget drops the failures of a key.
func (q *queue) forget(key akigw.Key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.tries, key)
	delete(q.wanted, key)
}

const (
	// slowBase is the upper bound of the first wait of an entry that has used up its quick retries.
	slowBase = 5 * time.Second
	// refusedWait is how long nothing is sent to an upstream that refuses the gateway.
	refusedWait = 30 * time.Second
	// outage is the minimum time without a success that counts as an outage, after which everything
	// that waits is retried at once. Otherwise one write that keeps failing would be retried each
	// time that another one succeeds.
	outage = time.Second
)

// retryLater plans the next attempt of an entry whose last one ended with r and err.
func (q *queue) retryLater(e *journal.Entry, r result, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	t, wait := q.noteFailureLocked(e, r, err)
	l := q.lanes.of(e.Key.Bucket)
	if !l.down && (r.unsent || r.unknown || r.wait > 0) {
		l.down, l.since = true, now
	}
	if q.noResponse != nil && errors.Is(err, akigw.ErrUpstreamUnavailable) {
		q.noResponse(e.Key.Bucket)
	}
	wait = max(r.wait, wait)
	if r.refused {
		q.pauseLocked(l.name, e, now, err)
		wait = max(wait, refusedWait)
	}
	if r.wait > 0 {
		l.cutLocked(now, err)
	}
	if q.turns[e.Key] == nil {
		q.delayLocked(&turn{key: e.Key}, now.Add(wait))
	}
	q.log.Debug("an upload failed and will be retried", "key", e.Key.String(), "try", t.n, "wait", wait, "error", err)
}

// noteFailureLocked counts a failed attempt of an entry, and returns how long the next one waits.
func (q *queue) noteFailureLocked(e *journal.Entry, r result, err error) (t *failures, wait time.Duration) {
	t = q.tries[e.Key]
	if t == nil || t.entry != e.ID {
		t = &failures{entry: e.ID}
		q.tries[e.Key] = t
	}
	t.unknown, t.err = t.unknown || r.unknown, err
	wait = q.config.backOff(t.n)
	switch {
	case r.unsent:
		wait = min(wait, slowBase)
	case r.progress:
		t.n = 1
	default:
		t.n++
	}
	return t, wait
}

// pauseLocked pauses the uploads to an upstream that refuses the gateway.
func (q *queue) pauseLocked(upstream string, e *journal.Entry, now time.Time, err error) {
	if !q.paused[upstream].until.After(now) {
		q.log.Error("the upstream refuses uploads: they are paused and will be retried; check its credentials and their permissions", "upstream", upstream, "key", e.Key.String(), "error", err)
	}
	q.paused[upstream] = pause{now.Add(refusedWait), err}
}

// backOff returns how long to wait before the n-th retry, from 0: a random time below a bound that
// doubles.
func (c *ParallelConfig) backOff(n int) time.Duration {
	base := time.Duration(c.BackoffBaseMs) * time.Millisecond << min(n, 20)
	if n >= c.MaxRetries {
		base = slowBase << min(n-c.MaxRetries, 10)
	}
	return rand.N(min(base, maxWait)) + 1
}

// lane returns the lane of the upstream that has a bucket.
func (q *queue) lane(bucket string) *lane {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lanes.of(bucket)
}

// throttle lowers the limit of a lane, because its upstream throttles, with err.
func (q *queue) throttle(l *lane, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l.cutLocked(time.Now(), err)
}

// borrow takes a slot of a lane for one more request, if nothing queued needs it.
func (q *queue) borrow(l *lane) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.lanes.hasRoom(l) {
		return false
	}
	l.active++
	if q.lanes.contended(l) {
		l.active--
		return false
	}
	return true
}

// giveBack frees a slot of a lane.
func (q *queue) giveBack(l *lane) {
	q.mu.Lock()
	l.active--
	q.mu.Unlock()
	q.stir()
}

// crowded reports whether a slot that was borrowed in a lane must be returned.
func (q *queue) crowded(l *lane) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return l.active > int(l.limit) || q.lanes.contended(l)
}

// packEarly makes packs of what is there, without waiting for more.
func (q *queue) packEarly() {
	q.mu.Lock()
	q.packing.eager = true
	q.mu.Unlock()
	q.stir()
}

// progress fills in the queue's part of the current state.
func (q *queue) progress(s *Progress) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s.Active, s.Limit, s.Queued = q.lanes.totals()
	s.Later = q.parking.len()
	for _, t := range q.later {
		if !t.superseded {
			s.Later++
		}
	}
	s.Paused = map[string]string{}
	for name, pause := range q.paused {
		if pause.until.After(time.Now()) {
			s.Paused[name] = pause.err.Error()
		}
	}
	for _, t := range q.tries {
		s.Failing = t.err
		break
	}
	for _, l := range q.lanes.all {
		if s.Failing == nil && time.Since(l.throttled) < time.Minute {
			s.Failing = l.slower
		}
	}
}
