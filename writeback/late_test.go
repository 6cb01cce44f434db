package writeback

import (
	"bytes"
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/tiertest"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

// lateRig is a WriteBack to an upstream whose first PutObject hangs if hang is set.
type lateRig struct {
	*WriteBack
	store *tiers.Store
	t     *testing.T
	up    *s3mem.Memory

	mu   sync.Mutex
	hang bool          // guarded by mu
	held *cold.Request // guarded by mu
}

// newLateRig makes a rig in a synctest bubble. It runs until stop is called.
func newLateRig(t *testing.T, hang bool) (r *lateRig, stop func()) {
	r = &lateRig{t: t, up: s3mem.New(), hang: hang}
	r.up.Before = r.before
	c := Config{MaxPendingBytes: 1 << 30, MaxPending: 1000, MaxPendingSecs: 3600, InlineBytes: 4 << 10, SegmentBytes: 1 << 20, SyncTimeoutSecs: 3600, MaxDates: 1000}
	r.WriteBack, r.store = openOver(t, c, rules.Strict, r.up)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return r, func() {
		cancel()
		<-done
	}
}

// unsettled marks a forwarded request as past its deadline.
func (r *lateRig) unsettled() {
	r.store.Begin(key("k")).Unsettled()
	r.Doubt(key("k"))
}

func (r *lateRig) before(q *cold.Request) (*http.Response, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q.Method != http.MethodPut || !r.hang {
		return nil, nil
	}
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return nil, err
	}
	late := *q
	late.Body = bytes.NewReader(body)
	r.hang, r.held = false, &late
	return nil, fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, cold.ErrDeadline)
}

// carryOut makes the upstream carry out the request that hung.
func (r *lateRig) carryOut() {
	if _, err := r.up.Do(r.t.Context(), r.held); err != nil {
		r.t.Error(err)
	}
}

func (r *lateRig) put(body string) {
	r.t.Helper()
	w, err := r.Accept(r.t.Context(), key("k"), int64(len(body)), nil)
	if err != nil || w == nil {
		r.t.Fatal("it is not written back: ", err)
	}
	defer w.Discard()
	if _, err = w.Write([]byte(body)); err == nil {
		_, err = w.Commit(r.t.Context(), fmt.Sprintf("\"%x\"", md5.Sum([]byte(body))), http.Header{})
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// until waits for a condition, for at most a minute.
func (r *lateRig) until(what string, holds func() bool) {
	r.t.Helper()
	for began := time.Now(); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			r.t.Fatalf("not %s: %+v", what, r.Status())
		}
	}
}

func (r *lateRig) upstreamHas(body string) bool {
	o, ok := r.up.Get(key("k"))
	return ok && string(o.Body) == body
}

// TestLateRequests: a request of the flush, or a forwarded one, met its deadline. The upstream
// carries it out late, after a newer write that was acknowledged and uploaded. The key ends up with
// the newer write, every reader sees that one in the meantime, and a stop waits for it.
func TestLateRequests(t *testing.T) {
	for name, flush := range map[string]bool{"of a flush": true, "forwarded": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, stop := newLateRig(t, flush)
				late := func() { r.up.Put(key("k"), []byte("old")) }
				if flush {
					r.put("old")
					r.until("hung", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return !r.hang })
					late = r.carryOut
				} else {
					r.unsettled()
				}
				r.put("new")
				r.until("uploaded", func() bool { return r.upstreamHas("new") })
				late()
				if !r.upstreamHas("old") {
					t.Fatal("the late request did nothing")
				}
				tiertest.WantRead(t, r.store, key("k"), []byte("new"), akigw.Overlay)
				began := time.Now()
				if r.DrainAll(t.Context()); time.Since(began) > 20*time.Second || r.Status().Pending > 0 {
					t.Errorf("drained in %v: %+v", time.Since(began), r.Status())
				}
				if !r.upstreamHas("new") {
					o, _ := r.up.Get(key("k"))
					t.Errorf("LOST: the upstream has %q", o.Body)
				}
				tiertest.WantRead(t, r.store, key("k"), []byte("new"), "")
				stop()
			})
		})
	}
}

// TestForwardedAfterHang: a flush request hung, and its repetition succeeded. A forwarded change to
// the same key waits until the upstream can no longer carry out the first request.
func TestForwardedAfterHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, stop := newLateRig(t, true)
		r.put("old")
		r.until("uploaded", func() bool { return r.Status().Pending == 0 })
		go func() {
			time.Sleep(2 * time.Second)
			r.carryOut()
		}()
		release, err := r.Hold(t.Context(), key("k"))
		if err != nil {
			t.Fatal(err)
		}
		r.up.Put(key("k"), []byte("forwarded"))
		release()
		time.Sleep(time.Minute)
		if !r.upstreamHas("forwarded") {
			t.Error("LOST: the late request took the place of a forwarded one")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if release, err = r.Hold(ctx, key("k")); err != nil {
			t.Errorf("nothing is in doubt: %v", err)
		} else {
			release()
		}
		stop()
	})
}
