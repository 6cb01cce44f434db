// Package uploadpool takes acknowledged writes from the journal to the upstream:
// many at a time, each key's in order, as often as it takes, and verified there
// before the journal lets go of them. It is gentle with an upstream that says to
// slow down, waits for one that is down, and hands to the operator what no
// repetition is going to bring there.
//
// It decides when and how; what is pending the journal knows, and how a request is
// signed and sent tiers/cold.
package uploadpool

import (
	"container/heap"
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

// ParallelConfig is how many uploads run at a time, and what becomes of one that
// fails: [storage.parallel_upload].
type ParallelConfig struct {
	Enabled       bool `toml:"enabled" help:"upload several objects at a time"`
	Concurrency   int  `toml:"concurrency" help:"how many uploads run at a time at the most; fewer while the upstream says to slow down. With several upstreams half of them are kept for each in equal shares, at least one, so that one that hangs does not hold up the others"`
	MaxRetries    int  `toml:"max_retries" help:"how often an upload is repeated soon; after that it goes to the back of the queue and waits longer each time, a minute at the most"`
	BackoffBaseMs int  `toml:"backoff_base_ms" help:"milliseconds, the upper bound of the wait before the first repetition; it doubles with each, and the wait is anywhere below"`
	MaxAgeSecs    int  `toml:"max_age_secs" help:"seconds after which a write that could not be taken to the upstream becomes a dead letter"`

	ConfirmAfterMs int `toml:"confirm_after_ms" help:"milliseconds for which a write stays pending after it was uploaded, and the upstream answers again, if an older request for its key was never answered: then it is confirmed once more, and uploaded again if the older request was carried out after it. More helps behind a proxy that holds requests longer"`
}

// Check reports every impossible value by its key.
func (c *ParallelConfig) Check(report func(key, problem string)) {
	if c.Concurrency < 1 || c.Concurrency > 1000 {
		report("concurrency", "must be 1 to 1000")
	}
	if c.MaxRetries < 0 || c.MaxRetries > 100 {
		report("max_retries", "must be 0 to 100")
	}
	if c.BackoffBaseMs < 1 || c.BackoffBaseMs > 60_000 {
		report("backoff_base_ms", "must be 1 to 60000")
	}
	if c.MaxAgeSecs < 60 || c.MaxAgeSecs > 365*24*3600 {
		report("max_age_secs", "must be 60 to 31536000")
	}
	if c.ConfirmAfterMs < 0 || time.Duration(c.ConfirmAfterMs)*time.Millisecond > cold.UnfinishedFor {
		report("confirm_after_ms", "must be 0 to 960000")
	}
}

// confirmAfter is ConfirmAfterMs as a duration.
func (c *ParallelConfig) confirmAfter() time.Duration {
	return time.Duration(c.ConfirmAfterMs) * time.Millisecond
}

// BatchConfig is what goes to the upstream in one request: [storage.batch_upload].
type BatchConfig struct {
	Enabled           bool `toml:"enabled" help:"deletions that wait for the same bucket go upstream in one DeleteObjects, and small objects in one pack where a rule says so (pack_bytes)"`
	BatchSize         int  `toml:"batch_size" help:"how many deletions, or objects of a pack, go in one request at the most"`
	FlushIntervalSecs int  `toml:"flush_interval_secs" help:"seconds that an object waits for others to be packed with"`
	MaxPacked         int  `toml:"max_packed" help:"how many objects may be in packs; each takes about 1 KiB of memory. Beyond that they go up by themselves"`
}

// Check reports every impossible value by its key.
func (c *BatchConfig) Check(report func(key, problem string)) {
	if c.BatchSize < 1 || c.BatchSize > 1000 {
		report("batch_size", "must be 1 to 1000")
	}
	if c.FlushIntervalSecs < 0 || c.FlushIntervalSecs > 3600 {
		report("flush_interval_secs", "must be 0 to 3600")
	}
	if c.MaxPacked < 0 || c.MaxPacked > 100_000_000 {
		report("max_packed", "must be 0 to 100000000")
	}
}

// Upstream sends requests.
type Upstream interface {
	// Do sends a signed request and returns the answer, whatever its status.
	Do(ctx context.Context, r *cold.Request) (*http.Response, error)
	// Owner is the name of the upstream that has a bucket.
	Owner(bucket string) string
}

// Change is a change of a key as the cache sees it. It is for one goroutine, which
// must call End.
type Change interface {
	// Body takes the next bytes of the new object.
	Body(p []byte)
	// Written says that the upstream has that object, with this answer.
	Written(answer http.Header)
	// End ends the change. After Written it does nothing.
	End()
}

// Config is what a Pool is made of.
type Config struct {
	Parallel ParallelConfig
	Batch    BatchConfig
	Journal  *journal.Journal
	Upstream Upstream
	// Begin tells the cache that a key is going to change upstream.
	Begin func(key akigw.Key) Change
	// Unlike is told of a bucket that gave an object another ETag than was promised:
	// nothing more should be. nil: nobody.
	Unlike func(bucket string)
	// Admit returns how long the uploads of a bucket have to wait before they are tried, 0 if they
	// may go on; Ready ends the wait. It must not block, nor call the pool. nil: none waits.
	Admit func(bucket string) time.Duration
	// Unanswered is told of a bucket when the upstream gave no answer to one of its uploads. It
	// must not block, nor call the pool. nil: nobody.
	Unanswered func(bucket string)
	// Succeeded is told of a bucket when something of it is upstream, after uploads failed. It must
	// not block, nor call the pool. nil: nobody.
	Succeeded func(bucket string)
	// Gone is told of a bucket that the upstream says is not there, and reports whether its uploads
	// are to wait for Admit instead of becoming dead letters. It must not block. nil: none waits.
	Gone func(bucket string) bool
	// Refused is told of a write that the upstream refused for good, with the code of its error.
	// nil: nobody.
	Refused func(key akigw.Key, header http.Header, code string)
	// Packs reports whether an object of size bytes goes into a pack with others. nil:
	// none does.
	Packs func(key akigw.Key, size int64) bool
	Log   *slog.Logger
}

// Pool is the upload pool. All methods may be called from any goroutine.
type Pool struct {
	Config
	known  uint64 // entries up to this one may be upstream already: an earlier run tried
	rate   meter  // writes that came to the upstream
	work   sync.WaitGroup
	doubts *doubts

	mu      sync.Mutex
	lanes   []*lane               // by upstream; guarded by mu, and so is what is in them
	after   int                   // the lane whose turn it is; guarded by mu
	later   delays                // those that wait for their time; guarded by mu
	turns   map[akigw.Key]*turn   // of these, and of keys in packing, the one that counts; guarded by mu
	tries   map[akigw.Key]*trying // of keys whose last try failed; guarded by mu
	paused  map[string]pause      // upstreams that refuse us, by name; guarded by mu
	packing map[string]*packing   // by bucket; guarded by mu
	parked  map[string]*parked    // of buckets that are not admitted; guarded by mu
	wanted  map[akigw.Key]uint64  // that somebody waits for, as objects of their own, with the newest entry that he can mean; guarded by mu
	eager   bool                  // see Eager; guarded by mu
	swept   time.Time             // when sweep looked for garbage last; guarded by mu
	wake    chan struct{}

	opening map[uint64]chan struct{} // by number, of uploads that a Forward opens, closed when it has; guarded by mu
}

// trying is what is known of a key whose last try failed.
type trying struct {
	entry   uint64
	n       int  // tries so far
	unknown bool // the last one may have been carried out
	err     error
}

type pause struct {
	until time.Time
	err   error
}

// turn is a key's place in a queue.
type turn struct {
	key    akigw.Key
	due    time.Time // if it waits for its time
	urgent bool      // it is in urgent
	gone   bool      // the key has got another one
}

type delays []*turn

func (d delays) Len() int           { return len(d) }
func (d delays) Less(i, k int) bool { return d[i].due.Before(d[k].due) }
func (d delays) Swap(i, k int)      { d[i], d[k] = d[k], d[i] }
func (d *delays) Push(x any)        { *d = append(*d, x.(*turn)) }
func (d *delays) Pop() any {
	last := (*d)[len(*d)-1]
	(*d)[len(*d)-1] = nil
	*d = (*d)[:len(*d)-1]
	return last
}

// New makes a pool over a journal that was just opened.
func New(c Config) *Pool {
	p := &Pool{Config: c, turns: map[akigw.Key]*turn{}, tries: map[akigw.Key]*trying{}, paused: map[string]pause{}, packing: map[string]*packing{}, parked: map[string]*parked{}, wanted: map[akigw.Key]uint64{}, opening: map[uint64]chan struct{}{}, wake: make(chan struct{}, 1), doubts: newDoubts(c.Parallel.confirmAfter())}
	if !c.Parallel.Enabled {
		p.Parallel.Concurrency = 1
	}
	if several, ok := c.Upstream.(interface{ Names() []string }); ok {
		for _, name := range several.Names() { // each has its share from the start
			p.addLane(name)
		}
	}
	p.known = c.Journal.Newest()
	p.Again()
	c.Journal.Notify(p.push)
	return p
}

// Again queues all that is pending.
func (p *Pool) Again() {
	for _, key := range p.Journal.Keys() {
		p.push(key)
	}
}

// push queues a key, unless it is.
func (p *Pool) push(key akigw.Key) {
	p.mu.Lock()
	if p.turns[key] == nil {
		p.line(&turn{key: key})
	}
	p.mu.Unlock()
	p.stir()
}

// line puts a turn at the end of its queue, as the one of its key. It needs mu.
func (p *Pool) line(t *turn) {
	p.turns[t.key] = t
	l := p.lane(t.key.Bucket)
	if t.urgent = p.hurries(t.key); t.urgent {
		l.urgent = append(l.urgent, t)
	} else {
		l.queue = append(l.queue, t)
	}
}

func (p *Pool) stir() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Release ends a hold of a key in the journal: what it has goes on.
func (p *Pool) Release(key akigw.Key) {
	if p.Journal.Release(key) {
		p.push(key)
	}
}

// Hurry puts a key before all others but those that are in a hurry, too: somebody waits for what it
// has now. What is in a pack becomes an object of its own.
func (p *Pool) Hurry(key akigw.Key) {
	until := p.Journal.Until(key)
	p.mu.Lock()
	p.wanted[key] = max(p.wanted[key], until)
	if t := p.turns[key]; t == nil || !t.urgent {
		if t != nil {
			t.gone = true
		}
		p.line(&turn{key: key})
	}
	p.mu.Unlock()
	p.stir()
}

// hurries reports whether somebody waits for a key. It needs mu.
func (p *Pool) hurries(key akigw.Key) bool {
	_, wanted := p.wanted[key]
	return wanted
}

// Run uploads until ctx ends. What is under way then is cut off, and looked at by
// the next run.
func (p *Pool) Run(ctx context.Context) error {
	defer p.work.Wait()
	p.endOwn(ctx)
	ctx = &cold.FlowContext{Context: ctx, Flow: cold.Flow{ID: "akigw flush"}}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		p.sweep(ctx)
		next := p.start(ctx)
		if p.Journal.Garbage() {
			next = min(next, sweepEvery)
		}
		timer.Reset(next)
		select {
		case <-p.wake:
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// idle is how long the pool sleeps if nothing is due.
const idle = time.Minute

// start starts what may start, and says when to look again.
func (p *Pool) start(ctx context.Context) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.unpark(now)
	for len(p.later) > 0 && !p.later[0].due.After(now) {
		if t := heap.Pop(&p.later).(*turn); !t.gone {
			p.line(t)
		}
	}
	for ctx.Err() == nil {
		l, t := p.next()
		if t == nil {
			break
		}
		key := t.key
		if until := p.paused[l.name].until; until.After(now) {
			t.due = until
			heap.Push(&p.later, t)
			continue
		}
		if p.park(t, now) {
			continue
		}
		due, unconfirmed := p.unconfirmed(key)
		if due.After(now) && unconfirmed {
			t.due = due
			heap.Push(&p.later, t)
			continue
		}
		if p.collect(key, now) {
			continue
		}
		delete(p.turns, key)
		e := p.Journal.Take(key)
		if e == nil {
			if p.Journal.Last(key) == nil {
				delete(p.wanted, key)
			}
			continue
		}
		if _, _, packed := p.Journal.Location(e); packed && !p.hurries(key) {
			p.Journal.Return(e, false)
			continue
		}
		batch := []*journal.Entry{e}
		if !unconfirmed {
			batch = append(batch, p.gather(l, e)...)
		}
		l.active++
		p.work.Go(func() { p.flush(ctx, batch) })
	}
	due := p.startPacks(ctx, now)
	if len(p.later) > 0 && (due.IsZero() || p.later[0].due.Before(due)) {
		due = p.later[0].due
	}
	for _, w := range p.parked {
		if due.IsZero() || w.due.Before(due) {
			due = w.due
		}
	}
	if due.IsZero() {
		return idle
	}
	return max(0, time.Until(due))
}

// Ready has the uploads of a bucket tried that wait for their time, such as that of Admit.
func (p *Pool) Ready(bucket string) {
	p.mu.Lock()
	p.hasten(func(other string) bool { return other == bucket })
	p.mu.Unlock()
	p.stir()
}

// startPacks starts what packs may start, and says when to look again, zero for no
// time. It needs mu.
func (p *Pool) startPacks(ctx context.Context, now time.Time) time.Time {
	for ctx.Err() == nil {
		keys, next := p.ready(now)
		if len(keys) == 0 {
			return next
		}
		var batch []*journal.Entry
		for _, key := range keys {
			if t := p.turns[key]; t != nil && t.urgent {
				continue // somebody waits for it by now
			}
			delete(p.turns, key)
			if e := p.Journal.Take(key); e != nil {
				if !p.packable(e) { // another one by now
					p.Journal.Return(e, false)
					p.line(&turn{key: key})
					continue
				}
				batch = append(batch, e)
			}
		}
		if len(batch) > 0 {
			l := p.lane(batch[0].Key.Bucket)
			l.active++
			p.work.Go(func() {
				defer p.giveBack(l)
				p.flushPack(ctx, batch)
			})
		}
	}
	return time.Time{}
}

// gather takes more deletions of the bucket of e from the queue of its lane. It needs mu. A key that
// XML 1.0 cannot hold is deleted by a request of its own: a service that reads XML strictly
// would refuse the whole batch because of it.
func (p *Pool) gather(l *lane, e *journal.Entry) (more []*journal.Entry) {
	if !e.Deleted || !p.Batch.Enabled || !s3xml.Holds(e.Key.Name) {
		return nil
	}
	kept := l.queue[:0:0]
	for i, t := range l.queue {
		if len(more) == p.Batch.BatchSize-1 {
			kept = append(kept, l.queue[i:]...)
			break
		}
		if t.gone {
			continue
		}
		if t.key.Bucket != e.Key.Bucket || !p.batchable(t.key) {
			kept = append(kept, t)
			continue
		}
		delete(p.turns, t.key)
		if taken := p.Journal.Take(t.key); taken != nil {
			more = append(more, taken)
		}
	}
	l.queue = kept
	return more
}

// batchable reports whether the newest entry of a key is a deletion that can go with others. One
// that is upstream and only has to be confirmed would delete what came after it.
func (p *Pool) batchable(key akigw.Key) bool {
	last := p.Journal.Last(key)
	if last == nil || !last.Deleted || !s3xml.Holds(key.Name) {
		return false
	}
	waiting, _ := p.doubts.waits(key)
	return waiting != last.ID
}

// flush takes entries of one bucket to the upstream, one or several deletions.
func (p *Pool) flush(ctx context.Context, batch []*journal.Entry) {
	var results []result
	if len(batch) > 1 {
		results = p.deleteBatch(ctx, batch)
	} else {
		results = []result{p.flushOne(ctx, batch[0])}
	}
	for i, e := range batch {
		p.settle(ctx, e, results[i])
	}
	p.giveBack(p.laneOf(batch[0].Key.Bucket))
}

// flushOne takes one entry to the upstream, or confirms that it is there.
func (p *Pool) flushOne(ctx context.Context, e *journal.Entry) result {
	if r, ok := p.confirm(ctx, e); ok {
		return r
	}
	if e.Deleted {
		return p.delete(ctx, e)
	}
	return p.put(ctx, e)
}

var (
	flushed      = metrics.NewCounter("akigw_uploadpool_flushed_total")
	flushedBytes = metrics.NewCounter("akigw_uploadpool_flushed_bytes_total")
	retries      = metrics.NewCounter("akigw_uploadpool_retries_total")
	buried       = metrics.NewCounter("akigw_uploadpool_dead_letters_total")
	translated   = metrics.NewCounter("akigw_uploadpool_translated_etags_total")
	throttles    = metrics.NewCounter("akigw_uploadpool_throttled_total")
)

// Progress is what the pool is doing.
type Progress struct {
	Active int     // uploads under way
	Limit  float64 // how many may be, as the upstream bears it
	Queued int     // keys that may go
	Later  int     // keys that wait to be tried again
	// Unconfirmed are the writes that are upstream and stay in the journal for some seconds,
	// because the upstream may still carry out an older request for their keys.
	Unconfirmed int
	// Rate and ByteRate are the writes a second that came to the upstream in the last
	// minute, and their bytes.
	Rate, ByteRate float64
	// Paused says why uploads to an upstream are paused, by its name.
	Paused map[string]string
	// Failing is the error of the last try of some key. If the last tries of all of them
	// went well, it is why Limit was cut in the last minute, nil if it was not.
	Failing error
}

// Progress returns the present state.
func (p *Pool) Progress() Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	count, bytes := p.rate.rates()
	s := Progress{Unconfirmed: p.doubts.waiting(), Rate: count, ByteRate: bytes, Active: p.active(), Limit: p.limit(), Queued: p.queued(), Paused: map[string]string{}}
	for _, t := range p.later {
		if !t.gone {
			s.Later++
		}
	}
	for _, w := range p.parked {
		for _, t := range w.turns {
			if !t.gone {
				s.Later++
			}
		}
	}
	for name, pause := range p.paused {
		if pause.until.After(time.Now()) {
			s.Paused[name] = pause.err.Error()
		}
	}
	for _, t := range p.tries {
		s.Failing = t.err
		break
	}
	for _, l := range p.lanes {
		if s.Failing == nil && time.Since(l.throttled) < time.Minute {
			s.Failing = l.slower
		}
	}
	return s
}
