package uploadpool

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

// A request that met its deadline at an upstream that hangs may sit complete in the upstream's
// socket buffer. Closing the connection does not take it back: the upstream may apply it when it
// runs again, after it has stored a newer write of the same key. A key with such a request is in
// doubt. A newer entry of the key stays in the journal after its upload, and is confirmed by a
// second look, some seconds after the upstream has responded to a change of that key. If the late
// request has replaced it by then, the entry is uploaded again.
//
// For example: the PUT of "old" meets its deadline, "new" replaces it in the journal and is
// uploaded and verified, and then the upstream applies the PUT of "old". The second look finds
// "old", and "new" is uploaded again.

const (
	// maxDoubts bounds the memory, at about 300 bytes each plus the key. Beyond it the doubts about
	// other keys end early.
	maxDoubts = 100_000
	// maxAttempts is how many requests for one key are remembered with their content. Beyond it,
	// any content other than the newest entry's is taken for that of a late request.
	maxAttempts = 4
)

// doubts are the keys for which the upstream may still apply an abandoned request. A bucket belongs
// to one upstream throughout an epoch, so a key identifies the upstream.
type doubts struct {
	limit int
	// wait is how long after its response to a newer change of a key an upstream may still apply an
	// older one: requests in its socket buffers take milliseconds, unless there are many.
	wait time.Duration

	mu    sync.Mutex
	keys  map[akigw.Key]*doubt // guarded by mu, and so is what is in it
	swept time.Time            // when ended doubts were last removed; guarded by mu
}

// doubt is what is known about the requests for one key.
type doubt struct {
	until    time.Time // after this the upstream refuses the requests
	clear    time.Time // after this they have been applied or never will be; zero: the upstream has not responded since
	attempts []attempt
	unknown  bool   // there are other requests, with unknown content
	check    *check // for the entry that waits for confirmation, nil for none
}

// attempt is what a request would store in the upstream.
type attempt struct {
	entry   uint64
	deleted bool
	etag    string
	size    int64
}

// check is how the upstream described an entry after its upload.
type check struct {
	entry uint64
	seen  [sha256.Size]byte // see fingerprint
	etag  string            // the upstream's ETag if it is not the promised one, else ""
}

func newDoubts(wait time.Duration) *doubts {
	return &doubts{limit: maxDoubts, wait: wait, keys: map[akigw.Key]*doubt{}}
}

// over reports whether no request of the key can be applied any more.
func (d *doubt) over(now time.Time) bool {
	return !now.Before(d.until) || !d.clear.IsZero() && !now.Before(d.clear)
}

// about reports whether a request may store anything other than the content of one entry.
func (d *doubt) about(entry uint64) bool {
	return d.unknown || slices.ContainsFunc(d.attempts, func(a attempt) bool { return a.entry != entry })
}

// add adds what a request would store, nil if that is unknown.
func (d *doubt) add(a *attempt) {
	switch {
	case a == nil || len(d.attempts) == maxAttempts && !slices.Contains(d.attempts, *a):
		d.unknown = true
	case !slices.Contains(d.attempts, *a):
		d.attempts = append(d.attempts, *a)
	}
}

// begin puts a key in doubt because of a request that may be applied later.
func (s *doubts) begin(key akigw.Key, a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	d := s.keys[key]
	if d == nil || d.over(now) {
		d = &doubt{}
		s.putLocked(key, d, now)
	}
	d.add(a)
	d.until, d.clear, d.check = now.Add(cold.UnfinishedFor), time.Time{}, nil
}

// suppose puts a key in doubt until clear, unless it already is.
func (s *doubts) suppose(key akigw.Key, a *attempt, clear time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys[key] == nil {
		now := time.Now()
		d := &doubt{until: now.Add(cold.UnfinishedFor), clear: clear}
		d.add(a)
		s.putLocked(key, d, now)
	}
}

// putLocked stores the doubt about a key. If there are too many, it drops others.
func (s *doubts) putLocked(key akigw.Key, d *doubt, now time.Time) {
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

// failed puts the key of an entry in doubt if the request that uploaded it, and failed with err,
// may still be applied.
func (s *doubts) failed(e *journal.Entry, err error) {
	if cold.Unfinished(err) {
		s.begin(e.Key, &attempt{e.ID, e.Deleted, e.ETag, e.Size})
	}
}

// verified records that an entry is in the upstream, described by c. It reports whether the entry
// must be confirmed, because the upstream may still apply a request with other content.
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

// has reports whether a key is in doubt.
func (s *doubts) has(key akigw.Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.keys[key]
	return d != nil && !d.over(time.Now())
}

// waits returns which entry of a key waits for confirmation, and when it can be confirmed; 0 if
// none does.
func (s *doubts) waits(key akigw.Key) (entry uint64, due time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.keys[key]; d != nil && d.check != nil {
		return d.check.entry, d.clear
	}
	return 0, time.Time{}
}

// take removes and returns the doubt about a key if that entry waits for confirmation, otherwise
// nil.
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

// restore puts a key in doubt as before, unless it is in doubt again.
func (s *doubts) restore(key akigw.Key, d *doubt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys[key] == nil {
		s.putLocked(key, d, time.Now())
	}
}

// clears returns when a key will no longer be in doubt; zero if that is unknown, or the key is not
// in doubt.
func (s *doubts) clears(key akigw.Key) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.keys[key]; d != nil && !d.over(time.Now()) {
		return d.clear
	}
	return time.Time{}
}

// waiting returns how many entries wait for confirmation.
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

// late reports whether the object found in place of the entry to be confirmed may come from a late
// request. Where the upstream's ETags are not the promised ones, it assumes so.
func (d *doubt) late(there bool, etag string, size int64) bool {
	if d.unknown || d.check.etag != "" {
		return true
	}
	return slices.ContainsFunc(d.attempts, func(a attempt) bool {
		return a.entry != d.check.entry && a.deleted == !there && (a.deleted || a.size == size && sameETag(a.etag, etag))
	})
}

// fingerprint identifies the object of a key that the upstream describes by h: any other object has
// another fingerprint, even one with the same bytes and other metadata. h is nil if there is no
// object.
func fingerprint(h http.Header) [sha256.Size]byte {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if name == "Etag" || described(name) {
			fmt.Fprintf(sum, "%q %q\n", name, strings.Join(h[name], ","))
		}
	}
	return [sha256.Size]byte(sum.Sum(nil))
}
