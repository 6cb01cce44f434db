package gateway

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/storekit"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/writeback"
	"github.com/akidb/akigw/writeback/buckets"
	"github.com/akidb/akigw/writeback/facts"
)

// stoppable is an upstream that accepts requests and, while it is stopped, answers none, as a
// process that got SIGSTOP; or refuses them.
type stoppable struct {
	*s3mem.Memory
	stopped, refuses atomic.Bool
	asked            atomic.Int64 // while it was stopped
	patience         atomic.Int64 // nanoseconds after which a request meets its deadline, 0 for never
}

// Do implements the Upstream interfaces of tiers, uploadpool and gateway.
func (s *stoppable) Do(ctx context.Context, r *cold.Request) (*http.Response, error) {
	if s.refuses.Load() {
		return nil, fmt.Errorf("%w: connection refused", akigw.ErrUpstreamUnavailable)
	}
	var deadline <-chan time.Time
	if patience := s.patience.Load(); patience > 0 {
		deadline = time.After(time.Duration(patience))
	}
	for s.stopped.Load() {
		s.asked.Add(1)
		select {
		case <-deadline:
			return nil, fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, cold.ErrDeadline)
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, ctx.Err())
		case <-time.After(20 * time.Millisecond): // it may have been continued
		}
	}
	return s.Memory.Do(ctx, r)
}

// restartable is a gateway that can be stopped and started again on the same directories.
type restartable struct {
	*bench
	t    *testing.T
	dir  string
	up   *stoppable
	stop func()
}

func newRestartable(t *testing.T) *restartable {
	r := &restartable{t: t, dir: testkit.MemoryDir(t), up: &stoppable{Memory: s3mem.New()}, stop: func() {}}
	r.start()
	t.Cleanup(func() {
		r.up.stopped.Store(false)
		r.stop()
	})
	return r
}

// start starts the gateway. Its upload pool runs until stop.
func (r *restartable) start() {
	r.t.Helper()
	r.stop()
	log := slog.New(slog.DiscardHandler)
	c := testBack
	c.FactsFile = filepath.Join(r.dir, "bucket-facts")
	c.Dir = filepath.Join(r.dir, "journal")
	config := tiers.Config{HotBytes: 8 << 20, BlockBytes: 64 << 10, SmallBytes: 4 << 10, FetchBytes: 128 << 10, ParallelFetches: 4, MD5ETags: true}
	kit := openKit(r.t, storekit.Options{Cache: config, WarmDir: filepath.Join(r.dir, "warm"), Back: c, Batch: testBatch, Rules: byMode{}, Upstream: r.up, Log: log})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- kit.Run(ctx) }()
	r.stop = func() {
		cancel()
		<-done
		if err := kit.Close(); err != nil {
			r.t.Error(err)
		}
	}
	r.bench = kitBench(kit, r.up.Memory, r.up, log)
}

// drained waits until all that is pending is upstream.
func (r *restartable) drained() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	r.writes.DrainAll(ctx)
	if st := r.writes.Status(); st.Pending+st.Dead > 0 {
		r.t.Fatalf("not drained: %+v", st)
	}
}

// must asks for something that the journal has to acknowledge.
func (r *restartable) must(method, path, query, body string, status int) string {
	r.t.Helper()
	w := r.ask("root", method, path, query, nil, body)
	if w.Code != status || sentHeader(w, "x-akigw-commit") != "journal" {
		r.t.Errorf("%s %s: %d, commit %q: %s", method, path, w.Code, sentHeader(w, "x-akigw-commit"), w.Body)
	}
	return tagOf(w)
}

// TestRestartDuringAnOutage: a gateway that is started again while its upstream hangs, or refuses,
// acknowledges PUT, DELETE and multipart uploads of a bucket that it knew, without asking
// anybody; when the upstream is back it has all of it, with the promised ETags.
func TestRestartDuringAnOutage(t *testing.T) {
	writes := 2_000
	if testing.Short() {
		writes = 1000
	}
	for name, outage := range map[string]func(*stoppable, bool){
		"hangs":   func(s *stoppable, on bool) { s.stopped.Store(on) },
		"refuses": func(s *stoppable, on bool) { s.refuses.Store(on) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRestartable(t)
			r.must("PUT", "/back/first", "", "first", 200)
			r.must("PUT", "/back/goes", "", "goes", 200)
			r.drained()
			r.must("PUT", "/back/before", "", "before", 200)
			outage(r.up, true)
			r.start()
			r.must("DELETE", "/back/goes", "", "", 204)
			u := r.upload(t, "/back/parts", nil)
			for i, body := range partBodies {
				u.mustPart(i+1, body, nil)
			}
			if w := u.complete(nil); w.Code != 200 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			tags := make([]string, writes)
			var work sync.WaitGroup
			for client := range 8 {
				work.Go(func() {
					for i := client; i < writes; i += 8 {
						tags[i] = r.must("PUT", fmt.Sprintf("/back/k%05d", i), "", fmt.Sprint("body of ", i), 200)
					}
				})
			}
			work.Wait()
			if t.Failed() {
				return
			}
			outage(r.up, false)
			r.drained()
			for i, tag := range tags {
				o, ok := r.up.Get(backKey(fmt.Sprintf("k%05d", i)))
				if !ok || o.ETag != tag || string(o.Body) != fmt.Sprint("body of ", i) {
					t.Fatalf("%d: upstream %t %s, promised %s", i, ok, o.ETag, tag)
				}
			}
			if _, ok := r.up.Get(backKey("goes")); ok {
				t.Error("the deletion did not get there")
			}
			if o, ok := r.up.Get(backKey("parts")); !ok || o.ETag != multipartTag(partBodies...) {
				t.Errorf("the upload: %t %s", ok, o.ETag)
			}
		})
	}
}

// TestUnknownBucketDuringAnOutage: a write to a bucket that nobody knows is answered 503 when the
// one question about it meets its deadline, and those behind it at once.
func TestUnknownBucketDuringAnOutage(t *testing.T) {
	r := newRestartable(t)
	r.up.patience.Store(int64(3 * time.Second))
	r.up.stopped.Store(true)
	begun := time.Now()
	var work sync.WaitGroup
	for i := range 20 {
		work.Go(func() {
			if w := r.ask("root", "PUT", fmt.Sprintf("/back/%d", i), "", nil, "x"); w.Code != 503 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	work.Wait()
	if took := time.Since(begun); took > 10*time.Second { // and not the deadline of each question after the other
		t.Errorf("it took %v", took)
	}
	r.up.stopped.Store(false)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if w := r.ask("root", "PUT", "/back/k", "", nil, "x"); w.Code == 200 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("writes fail though the upstream is back")
		}
	}
}

// TestBucketThatChangedDuringAnOutage: pending writes of a bucket that is versioned, encrypted or
// gone when the upstream is back are held back, can be read, and are reported; an operator
// can have them uploaded, and so does the bucket that is as it was.
func TestBucketThatChangedDuringAnOutage(t *testing.T) {
	answers := map[string]map[string]string{ // by reason and operation
		"versioned": {"GetBucketVersioning": versioningEnabled},
		"encrypted": {"GetBucketEncryption": "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"},
		"absent":    {"GetBucketVersioning": ""},
	}
	for reason, answer := range answers {
		for _, operator := range []bool{true, false} {
			t.Run(fmt.Sprint(reason, " operator ", operator), func(t *testing.T) {
				var now atomic.Pointer[map[string]string]
				r := newRestartable(t)
				r.up.Before = func(q *cold.Request) (*http.Response, error) {
					m := now.Load()
					if m == nil {
						return nil, nil
					}
					body, ok := (*m)[q.Op]
					switch {
					case ok && body == "":
						return s3mem.Response(404, nil, []byte("<Error><Code>NoSuchBucket</Code></Error>")), nil
					case ok:
						return s3mem.Response(200, nil, []byte(body)), nil
					}
					return nil, nil
				}
				r.must("PUT", "/back/first", "", "first", 200)
				r.drained()
				r.up.refuses.Store(true)
				r.must("PUT", "/back/k", "", "body", 200)
				r.must("DELETE", "/back/first", "", "", 204)
				now.Store(&answer)
				r.start()
				r.up.refuses.Store(false)
				note := awaitNote(t, r.writes)
				if note.Bucket != back || note.Reason != reason || !note.Paused || note.Meaning == "" || !strings.Contains(note.Remedy, "akigw journal resume back") {
					t.Errorf("%+v", note)
				}
				if n := r.writes.Status().PausedBuckets; n != 1 {
					t.Errorf("%d buckets are paused", n)
				}
				if why := r.writes.ExplainWrite(backKey("k")); !strings.Contains(why, note.Remedy) {
					t.Errorf("explained by %q", why)
				}
				if w := r.ask("root", "GET", "/back/k", "", nil, ""); w.Body.String() != "body" || sentHeader(w, "x-akigw-cache") != "overlay" {
					t.Errorf("GET: %d %s", w.Code, w.Body)
				}
				if w := r.ask("root", "GET", "/back/first", "", nil, ""); w.Code != 404 {
					t.Errorf("GET of what was deleted: %d", w.Code)
				}
				begun := time.Now()
				if w := r.ask("root", "PUT", "/back/k", "tagging=", nil, "<Tagging><TagSet/></Tagging>"); w.Code != 503 || time.Since(begun) > 20*time.Second {
					t.Errorf("what needs the pending write upstream: %d after %v", w.Code, time.Since(begun))
				}
				if _, ok := r.up.Get(backKey("k")); ok {
					t.Error("it was uploaded")
				}
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				if r.writes.DrainAll(ctx); ctx.Err() != nil {
					t.Error("a stop waits for what is held back")
				}
				cancel()
				if operator {
					if err := r.writes.ResumeFlush(back, false); err != nil {
						t.Error(err)
					}
				} else {
					now.Store(nil)
					r.ask("root", "DELETE", "/back", "encryption=", nil, "") // a change: the bucket is asked about again
				}
				r.drained()
				if o, ok := r.up.Get(backKey("k")); !ok || string(o.Body) != "body" {
					t.Errorf("it is not upstream: %t %q", ok, o.Body)
				}
				if n := r.writes.Status().PausedBuckets; n != 0 {
					t.Errorf("%d buckets are paused", n)
				}
				if err := r.writes.ResumeFlush(back, false); err == nil {
					t.Error("what is not paused was resumed")
				}
			})
		}
	}
}

// awaitNote waits until a bucket's pending writes are held back.
func awaitNote(t *testing.T, writes *writeback.WriteBack) buckets.Note {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if notes := writes.Notes(); len(notes) == 1 && notes[0].Paused {
			return notes[0]
		}
	}
	t.Fatalf("nothing is paused: %+v", writes.Notes())
	return buckets.Note{}
}

// TestUnlikeOutlivesAPolicyChange: that a bucket's ETags are others than promised is not forgotten
// when its settings are changed through the gateway, nor by a restart.
func TestUnlikeOutlivesAPolicyChange(t *testing.T) {
	r := newRestartable(t)
	r.up.KMS.Store(true)
	r.up.Before = kmsSays(false)
	r.must("PUT", "/back/first", "", "body", 200)
	r.drained()
	through := func(when string) {
		t.Helper()
		if w := r.ask("root", "PUT", "/back/k", "", nil, "x"); sentHeader(w, "x-akigw-commit") != "upstream" {
			t.Errorf("%s: %d, commit %q", when, w.Code, sentHeader(w, "x-akigw-commit"))
		}
	}
	through("found out")
	r.ask("root", "PUT", "/back", "policy=", nil, "{}")
	through("after a change of the policy")
	r.start()
	through("after a restart")
}

// TestCreateAndDeleteBucketAreFacts: what passes through the gateway is known without asking.
func TestCreateAndDeleteBucketAreFacts(t *testing.T) {
	r := newRestartable(t)
	var there atomic.Bool
	r.up.Before = func(q *cold.Request) (*http.Response, error) {
		switch {
		case q.Op == "CreateBucket":
			there.Store(true)
			return s3mem.Response(200, nil, nil), nil
		case q.Op == "DeleteBucket":
			there.Store(false)
			return s3mem.Response(204, nil, nil), nil
		case !there.Load():
			return s3mem.Response(404, nil, []byte("<Error><Code>NoSuchBucket</Code></Error>")), nil
		}
		return nil, nil
	}
	put := func(status int, commit string) {
		t.Helper()
		if w := r.ask("root", "PUT", "/back/k", "", nil, "x"); w.Code != status || sentHeader(w, "x-akigw-commit") != commit {
			t.Errorf("%d, commit %q; want %d %q", w.Code, sentHeader(w, "x-akigw-commit"), status, commit)
		}
	}
	put(404, "")
	r.ask("root", "PUT", "/back", "", nil, "")
	put(200, "journal")
	r.drained()
	r.ask("root", "DELETE", "/back", "", nil, "")
	put(404, "")
}

// TestUnusualWritesGoThroughFirst: a write whose acceptance depends on the upstream gets the
// upstream's own answer, until that has accepted one of its kind; so for objects, copies,
// uploads in parts and deletions, and over a restart.
func TestUnusualWritesGoThroughFirst(t *testing.T) {
	long := strings.Repeat("x", 300)
	for name, c := range map[string]struct {
		key    string
		header http.Header
	}{
		"storage class":    {"k", http.Header{"X-Amz-Storage-Class": {"STANDARD_IA"}}},
		"website redirect": {"k", http.Header{"X-Amz-Website-Redirect-Location": {"/other"}}},
		"new checksum":     {"k", http.Header{"X-Amz-Checksum-Sha512": {"7iaw3Ur350mqGo7jwQrpkj9hiYB3Lkc/iBml1JQODbJ6wYX4oOHV+E+IvIh/1nsUNzLDBMxfqa2Ob1f1ACio/w=="}}},
		"empty segment":    {"a//b", nil},
		"dot segment":      {"a/../b", nil},
		"leading slash":    {"/a", nil},
		"backslash":        {`a\b`, nil},
		"long segment":     {long, nil},
		"control":          {"a\x01b", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRestartable(t)
			var refuses atomic.Bool
			r.up.Before = func(q *cold.Request) (*http.Response, error) {
				if refuses.Load() && q.Op == "PutObject" && len(buckets.KindsOf(q.Key.Name, q.Header)) > 0 {
					return s3mem.Response(400, nil, []byte("<Error><Code>InvalidStorageClass</Code></Error>")), nil
				}
				return nil, nil
			}
			body := "body"
			if c.header.Get("X-Amz-Checksum-Sha512") != "" {
				body = "test"
			}
			put := func(when string, status int, commit string) {
				t.Helper()
				w := r.ask("root", "PUT", "/back/"+c.key, "", c.header, body)
				if w.Code != status || sentHeader(w, "x-akigw-commit") != commit {
					t.Errorf("%s: %d, commit %q; want %d %q: %s", when, w.Code, sentHeader(w, "x-akigw-commit"), status, commit, w.Body)
				}
			}
			refuses.Store(true)
			put("refused", 400, "")
			refuses.Store(false)
			if c.header == nil {
				if w := r.ask("root", "DELETE", "/back/"+c.key, "", nil, ""); w.Code != 204 || sentHeader(w, "x-akigw-commit") != "upstream" {
					t.Errorf("the first deletion: %d, commit %q", w.Code, sentHeader(w, "x-akigw-commit"))
				}
			}
			put("the first", 200, "upstream")
			put("the second", 200, "journal")
			r.start()
			put("after a restart", 200, "journal")
			if c.header == nil {
				r.must("DELETE", "/back/"+c.key, "", "", 204)
			}
			r.drained()
		})
	}
}

// TestUnusualCopiesAndUploads: copies of what is pending and uploads in parts go through as well,
// and what the upstream accepts of the latter is learned.
func TestUnusualCopiesAndUploads(t *testing.T) {
	class := http.Header{"X-Amz-Storage-Class": {"GLACIER"}}
	r := newRestartable(t)
	r.must("PUT", "/back/source", "", "body", 200)
	copying := class.Clone()
	copying.Set("X-Amz-Copy-Source", "/back/source")
	if w := r.ask("root", "PUT", "/back/copy", "", copying, ""); w.Code != 200 || sentHeader(w, "x-akigw-commit") != "upstream" {
		t.Errorf("a copy: %d, commit %q", w.Code, sentHeader(w, "x-akigw-commit"))
	}
	for i, want := range []bool{false, true} {
		u := r.upload(t, fmt.Sprint("/back/u", i), class)
		if writeback.Local(u.id) != want {
			t.Errorf("upload %d is the journal's: %t", i, !want)
		}
	}
	if w := r.ask("root", "POST", "/back", "delete=", http.Header{"Content-Md5": {md5Of("<Delete><Object><Key>k</Key></Object><Object><Key>a//b</Key></Object></Delete>")}}, "<Delete><Object><Key>k</Key></Object><Object><Key>a//b</Key></Object></Delete>"); sentHeader(w, "x-akigw-commit") == "journal" {
		t.Error("a DeleteObjects that names an unusual key was acknowledged by the journal")
	}
}

// TestCompleteInAChangedBucket: the completion of an upload that was begun in the journal is the
// upstream's when the bucket cannot be written back any more.
func TestCompleteInAChangedBucket(t *testing.T) {
	r := newRestartable(t)
	u := r.upload(t, "/back/k", nil)
	for i, body := range partBodies {
		u.mustPart(i+1, body, nil)
	}
	takeVersioning(r.up.Memory)
	if w := r.ask("root", "PUT", "/back", "versioning=", nil, versioningEnabled); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if w := u.complete(nil); w.Code != 200 || sentHeader(w, "x-akigw-commit") != "upstream" {
		t.Errorf("%d, commit %q: %s", w.Code, sentHeader(w, "x-akigw-commit"), w.Body)
	}
	if o, ok := r.up.Get(backKey("k")); !ok || o.ETag != multipartTag(partBodies...) {
		t.Errorf("%t %s", ok, o.ETag)
	}
}

// TestRefusedFlushTeaches: when the upstream refuses for good what was acknowledged, later writes
// of that kind to the bucket go through, whatever it accepts, and others do not.
func TestRefusedFlushTeaches(t *testing.T) {
	class := http.Header{"X-Amz-Storage-Class": {"STANDARD_IA"}}
	r := newRestartable(t)
	commit := func(name string, h http.Header) string {
		t.Helper()
		w := r.ask("root", "PUT", "/back/"+name, "", h, "body")
		return fmt.Sprint(w.Code, " ", sentHeader(w, "x-akigw-commit"))
	}
	if got := commit("accepted", class); got != "200 upstream" {
		t.Fatal(got)
	}
	var refuses atomic.Bool
	refuses.Store(true)
	r.up.Before = func(q *cold.Request) (*http.Response, error) {
		if refuses.Load() && q.Op == "PutObject" && q.Header.Get("X-Amz-Storage-Class") != "" {
			return s3mem.Response(400, nil, []byte("<Error><Code>InvalidStorageClass</Code></Error>")), nil
		}
		return nil, nil
	}
	if got := commit("refused", class); got != "200 journal" {
		t.Fatal(got)
	}
	for end := time.Now().Add(10 * time.Second); r.writes.Status().Dead == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no dead letter")
		}
	}
	if got := commit("k", class); got != "400 " {
		t.Errorf("the client got %s, and not the upstream's answer", got)
	}
	refuses.Store(false)
	for range 2 {
		if got := commit("k", class); got != "200 upstream" {
			t.Errorf("%s: a kind that was refused is acknowledged again", got)
		}
	}
	if got := commit("plain", nil); got != "200 journal" {
		t.Errorf("an ordinary write: %s", got)
	}
	notes := r.writes.Notes()
	if len(notes) != 1 || notes[0].Bucket != back || strings.Join(notes[0].RefusedKinds, ",") != "storage-class STANDARD_IA" {
		t.Errorf("%+v", notes)
	}
}

// TestRuleThatIsNotHonoured: a bucket that cannot be written back is logged once, counted by its
// reason, and explained.
func TestRuleThatIsNotHonoured(t *testing.T) {
	for name, c := range map[string]struct{ body, reason string }{
		"versioned":     {"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>", "versioned"},
		"another thing": {"<Something><Else/></Something>", "unreadable"},
	} {
		t.Run(name, func(t *testing.T) {
			var logged lines
			b := backBenchLogging(t, byMode{}, testBack, slog.New(slog.NewTextHandler(&logged, nil)))
			b.up.Before = func(q *cold.Request) (*http.Response, error) {
				if q.Op == "GetBucketVersioning" {
					return s3mem.Response(200, nil, []byte(c.body)), nil
				}
				return nil, nil
			}
			counted := b.kit.Metrics.GetOrCreateCounter(`akigw_tiers_back_through_total{reason="` + c.reason + `"}`)
			for range 3 {
				if w := b.ask("root", "PUT", "/back/k", "", nil, "x"); sentHeader(w, "x-akigw-commit") != "upstream" {
					t.Errorf("%d %v", w.Code, w.Header())
				}
			}
			if n := logged.count("reason=" + c.reason); n != 1 {
				t.Errorf("logged %d times: %s", n, logged.String())
			}
			if n := counted.Get(); n != 3 {
				t.Errorf("%d were counted", n)
			}
			if why := b.writes.ExplainWrite(backKey("k")); why == "" {
				t.Error("it is not explained")
			}
			if notes := b.writes.Notes(); len(notes) != 1 || notes[0].Reason != c.reason || notes[0].Paused || notes[0].Meaning == "" {
				t.Errorf("%+v", notes)
			}
		})
	}
	b := backBench(t)
	b.ask("root", "PUT", "/back/k", "", nil, "x")
	if why := b.writes.ExplainWrite(backKey("k")); why != "" || len(b.writes.Notes()) != 0 {
		t.Errorf("a rule that is honoured is explained by %q", why)
	}
}

// TestMotoAnswersAreUnderstood: moto 5.2 answers GetBucketVersioning with another root element.
func TestMotoAnswersAreUnderstood(t *testing.T) {
	b := backBench(t)
	b.up.Before = func(q *cold.Request) (*http.Response, error) {
		switch q.Op {
		case "GetBucketVersioning":
			return s3mem.Response(200, nil, []byte(`<?xml version="1.0" encoding="utf-8"?>`+"\n"+`<GetBucketVersioningResponse xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>`)), nil
		case "GetBucketEncryption":
			return s3mem.Response(404, nil, []byte(`<Error><Code>ServerSideEncryptionConfigurationNotFoundError</Code></Error>`)), nil
		}
		return nil, nil
	}
	if w := b.ask("root", "PUT", "/back/k", "", nil, "x"); sentHeader(w, "x-akigw-commit") != "journal" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

// lines is a log that several write to.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) count(text string) int { return strings.Count(l.String(), text) }

// md5Of is the Content-MD5 of a body.
func md5Of(body string) string {
	sum := md5.Sum([]byte(body))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// TestBadHeadersAreRefusedDuringAnOutage: what is wrong with a write by its headers alone is
// said before the upstream is asked about the bucket.
func TestBadHeadersAreRefusedDuringAnOutage(t *testing.T) {
	r := newRestartable(t)
	r.up.stopped.Store(true)
	for name, header := range map[string]http.Header{
		"InvalidDigest":  {"Content-Md5": {"nonsense"}},
		"InvalidRequest": {"X-Amz-Checksum-Crc32": {"nonsense"}},
	} {
		if w := r.ask("root", "PUT", "/back/k", "", header, "x"); !strings.Contains(w.Body.String(), "<Code>"+name+"</Code>") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	if n := r.up.asked.Load(); n > 0 {
		t.Errorf("the upstream was asked %d times", n)
	}
}

// TestBucketChangeIsOnDisk: what was known of a bucket is not back after a crash once the client
// has the answer to its change.
func TestBucketChangeIsOnDisk(t *testing.T) {
	r := newRestartable(t)
	r.must("PUT", "/back/k", "", "x", 200)
	r.drained()
	if w := r.ask("root", "PUT", "/back", "policy", nil, "{}"); w.Code >= 300 {
		t.Fatal(w.Code, w.Body)
	}
	records, err := facts.Read(filepath.Join(r.dir, "bucket-facts"))
	if err != nil || len(records) != 1 || records[0].Epoch == 0 {
		t.Errorf("%+v, %v", records, err)
	}
}
