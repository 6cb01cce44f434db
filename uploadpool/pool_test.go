package uploadpool

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a pool between a journal on disk and an upstream in memory.
type rig struct {
	t    *testing.T
	dir  string
	up   *s3mem.Memory
	j    *journal.Journal
	pool *Pool
	stop func()

	answering sync.Mutex // one call of answer at a time

	mu      sync.Mutex
	flights map[akigw.Key]int // requests in progress, by key; guarded by mu
	history []string          // guarded by mu
	answer  func(r *cold.Request) (*http.Response, error)
}

// noChange stands in for a cache when there is none.
type noChange struct{}

func (noChange) Parts([]int, []int64)        {}
func (noChange) Body([]byte)                 {}
func (noChange) Keeps(int64) bool            { return true }
func (noChange) Written(_, _, _ http.Header) {}
func (noChange) Found(string)                {}
func (noChange) End()                        {}

func key(name string) akigw.Key { return akigw.Key{Bucket: "bucket", Name: name} }

func newRig(t *testing.T) *rig {
	r := &rig{t: t, dir: t.TempDir(), up: s3mem.New(), flights: map[akigw.Key]int{}}
	r.open()
	return r
}

// Do places the rig between the pool and the upstream.
func (r *rig) Do(ctx context.Context, q *cold.Request) (*http.Response, error) {
	r.mu.Lock()
	r.history = append(r.history, q.Op+" "+q.Key.Name)
	change := q.Method != http.MethodHead && q.Op != "AbortMultipartUpload" && q.Op != "UploadPart"
	if change {
		if r.flights[q.Key]++; r.flights[q.Key] > 1 && q.Key.Name != "" {
			r.t.Errorf("two requests for %s at a time", q.Key)
		}
	}
	answer := r.answer
	r.mu.Unlock()
	time.Sleep(5 * time.Millisecond) // network latency
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if change {
			r.flights[q.Key]--
		}
	}()
	if answer != nil {
		r.answering.Lock()
		resp, err := answer(q)
		r.answering.Unlock()
		if resp != nil || err != nil {
			return resp, err
		}
	}
	return r.up.Do(ctx, q)
}

func (*rig) Owner(string) string { return "default" }

func (r *rig) answers(f func(q *cold.Request) (*http.Response, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

// fail makes the upstream answer requests for an operation ("" for all) with answer, until failing
// is false.
func (r *rig) fail(op string, answer func() (*http.Response, error)) (failing *atomic.Bool) {
	failing = &atomic.Bool{}
	failing.Store(true)
	r.answers(func(q *cold.Request) (*http.Response, error) {
		if failing.Load() && (op == "" || q.Op == op) {
			return answer()
		}
		return nil, nil
	})
	return failing
}

// loseAnswer drops the response to the first request for an operation. applied says whether the
// upstream carries the request out.
func (r *rig) loseAnswer(op string, applied bool) (lost *bool) {
	lost = new(bool)
	r.answers(func(q *cold.Request) (*http.Response, error) {
		if q.Op != op || *lost {
			return nil, nil
		}
		*lost = true
		if applied {
			if _, err := r.up.Do(r.t.Context(), q); err != nil {
				r.t.Error(err)
			}
		}
		return unavailable()
	})
	return lost
}

// asked returns the number of requests whose text begins with text.
func (r *rig) asked(text string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.history {
		if strings.HasPrefix(h, text) {
			n++
		}
	}
	return n
}

func (r *rig) open() {
	j, err := journal.Open(journal.Config{Dir: r.dir, FS: vfs.Disk{}, Log: slog.New(slog.DiscardHandler), InlineBytes: 4 << 10, SegmentBytes: 1 << 20, SyncTimeout: time.Hour})
	if err != nil {
		r.t.Fatal(err)
	}
	r.j = j
	r.pool = New(Config{
		Parallel: ParallelConfig{Enabled: true, Concurrency: 10, MaxRetries: 3, BackoffBaseMs: 100, MaxAgeSecs: 3600, ConfirmAfterMs: 5000},
		Batch:    BatchConfig{Enabled: true, BatchSize: 10},
		Journal:  j, Upstream: r, Log: slog.New(slog.DiscardHandler), Begin: func(akigw.Key) Change { return noChange{} },
	})
}

// configure replaces the pool, which must be stopped, by one with another configuration.
func (r *rig) configure(change func(c *Config)) {
	c, known := r.pool.Config, r.pool.queue.known
	change(&c)
	r.pool = New(c)
	r.pool.queue.known = known
}

func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.pool.Run(ctx)
	}()
	r.stop = func() {
		cancel()
		<-done
	}
}

func (r *rig) close() {
	if r.stop != nil {
		r.stop()
	}
	if err := r.j.Close(); err != nil {
		r.t.Error(err)
	}
}

func etag(body string) string { return fmt.Sprintf("\"%x\"", md5.Sum([]byte(body))) }

func (r *rig) put(name, body string) {
	r.t.Helper()
	d := r.j.Receive(int64(len(body)))
	_, err := d.Write([]byte(body))
	if err == nil {
		err = r.j.Commit(context.Background(), d, journal.Entry{Key: key(name), ETag: etag(body), Modified: time.Now(), Header: http.Header{"X-Amz-Meta-M": {"v"}}})
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) delete(names ...string) {
	r.t.Helper()
	var keys []akigw.Key
	for _, name := range names {
		keys = append(keys, key(name))
	}
	if err := r.j.Delete(context.Background(), keys, time.Now()); err != nil {
		r.t.Fatal(err)
	}
}

// drained waits until nothing is pending and returns how long that took.
func (r *rig) drained(limit time.Duration) time.Duration {
	r.t.Helper()
	started := time.Now()
	for r.j.Stats().Pending > 0 {
		if time.Since(started) > limit {
			r.t.Fatalf("%d are left after %s: %+v", r.j.Stats().Pending, limit, r.pool.Progress())
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(started)
}

func (r *rig) upstream(name, want string) {
	r.t.Helper()
	o, ok := r.up.Get(key(name))
	if !ok && want != "" || ok && (want == "" || string(o.Body) != want || o.ETag != etag(want) || o.Header.Get("X-Amz-Meta-M") != "v") {
		r.t.Errorf("%s is %q (%t) upstream, want %q", name, o.Body, ok, want)
	}
}

func respond(status int, code string) (*http.Response, error) {
	return s3mem.Response(status, nil, []byte("<Error><Code>"+code+"</Code></Error>")), nil
}

// responding returns respond as a function without parameters.
func responding(status int, code string) func() (*http.Response, error) {
	return func() (*http.Response, error) { return respond(status, code) }
}

func unavailable() (*http.Response, error) {
	return nil, fmt.Errorf("%w: no answer", akigw.ErrUpstreamUnavailable)
}

// While half of all requests get 503 SlowDown, everything is uploaded with few extra requests, and
// the concurrency decreases.
//
// Scenarios: A1.
func TestSlowDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		const n = 200
		random := rand.New(rand.NewPCG(1, 2))
		least := 10.0
		r.answers(func(q *cold.Request) (*http.Response, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if random.IntN(2) == 0 {
				return respond(503, "SlowDown")
			}
			return nil, nil
		})
		for i := range n {
			r.put(fmt.Sprint(i), "body")
		}
		r.run()
		go func() {
			for r.j.Stats().Pending > 0 {
				limit := r.pool.Progress().Limit
				r.mu.Lock()
				least = min(least, limit)
				r.mu.Unlock()
				time.Sleep(10 * time.Millisecond)
			}
		}()
		took := r.drained(time.Hour)
		synctest.Wait()
		for i := range n {
			r.upstream(fmt.Sprint(i), "body")
		}
		requests := len(r.history)
		t.Logf("%d requests for %d objects (ideal %d), %s, concurrency down to %.1f", requests, n, 2*n, took, least)
		if requests > 5*n || least >= 10 || least < 1 {
			t.Errorf("%d requests, concurrency down to %.1f", requests, least)
		}
		r.close()
	})
}

// After a lost response the upload is looked for upstream before it is sent again.
//
// Scenarios: A3.
func TestUnknownOutcome(t *testing.T) {
	for _, applied := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.loseAnswer("PutObject", applied)
			r.put("k", "body")
			r.run()
			r.drained(time.Minute)
			r.upstream("k", "body")
			want := map[bool]int{true: 1, false: 2}[applied]
			if n := r.asked("PutObject"); n != want {
				t.Errorf("applied %t: %d uploads, want %d", applied, n, want)
			}
			r.close()
		})
	}
}

// The same bytes with other metadata are not the object that was promised.
//
// Scenarios: E26.
func TestSameBytesOtherMetadata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.up.Put(key("k"), []byte("body")) // without metadata
		r.loseAnswer("PutObject", false)
		r.put("k", "body")
		r.run()
		r.drained(time.Minute)
		r.upstream("k", "body")
		r.close()
	})
}

// A 200 response that contains an error is a failure, and so is a success after which the object is
// missing.
//
// Scenarios: A4.
func TestSuccessWithErrorBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		n := 0
		r.answers(func(q *cold.Request) (*http.Response, error) {
			if q.Op != "PutObject" && q.Op != "DeleteObject" {
				return nil, nil
			}
			switch n++; n {
			case 1, 4:
				return respond(200, "InternalError")
			case 2, 5:
				return s3mem.Response(200, http.Header{"Etag": {etag("body")}}, nil), nil // without storing anything
			}
			return nil, nil
		})
		r.put("k", "body")
		r.run()
		r.drained(time.Minute)
		r.upstream("k", "body")
		r.delete("k")
		r.drained(time.Minute)
		r.upstream("k", "")
		if n != 6 {
			t.Errorf("%d tries", n)
		}
		r.close()
	})
}

// TestBodiesAreSentAgainWhole: an upload that fails halfway through its body is repeated from the
// first byte, whether the body is in memory or in the spool.
//
// Scenarios: A16.
func TestBodiesAreSentAgainWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		broken := map[string]int{}
		r.answers(func(q *cold.Request) (*http.Response, error) {
			if q.Op != "PutObject" || broken[q.Key.Name] == 2 {
				return nil, nil
			}
			broken[q.Key.Name]++
			if _, err := io.CopyN(io.Discard, q.Body, q.Length/2); err != nil {
				t.Error(err)
			}
			return unavailable()
		})
		bodies := map[string]string{"inline": strings.Repeat("a", 1000), "spooled": strings.Repeat("b", 100_000)}
		for name, body := range bodies {
			r.put(name, body)
		}
		r.run()
		r.drained(10 * time.Minute)
		for name, body := range bodies {
			r.upstream(name, body)
			if broken[name] != 2 {
				t.Errorf("%s was interrupted %d times", name, broken[name])
			}
		}
		r.close()
	})
}

// When the upstream answers 403 to the gateway, uploads pause and no write becomes a dead letter.
//
// Scenarios: A18.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		refuse := r.fail("", responding(403, "AccessDenied"))
		for i := range 50 {
			r.put(fmt.Sprint(i), "body")
		}
		r.run()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		st, progress := r.j.Stats(), r.pool.Progress()
		if st.Dead != 0 || st.Pending != 50 || len(progress.Paused) != 1 {
			t.Errorf("%+v %+v", st, progress)
		}
		if n := len(r.history); n > 250 {
			t.Errorf("%d requests while refused", n)
		}
		refuse.Store(false)
		r.drained(2 * time.Minute)
		r.upstream("7", "body")
		r.close()
	})
}

// A write that no retry can upload becomes a dead letter at once: kept, readable, and retried when
// an operator revives it.
//
// Scenarios: A19.
func TestDeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		gone := r.fail("PutObject", responding(404, "NoSuchBucket"))
		r.put("k", "body")
		r.run()
		r.drained(time.Second)
		dead := r.j.DeadLetters()
		if len(dead) != 1 || !strings.Contains(dead[0].Reason, "NoSuchBucket") || r.asked("PutObject") != 1 {
			t.Fatalf("%+v", dead)
		}
		e := r.j.Last(key("k"))
		b, err := r.j.Body(e, 0, e.Size)
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(b)
		b.Close()
		if string(data) != "body" {
			t.Errorf("%q", data)
		}
		gone.Store(false)
		if err := r.j.Revive(t.Context(), dead[0].Entry); err != nil {
			t.Fatal(err)
		}
		r.drained(time.Minute)
		r.upstream("k", "body")
		r.close()
	})
}

// A later write of a key replaces its dead letter.
//
// Scenarios: D20.
func TestWriteOverDeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.answers(func(q *cold.Request) (*http.Response, error) {
			if q.Op == "PutObject" && q.Length == 3 {
				return respond(400, "EntityTooLarge")
			}
			return nil, nil
		})
		r.put("k", "old")
		r.run()
		r.drained(time.Second)
		r.put("k", "newer")
		r.drained(time.Minute)
		r.upstream("k", "newer")
		if n := len(r.j.DeadLetters()); n != 0 {
			t.Errorf("%d dead letters", n)
		}
		r.close()
	})
}

// Writes of one key are uploaded in order, one at a time, and the last one stays.
//
// Scenarios: D3, D4, D21.
func TestOrderOfAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		random, dice := rand.New(rand.NewPCG(3, 4)), rand.New(rand.NewPCG(5, 6))
		r.answers(func(q *cold.Request) (*http.Response, error) {
			switch dice.IntN(6) {
			case 0:
				return unavailable()
			case 1:
				return respond(500, "InternalError")
			}
			return nil, nil
		})
		r.run()
		last := map[string]string{}
		for i := range 300 {
			name := fmt.Sprint(random.IntN(5))
			if random.IntN(4) == 0 {
				r.delete(name)
				last[name] = ""
			} else {
				last[name] = fmt.Sprint("body ", i)
				r.put(name, last[name])
			}
			time.Sleep(time.Duration(random.IntN(8)) * time.Millisecond)
		}
		r.drained(time.Hour)
		for name, body := range last {
			r.upstream(name, body)
		}
		r.close()
	})
}

// Pending deletions share a request, and each gets its own result.
func TestBatchOfDeletions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var names []string
		for i := range 95 {
			names = append(names, fmt.Sprint(i))
			r.up.Put(key(names[i]), []byte("body"))
		}
		failed := false
		r.answers(func(q *cold.Request) (*http.Response, error) {
			if q.Op == "DeleteObjects" && !failed {
				failed = true
				return s3mem.Response(200, nil, []byte("<DeleteResult><Error><Key>0</Key><Code>InternalError</Code><Message>m</Message></Error></DeleteResult>")), nil
			}
			return nil, nil
		})
		r.delete(names...)
		synctest.Wait() // the journal notifies the pool of each key after it has acknowledged them
		r.run()
		r.drained(time.Minute)
		if r.up.Len() != 0 {
			t.Errorf("%d objects are left", r.up.Len())
		}
		if n := r.asked("DeleteObject"); n < 10 || n > 25 {
			t.Errorf("%d requests for 95 deletions", n)
		}
		r.close()
	})
}

// The upstream is unavailable for a minute under load: nothing is lost, and soon after it returns
// everything has been flushed.
func TestUpstreamAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		away := r.fail("", unavailable)
		away.Store(false)
		r.run()
		for i := range 2000 {
			away.Store(i > 500)
			r.put(fmt.Sprint(i), fmt.Sprint("body ", i))
			time.Sleep(40 * time.Millisecond)
		}
		pending := r.j.Stats().Pending
		away.Store(false)
		took := r.drained(time.Minute)
		t.Logf("%d were pending, and upstream after %s", pending, took)
		for i := range 2000 {
			r.upstream(fmt.Sprint(i), fmt.Sprint("body ", i))
		}
		if pending < 1000 {
			t.Errorf("only %d were pending", pending)
		}
		r.close()
	})
}

// TestUnderWayAsAnOutageEnds: an upload that was in progress when the upstream returned, but still
// failed, does not wait as long as its many earlier attempts would require.
func TestUnderWayAsAnOutageEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var down, underWay atomic.Bool
		down.Store(true)
		r.answers(func(q *cold.Request) (*http.Response, error) {
			if q.Op != "PutObject" || !down.Load() {
				return nil, nil
			}
			if q.Key.Name == "slow" {
				underWay.Store(true)
				r.answering.Unlock() // other requests are answered meanwhile
				time.Sleep(5 * time.Second)
				r.answering.Lock()
				underWay.Store(false)
			}
			return nil, fmt.Errorf("%w: connection reset", akigw.ErrUpstreamUnavailable)
		})
		r.put("slow", "body")
		r.run()
		time.Sleep(10 * time.Minute)
		for _, is := range []bool{false, true} { // until one begins
			for underWay.Load() != is {
				time.Sleep(100 * time.Millisecond)
			}
		}
		down.Store(false)
		r.put("other", "body")
		time.Sleep(time.Second)
		if !underWay.Load() {
			t.Error("no upload was in progress when the upstream returned")
		}
		if took := r.drained(time.Minute); took > 6*time.Second {
			t.Errorf("drained after %s", took)
		}
		r.close()
	})
}

// TestLoneFailureBacksOff: a write that never gets a response is retried less and less often,
// however many other writes succeed meanwhile.
func TestLoneFailureBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.answers(func(q *cold.Request) (*http.Response, error) {
			if q.Op == "PutObject" && q.Key.Name == "lone" {
				return nil, fmt.Errorf("%w: connection reset", akigw.ErrUpstreamUnavailable)
			}
			return nil, nil
		})
		r.put("lone", "body")
		r.run()
		for i := range 600 {
			r.put(fmt.Sprint(i), "body")
			time.Sleep(100 * time.Millisecond)
		}
		if n := r.asked("PutObject lone"); n > 60 {
			t.Errorf("%d attempts in a minute", n)
		}
		r.close()
	})
}

// What an earlier epoch may have sent is looked for upstream first.
//
// Scenarios: B8.
func TestCrashAfterTheUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.put("k", "body")
		r.put("l", "body")
		r.up.PutStored(key("k"), s3mem.Stored{Body: []byte("body"), ETag: etag("body"), Modified: time.Now(), Header: http.Header{"X-Amz-Meta-M": {"v"}}})
		r.j.Close()
		r.open()
		r.run()
		r.drained(time.Minute)
		r.upstream("k", "body")
		r.upstream("l", "body")
		if n := r.asked("PutObject"); n != 1 {
			t.Errorf("%d uploads", n)
		}
		r.close()
	})
}

// Bodies that are damaged in the journal are never uploaded.
//
// Scenarios: C9.
func TestDamagedBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.put("k", strings.Repeat("x", 200_000))
		files, err := filepath.Glob(filepath.Join(r.dir, "spool", "*.body"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		raw, err := os.ReadFile(files[0])
		if err == nil {
			raw[150_000] ^= 1
			err = os.WriteFile(files[0], raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		r.run()
		r.drained(time.Minute)
		if d := r.j.DeadLetters(); len(d) != 1 || !strings.Contains(d[0].Reason, "damaged") || r.up.Len() != 0 {
			t.Errorf("%+v, %d objects upstream", d, r.up.Len())
		}
		r.close()
	})
}

// An entry that is too old becomes a dead letter, for the operator to decide.
func TestTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.answers(func(*cold.Request) (*http.Response, error) { return unavailable() })
		r.put("k", "body")
		r.run()
		time.Sleep(2 * time.Hour)
		if d := r.j.DeadLetters(); len(d) != 1 || !strings.Contains(d[0].Reason, "not uploaded within 1h") {
			t.Errorf("%+v", d)
		}
		r.close()
	})
}

// An upload that will never be completed is aborted.
//
// Scenarios: E16, E17.
func TestOrphanIsAborted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.put("k", "a")
		if err := r.j.Uploading(t.Context(), r.j.Last(key("k")).ID, r.j.Last(key("k")).Key, "upload-1"); err != nil {
			t.Fatal(err)
		}
		r.put("k", "b")
		r.j.Close()
		r.open()
		r.run()
		r.drained(time.Minute)
		synctest.Wait()
		if r.asked("AbortMultipartUpload") != 1 || r.j.Stats().Orphans != 0 {
			t.Errorf("%q", r.history)
		}
		r.close()
	})
}

// A drain of a key puts that key first.
func TestHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for i := range 1000 {
			r.put(fmt.Sprint(i), "body")
		}
		r.run()
		r.pool.Hurry(key("999"))
		if err := r.j.Wait(t.Context(), key("999")); err != nil {
			t.Fatal(err)
		}
		if n := r.j.Stats().Pending; n < 950 {
			t.Errorf("%d left", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := r.j.Wait(ctx, key("998")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		r.drained(time.Minute)
		r.close()
	})
}

// TestHurryInOrder: among keys that callers wait for, the first one is uploaded first, however many
// are hurried after it. The same holds for an entry that replaced another one during its upload.
func TestHurryInOrder(t *testing.T) {
	for _, replaced := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			const n = 1000
			r.put("first", "body")
			sent := make(chan struct{})
			if replaced {
				r.answers(func(q *cold.Request) (*http.Response, error) {
					if q.Op == "PutObject" && q.Key.Name == "first" {
						r.answers(nil)
						close(sent)
						for i := range n {
							r.put(fmt.Sprint(i), "body")
						}
						r.put("first", "another")
						r.pool.Hurry(key("first"))
						time.Sleep(50 * time.Millisecond) // its turn comes while this upload is in progress
					}
					return nil, nil
				})
				r.run()
				<-sent
				synctest.Wait()
			} else {
				for i := range n {
					r.put(fmt.Sprint(i), "body")
				}
				r.pool.Hurry(key("first"))
				for i := range n / 2 {
					r.pool.Hurry(key(fmt.Sprint(i)))
				}
				r.run()
			}
			if err := r.j.Wait(t.Context(), key("first")); err != nil {
				t.Fatal(err)
			}
			if left := r.j.Stats().Pending; left < n-200 {
				t.Errorf("replaced %t: %d are left of %d", replaced, left, n)
			}
			r.drained(time.Minute)
			r.close()
		})
	}
}

// TestHurriedKeysAreCountedOnce: a key that waited for its retry and is then hurried no longer
// counts as waiting.
func TestHurriedKeysAreCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.put("k", "body")
		r.answers(func(*cold.Request) (*http.Response, error) { return unavailable() })
		r.run()
		for tried := 1; tried < 4; tried++ {
			r.pool.Hurry(key("k"))
			time.Sleep(50 * time.Millisecond)
			for range 100 { // during an attempt that was due just now, no key waits
				if r.pool.Progress().Active == 0 {
					break
				}
				time.Sleep(time.Millisecond)
			}
			if n := r.pool.Progress().Later; n != 1 {
				t.Errorf("%d keys wait for a retry", n)
			}
		}
		r.answers(nil)
		r.drained(time.Hour)
		r.close()
	})
}

// BenchmarkHurry measures moving a key ahead of 50,000 others.
func BenchmarkHurry(b *testing.B) {
	j, err := journal.Open(journal.Config{Dir: b.TempDir(), FS: vfs.Disk{}, Log: slog.New(slog.DiscardHandler), InlineBytes: 4 << 10, SegmentBytes: 1 << 20, SyncTimeout: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	p := New(Config{Journal: j})
	for i := range 50_000 {
		p.queue.push(key(fmt.Sprint(i)))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p.Hurry(key(fmt.Sprint(i % 50_000)))
	}
}

// TestRefusedQuestion: an upload that was sent but cannot be looked up is retried, whatever the
// response to the look-up. It does not become a dead letter.
//
// Scenarios: A3.
func TestRefusedQuestion(t *testing.T) {
	for _, op := range []string{"HeadObject", "GetObject", "ListParts"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.up.KMS.Store(op == "GetObject") // its ETags identify nothing, so the object is read back
			asked, failed := 0, false
			r.answers(func(q *cold.Request) (*http.Response, error) {
				switch {
				case q.Op == op:
					if asked++; asked < 4 {
						return s3mem.Response([]int{412, 400, 404}[asked-1], nil, nil), nil
					}
				case q.Op == "UploadPart" && op == "ListParts" && !failed:
					failed = true
					return respond(400, "BadDigest")
				case q.Op == "CompleteMultipartUpload" && op == "ListParts" && asked == 0:
					return unavailable()
				}
				return nil, nil
			})
			if op == "ListParts" {
				r.putParts("k", manyParts(2)...)
			} else {
				r.put("k", "body")
			}
			r.run()
			r.drained(10 * time.Minute)
			if st := r.j.Stats(); asked < 4 || st.Dead > 0 {
				t.Errorf("%s: asked %d times, %+v", op, asked, st)
			}
			r.close()
		})
	}
}

// TestUpstreamThatRewritesMetadata: an upload that the upstream accepted counts as flushed, in
// whatever form the upstream stores its metadata.
func TestUpstreamThatRewritesMetadata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.up.After = func(_ *cold.Request, resp *http.Response) { resp.Header.Del("X-Amz-Meta-M") }
		r.put("k", "body")
		r.run()
		r.drained(time.Minute)
		if n := r.asked("PutObject"); n != 1 {
			t.Errorf("%d uploads", n)
		}
		r.close()
	})
}

// TestFailureInWords: the failure that an operator reads names the S3 code, or the HTTP status text
// if there is no body, as in the response to a HEAD.
func TestFailureInWords(t *testing.T) {
	for body, want := range map[string]string{
		"":                                     "the upstream answered 503 Service Unavailable",
		"<Error><Code>SlowDown</Code></Error>": "the upstream answered 503 SlowDown",
	} {
		got := (&remote{throttled: newCounters(nil).throttled}).judge(&cold.ResponseError{Status: http.StatusServiceUnavailable, Body: []byte(body)}, nil, false)
		if got.err == nil || got.err.Error() != want {
			t.Errorf("%q: %v, want %s", body, got.err, want)
		}
	}
}
