package uploadpool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

// confirmAfter is the default of confirm_after_ms.
const confirmAfter = 5 * time.Second

// stopped is an upstream that was stopped (SIGSTOP): requests lie complete in its socket buffers,
// and their senders meet their deadlines.
type stopped struct {
	r *rig

	mu   sync.Mutex
	held []*cold.Request // guarded by mu
}

// stopAt makes the next len(ops) requests of the given operations hang. It calls hung, if not nil,
// with the number of each.
func (r *rig) stopAt(hung func(n int), ops ...string) *stopped {
	s := &stopped{r: r}
	r.answers(func(q *cold.Request) (*http.Response, error) {
		n := s.count()
		if q.Op == "AbortMultipartUpload" { // otherwise the late request finds nothing to complete
			return unavailable()
		}
		if n == len(ops) || !strings.HasPrefix(q.Op, ops[n]) {
			return nil, nil
		}
		s.hold(q)
		if hung != nil {
			hung(n)
		}
		return nil, fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, cold.ErrDeadline)
	})
	return s
}

func (s *stopped) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held)
}

func (s *stopped) hold(q *cold.Request) {
	late := *q
	if q.Body != nil {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			s.r.t.Error(err)
		}
		late.Body = bytes.NewReader(body)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = append(s.held, &late)
}

// name returns the key of the n-th request that hung.
func (s *stopped) name(n int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[n].Key.Name
}

// carryOut makes the upstream carry out the n-th request that hung.
func (s *stopped) carryOut(n int) {
	s.r.t.Helper()
	s.mu.Lock()
	q := s.held[n]
	s.mu.Unlock()
	resp, err := s.r.up.Do(context.Background(), q)
	if err != nil || resp.StatusCode >= 300 {
		s.r.t.Fatalf("the late %s: %v, %v", q.Op, resp, err)
	}
	resp.Body.Close()
}

// stopAndLeave makes the next PUT hang. If leaves is set, the upstream is unavailable from then on,
// until away is false.
func (r *rig) stopAndLeave(leaves bool) (s *stopped, away *atomic.Bool) {
	away = new(atomic.Bool)
	s = r.stopAt(func(int) { away.Store(leaves) }, "PutObject")
	hang := r.answer
	r.answers(func(q *cold.Request) (*http.Response, error) {
		if away.Load() {
			return unavailable()
		}
		return hang(q)
	})
	return s, away
}

// leaveInDoubt leaves the key "k" waiting for its confirmation: the upload of "old" hangs, and
// "new" is uploaded after it.
func (r *rig) leaveInDoubt() *stopped {
	s := r.stopAt(func(int) { r.put("k", "new") }, "PutObject")
	r.put("k", "old")
	r.run()
	r.untilUnconfirmed()
	return s
}

// untilUnconfirmed waits until an entry is upstream and unconfirmed.
func (r *rig) untilUnconfirmed() {
	r.t.Helper()
	for began := time.Now(); r.pool.Progress().Unconfirmed == 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 10*time.Minute {
			r.t.Fatalf("no entry waits for its confirmation: %+v", r.pool.Progress())
		}
	}
}

func (r *rig) putWith(name, body, meta string) {
	r.t.Helper()
	d := r.j.Receive(int64(len(body)))
	_, err := d.Write([]byte(body))
	if err := errors.Join(err, r.j.Commit(context.Background(), d, journal.Entry{Key: key(name), ETag: etag(body), Modified: time.Now(), Header: http.Header{"X-Amz-Meta-M": {meta}}})); err != nil {
		r.t.Fatal(err)
	}
}

// TestLateRequest: the upstream carries out a request that had met its deadline after it has stored
// and verified a newer write of the same key. The key ends up with the newer write, and a drain
// waits only some seconds for it.
func TestLateRequest(t *testing.T) {
	old := strings.Repeat("old", 10)
	for name, c := range map[string]struct {
		op            string
		before, after func(r *rig)
		want          string // "": nothing
	}{
		"put over put":                {"PutObject", func(r *rig) { r.put("k", old) }, func(r *rig) { r.put("k", "new") }, "new"},
		"the same bytes, other meta":  {"PutObject", func(r *rig) { r.putWith("k", "new", "old") }, func(r *rig) { r.put("k", "new") }, "new"},
		"delete after put":            {"PutObject", func(r *rig) { r.put("k", old) }, func(r *rig) { r.delete("k") }, ""},
		"put after delete":            {"DeleteObject", func(r *rig) { r.delete("k") }, func(r *rig) { r.put("k", "new") }, "new"},
		"put after deletions at once": {"DeleteObjects", func(r *rig) { r.delete("k", "l", "m") }, func(r *rig) { r.put("k", "new") }, "new"},
		"deletions at once after put": {"PutObject", func(r *rig) { r.put("k", old) }, func(r *rig) { r.delete("k", "l", "m") }, ""},
		"put over parts":              {"CompleteMultipartUpload", func(r *rig) { r.putParts("k", manyParts(2)...) }, func(r *rig) { r.put("k", "new") }, "new"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				before := r.pool.counters.lateRequests.Get()
				s := r.stopAt(func(int) { c.after(r) }, c.op)
				c.before(r)
				synctest.Wait() // so that several deletions share a request
				r.run()
				r.untilUnconfirmed()
				r.upstream("k", c.want)
				if r.j.Last(key("k")) == nil {
					t.Error("the journal removed the entry before it was confirmed")
				}
				time.Sleep(time.Second)
				if s.carryOut(0); r.upstreamHas("k", c.want) {
					t.Fatal("the late request did nothing")
				}
				if took := r.drained(time.Minute); took > 2*confirmAfter+time.Second {
					t.Errorf("drained in %v", took)
				}
				r.upstream("k", c.want)
				if n := r.pool.counters.lateRequests.Get() - before; n != 1 {
					t.Errorf("%d late requests were counted", n)
				}
				if d := r.j.DeadLetters(); len(d) > 0 {
					t.Errorf("%+v", d)
				}
				r.close()
			})
		})
	}
}

func (r *rig) upstreamHas(name, want string) bool {
	o, ok := r.up.Get(key(name))
	return ok == (want != "") && string(o.Body) == want && (!ok || o.Header.Get("X-Amz-Meta-M") == "v")
}

// TestPartsAfterLateRequest: a multipart upload is repeated like any other upload.
func TestPartsAfterLateRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		bodies, etag := manyParts(3), ""
		s := r.stopAt(func(int) { etag = r.putParts("k", bodies...) }, "PutObject")
		r.put("k", "old")
		r.run()
		r.untilUnconfirmed()
		s.carryOut(0)
		r.drained(time.Minute)
		r.uploaded("k", etag, bodies)
		r.close()
	})
}

// TestRepeatedHangs: several requests for one key hang, more than the pool remembers, and each is
// carried out at its own time, in any order.
func TestRepeatedHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ops := make([]string, maxAttempts+2)
		for i := range ops {
			ops[i] = "PutObject"
		}
		s := r.stopAt(func(n int) { r.put("k", fmt.Sprint("body ", n+1)) }, ops...)
		r.put("k", "body 0")
		r.run()
		for i := range ops {
			r.untilUnconfirmed()
			time.Sleep(confirmAfter / 2)
			s.carryOut((i + 3) % len(ops))
			time.Sleep(confirmAfter/2 + 100*time.Millisecond) // the write is uploaded again
		}
		r.drained(time.Minute)
		r.upstream("k", fmt.Sprint("body ", len(ops)))
		r.close()
	})
}

// TestOwnLateRequest: a write is not delayed by its own first request that hung, but the next write
// of its key is.
func TestOwnLateRequest(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %t", restart), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				s, away := r.stopAndLeave(restart)
				r.put("k", "old")
				r.run()
				if restart {
					time.Sleep(time.Second)
					r.close()
					away.Store(false)
					r.open()
					r.run()
				}
				if took := r.drained(time.Minute); took > time.Second {
					t.Errorf("the retry took %v", took)
				}
				r.put("k", "new")
				r.untilUnconfirmed()
				s.carryOut(0)
				r.upstream("k", "old")
				r.drained(time.Minute)
				r.upstream("k", "new")
				time.Sleep(confirmAfter)
				n := r.asked("")
				r.put("k", "newer")
				if took := r.drained(time.Minute); took > time.Second || r.asked("") != n+2 {
					t.Errorf("the doubt has no end: %v, %q", took, r.history)
				}
				r.close()
			})
		})
	}
}

// TestLateRequestOfEarlierRun: an entry replaced another one in the journal in an earlier epoch.
// The new epoch knows nothing of the old entry's requests, so it confirms the upload.
func TestLateRequestOfEarlierRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, away := r.stopAndLeave(true)
		r.put("k", "old")
		r.put("other", "body")
		r.run()
		time.Sleep(time.Second)
		name := s.name(0)
		r.put(name, "new")
		time.Sleep(time.Second)
		r.close()
		away.Store(false)
		r.open()
		r.run()
		r.untilUnconfirmed()
		r.upstream(name, "new")
		s.carryOut(0)
		r.drained(time.Minute)
		r.upstream(name, "new")
		r.close()
	})
}

// TestRequestPastTheJournal: a forwarded request that met its deadline is carried out after a write
// that the journal acknowledged.
func TestRequestPastTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.run()
		r.pool.Doubt(key("k"))
		time.Sleep(cold.UnfinishedFor / 2)
		r.put("k", "new")
		r.untilUnconfirmed()
		r.up.Put(key("k"), []byte("of the late request"))
		r.drained(time.Minute)
		r.upstream("k", "new")

		r.pool.Doubt(key("k"))
		time.Sleep(cold.UnfinishedFor)
		r.put("k", "newer")
		if took := r.drained(time.Minute); took > time.Second {
			t.Errorf("waited %v although the doubt has ended", took)
		}
		r.close()
	})
}

// TestForeignWriteDuringConfirmation: a write by another client after an upload is newer, and
// stays.
func TestForeignWriteDuringConfirmation(t *testing.T) {
	for name, foreign := range map[string]func(r *rig){
		"put":    func(r *rig) { r.up.Put(key("k"), []byte("foreign")) },
		"delete": func(r *rig) { r.up.Delete(key("k")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.leaveInDoubt()
				foreign(r)
				r.drained(time.Minute)
				if o, _ := r.up.Get(key("k")); r.asked("PutObject") != 2 || string(o.Body) == "new" {
					t.Errorf("%q, %q", o.Body, r.history)
				}
				r.close()
			})
		})
	}
}

// TestConfirmationFails: if the upstream is unavailable when an entry has to be confirmed, the
// confirmation is repeated. The entry is not uploaded again, and does not overwrite a write by
// another client.
func TestConfirmationFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.leaveInDoubt()
		r.answers(func(*cold.Request) (*http.Response, error) { return unavailable() })
		time.Sleep(time.Minute)
		if st := r.j.Stats(); st.Pending != 1 {
			t.Errorf("%+v", st)
		}
		r.up.Put(key("k"), []byte("foreign"))
		r.answers(nil)
		r.drained(2 * time.Minute)
		if o, _ := r.up.Get(key("k")); r.asked("PutObject") != 2 || string(o.Body) != "foreign" {
			t.Errorf("%q, %d uploads", o.Body, r.asked("PutObject"))
		}
		r.close()
	})
}

// TestKeyThatIsWrittenAllTheTime: a caller that waits for a key in doubt is not delayed by later
// writes.
func TestKeyThatIsWrittenAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.leaveInDoubt()
		ctx, cancel := context.WithCancel(t.Context())
		var writer sync.WaitGroup
		writer.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				r.put("k", fmt.Sprint("body ", i))
				r.pool.Hurry(key("k")) // on behalf of another caller
				time.Sleep(100 * time.Millisecond)
			}
		})
		began := time.Now()
		r.pool.Hurry(key("k"))
		if err := r.j.Wait(t.Context(), key("k")); err != nil || time.Since(began) > confirmAfter+time.Second {
			t.Errorf("%v, %v", time.Since(began), err)
		}
		cancel()
		writer.Wait()
		r.drained(time.Minute)
		r.close()
	})
}

// TestClear: a forwarded change waits until the upstream can no longer carry out an older upload
// request for that key.
func TestClear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.stopAt(nil, "PutObject")
		r.put("k", "old")
		r.run()
		r.drained(time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.pool.Clear(ctx, key("k")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after a second: %v", err)
		}
		began := time.Now()
		if err := r.pool.Clear(t.Context(), key("k")); err != nil || time.Since(began) > confirmAfter || time.Since(began) < confirmAfter/2 {
			t.Errorf("%v, %v", time.Since(began), err)
		}
		began = time.Now()
		if err := errors.Join(r.pool.Clear(t.Context(), key("k")), r.pool.Clear(t.Context(), key("l"))); err != nil || time.Since(began) > 0 {
			t.Errorf("nothing is in doubt: %v, %v", time.Since(began), err)
		}
		r.close()
	})
}

// TestTranslatedAfterLateRequest: with an upstream that makes its own ETags, nothing identifies the
// writer of the content.
func TestTranslatedAfterLateRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.up.KMS.Store(true)
		s := r.leaveInDoubt()
		s.carryOut(0)
		r.drained(time.Minute)
		o, _ := r.up.Get(key("k"))
		if tr, ok := r.j.Translation(key("k")); !ok || string(o.Body) != "new" || tr.Promised != etag("new") || tr.Upstream != o.ETag || o.ETag == etag("new") {
			t.Errorf("%q %s, %+v", o.Body, o.ETag, tr)
		}
		r.close()
	})
}

// TestPackedAfterLateRequest: a late request does not affect an object in a pack. An object that
// was taken out of its pack is confirmed.
func TestPackedAfterLateRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t).packing()
		s := r.stopAt(func(int) { r.put("k", "new") }, "PutObject")
		r.put("k", strings.Repeat("old", 50))
		r.run()
		r.drained(time.Minute)
		if st := r.j.Stats(); st.Packed != 1 || r.pool.Progress().Unconfirmed != 0 {
			t.Fatalf("%+v", st)
		}
		r.pool.Hurry(key("k"))
		r.untilUnconfirmed()
		s.carryOut(0)
		if err := r.j.Wait(t.Context(), key("k")); err != nil {
			t.Fatal(err)
		}
		r.upstream("k", "new")
		r.close()
	})
}

// TestConfirmationIsAdmitted: a bucket whose uploads have to wait is not asked for a confirmation
// either.
func TestConfirmationIsAdmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var shut atomic.Bool
		r.configure(func(c *Config) {
			c.Admit = func(string) time.Duration {
				if shut.Load() {
					return time.Hour
				}
				return 0
			}
		})
		r.leaveInDoubt()
		shut.Store(true)
		n := r.asked("")
		time.Sleep(time.Minute)
		if more := r.asked("") - n; more != 0 || r.j.Stats().Pending != 1 {
			t.Errorf("%d requests, %+v", more, r.j.Stats())
		}
		shut.Store(false)
		r.pool.Ready("bucket")
		if took := r.drained(time.Minute); took > time.Second {
			t.Errorf("drained in %v", took)
		}
		r.close()
	})
}

// TestConfirmationIsNotBatched: a deletion that only has to be confirmed does not share a request
// with other deletions, before or after it. The request would delete what another client has
// written since.
func TestConfirmationIsNotBatched(t *testing.T) {
	for name, before := range map[string]bool{"before it": true, "behind it": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				var open atomic.Bool
				open.Store(true)
				r.configure(func(c *Config) {
					c.Admit = func(string) time.Duration {
						if open.Load() {
							return 0
						}
						return time.Hour
					}
				})
				r.stopAt(func(int) { r.delete("k") }, "PutObject")
				r.put("k", "old")
				r.run()
				r.untilUnconfirmed()
				open.Store(false)
				r.up.Put(key("k"), []byte("foreign"))
				if before {
					r.delete("l")
				}
				time.Sleep(2 * confirmAfter)
				if !before {
					r.delete("l")
				}
				synctest.Wait()
				open.Store(true)
				r.pool.Ready("bucket")
				r.drained(time.Minute)
				if o, ok := r.up.Get(key("k")); !ok || string(o.Body) != "foreign" {
					t.Errorf("%q, %q", o.Body, r.history)
				}
				r.close()
			})
		})
	}
}

// TestTooManyDoubts: beyond the bound, other doubts end early, and an entry that waits for its
// confirmation counts as upstream if it is found there.
func TestTooManyDoubts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.pool.doubts.limit = 3
		const n = 10
		ops := make([]string, n)
		for i := range ops {
			ops[i] = "PutObject"
		}
		r.stopAt(func(int) {}, ops...)
		for i := range n {
			r.put(fmt.Sprint(i), "old")
		}
		r.run()
		for r.asked("PutObject") < n {
			time.Sleep(time.Millisecond)
		}
		for i := range n {
			r.put(fmt.Sprint(i), "new")
		}
		for r.j.Stats().Pending > 0 {
			r.pool.doubts.mu.Lock()
			n := len(r.pool.doubts.keys)
			r.pool.doubts.mu.Unlock()
			if n > 3 {
				t.Fatalf("%d keys are in doubt", n)
			}
			time.Sleep(100 * time.Millisecond)
		}
		for i := range n {
			r.upstream(fmt.Sprint(i), "new")
		}
		r.close()
	})
}

// TestDoubtsAreForgotten: doubts that have ended are removed from memory soon.
func TestDoubtsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newDoubts(confirmAfter)
		for i := range 1000 {
			s.begin(key(fmt.Sprint(i)), nil)
			s.verified(key(fmt.Sprint(i)), check{entry: 1})
		}
		time.Sleep(cold.UnfinishedFor)
		if s.begin(key("another"), nil); len(s.keys) != 1 {
			t.Errorf("%d doubts left", len(s.keys))
		}
	})
}

// TestFingerprint: objects of one key that differ in what a client set have different fingerprints.
// What the upstream adds to each response makes no difference.
func TestFingerprint(t *testing.T) {
	of := func(pairs ...string) http.Header {
		h := http.Header{"Etag": {etag("body")}, "Date": {testkit.Text(testkit.Random(t), 8)}}
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	base := fingerprint(of("X-Amz-Meta-A", "1"))
	for name, c := range map[string]struct {
		h    http.Header
		same bool
	}{
		"the same":         {of("X-Amz-Meta-A", "1"), true},
		"another date":     {of("X-Amz-Meta-A", "1", "Last-Modified", "now"), true},
		"other metadata":   {of("X-Amz-Meta-A", "2"), false},
		"another name":     {of("X-Amz-Meta-B", "1"), false},
		"a type":           {of("X-Amz-Meta-A", "1", "Content-Type", "text/plain"), false},
		"another ETag":     {of("X-Amz-Meta-A", "1", "Etag", etag("other")), false},
		"nothing is there": {nil, false},
	} {
		if (fingerprint(c.h) == base) != c.same {
			t.Errorf("%s: same = %t", name, !c.same)
		}
	}
}
