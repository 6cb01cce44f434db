package uploadpool

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

// twoUpstreams has two buckets, each on its own upstream: hangs, whose requests get no response,
// and bucket.
type twoUpstreams struct {
	*rig
	held  atomic.Int64 // requests that hang
	parts atomic.Int64 // UploadPart requests in progress
	most  atomic.Int64 // most of them at a time
}

func (u *twoUpstreams) Owner(bucket string) string { return "of " + bucket }
func (u *twoUpstreams) Names() []string            { return []string{"of hangs", "of bucket"} }

// hangTime is how long a request waits for a response that does not come.
const hangTime = 30 * time.Second

func (u *twoUpstreams) Do(ctx context.Context, q *cold.Request) (*http.Response, error) {
	if q.Key.Bucket == "hangs" {
		u.held.Add(1)
		defer u.held.Add(-1)
		select {
		case <-time.After(hangTime):
		case <-ctx.Done():
		}
		return nil, fmt.Errorf("%w: no answer", akigw.ErrUpstreamUnavailable)
	}
	if q.Op == "UploadPart" {
		u.most.Store(max(u.most.Load(), u.parts.Add(1)))
		defer u.parts.Add(-1)
	}
	return u.rig.Do(ctx, q)
}

func newTwoUpstreams(t *testing.T) *twoUpstreams {
	u := &twoUpstreams{rig: newRig(t)}
	c := u.pool.Config
	c.Upstream = u
	u.pool = New(c)
	return u
}

// hanging accepts n writes for the upstream that hangs.
func (u *twoUpstreams) hanging(n int) {
	u.t.Helper()
	for i := range n {
		d := u.j.Receive(1)
		_, err := d.Write([]byte("x"))
		if err == nil {
			err = u.j.Commit(context.Background(), d, journal.Entry{Key: akigw.Key{Bucket: "hangs", Name: fmt.Sprint(i)}, ETag: etag("x"), Modified: time.Now()})
		}
		if err != nil {
			u.t.Fatal(err)
		}
	}
}

// TestHangingUpstreamLeavesRoom: an upstream that hangs does not delay uploads to another one,
// neither whole bodies nor parts, however many entries wait for it. Once it is known not to
// respond, its uploads take no more than their share.
func TestHangingUpstreamLeavesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTwoUpstreams(t)
		defer u.close()
		u.hanging(200)
		u.run()
		synctest.Wait()
		if held := u.held.Load(); held < 5 || held > 8 { // of 10; two are reserved for the other upstream
			t.Fatalf("%d requests hang", held)
		}
		drain := func(what string, limit time.Duration) {
			t.Helper()
			began := time.Now()
			for u.j.Stats().Pending > 200 {
				if time.Since(began) > limit {
					t.Fatalf("%s: %d wait after %v", what, u.j.Stats().Pending-200, limit)
				}
				time.Sleep(time.Millisecond)
			}
		}
		for i := range 50 {
			u.put(fmt.Sprint(i), "body")
		}
		drain("while the other hangs", 5*time.Second) // 50 uploads of 10 ms each, two at a time
		u.putParts("parts", manyParts(40)...)
		drain("parts", 5*time.Second)
		if u.most.Load() < 2 {
			t.Error("parts are uploaded one at a time, because entries wait for an upstream that hangs")
		}
		time.Sleep(2 * hangTime)
		if held := u.held.Load(); held < 1 || held > 2 {
			t.Errorf("%d requests hang at an upstream that is known not to respond", held)
		}
		for i := range 200 {
			u.put(fmt.Sprint("later", i), "body")
		}
		drain("while the other is known to hang", 5*time.Second)
	})
}

// TestForwardPastAHangingUpstream: an upload that is forwarded to an upstream that hangs delays no
// other upload.
func TestForwardPastAHangingUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTwoUpstreams(t)
		defer u.close()
		begin := func(bucket string) *journal.Upload {
			if err := u.j.Uploads.Begin(t.Context(), journal.Upload{ID: bucket, Key: akigw.Key{Bucket: bucket, Name: "k"}, Begun: time.Now(), Header: http.Header{}}); err != nil {
				t.Fatal(err)
			}
			return u.j.Uploads.Find(bucket)
		}
		hangs, works := begin("hangs"), begin("bucket")
		go u.pool.Forward(t.Context(), hangs, nil)
		synctest.Wait()
		began := time.Now()
		if id, err := u.pool.Forward(t.Context(), works, nil); err != nil || id == "" || time.Since(began) > time.Second {
			t.Errorf("%q %v after %v", id, err, time.Since(began))
		}
		time.Sleep(hangTime)
	})
}

// TestForwardWaitsNoLongerThanItsClient: a caller that waits for another request to open the same
// upload at an upstream that hangs waits until its own deadline. A caller that opens a different
// upload there does not wait for it.
func TestForwardWaitsNoLongerThanItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTwoUpstreams(t)
		defer u.close()
		var uploads []*journal.Upload
		for _, id := range []string{"first", "second"} {
			if err := u.j.Uploads.Begin(t.Context(), journal.Upload{ID: id, Key: akigw.Key{Bucket: "hangs", Name: id}, Begun: time.Now(), Header: http.Header{}}); err != nil {
				t.Fatal(err)
			}
			uploads = append(uploads, u.j.Uploads.Find(id))
		}
		go u.pool.Forward(t.Context(), uploads[0], nil)
		synctest.Wait()
		began := time.Now()
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cold.ErrDeadline)
		defer cancel()
		if _, err := u.pool.Forward(ctx, uploads[0], nil); time.Since(began) != time.Second || !errors.Is(err, cold.ErrDeadline) || !errors.Is(err, akigw.ErrUpstreamUnavailable) {
			t.Errorf("the same upload: %v after %v", err, time.Since(began))
		}
		go u.pool.Forward(t.Context(), uploads[1], nil)
		synctest.Wait()
		if n := u.held.Load(); n != 2 {
			t.Errorf("%d uploads are being opened", n)
		}
		time.Sleep(hangTime)
	})
}

// TestSweepBesideAHangingUpstream: however long one upstream takes to abort uploads, those at
// another one are aborted soon, including uploads that became unneeded later.
func TestSweepBesideAHangingUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTwoUpstreams(t)
		defer u.close()
		orphan := func(bucket string, n int) {
			t.Helper()
			up := journal.Upload{ID: fmt.Sprint(bucket, n), Key: akigw.Key{Bucket: bucket, Name: fmt.Sprint(n)}, Begun: time.Now(), Header: http.Header{}}
			if err := u.j.Uploads.Begin(t.Context(), up); err != nil {
				t.Fatal(err)
			}
			begun := u.j.Uploads.Find(up.ID)
			if err := errors.Join(u.j.Uploading(t.Context(), begun.Number, up.Key, "there"), u.j.Uploads.Abort(t.Context(), begun)); err != nil {
				t.Fatal(err)
			}
		}
		for n := range 20 {
			orphan("hangs", n)
		}
		u.run()
		time.Sleep(3 * sweepEvery)
		orphan("bucket", 0)
		time.Sleep(3 * sweepEvery)
		if n := u.asked("AbortMultipartUpload"); n != 1 {
			t.Errorf("the other upstream was asked %d times", n)
		}
		if n := u.held.Load(); n > 1 {
			t.Errorf("%d at a time to the upstream that does not respond", n)
		}
	})
}

// TestRoom: half of the pool is reserved for the upstreams in equal shares.
func TestRoom(t *testing.T) {
	for _, c := range []struct {
		name        string
		concurrency int
		active      []int
		limit       float64 // of the first upstream, 0 for none
		down        bool    // the first upstream is down
		want        bool    // the first upstream has room
	}{
		{"alone", 10, []int{9}, 0, false, true},
		{"alone, full", 10, []int{10}, 0, false, false},
		{"alone, down", 10, []int{9}, 0, true, true},
		{"alone, throttled", 10, []int{5}, 5.9, false, false},
		{"what is not kept", 10, []int{7, 0}, 0, false, true},
		{"what is kept", 10, []int{8, 0}, 0, false, false},
		{"the other uses its share", 10, []int{7, 2}, 0, false, true},
		{"the other uses more", 10, []int{7, 3}, 0, false, false},
		{"the share", 10, []int{1, 9}, 0, false, true},
		{"the share of one that is down", 10, []int{1, 0}, 0, true, true},
		{"more than the share of one that is down", 10, []int{2, 0}, 0, true, false},
		{"one at a time for each", 1, []int{0, 1, 1}, 0, false, true},
		{"one at a time", 1, []int{1, 0, 0}, 0, false, false},
	} {
		p := &lanes{concurrency: c.concurrency}
		for i, n := range c.active {
			p.add(fmt.Sprint(i)).active = n
		}
		p.all[0].down = c.down
		if c.limit > 0 {
			p.all[0].limit = c.limit
		}
		if got := p.hasRoom(p.all[0]); got != c.want {
			t.Errorf("%s: room %t, want %t", c.name, got, c.want)
		}
	}
}
