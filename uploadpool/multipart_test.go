package uploadpool

import (
	"context"
	"crypto/md5"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

// putParts uploads a body to the journal in parts and returns its ETag.
func (r *rig) putParts(name string, bodies ...string) string {
	r.t.Helper()
	ctx := context.Background()
	id := fmt.Sprint("id of ", name, len(bodies), time.Now().UnixNano())
	err := r.j.Uploads.Begin(ctx, journal.Upload{ID: id, Key: key(name), Begun: time.Now()})
	u := r.j.Uploads.Find(id)
	e := journal.Entry{Key: key(name), Modified: time.Now(), Header: http.Header{"X-Amz-Meta-M": {"v"}}}
	all := md5.New()
	for i, body := range bodies {
		d := r.j.Uploads.Receive()
		if _, werr := d.Write([]byte(body)); err == nil {
			err = werr
		}
		p := journal.Part{Number: 2*i + 1, ETag: etag(body)}
		if err == nil {
			err = r.j.Uploads.AddPart(ctx, u, d, p)
		}
		e.Parts = append(e.Parts, p)
		sum := md5.Sum([]byte(body))
		all.Write(sum[:])
	}
	e.ETag = fmt.Sprintf("\"%x-%d\"", all.Sum(nil), len(bodies))
	if err == nil {
		err = r.j.Uploads.Complete(ctx, u, e)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return e.ETag
}

func manyParts(n int) (bodies []string) {
	for i := range n {
		bodies = append(bodies, strings.Repeat(string(rune('a'+i%26)), 100_000+i))
	}
	return bodies
}

// uploaded checks that an object is upstream as it was promised, and that nothing else is.
func (r *rig) uploaded(name, etag string, bodies []string) {
	r.t.Helper()
	o, ok := r.up.Get(key(name))
	if !ok || o.ETag != etag || string(o.Body) != strings.Join(bodies, "") || o.Header.Get("X-Amz-Meta-M") != "v" {
		r.t.Errorf("%s upstream: %t, %d bytes, ETag %s, want %s", name, ok, len(o.Body), o.ETag, etag)
	}
	synctest.Wait()
	if n := r.up.Uploads(); n != 0 || r.j.Stats().Orphans != 0 {
		r.t.Errorf("%d uploads are open upstream, %d orphans", n, r.j.Stats().Orphans)
	}
}

// Parts are uploaded concurrently, as far as the pool has room, each once.
func TestPartsInParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var now, most, verified atomic.Int64
		started := time.Now()
		r.answers(func(q *cold.Request) (*http.Response, error) {
			switch q.Op {
			case "UploadPart":
				now.Add(1)
			case "HeadObject":
				verified.Store(int64(time.Since(started)))
			}
			return nil, nil
		})
		bodies := manyParts(40)
		etag := r.putParts("k", bodies...)
		started = time.Now()
		r.run()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for r.j.Stats().Pending > 0 {
				most.Store(max(most.Load(), int64(r.pool.Progress().Active)))
				time.Sleep(time.Millisecond)
			}
		}()
		r.drained(time.Minute)
		<-done
		// Create, 4 rounds of 10 parts and Complete, 5 ms each.
		if took := time.Duration(verified.Load()); took == 0 || took > 55*time.Millisecond || most.Load() != 10 || now.Load() != 40 {
			t.Errorf("%s, %d at a time, %d parts sent", took, most.Load(), now.Load())
		}
		r.uploaded("k", etag, bodies)
		r.close()
	})
}

// TestResumedAfterCrash: whatever an epoch had done when it was cut off, the next one resumes it:
// parts that are upstream are not sent again, and no upload is left open.
//
// Scenarios: B6, B7.
func TestResumedAfterCrash(t *testing.T) {
	for _, c := range []struct {
		op    string // the epoch is cut off at this operation
		n     int    // at the n-th of them
		again int64  // at most how many parts the next epoch sends
	}{{"UploadPart", 1, 9}, {"UploadPart", 5, 9}, {"CompleteMultipartUpload", 1, 0}, {"HeadObject", 1, 0}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.configure(func(c *Config) { c.Parallel.Concurrency = 1 })
			bodies := manyParts(9)
			etag := r.putParts("k", bodies...)
			n := 0
			var cut atomic.Bool
			now := make(chan struct{})
			r.answers(func(q *cold.Request) (*http.Response, error) {
				if q.Op == c.op {
					n++
				}
				if n == c.n && !cut.Load() {
					cut.Store(true)
					close(now)
				}
				if cut.Load() {
					time.Sleep(time.Second) // the request has not been sent when the epoch ends
					return unavailable()
				}
				return nil, nil
			})
			r.run()
			<-now
			r.stop()
			if !cut.Load() || r.j.UploadID(r.j.Last(key("k")).ID) == "" {
				t.Fatalf("%s: not cut off, or no upload recorded", c.op)
			}
			sent := int64(r.asked("UploadPart"))
			r.j.Close()
			r.answers(nil)
			r.open()
			r.run()
			r.drained(time.Minute)
			if again := int64(r.asked("UploadPart")) - sent; again > c.again-int64(c.n)+1 && c.again > 0 || c.again == 0 && again > 0 || r.asked("CreateMultipartUpload") != 1 {
				t.Errorf("%s %d: %d parts sent again, %d uploads", c.op, c.n, again, r.asked("CreateMultipartUpload"))
			}
			r.uploaded("k", etag, bodies)
			r.close()
		})
	}
}

// TestCompleteTimesOut: whether or not the completion was carried out, the object ends up upstream
// once, and no upload stays open.
//
// Scenarios: A5.
func TestCompleteTimesOut(t *testing.T) {
	for _, applied := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			lost := r.loseAnswer("CompleteMultipartUpload", applied)
			bodies := manyParts(3)
			etag := r.putParts("k", bodies...)
			r.run()
			r.drained(time.Minute)
			r.uploaded("k", etag, bodies)
			completes := r.asked("CompleteMultipartUpload")
			if !*lost || applied && completes != 1 || !applied && completes != 2 || r.asked("CreateMultipartUpload") != 1 {
				t.Errorf("applied %t: %q", applied, r.history)
			}
			r.close()
		})
	}
}

// An upload that was aborted upstream is started again.
func TestUploadIsGoneUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		n := 0
		r.answers(func(q *cold.Request) (*http.Response, error) {
			if q.Op == "UploadPart" {
				if n++; n == 3 {
					_, err := r.up.Do(t.Context(), &cold.Request{Method: http.MethodDelete, Key: q.Key, Query: q.Query})
					return nil, err
				}
			}
			return nil, nil
		})
		bodies := manyParts(5)
		etag := r.putParts("k", bodies...)
		r.run()
		r.drained(time.Minute)
		if r.asked("CreateMultipartUpload") != 2 {
			t.Errorf("%q", r.history)
		}
		r.uploaded("k", etag, bodies)
		r.close()
	})
}

// TestPartsGetThrough: an upstream that refuses a third of all requests gets all parts in the end,
// because an attempt that uploaded some parts does not count as a failure.
//
// Scenarios: A1.
func TestPartsGetThrough(t *testing.T) {
	random := testkit.Random(t)
	const uploads, ideal = 6, 103
	sent, refused := 0, 0
	for range uploads { // a single upload can be unlucky
		s, r := partsThroughRefusals(t, random)
		sent, refused = sent+s, refused+r
	}
	if refused < uploads*30 || sent > uploads*5*ideal/2 {
		t.Errorf("%d requests, %d refused", sent, refused)
	}
}

// partsThroughRefusals uploads 100 parts while every third request is refused. It returns the
// number of requests, and how many of them were refused.
func partsThroughRefusals(t *testing.T, random *rand.Rand) (sent, refused int) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.answers(func(q *cold.Request) (*http.Response, error) {
			if random.IntN(3) == 0 {
				refused++
				return respond(503, "SlowDown")
			}
			return nil, nil
		})
		bodies := manyParts(100)
		etag := r.putParts("k", bodies...)
		r.run()
		took := r.drained(50 * time.Minute) // an attempt that only completes fails with a probability of one third, and attempts are a minute apart
		sent = len(r.history)
		t.Logf("%d requests, %d refused, %s", sent, refused, took)
		r.uploaded("k", etag, bodies)
		r.close()
	})
	return sent, refused
}

// TestThrottledPartIsShown: the reason for fewer concurrent uploads is shown for a minute, even if
// it was a part that succeeded at its second attempt.
func TestThrottledPartIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		refused := false
		r.answers(func(q *cold.Request) (*http.Response, error) {
			if q.Op == "UploadPart" && !refused {
				refused = true
				return respond(503, "SlowDown")
			}
			return nil, nil
		})
		bodies := manyParts(3)
		etag := r.putParts("k", bodies...)
		r.run()
		r.drained(30 * time.Second)
		if now := r.pool.Progress(); now.Failing == nil || !strings.Contains(now.Failing.Error(), "answered 503") || now.Later > 0 {
			t.Errorf("%+v", now)
		}
		time.Sleep(time.Minute)
		if now := r.pool.Progress(); now.Failing != nil {
			t.Errorf("a minute later: %+v", now)
		}
		r.uploaded("k", etag, bodies)
		r.close()
	})
}

// A write to a key whose previous version is being uploaded in parts replaces it: the remaining
// parts are not sent, and the upload is aborted.
//
// Scenarios: E16.
func TestReplacedWhileInParts(t *testing.T) {
	for _, fails := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			replaced := false
			r.answers(func(q *cold.Request) (*http.Response, error) {
				if q.Op == "UploadPart" && q.Query.Get("partNumber") == "5" && !replaced {
					replaced = true
					r.put("k", "new")
					if fails {
						return unavailable()
					}
				}
				if now := r.pool.Progress(); q.Op == "PutObject" && (now.Failing != nil || now.Later > 0) {
					t.Errorf("a replaced write is shown as a failure: %+v", now)
				}
				return nil, nil
			})
			r.putParts("k", manyParts(30)...)
			r.run()
			r.drained(time.Minute)
			time.Sleep(20 * time.Second)
			r.upstream("k", "new")
			if r.up.Uploads() != 0 || r.j.Stats().Orphans != 0 || r.asked("AbortMultipartUpload") != 1 || r.asked("CompleteMultipartUpload") != 0 {
				t.Errorf("%d uploads are open, orphans %v: %q", r.up.Uploads(), r.j.Stats().Orphans, r.history)
			}
			r.close()
		})
	}
}

// A dead letter leaves no upload open upstream. When an operator revives it, it is uploaded from
// the start.
func TestDeadLetterInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		refuse := r.fail("CompleteMultipartUpload", responding(400, "EntityTooSmall"))
		bodies := manyParts(3)
		etag := r.putParts("k", bodies...)
		r.run()
		r.drained(time.Minute)
		dead := r.j.DeadLetters()
		if len(dead) != 1 || !strings.Contains(dead[0].Reason, "EntityTooSmall") || r.up.Uploads() != 0 {
			t.Fatalf("%+v, %d uploads open", dead, r.up.Uploads())
		}
		refuse.Store(false)
		if err := r.j.Revive(t.Context(), dead[0].Entry); err != nil {
			t.Fatal(err)
		}
		r.drained(time.Minute)
		r.uploaded("k", etag, bodies)
		r.close()
	})
}

// If the upload has a checksum algorithm, the checksums of the parts are sent with them, and that
// of the object with its completion.
func TestChecksumsGoAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		seen := map[string]http.Header{}
		r.answers(func(q *cold.Request) (*http.Response, error) {
			seen[q.Op+q.Query.Get("partNumber")] = q.Header
			return nil, nil
		})
		ctx := t.Context()
		h := http.Header{"X-Amz-Checksum-Algorithm": {"CRC32"}, "X-Amz-Checksum-Type": {"FULL_OBJECT"}, "X-Amz-Checksum-Crc32": {"AAAAAA=="}, "X-Amz-Meta-M": {"v"}}
		if err := r.j.Uploads.Begin(ctx, journal.Upload{ID: "id", Key: key("k"), Header: h}); err != nil {
			t.Fatal(err)
		}
		u := r.j.Uploads.Find("id")
		p := journal.Part{Number: 1, ETag: etag(""), Header: http.Header{"X-Amz-Checksum-Crc32": {"AAAAAA=="}}}
		if err := r.j.Uploads.AddPart(ctx, u, r.j.Uploads.Receive(), p); err != nil {
			t.Fatal(err)
		}
		whole := md5.Sum([]byte(""))
		all := md5.Sum(whole[:])
		if err := r.j.Uploads.Complete(ctx, u, journal.Entry{Key: key("k"), ETag: fmt.Sprintf("\"%x-1\"", all), Header: h, Parts: []journal.Part{p}, Modified: time.Now()}); err != nil {
			t.Fatal(err)
		}
		r.run()
		r.drained(time.Minute)
		create, part, complete := seen["CreateMultipartUpload"], seen["UploadPart1"], seen["CompleteMultipartUpload"]
		if create.Get("X-Amz-Checksum-Algorithm") != "CRC32" || create.Get("X-Amz-Checksum-Type") != "FULL_OBJECT" || create.Get("X-Amz-Checksum-Crc32") != "" ||
			part.Get("X-Amz-Checksum-Crc32") != "AAAAAA==" || part.Get("Content-Md5") == "" || complete.Get("X-Amz-Checksum-Crc32") != "AAAAAA==" || complete.Get("X-Amz-Checksum-Type") != "FULL_OBJECT" {
			t.Errorf("%v\n%v\n%v", create, part, complete)
		}
		r.close()
	})
}
