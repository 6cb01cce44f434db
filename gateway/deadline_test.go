package gateway

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/gateway/limits"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

// hanging is an upstream that does not answer some operations, and knows its deadlines
// and when it is suspect, as cold.Upstreams does.
type hanging struct {
	*s3mem.Memory
	limits cold.Deadlines

	mu      sync.Mutex
	ops     []string      // that are not answered; guarded by mu
	delay   time.Duration // after which they are all the same, 0 for never; guarded by mu
	suspect bool          // guarded by mu
	begins  chan struct{} // guarded by mu

	// stall, if set, makes all answers.
	stall func(ctx context.Context) *http.Response
}

func (h *hanging) hang(ops ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = ops
}

func (h *hanging) Deadlines(string) cold.Deadlines { return h.limits }

func (h *hanging) Suspect(string) (bool, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.suspect, h.begins
}

func (h *hanging) becomeSuspect() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.suspect = true
	close(h.begins)
}

func (h *hanging) Do(ctx context.Context, r *cold.Request) (*http.Response, error) {
	h.mu.Lock()
	hangs, delay, suspect := slices.Contains(h.ops, r.Op), h.delay, h.suspect
	h.mu.Unlock()
	if suspect {
		return nil, fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, cold.ErrSuspect)
	}
	if h.stall != nil {
		return h.stall(ctx), nil
	}
	if !hangs {
		return h.Memory.Do(ctx, r)
	}
	if r.Body != nil {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return nil, fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, err)
		}
	}
	var answer <-chan time.Time
	if delay > 0 {
		answer = time.After(delay)
	}
	select {
	case <-answer:
		return h.Memory.Do(ctx, r)
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, context.Cause(ctx))
	}
}

// hangBench is a gateway over an upstream that can hang.
func hangBench(t *testing.T, settings rules.Settings) (*bench, *hanging) {
	t.Helper()
	up := &hanging{Memory: s3mem.New(), limits: cold.Deadlines{Read: 15 * time.Second, Write: 30 * time.Second, Long: 10 * time.Minute}, begins: make(chan struct{})}
	log := slog.New(slog.DiscardHandler)
	settings.Memory, settings.Block = true, 64<<10
	config := tiers.Config{HotBytes: 8 << 20, BlockBytes: 64 << 10, SmallBytes: 4 << 10, FetchBytes: 128 << 10, ParallelFetches: 4, MD5ETags: true}
	store, err := tiers.New(tiers.Options{Config: config, Rules: rules.NewSet(nil, settings), Upstream: up, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return &bench{up: up.Memory, store: store, g: New(Options{Verifier: &sigv4.Verifier{Region: "us-east-1", Keys: rootAlone}, Policies: rootAlone, Store: store, Upstream: up, Log: log})}, up
}

// TestOneDeadlineForACall: whatever it is that waits for the upstream, the answer comes
// within the deadline of the operation, and says to try again.
func TestOneDeadlineForACall(t *testing.T) {
	for _, c := range []struct {
		name, method, path, query string
		header                    http.Header
		body                      string
		hang                      []string
		want                      time.Duration
	}{
		{name: "a strict hit", method: "GET", path: "/bucket/known", hang: []string{"HeadObject"}, want: 15 * time.Second},
		{name: "a strict hit by HEAD", method: "HEAD", path: "/bucket/known", hang: []string{"HeadObject"}, want: 15 * time.Second},
		{name: "a miss", method: "GET", path: "/bucket/other", hang: []string{"GetObject"}, want: 15 * time.Second},
		{name: "a miss under a condition", method: "GET", path: "/bucket/other", header: http.Header{"If-Match": {`"x"`}}, hang: []string{"HeadObject"}, want: 15 * time.Second},
		{name: "a listing", method: "GET", path: "/bucket", query: "list-type=2", hang: []string{"ListObjectsV2"}, want: 15 * time.Second},
		{name: "a deletion", method: "DELETE", path: "/bucket/known", hang: []string{"DeleteObject"}, want: 15 * time.Second},
		{name: "tags", method: "GET", path: "/bucket/known", query: "tagging", hang: []string{"GetObjectTagging"}, want: 15 * time.Second},
		{name: "PUT", method: "PUT", path: "/bucket/k", body: "body", hang: []string{"PutObject"}, want: 30 * time.Second},
		{name: "PUT of much", method: "PUT", path: "/bucket/k", body: strings.Repeat("body", 100_000), hang: []string{"PutObject"}, want: 30 * time.Second},
		{name: "PUT with a tag", method: "PUT", path: "/bucket/k", header: http.Header{"X-Amz-Tagging": {"a=b"}}, body: "body", hang: []string{"PutObject"}, want: 30 * time.Second},
		{name: "DeleteObjects", method: "POST", path: "/bucket", query: "delete", body: "<Delete><Object><Key>k</Key></Object></Delete>", hang: []string{"DeleteObjects"}, want: 10 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, up := hangBench(t, rules.Settings{Freshness: rules.Strict})
				up.Put(akigw.Key{Bucket: "bucket", Name: "known"}, []byte("known"))
				b.ask("root", "GET", "/bucket/known", "", nil, "")
				up.hang(c.hang...)
				start := time.Now()
				w := b.ask("root", c.method, c.path, c.query, c.header, c.body)
				if took := time.Since(start); w.Code != 503 || w.Header().Get("Retry-After") == "" || took != c.want {
					t.Errorf("%d after %v, want 503 after %v: %s", w.Code, took, c.want, w.Body)
				}
			})
		})
	}
}

// TestSlowBodyHasItsWholeDeadline: the clock of a write begins with the last byte of a
// body that takes its time, and it counts what was used up before one that was there.
func TestSlowBodyHasItsWholeDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, up := hangBench(t, rules.Settings{Freshness: rules.Strict})
		up.hang("PutObject")
		size := 100 << 10
		r := &http.Request{Method: "PUT", URL: &url.URL{Path: "/bucket/k"}, Host: "s3.example.com", Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "127.0.0.1:1"}
		s3client.Signing{AccessKey: "root", Secret: tenantSecret, Body: make([]byte, size)}.Sign(r)
		body := &slowReader{left: size, pause: time.Minute}
		r.Body = io.NopCloser(body)
		start := time.Now()
		w := b.answer(r)
		if took := time.Since(body.last); w.Code != 503 || took != 30*time.Second || body.last.Sub(start) < 5*time.Minute {
			t.Errorf("%d, %v after the last byte, want 503 after 30 s: %s", w.Code, took, w.Body)
		}
	})
}

// slowReader brings a few bytes at a time, after a pause.
type slowReader struct {
	left  int
	pause time.Duration
	last  time.Time // when it brought the last of them
}

func (s *slowReader) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(s.pause)
	n := min(len(p), s.left, 16<<10)
	s.left -= n
	s.last = time.Now()
	clear(p[:n])
	return n, nil
}

// TestBodyOfAnAnswerHasNoDeadline: once the head of an answer is sent, the rest may
// take as long as it makes progress.
func TestBodyOfAnAnswerHasNoDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, up := hangBench(t, rules.Settings{Freshness: rules.Strict})
		body := testkit.Bytes(1, 1<<20)
		up.Put(akigw.Key{Bucket: "bucket", Name: "k"}, body)
		up.After = func(r *cold.Request, resp *http.Response) {
			if r.Op == "GetObject" {
				resp.Body = &trickle{resp.Body, 10 * time.Second}
			}
		}
		w := b.ask("root", "GET", "/bucket/k", "", nil, "")
		if w.Code != 200 || w.Body.Len() != len(body) {
			t.Errorf("%d with %d bytes of %d", w.Code, w.Body.Len(), len(body))
		}
	})
}

// trickle pauses before each read.
type trickle struct {
	io.ReadCloser
	pause time.Duration
}

func (s *trickle) Read(p []byte) (int, error) {
	time.Sleep(s.pause)
	return s.ReadCloser.Read(p[:min(len(p), 64<<10)])
}

// TestStaleWhileSuspect: in mode ttl a hit that may be served stale waits for nothing
// while the upstream is suspect, and those that wait already do not either. A client
// that asks for more is not served stale, nor is what a write has replaced.
func TestStaleWhileSuspect(t *testing.T) {
	settings := rules.Settings{Freshness: rules.TTL, TTL: time.Minute, MaxStale: time.Hour}
	synctest.Test(t, func(t *testing.T) {
		b, up := hangBench(t, settings)
		for _, name := range []string{"k", "written"} {
			up.Put(akigw.Key{Bucket: "bucket", Name: name}, []byte("body"))
			b.ask("root", "GET", "/bucket/"+name, "", nil, "")
		}
		time.Sleep(2 * time.Minute)
		up.hang("HeadObject", "GetObject", "PutObject")
		stale := func(method string) time.Duration {
			start := time.Now()
			w := b.ask("root", method, "/bucket/k", "", nil, "")
			if w.Code != 200 || sentHeader(w, "x-akigw-cache") != "stale" || !strings.HasPrefix(w.Header().Get("Warning"), "110") {
				t.Errorf("%s: %d %v", method, w.Code, w.Header())
			}
			return time.Since(start)
		}
		var waiting sync.WaitGroup
		waiting.Go(func() {
			if took := stale("GET"); took != 5*time.Second {
				t.Errorf("who waited when the suspicion began was answered after %v", took)
			}
		})
		waiting.Go(func() { // before its deadline, not at it
			if w := b.ask("root", "PUT", "/bucket/written", "", nil, "new"); w.Code != 503 {
				t.Errorf("PUT: %d", w.Code)
			}
		})
		time.Sleep(5 * time.Second)
		up.becomeSuspect()
		waiting.Wait()
		for _, method := range []string{"GET", "HEAD"} {
			if took := stale(method); took != 0 {
				t.Errorf("%s of a stale hit took %v", method, took)
			}
		}
		for name, header := range map[string]http.Header{"no-cache": {"Cache-Control": {"no-cache"}}, "max-age": {"Cache-Control": {"max-age=10"}}} {
			start := time.Now()
			if w := b.ask("root", "GET", "/bucket/k", "", header, ""); w.Code != 503 || time.Since(start) != 0 {
				t.Errorf("%s: %d after %v", name, w.Code, time.Since(start))
			}
		}
		if w := b.ask("root", "GET", "/bucket/written", "", nil, ""); w.Code != 503 {
			t.Errorf("what a write of unknown outcome may have replaced: %d %v", w.Code, w.Header())
		}
		time.Sleep(2 * time.Hour)
		if w := b.ask("root", "GET", "/bucket/k", "", nil, ""); w.Code != 503 {
			t.Errorf("past max_stale_secs: %d %v", w.Code, w.Header())
		}
	})
}

// TestStaleWithoutSuspicion: a hit that may be served stale is, shortly before its
// deadline, or after stale_after_ms, and then the validation goes on.
func TestStaleWithoutSuspicion(t *testing.T) {
	for _, c := range []struct{ after, want time.Duration }{{0, 13500 * time.Millisecond}, {200 * time.Millisecond, 200 * time.Millisecond}} {
		synctest.Test(t, func(t *testing.T) {
			b, up := hangBench(t, rules.Settings{Freshness: rules.TTL, TTL: time.Minute, MaxStale: time.Hour, StaleAfter: c.after})
			up.Put(akigw.Key{Bucket: "bucket", Name: "k"}, []byte("body"))
			b.ask("root", "GET", "/bucket/k", "", nil, "")
			time.Sleep(2 * time.Minute)
			up.hang("HeadObject")
			up.delay = 14 * time.Second
			start := time.Now()
			w := b.ask("root", "GET", "/bucket/k", "", nil, "")
			if took := time.Since(start); w.Code != 200 || sentHeader(w, "x-akigw-cache") != "stale" || took.Round(time.Millisecond) != c.want {
				t.Errorf("after %v: %d %v", took, w.Code, w.Header())
			}
			time.Sleep(15 * time.Second)
			if w := b.ask("root", "GET", "/bucket/k", "", nil, ""); sentHeader(w, "x-akigw-cache") != "hot" {
				t.Errorf("after the validation: %d %v", w.Code, w.Header())
			}
		})
	}
}

// TestUnknownOutcomeStaysFenced: a write that met its deadline may still be carried
// out, so that what is read meanwhile is not trusted when it has been.
func TestUnknownOutcomeStaysFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, up := hangBench(t, rules.Settings{Freshness: rules.Exclusive})
		key := akigw.Key{Bucket: "bucket", Name: "k"}
		up.Put(key, []byte("old"))
		read := func() string { return b.ask("root", "GET", "/bucket/k", "", nil, "").Body.String() }
		if read() != "old" || read() != "old" {
			t.Fatal("not cached")
		}
		up.hang("PutObject")
		if w := b.ask("root", "PUT", "/bucket/k", "", nil, "new"); w.Code != 503 {
			t.Fatal(w.Code)
		}
		up.hang()
		if read() != "old" || read() != "old" { // the upstream has not carried it out
			t.Fatal("changed too early")
		}
		time.Sleep(10 * time.Minute)
		up.Put(key, []byte("new")) // now it has
		if got := read(); got != "new" {
			t.Errorf("an old answer is trusted: %q", got)
		}
		time.Sleep(10 * time.Minute) // the fence is gone
		before := up.Count("HEAD") + up.Count("GET")
		read()
		read()
		if n := up.Count("HEAD") + up.Count("GET") - before; n > 1 {
			t.Errorf("%d requests after the fence was gone: nothing is cached any more", n)
		}
	})
}

// TestLongOperationsAreKeptAlive: whose clients wait long get white space, and the
// outcome in the body of a 200; those whose answer comes soon get it as it is.
func TestLongOperationsAreKeptAlive(t *testing.T) {
	complete := "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>"
	for _, c := range []struct {
		name, op, method, query string
		header                  http.Header
		body                    string
	}{
		{"CompleteMultipartUpload", "CompleteMultipartUpload", "POST", "uploadId=u", nil, complete},
		{"CopyObject", "CopyObject", "PUT", "", http.Header{"X-Amz-Copy-Source": {"/bucket/source"}}, ""},
		{"UploadPartCopy", "UploadPartCopy", "PUT", "partNumber=1&uploadId=u", http.Header{"X-Amz-Copy-Source": {"/bucket/source"}}, ""},
	} {
		for _, outcome := range []struct {
			name     string
			delay    time.Duration // 0 for never
			status   int
			document string
			want     string // the root of the document
			code     int
			took     time.Duration
		}{
			{"soon", time.Second, 200, "<?xml version=\"1.0\"?>\n<Result><A/></Result>", "Result", 200, time.Second},
			{"refused soon", time.Second, 404, "<Error><Code>NoSuchUpload</Code></Error>", "Error", 404, time.Second},
			{"late", 65 * time.Second, 200, "<?xml version=\"1.0\"?>\n  <Result><A/></Result>", "Result", 200, 65 * time.Second},
			{"refused late", 65 * time.Second, 404, "<Error><Code>NoSuchUpload</Code></Error>", "Error", 200, 65 * time.Second},
			{"refused late without a word", 65 * time.Second, 500, "", "Error", 200, 65 * time.Second},
			{"never", 0, 0, "", "Error", 200, 10 * time.Minute},
		} {
			t.Run(c.name+"/"+outcome.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b, up := hangBench(t, rules.Settings{Freshness: rules.Strict})
					up.hang(c.op)
					up.delay = outcome.delay
					up.Before = func(r *cold.Request) (*http.Response, error) {
						if r.Op == c.op {
							return s3mem.Response(outcome.status, http.Header{"Content-Type": {"application/xml"}}, []byte(outcome.document)), nil
						}
						return nil, nil
					}
					start := time.Now()
					w := b.ask("root", c.method, "/bucket/k", c.query, c.header, c.body)
					if took := time.Since(start); w.Code != outcome.code || took != outcome.took {
						t.Errorf("%d after %v, want %d after %v", w.Code, took, outcome.code, outcome.took)
					}
					var root struct{ XMLName xml.Name }
					if err := xml.Unmarshal(w.Body.Bytes(), &root); err != nil || root.XMLName.Local != outcome.want {
						t.Errorf("%q: %v", w.Body, err)
					}
					if pieces := strings.Count(w.Body.String(), " "); outcome.took > keepAliveEvery && pieces < int(outcome.took/keepAliveEvery)-1 {
						t.Errorf("%d pieces of white space in %v: %q", pieces, outcome.took, w.Body)
					}
				})
			})
		}
	}
}

// TestKeepAliveOfAPanic: a panic while a client is kept waiting ends that request only.
func TestKeepAliveOfAPanic(t *testing.T) {
	b, up := hangBench(t, rules.Settings{Freshness: rules.Strict})
	up.Before = func(*cold.Request) (*http.Response, error) { panic("planted") }
	w := b.ask("root", "PUT", "/bucket/k", "", http.Header{"X-Amz-Copy-Source": {"/bucket/source"}}, "")
	if w.Code != 500 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestDocumentsThatDoNotCome: a document is waited for before the head of its answer is
// sent, so that one whose upstream stalls in the middle is a 503, or an error document for
// which the client was kept waiting, and not a broken answer.
func TestDocumentsThatDoNotCome(t *testing.T) {
	for _, c := range []struct {
		name, method, path, query string
		header                    http.Header
		code                      int
		took                      time.Duration
	}{
		{"a listing", "GET", "/bucket", "list-type=2", nil, 503, 15 * time.Second},
		{"tags", "GET", "/bucket/k", "tagging", nil, 503, 15 * time.Second},
		{"a copy", "PUT", "/bucket/k", "", http.Header{"X-Amz-Copy-Source": {"/bucket/source"}}, 200, 10 * time.Minute},
	} {
		for _, known := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, length known: %t", c.name, known), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b, up := hangBench(t, rules.Settings{Freshness: rules.Strict})
					up.stall = func(ctx context.Context) *http.Response {
						resp := s3mem.Response(200, http.Header{"Content-Type": {"application/xml"}}, []byte("<Result>"))
						resp.ContentLength = -1
						if known {
							resp.ContentLength = 100
						}
						resp.Body = io.NopCloser(io.MultiReader(resp.Body, stuck{ctx}))
						return resp
					}
					start := time.Now()
					w := b.ask("root", c.method, c.path, c.query, c.header, "")
					if took := time.Since(start); w.Code != c.code || took != c.took || !strings.Contains(w.Body.String(), "<Code>ServiceUnavailable</Code>") {
						t.Errorf("%d after %v, want %d after %v: %s", w.Code, took, c.code, c.took, w.Body)
					}
				})
			})
		}
	}
}

// stuck is the rest of a body that does not come.
type stuck struct{ ctx context.Context }

func (s stuck) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

// TestDeadlineIsAContext: what is made of it ends with it, and knows why.
func TestDeadlineIsAContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		d := &deadline{Context: context.WithValue(t.Context(), key{}, "value")}
		d.begin(time.Second)
		if d.inner != nil {
			t.Error("it costs something before anybody waits")
		}
		child, cancel := context.WithCancel(d)
		defer cancel()
		if child.Value(key{}) != "value" {
			t.Error("values are lost")
		}
		if at, ok := d.Deadline(); !ok || time.Until(at) != time.Second {
			t.Errorf("deadline %v %t", at, ok)
		}
		<-child.Done()
		if !errors.Is(context.Cause(child), cold.ErrDeadline) || !errors.Is(child.Err(), context.Canceled) || !d.met() {
			t.Errorf("%v %v", context.Cause(child), child.Err())
		}
		d.release()
	})
}

// TestDeadlineIsReleasedWhileSomebodyWaits: a request that goes on in the background when its call
// has been answered may be the first to wait for the deadline.
func TestDeadlineIsReleasedWhileSomebodyWaits(t *testing.T) {
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		d := &deadline{Context: ctx}
		d.begin(time.Hour)
		var all sync.WaitGroup
		all.Go(d.release)
		all.Go(func() {
			cancel()
			<-d.Done()
		})
		all.Wait()
	}
}

// TestPacedErrorAtTheDeadline: the answer of a call that met its deadline is whole, also where
// answers go no faster than a limit allows.
func TestPacedErrorAtTheDeadline(t *testing.T) {
	for op, c := range map[string]struct {
		method string
		header http.Header
		code   int
	}{
		"GetObject":  {"GET", nil, 503},
		"CopyObject": {"PUT", http.Header{"X-Amz-Copy-Source": {"/bucket/source"}}, 200}, // kept waiting
	} {
		t.Run(op, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, up := hangBench(t, rules.Settings{Freshness: rules.Strict})
				qos, err := limits.NewQoS([]limits.QoSConfig{{Name: "bucket", IdentityBytes: 64 << 10}}, byBucket{}, nil)
				if err != nil {
					t.Fatal(err)
				}
				b.reconfigure(func(o *Options) { o.QoS = qos })
				up.hang(op)
				w := b.ask("root", c.method, "/bucket/k", "", c.header, "")
				if w.Code != c.code || !strings.Contains(w.Body.String(), "<Code>ServiceUnavailable</Code>") {
					t.Errorf("%d %q", w.Code, w.Body)
				}
			})
		})
	}
}

// TestUnknownAnswersAreNotHeldBack: nobody knows what an operation that is not in the table is
// answered with. MinIO's events of a bucket, for one, come as they happen, and never end.
func TestUnknownAnswersAreNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, up := hangBench(t, rules.Settings{Freshness: rules.Strict})
		up.stall = func(ctx context.Context) *http.Response {
			resp := s3mem.Response(200, nil, []byte(`{"Records":[]}`))
			resp.ContentLength, resp.Body = -1, io.NopCloser(io.MultiReader(resp.Body, stuck{ctx}))
			return resp
		}
		ctx, leave := context.WithCancel(t.Context())
		r := httptest.NewRequest("GET", "http://s3.example.com/bucket?events=s3:ObjectCreated:*", nil).WithContext(ctx)
		s3client.Signing{AccessKey: "root", Secret: tenantSecret}.Sign(r)
		w := httptest.NewRecorder()
		var served sync.WaitGroup
		served.Go(func() { b.g.ServeHTTP(w, r) })
		time.Sleep(time.Second)
		synctest.Wait()
		if w.Code != 200 || w.Body.String() != `{"Records":[]}` || !w.Flushed {
			t.Errorf("%d %q, flushed: %t", w.Code, w.Body, w.Flushed)
		}
		leave()
		served.Wait()
	})
}
