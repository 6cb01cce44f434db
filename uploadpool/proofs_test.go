package uploadpool

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

func TestProve(t *testing.T) {
	e := &journal.Entry{Key: key("k"), ETag: etag("body")}
	const date = "Mon, 30 Nov 2026 08:00:10 GMT"
	second := func(n int) time.Time { return time.Date(2026, 11, 30, 8, 0, n, 0, time.UTC) }
	for _, c := range []struct {
		name         string
		sent, answer http.Header
		took         time.Duration
		want         bool
		first, last  int // seconds within which the upstream's date must be
	}{
		{"the promised ETag", nil, http.Header{"Etag": {e.ETag}, "Date": {date}}, 300 * time.Millisecond, true, 8, 11},
		{"a slow upload", nil, http.Header{"Etag": {e.ETag}, "Date": {date}}, 5 * time.Second, true, 4, 11},
		{"without quotes", nil, http.Header{"Etag": {e.ETag[1 : len(e.ETag)-1]}, "Date": {date}}, 0, true, 9, 11},
		{"another ETag", nil, http.Header{"Etag": {`"other"`}, "Date": {date}}, 0, false, 0, 0},
		{"no ETag", nil, http.Header{"Date": {date}}, 0, false, 0, 0},
		{"no date", nil, http.Header{"Etag": {e.ETag}}, 0, false, 0, 0},
		{"an unreadable date", nil, http.Header{"Etag": {e.ETag}, "Date": {"today"}}, 0, false, 0, 0},
		{"the checksum", http.Header{"X-Amz-Checksum-Crc32c": {"AAAAAA=="}}, http.Header{"Etag": {e.ETag}, "Date": {date}, "X-Amz-Checksum-Crc32c": {"AAAAAA=="}}, 0, true, 9, 11},
		{"no checksum", http.Header{"X-Amz-Checksum-Crc32c": {"AAAAAA=="}}, http.Header{"Etag": {e.ETag}, "Date": {date}}, 0, false, 0, 0},
		{"another checksum", http.Header{"X-Amz-Checksum-Crc32c": {"AAAAAA=="}}, http.Header{"Etag": {e.ETag}, "Date": {date}, "X-Amz-Checksum-Crc32c": {"AAAAAB=="}}, 0, false, 0, 0},
		{"the algorithm is not a checksum", http.Header{"X-Amz-Checksum-Algorithm": {"CRC32C"}}, http.Header{"Etag": {e.ETag}, "Date": {date}}, 0, true, 9, 11},
	} {
		p := prove(e, c.sent, c.answer, c.took)
		if p.ok != c.want {
			t.Errorf("%s: proof %t, want %t", c.name, p.ok, c.want)
			continue
		}
		if !p.ok {
			continue
		}
		for n := c.first - 1; n <= c.last+1; n++ {
			if got, want := p.allows(journal.Stored{Modified: second(n)}), n >= c.first && n <= c.last; got != want {
				t.Errorf("%s: a HEAD with second %d agrees: %t", c.name, n, got)
			}
		}
		if p.allows(journal.Stored{Modified: second(10), Version: "other"}) {
			t.Errorf("%s: a HEAD with another version agrees", c.name)
		}
	}
}

// flushMany uploads n objects, one after the other, and returns the number of HEADs.
func (r *rig) flushMany(prefix string, n int) int {
	r.t.Helper()
	before := r.asked("HeadObject")
	for i := range n {
		r.put(fmt.Sprintf("%s%d", prefix, i), "body")
		r.drained(time.Minute)
	}
	for i := range n {
		r.upstream(fmt.Sprintf("%s%d", prefix, i), "body")
	}
	return r.asked("HeadObject") - before
}

// TestUploadsAreVerifiedByTheirResponse: once HEADs have confirmed the responses of a bucket, few
// uploads need one, and every upload does whose response proves nothing.
func TestUploadsAreVerifiedByTheirResponse(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(q *cold.Request, resp *http.Response) // changes the response to a PUT or HEAD
		always bool
		most   int // HEADs for proofsNeeded + 100 uploads
		least  int
	}{
		{"a truthful upstream", nil, false, proofsNeeded + 5, proofsNeeded},
		{"verify_flush = always", nil, true, proofsNeeded + 100, proofsNeeded + 100},
		{"no ETag", func(_ *cold.Request, resp *http.Response) {
			if resp.Request == nil && resp.ContentLength == 0 {
				resp.Header.Del("Etag")
			}
		}, false, proofsNeeded + 100, proofsNeeded + 100},
		{"no clock", func(_ *cold.Request, resp *http.Response) { resp.Header.Del("Date") }, false, proofsNeeded + 100, proofsNeeded + 100},
		{"a clock that is wrong", func(_ *cold.Request, resp *http.Response) {
			resp.Header.Set("Date", time.Now().Add(time.Minute).UTC().Format(http.TimeFormat))
		}, false, proofsNeeded + 100, proofsNeeded + 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.up.After = func(q *cold.Request, resp *http.Response) {
					if c.answer != nil && q.Method == http.MethodPut {
						c.answer(q, resp)
					}
				}
				if c.always {
					r.configure(func(c *Config) { c.Parallel.VerifyFlush = verifyAlways })
				}
				r.run()
				if heads := r.flushMany("k", proofsNeeded+100); heads < c.least || heads > c.most {
					t.Errorf("%d HEADs, want %d to %d", heads, c.least, c.most)
				}
				r.close()
			})
		})
	}
}

// TestContradictedResponse: an upstream that acknowledges an upload without keeping it is found out by
// a HEAD, and from then on all uploads of the bucket are looked at again.
func TestContradictedResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.run()
		r.flushMany("before", proofsNeeded)
		p := r.pool.uploader.proofs
		p.sampled = func() bool { return false }
		lies := 0
		r.answers(func(q *cold.Request) (*http.Response, error) {
			if q.Op != "PutObject" || lies > 0 {
				return nil, nil
			}
			lies++
			return s3mem.Response(http.StatusOK, http.Header{"Etag": {etag("body")}, "Date": {time.Now().UTC().Format(http.TimeFormat)}}, nil), nil
		})
		p.note("bucket", false) // as if the sample had chosen this one
		if heads := r.flushMany("after", proofsNeeded+10); heads != proofsNeeded+3 {
			t.Errorf("%d HEADs, want one for the lie, two for its second attempt, and %d", heads, proofsNeeded)
		}
		if got := r.pool.counters.disagreed.Get(); got != 1 {
			t.Errorf("%d contradictions were counted, want 1", got)
		}
		r.close()
	})
}

// TestProofsAreBounded: knowledge about buckets is dropped beyond maxProofs.
func TestProofsAreBounded(t *testing.T) {
	p := newProofs(false)
	for i := range maxProofs + 10 {
		p.note(fmt.Sprint(i), true)
	}
	if len(p.agreed) != maxProofs {
		t.Errorf("%d buckets are remembered, want %d", len(p.agreed), maxProofs)
	}
}
