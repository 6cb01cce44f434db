package uploadpool

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

// A request that met its deadline at an upstream that hangs lies in that upstream's socket
// buffer, whole. Closing the connection does not take it back: the upstream may carry it out
// when it runs again, after it has stored a newer write of the same key. So a key with such a
// request is in doubt. A newer entry of it stays in the journal after its upload, and is
// confirmed by a second look some seconds after the upstream has answered a change of that key.
// If the late request has taken its place by then, the entry is uploaded again.
//
// For example: the PUT of "old" meets its deadline, "new" takes its place in the journal and is
// uploaded and verified, then the upstream carries out the PUT of "old". The second look finds
// "old", and "new" is uploaded again.

const (
	// maxDoubts bounds the memory, about 300 bytes each and the key. Beyond it the doubts about
	// other keys end early.
	maxDoubts = 100_000
	// maxAttempts is of how many requests for one key the content is remembered. With more,
	// any content that is not the newest entry's is taken for that of one of them.
	maxAttempts = 4
)

// lateRequests counts what had to be uploaded again because of a late request.
var lateRequests = metrics.NewCounter("akigw_uploadpool_late_requests_total")

// doubts are the keys for which the upstream may still carry out a request that nobody waits for
// any more. A bucket belongs to one upstream as long as the gateway runs, so a key says which.
type doubts struct {
	limit int
	// wait is how long after its answer to a newer change of the same key an upstream may still
	// carry out an older one: what waits in its socket buffers takes milliseconds, unless it has
	// many of them.
	wait time.Duration

	mu    sync.Mutex
	keys  map[akigw.Key]*doubt // guarded by mu, and so is what is in it
	swept time.Time            // when those that are over were removed; guarded by mu
}

// doubt is what is known of one key's requests.
type doubt struct {
	until    time.Time // after that they are refused
	clear    time.Time // when they have been carried out if ever; zero: the upstream has not answered since
	attempts []attempt
	unknown  bool   // there are others, of which it is not known what they store
	check    *check // of the entry that waits for its confirmation, nil for none
}

// attempt is what a request would leave upstream.
type attempt struct {
	entry   uint64
	deleted bool
	etag    string
	size    int64
}

// check says how the upstream described an entry after its upload.
type check struct {
	entry uint64
	seen  [sha256.Size]byte // see fingerprint
	etag  string            // the upstream's, if another one was promised, else ""
}

func newDoubts(wait time.Duration) *doubts {
	return &doubts{limit: maxDoubts, wait: wait, keys: map[akigw.Key]*doubt{}}
}

// over reports whether nothing can be carried out any more.
func (d *doubt) over(now time.Time) bool {
	return !now.Before(d.until) || !d.clear.IsZero() && !now.Before(d.clear)
}

// about reports whether anything but the content of one entry may come.
func (d *doubt) about(entry uint64) bool {
	return d.unknown || slices.ContainsFunc(d.attempts, func(a attempt) bool { return a.entry != entry })
}

// add adds what a request would leave upstream, nil if that is not known.
func (d *doubt) add(a *attempt) {
	switch {
	case a == nil || len(d.attempts) == maxAttempts && !slices.Contains(d.attempts, *a):
		d.unknown = true
	case !slices.Contains(d.attempts, *a):
		d.attempts = append(d.attempts, *a)
	}
}

// begin puts a key in doubt because of a request that may be carried out later.
func (s *doubts) begin(key akigw.Key, a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	d := s.keys[key]
	if d == nil || d.over(now) {
		d = &doubt{}
		s.put(key, d, now)
	}
	d.add(a)
	d.until, d.clear, d.check = now.Add(cold.UnfinishedFor), time.Time{}, nil
}

// suppose puts a key in doubt until clear, unless it is.
func (s *doubts) suppose(key akigw.Key, a *attempt, clear time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys[key] == nil {
		now := time.Now()
		d := &doubt{until: now.Add(cold.UnfinishedFor), clear: clear}
		d.add(a)
		s.put(key, d, now)
	}
}

// put needs mu. It makes room for a key, if it has to at the cost of any other one.
func (s *doubts) put(key akigw.Key, d *doubt, now time.Time) {
	delete(s.keys, key)
	if now.Sub(s.swept) > time.Minute {
		s.swept = now
		maps.DeleteFunc(s.keys, func(_ akigw.Key, d *doubt) bool { return d.over(now) && d.check == nil || !now.Before(d.until) })
	}
	for other := range s.keys {
		if len(s.keys) < s.limit {
			break
		}
		delete(s.keys, other)
	}
	s.keys[key] = d
}

// verified says that an entry is upstream, as c says. It reports whether the entry has to be
// confirmed: the upstream may still carry out a request for other content.
func (s *doubts) verified(key akigw.Key, c check) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, now := s.keys[key], time.Now()
	if d == nil {
		return false
	}
	if d.over(now) {
		delete(s.keys, key)
		return false
	}
	if d.clear.IsZero() {
		d.clear = now.Add(s.wait)
	}
	d.check = nil
	if !d.about(c.entry) {
		return false
	}
	d.check = &c
	return true
}

// waits returns when an entry of a key can be confirmed, and which, zero if none waits for that.
func (s *doubts) waits(key akigw.Key) (entry uint64, due time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.keys[key]; d != nil && d.check != nil {
		return d.check.entry, d.clear
	}
	return 0, time.Time{}
}

// take returns the doubt about a key, if that entry waits for its confirmation, and nil if it
// does not. The key is not in doubt any more.
func (s *doubts) take(key akigw.Key, entry uint64) *doubt {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.keys[key]
	if d == nil || d.check == nil || d.check.entry != entry {
		return nil
	}
	delete(s.keys, key)
	return d
}

// restore puts a key in doubt as it was, unless it is again.
func (s *doubts) restore(key akigw.Key, d *doubt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys[key] == nil {
		s.put(key, d, time.Now())
	}
}

// clears returns when a key is not in doubt any more, zero if nobody knows, or it is not.
func (s *doubts) clears(key akigw.Key) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.keys[key]; d != nil && !d.over(time.Now()) {
		return d.clear
	}
	return time.Time{}
}

// waiting is how many entries wait for their confirmation.
func (s *doubts) waiting() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.keys {
		if d.check != nil {
			n++
		}
	}
	return n
}

// Doubt says that the upstream may still carry out a request that would change a key: one that
// went past the journal, and that nobody waits for any more.
func (p *Pool) Doubt(key akigw.Key) { p.doubts.begin(key, nil) }

// Clear returns when what the upstream may still carry out of the entries that were flushed of a
// key cannot come any more: then a request that changes the key can be forwarded. It waits for
// confirm_after_ms at the most. The error is that of ctx.
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

// attempted puts the key of an entry in doubt if the request that should take it to the
// upstream, and failed with err, may be carried out later.
func (p *Pool) attempted(e *journal.Entry, err error) {
	if cold.Unfinished(err) {
		p.doubts.begin(e.Key, &attempt{e.ID, e.Deleted, e.ETag, e.Size})
	}
}

// stays reports whether an entry that is upstream, by r, has to be confirmed before the journal
// lets go of it.
func (p *Pool) stays(e *journal.Entry, r result) bool {
	if r.confirmed {
		return false
	}
	p.supposeEarlier(e)
	return p.doubts.verified(e.Key, check{e.ID, fingerprint(r.seen), r.stored.ETag})
}

// supposeEarlier puts the key of an entry in doubt if an earlier run of the gateway may have left
// a request for it. Of that nothing is known but that the journal held the entry, or one that it
// replaced. The upstream carries it out within seconds of its first answer to this run.
func (p *Pool) supposeEarlier(e *journal.Entry) {
	first := p.Journal.Covers(e)
	if first > p.known {
		return
	}
	p.mu.Lock()
	l := p.lane(e.Key.Bucket)
	if l.heard.IsZero() {
		l.heard = time.Now()
	}
	clear := l.heard.Add(p.doubts.wait)
	p.mu.Unlock()
	if !time.Now().Before(clear) {
		return
	}
	var a *attempt
	if first == e.ID {
		a = &attempt{e.ID, e.Deleted, e.ETag, e.Size}
	}
	p.doubts.suppose(e.Key, a, clear)
}

// awaitConfirmation ends the lease of an entry that is upstream and has to be confirmed, and
// plans that. An entry that has come meanwhile takes its place, and does not wait.
func (p *Pool) awaitConfirmation(e *journal.Entry) {
	p.Journal.Return(e, true)
	p.mu.Lock()
	p.delivered(e.Key)
	p.mu.Unlock()
	p.push(e.Key) // start has it wait for its time
}

// unconfirmed returns when the newest entry of a key can be confirmed; false if it does not wait
// for that.
func (p *Pool) unconfirmed(key akigw.Key) (due time.Time, waits bool) {
	entry, due := p.doubts.waits(key)
	if entry == 0 {
		return due, false
	}
	last := p.Journal.Last(key)
	return due, last != nil && last.ID == entry
}

// confirm looks at an entry that was uploaded while its key was in doubt. It returns false if the
// entry has to be uploaded, because it does not wait for that, or a late request took its place.
// What anybody else has written since the upload stays: that is newer.
func (p *Pool) confirm(ctx context.Context, e *journal.Entry) (r result, ok bool) {
	d := p.doubts.take(e.Key, e.ID)
	if d == nil {
		return r, false
	}
	h, size, there, err := p.head(ctx, e.Key)
	switch {
	case err != nil:
		p.doubts.restore(e.Key, d)
		return p.judge(err, nil, true), true
	case there != e.Deleted && fingerprint(h) == d.check.seen:
		r.stored = storedAs(h)
		r.stored.ETag = d.check.etag
	case d.late(there, h.Get("Etag"), size):
		lateRequests.Inc()
		p.Log.Warn("the upstream carried out a request that had met its deadline, after a newer write of the same key; the newer one is uploaded again", "key", e.Key.String())
		d.clear, d.check = time.Time{}, nil // there may be more of them
		p.doubts.restore(e.Key, d)
		return r, false
	}
	r.confirmed = true
	return r, true
}

// late reports whether what is upstream in place of the entry that is to be confirmed may be what
// a late request left there. Where the upstream gives ETags of its own nobody can tell.
func (d *doubt) late(there bool, etag string, size int64) bool {
	if d.unknown || d.check.etag != "" {
		return true
	}
	return slices.ContainsFunc(d.attempts, func(a attempt) bool {
		return a.entry != d.check.entry && a.deleted == !there && (a.deleted || a.size == size && sameETag(a.etag, etag))
	})
}

// fingerprint tells an object that the upstream describes by h from any other one of its key,
// those with the same bytes and other metadata included. h is nil if there is none.
func fingerprint(h http.Header) [sha256.Size]byte {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if name == "Etag" || described(name) {
			fmt.Fprintf(sum, "%q %q\n", name, strings.Join(h[name], ","))
		}
	}
	return [sha256.Size]byte(sum.Sum(nil))
}

// head asks what the upstream has of a key. h is nil if that is nothing.
func (p *Pool) head(ctx context.Context, key akigw.Key) (h http.Header, size int64, there bool, err error) {
	resp, err := p.Upstream.Do(ctx, &cold.Request{Op: "HeadObject", Method: http.MethodHead, Key: key, Header: http.Header{}})
	if err != nil {
		return nil, 0, false, err
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotFound:
		return nil, 0, false, nil
	case http.StatusOK:
		return resp.Header, resp.ContentLength, true, nil
	}
	return nil, 0, false, &cold.ResponseError{Status: resp.StatusCode, Header: resp.Header}
}
