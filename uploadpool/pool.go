// Package uploadpool uploads acknowledged writes from the journal to the upstream: many in
// parallel, the writes of each key in order, with as many retries as necessary, and verified in the
// upstream before the journal releases them. It slows down when the upstream throttles, waits while
// the upstream is down, and leaves writes that no retry can upload to the operator, as dead
// letters.
//
// It decides when and how to upload. The journal knows what is pending, and tiers/cold how a
// request is signed and sent.
//
// A Pool consists of a queue, which decides when a key is uploaded; an uploader, which uploads one
// entry; a packer, which uploads several as one object; and a sweeper, which removes garbage.
// doubts are the keys for which the upstream may still apply an old request.
package uploadpool

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

// Pool is the upload pool. Its methods are safe for concurrent use.
type Pool struct {
	Config
	counters counters
	rate     meter // uploaded writes
	work     sync.WaitGroup
	doubts   *doubts
	queue    *queue
	uploader *uploader
	packer   *packer
	sweeper  *sweeper
	opening  openings
}

// New returns a pool over a journal that was just opened. Run starts the uploads.
func New(c Config) *Pool {
	if !c.Parallel.Enabled {
		c.Parallel.Concurrency = 1
	}
	p := &Pool{Config: c, counters: newCounters(c.Metrics), doubts: newDoubts(c.Parallel.confirmAfter()), opening: openings{byNumber: map[uint64]chan struct{}{}}}
	p.queue = newQueue(&c, p.counters)
	upstream := &remote{upstream: c.Upstream, throttled: p.counters.throttled}
	p.uploader = &uploader{remote: upstream, journal: c.Journal, queue: p.queue, doubts: p.doubts, proofs: newProofs(c.Parallel.VerifyFlush == verifyAlways), begin: c.Begin, log: c.Log, counters: p.counters}
	p.packer = &packer{uploader: p.uploader, mismatch: c.OnETagMismatch}
	p.sweeper = &sweeper{remote: upstream, journal: c.Journal, queue: p.queue, begin: c.Begin, work: &p.work}
	p.queue.known = c.Journal.Notify(p.queue.push)
	p.Again()
	return p
}

// Again queues all pending keys.
func (p *Pool) Again() {
	for _, key := range p.Journal.Keys() {
		p.queue.push(key)
	}
}

// Release ends a hold of a key in the journal, and queues the key.
func (p *Pool) Release(key akigw.Key) {
	if p.Journal.Release(key) {
		p.queue.push(key)
	}
}

// Hurry moves a key ahead of all others except urgent ones, because a request waits for its present
// entries. An entry in a pack becomes an object of its own.
func (p *Pool) Hurry(key akigw.Key) { p.queue.hurry(key, p.Journal.Until(key)) }

// Ready retries the waiting uploads of a bucket at once, such as those that Config.Admit delayed.
func (p *Pool) Ready(bucket string) { p.queue.ready(bucket) }

// Resume retries the waiting uploads to an upstream that responds again at once, and counts their
// attempts from zero.
func (p *Pool) Resume(upstream string) { p.queue.resume(upstream) }

// Eager makes packs of what is there without waiting for more, because the process is about to end.
func (p *Pool) Eager() { p.queue.packEarly() }

// DropPacks deletes the packs of a bucket that hold no object.
func (p *Pool) DropPacks(ctx context.Context, bucket string) { p.sweeper.dropPacks(ctx, bucket) }

// Doubt says that the upstream may still apply an abandoned request for a key that did not go
// through the journal.
func (p *Pool) Doubt(key akigw.Key) { p.doubts.begin(key, nil) }

// Clear waits until the upstream can no longer apply an old request for a key whose entries were
// flushed: then a request that changes the key can be forwarded. It waits for confirm_after_ms at
// most. The error is that of ctx.
func (p *Pool) Clear(ctx context.Context, key akigw.Key) error {
	wait := time.Until(p.doubts.clears(key))
	if wait <= 0 {
		return nil
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Uploaded returns the parts of a multipart upload that the upstream has, by number.
func (p *Pool) Uploaded(ctx context.Context, key akigw.Key, id string) ([]journal.Part, error) {
	all, r := p.uploader.uploadedParts(ctx, key, id, false)
	return all, r.failure()
}

// Forward moves an open upload of a client to the upstream, with some of its parts; the rest of it
// does not go through the journal. It returns the upstream's upload ID.
func (p *Pool) Forward(ctx context.Context, u *journal.Upload, parts []journal.Part) (id string, err error) {
	m := &multipart{up: p.uploader, number: u.Number, key: u.Key, header: u.Header, parts: parts, obsolete: func() bool { return false }}
	m.body = func(i int) (io.ReadSeekCloser, error) { return p.Journal.Body(parts[i].Entry, 0, parts[i].Size) }
	if id = p.Journal.UploadID(u.Number); id == "" || len(parts) > 0 {
		leave, err := p.opening.enter(ctx, u.Number)
		if err != nil {
			return "", err
		}
		r := m.open(ctx, false)
		leave()
		if r.err != nil {
			return "", r.failure()
		}
	}
	return cmp.Or(m.id, id), m.sendAll(ctx).failure()
}

// openings are the uploads that Forward is opening in the upstream, each by one caller at a time.
type openings struct {
	mu       sync.Mutex
	byNumber map[uint64]chan struct{} // closed when the caller has finished; guarded by mu
}

// enter waits until no other caller is opening the upload with that number, and excludes others
// until leave, so that an upload is opened once.
func (o *openings) enter(ctx context.Context, number uint64) (leave func(), err error) {
	mine := make(chan struct{})
	for {
		o.mu.Lock()
		other := o.byNumber[number]
		if other == nil {
			o.byNumber[number] = mine
		}
		o.mu.Unlock()
		if other == nil {
			return func() {
				o.mu.Lock()
				delete(o.byNumber, number)
				o.mu.Unlock()
				close(mine)
			}, nil
		}
		select {
		case <-other:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: another request is moving the upload to the upstream: %w", akigw.ErrUpstreamUnavailable, context.Cause(ctx))
		}
	}
}

// Run uploads until ctx ends. Running uploads are then cut off; the next epoch checks their
// outcome.
func (p *Pool) Run(ctx context.Context) error {
	defer p.work.Wait()
	p.endOwn(ctx)
	ctx = &cold.FlowContext{Context: ctx, Flow: cold.Flow{ID: "akigw flush"}}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		garbage := p.sweeper.sweep(ctx)
		next := p.start(ctx)
		if garbage {
			next = min(next, sweepEvery)
		}
		timer.Reset(next)
		select {
		case <-p.queue.wake:
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// idle is how long the pool sleeps if nothing is due.
const idle = time.Minute

// start starts what can start now, and returns how long until it must be called again.
func (p *Pool) start(ctx context.Context) time.Duration {
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	now := time.Now()
	p.queue.advanceLocked(now)
	for ctx.Err() == nil {
		l, t := p.queue.nextLocked(now)
		if t == nil {
			break
		}
		if batch := p.takeLocked(l, t, now); len(batch) > 0 {
			l.active++
			p.work.Go(func() { p.flush(ctx, batch) })
		}
	}
	due := earlier(p.startPacksLocked(ctx, now), p.queue.dueLocked())
	if due.IsZero() {
		return idle
	}
	return max(0, time.Until(due))
}

// takeLocked leases the newest entry of the key of a turn and, if it is a deletion, more deletions
// of its bucket. It returns none if there is nothing to upload now.
func (p *Pool) takeLocked(l *lane, t *turn, now time.Time) []*journal.Entry {
	due, unconfirmed := p.unconfirmed(t.key)
	if unconfirmed && due.After(now) {
		p.queue.delayLocked(t, due)
		return nil
	}
	if p.collectLocked(t.key, now) {
		return nil
	}
	delete(p.queue.turns, t.key)
	e := p.Journal.Take(t.key)
	if e == nil {
		if p.Journal.Last(t.key) == nil {
			delete(p.queue.wanted, t.key)
		}
		return nil
	}
	if _, _, packed := p.Journal.Packs.Find(e); packed && !p.queue.wantedLocked(t.key) {
		p.Journal.Return(e, false)
		return nil
	}
	batch := []*journal.Entry{e}
	if !unconfirmed {
		batch = append(batch, p.gatherLocked(l, e)...)
	}
	return batch
}

// unconfirmed returns when the newest entry of a key can be confirmed; false if it does not wait
// for confirmation.
func (p *Pool) unconfirmed(key akigw.Key) (due time.Time, waits bool) {
	entry, due := p.doubts.waits(key)
	if entry == 0 {
		return due, false
	}
	last := p.Journal.Last(key)
	return due, last != nil && last.ID == entry
}

// collectLocked makes an entry wait for others of its bucket if it goes into a pack.
func (p *Pool) collectLocked(key akigw.Key, now time.Time) bool {
	e := p.Journal.Last(key)
	if p.Packs == nil || e == nil || p.queue.wantedLocked(key) || !p.packable(e) || p.Journal.Stats().Packed >= p.Batch.MaxPacked {
		return false
	}
	p.queue.packing.add(key, e.Size, now)
	return true
}

// packable reports whether an entry goes into a pack.
func (p *Pool) packable(e *journal.Entry) bool {
	_, _, packed := p.Journal.Packs.Find(e)
	return p.Batch.Enabled && !e.Deleted && len(e.Parts) == 0 && !packed && p.Packs(e.Key, e.Size)
}

// startPacksLocked starts the packs that can start now, and returns when to check again, zero for
// never.
func (p *Pool) startPacksLocked(ctx context.Context, now time.Time) time.Time {
	for ctx.Err() == nil {
		keys, next := p.queue.takePackLocked(now)
		if len(keys) == 0 {
			return next
		}
		if batch := p.takeForPackLocked(keys); len(batch) > 0 {
			l := p.queue.lanes.of(batch[0].Key.Bucket)
			l.active++
			p.work.Go(func() {
				defer p.queue.giveBack(l)
				p.flushPack(ctx, batch)
			})
		}
	}
	return time.Time{}
}

// takeForPackLocked leases the newest entries of keys that waited for a pack, if they still go into
// one.
func (p *Pool) takeForPackLocked(keys []akigw.Key) (batch []*journal.Entry) {
	for _, key := range keys {
		if t := p.queue.turns[key]; t != nil && t.urgent {
			continue // a request waits for it by now
		}
		delete(p.queue.turns, key)
		e := p.Journal.Take(key)
		if e == nil {
			continue
		}
		if !p.packable(e) { // another entry has replaced it
			p.Journal.Return(e, false)
			p.queue.enqueueLocked(&turn{key: key})
			continue
		}
		batch = append(batch, e)
	}
	return batch
}

// gatherLocked takes more deletions of the bucket of e that may start now, with one look at the
// journal, whatever else is in the queue. The caller holds queue.mu. A key that XML 1.0 cannot
// represent is deleted by a request of its own: a service that parses XML strictly would refuse the
// whole batch because of it.
func (p *Pool) gatherLocked(l *lane, e *journal.Entry) []*journal.Entry {
	if !e.Deleted || !p.Batch.Enabled || !s3xml.Holds(e.Key.Name) {
		return nil
	}
	more := p.Journal.TakeDeletions(e.Key.Bucket, p.Batch.BatchSize-1, func(d *journal.Entry) bool {
		t := p.queue.turns[d.Key]
		return t != nil && t.queued && p.batchable(d)
	})
	for _, e := range more {
		l.leave(p.queue.turns[e.Key])
		delete(p.queue.turns, e.Key)
	}
	return more
}

// batchable reports whether a deletion, the newest entry of its key, can be batched. One that has
// been uploaded and only waits for confirmation cannot: repeating it would delete a later object.
func (p *Pool) batchable(e *journal.Entry) bool {
	entry, _ := p.doubts.waits(e.Key)
	return entry != e.ID && s3xml.Holds(e.Key.Name)
}

// flush uploads entries of one bucket: a single one, or several deletions.
func (p *Pool) flush(ctx context.Context, batch []*journal.Entry) {
	for i, r := range p.uploader.upload(ctx, batch) {
		p.finish(ctx, batch[i], r)
	}
	p.queue.giveBack(p.queue.lane(batch[0].Key.Bucket))
}

// flushPack uploads entries of one bucket as one object.
func (p *Pool) flushPack(ctx context.Context, entries []*journal.Entry) {
	kept, r, failed := p.packer.pack(ctx, entries)
	for e, err := range failed {
		p.finish(ctx, e, bodyFailed(err))
	}
	if r.err == nil && len(kept) > 0 {
		p.counters.packs.Inc()
		p.counters.packed.Add(len(kept))
	}
	for _, e := range kept {
		if r.err != nil {
			p.finish(ctx, e, r)
			continue
		}
		p.count(e)
		p.Journal.Return(e, false)
		p.succeeded(e)
	}
}

// count counts an uploaded entry.
func (p *Pool) count(e *journal.Entry) {
	p.counters.flushed.Inc()
	p.counters.flushedBytes.Add(int(e.Size))
	p.rate.add(e.Size)
}

// succeeded records that an entry is in the upstream.
func (p *Pool) succeeded(e *journal.Entry) {
	if p.queue.succeeded(e, p.Journal.Last(e.Key)) {
		p.queue.push(e.Key)
	}
}

// finish ends the lease of an entry according to the result of its upload: the journal releases it,
// or keeps it until it is confirmed or retried, or buries it as a dead letter.
func (p *Pool) finish(ctx context.Context, e *journal.Entry, r result) {
	if r.change == nil {
		r.change = p.Begin(e.Key)
	}
	defer r.change.End()
	if r.err == nil && p.mustConfirm(ctx, e, &r) {
		p.awaitConfirmation(e)
		return
	}
	err := r.err
	switch {
	case err == errReplaced: // not a failure, and the later entry need not wait
		p.Journal.Return(e, true)
		p.queue.push(e.Key)
		return
	case err == nil:
		p.release(ctx, e, r)
		return
	}
	if !p.bury(ctx, e, r, err) {
		p.giveBack(ctx, e, r, err)
	}
}

// giveBack ends the lease of an entry that is to be tried again.
func (p *Pool) giveBack(ctx context.Context, e *journal.Entry, r result, err error) {
	p.Journal.Return(e, !r.unsent)
	if ctx.Err() == nil {
		p.queue.retryLater(e, r, err)
	}
}

// release makes the journal release an uploaded entry, soon. What was cached before the upload is
// invalidated first, because reads use the cache after the release.
func (p *Pool) release(ctx context.Context, e *journal.Entry, r result) {
	switch {
	case r.answer != nil:
		r.change.Written(e.Header, r.answer, r.seen)
	case r.found != "":
		r.change.Found(r.found)
	default:
		r.change.End()
	}
	if r.stored.ETag != "" { // the journal remembers the promised ETag, and the bucket is written through from now on
		if p.OnETagMismatch != nil {
			p.OnETagMismatch(e.Key.Bucket)
		}
		p.counters.translated.Inc()
		p.Log.Warn("the upstream gave an object an ETag other than the promised one (is it encrypted with KMS?): the gateway remembers both, and writes to the bucket through from now on", "key", e.Key.String(), "promised", e.ETag, "upstream", r.stored.ETag)
	}
	failpoint.Here("journal.beforeDone")
	released := func(err error) {
		if err != nil { // the upstream has it, but the journal does not say so
			r.unknown = true
			p.giveBack(ctx, e, r, err)
			return
		}
		failpoint.Here("journal.afterDone")
		p.count(e)
		p.succeeded(e)
	}
	if err := p.Journal.Flushed(e, r.stored, released); err != nil {
		released(err)
	}
}

// bury makes a dead letter of an entry that no retry can upload, or that has failed for too long,
// and reports whether it did. err is the error of the last attempt.
func (p *Pool) bury(ctx context.Context, e *journal.Entry, r result, err error) bool {
	if r.code == noSuchBucket && r.final != "" && p.OnNoSuchBucket != nil && p.OnNoSuchBucket(e.Key.Bucket) {
		r.final = ""
	}
	rejected := r.final != "" && r.code != ""
	if r.final == "" && time.Since(e.Modified) > time.Duration(p.Parallel.MaxAgeSecs)*time.Second {
		r.final = fmt.Sprintf("not uploaded within %s: %v", time.Since(e.Modified).Round(time.Second), err)
	}
	if r.final == "" || ctx.Err() != nil {
		return false
	}
	if rejected && p.OnRejected != nil {
		p.OnRejected(e.Key, e.Header, r.code)
	}
	p.sweeper.abandon(ctx, e)
	if p.Journal.Bury(ctx, e, r.final, time.Now()) != nil {
		return false
	}
	p.counters.deadLetters.Inc()
	p.Log.Error("a write could not be uploaded and is now a dead letter: it is kept and can be read; see akigw dead-letters", "key", e.Key.String(), "reason", r.final)
	p.queue.forget(e.Key)
	p.Journal.Return(e, true)
	return true
}

// mustConfirm reports whether an uploaded entry, with result r, must be confirmed before the
// journal releases it. It looks at the object first if its upload was verified without a HEAD; that
// can fail.
func (p *Pool) mustConfirm(ctx context.Context, e *journal.Entry, r *result) bool {
	if r.confirmed {
		return false
	}
	p.supposeEarlier(e)
	if !e.Deleted && r.seen == nil && p.doubts.has(e.Key) {
		change := r.change
		if *r = p.uploader.look(ctx, e, *r); r.err != nil {
			r.change = change
			return false
		}
	}
	return p.doubts.verified(e.Key, check{e.ID, fingerprint(r.seen), r.stored.ETag})
}

// supposeEarlier puts the key of an entry in doubt if an earlier epoch may have left a request for
// it. All that is known about such a request is that the journal held the entry, or one that it
// replaced. The upstream applies it within seconds of its first response in this epoch.
func (p *Pool) supposeEarlier(e *journal.Entry) {
	first := p.Journal.Covers(e)
	if first > p.queue.known {
		return
	}
	clear := p.queue.heard(e.Key.Bucket).Add(p.doubts.wait)
	if !time.Now().Before(clear) {
		return
	}
	var a *attempt
	if first == e.ID {
		a = &attempt{e.ID, e.Deleted, e.ETag, e.Size}
	}
	p.doubts.suppose(e.Key, a, clear)
}

// awaitConfirmation ends the lease of an uploaded entry that must be confirmed, and queues its key
// for that. A newer entry replaces it, and does not wait.
func (p *Pool) awaitConfirmation(e *journal.Entry) {
	p.Journal.Return(e, true)
	p.queue.delivered(e.Key)
	p.queue.push(e.Key) // takeLocked makes it wait for its time
}

// Progress is what the pool is doing.
type Progress struct {
	Active int     // uploads under way
	Limit  float64 // maximum of Active, adapted to what the upstreams can take
	Queued int     // keys that may be uploaded now
	Later  int     // keys that wait to be retried
	// Unconfirmed counts the writes that are uploaded but stay in the journal for some seconds,
	// because the upstream may still apply an older request for their keys.
	Unconfirmed int
	// Rate and ByteRate are the uploaded writes per second over the last minute, and their bytes.
	Rate, ByteRate float64
	// Paused says why uploads to an upstream are paused, by its name.
	Paused map[string]string
	// Failing is the error of the last attempt of some key. If the last attempts of all keys
	// succeeded, it is the reason why Limit was cut within the last minute, or nil.
	Failing error
}

// Progress returns the current state.
func (p *Pool) Progress() Progress {
	count, bytes := p.rate.rates()
	s := Progress{Unconfirmed: p.doubts.waiting(), Rate: count, ByteRate: bytes}
	p.queue.progress(&s)
	return s
}
