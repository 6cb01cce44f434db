package uploadpool

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
)

// TestBucketsAreAdmitted: nothing of a bucket is uploaded before Admit allows it, while other
// buckets continue. Ready ends the wait at once. This holds for objects, deletions and packs.
func TestBucketsAreAdmitted(t *testing.T) {
	for _, packed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			var open atomic.Bool
			r.configure(func(config *Config) {
				config.Admit = func(bucket string) time.Duration {
					if bucket != "bucket" || open.Load() {
						return 0
					}
					return time.Hour
				}
			})
			if packed {
				r.configure(func(config *Config) { config.Packs = func(akigw.Key, int64) bool { return true } })
			}
			for i := range 20 {
				r.put(fmt.Sprint(i), "body")
			}
			if err := r.j.Delete(t.Context(), []akigw.Key{key("gone")}, time.Now()); err != nil {
				t.Fatal(err)
			}
			r.run()
			time.Sleep(10 * time.Minute)
			if n := r.asked(""); n != 0 {
				t.Errorf("%d requests", n)
			}
			other := akigw.Key{Bucket: "other", Name: "k"}
			if err := r.j.Delete(t.Context(), []akigw.Key{other}, time.Now()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if r.j.Last(other) != nil || r.j.Stats().Pending != 21 {
				t.Errorf("another bucket also waits: %+v", r.j.Stats())
			}
			open.Store(true)
			r.pool.Ready("bucket")
			time.Sleep(time.Minute)
			if st := r.j.Stats(); st.Pending != 0 {
				t.Errorf("the upload was not resumed: %+v", st)
			}
			r.close()
		})
	}
}

// TestNoAnswerIsTold: an upload without a response is reported; an upload that was answered with an
// error is not.
func TestNoAnswerIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		answer func() (*http.Response, error)
		told   bool
	}{
		"no connection": {func() (*http.Response, error) {
			return nil, fmt.Errorf("%w: %w: refused", akigw.ErrUpstreamUnavailable, cold.ErrNotSent)
		}, true},
		"no answer": {func() (*http.Response, error) { return nil, fmt.Errorf("%w: timeout", akigw.ErrUpstreamUnavailable) }, true},
		"500":       {responding(500, "InternalError"), false},
		"503":       {responding(503, "SlowDown"), false},
		"403":       {responding(403, "AccessDenied"), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				var told, back atomic.Int64
				r.configure(func(config *Config) { config.OnNoResponse = func(string) { told.Add(1) } })
				r.configure(func(config *Config) { config.OnRecovery = func(string) { back.Add(1) } })
				broken := r.fail("PutObject", c.answer)
				r.put("k", "body")
				r.run()
				time.Sleep(time.Second)
				if (told.Load() > 0) != c.told {
					t.Errorf("reported %d times", told.Load())
				}
				if back.Load() != 0 {
					t.Error("a success was reported")
				}
				broken.Store(false)
				r.drained(5 * time.Minute)
				if c.told && back.Load() != 1 {
					t.Errorf("%d successes were reported", back.Load())
				}
				r.close()
			})
		})
	}
}

// TestRefusalIsTold: a permanent refusal is reported with its code. A missing bucket is reported
// only if the entry is not to wait for it.
func TestRefusalIsTold(t *testing.T) {
	for _, c := range []struct {
		code    string
		status  int
		waits   bool
		refused string
	}{
		{"InvalidStorageClass", 400, true, "InvalidStorageClass"},
		{"NoSuchBucket", 404, false, "NoSuchBucket"},
		{"NoSuchBucket", 404, true, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			var refused atomic.Value
			refused.Store("")
			r.configure(func(config *Config) {
				config.OnRejected = func(k akigw.Key, h http.Header, code string) {
					if k != key("k") {
						t.Errorf("of %s %v", k, h)
					}
					refused.Store(code)
				}
			})
			r.configure(func(config *Config) {
				config.OnNoSuchBucket = func(bucket string) bool { return c.waits && bucket == "bucket" }
			})
			broken := r.fail("PutObject", responding(c.status, c.code))
			r.put("k", "body")
			r.run()
			time.Sleep(10 * time.Second)
			if got := refused.Load(); got != c.refused {
				t.Errorf("%s: reported %q, want %q", c.code, got, c.refused)
			}
			if dead := len(r.j.DeadLetters()); (dead > 0) != (c.refused != "") {
				t.Errorf("%s: %d dead letters", c.code, dead)
			}
			broken.Store(false)
			time.Sleep(5 * time.Minute)
			r.close()
		})
	}
}

// TestAgeIsNoRefusal: a write that is buried because it is too old does not count as refused for
// its content, whatever the upstream answered last.
func TestAgeIsNoRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.configure(func(config *Config) { config.Parallel.MaxAgeSecs = 5 })
		r.configure(func(config *Config) {
			config.OnRejected = func(_ akigw.Key, _ http.Header, code string) { t.Errorf("reported %q", code) }
		})
		r.fail("PutObject", responding(500, "InternalError"))
		r.put("k", "body")
		r.run()
		time.Sleep(10 * time.Minute)
		if dead := len(r.j.DeadLetters()); dead != 1 {
			t.Errorf("%d dead letters", dead)
		}
		r.close()
	})
}
