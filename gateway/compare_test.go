package gateway

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/compare"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/storekit"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

// comparedByMode is byMode with every answer compared.
type comparedByMode struct{ byMode }

func (c comparedByMode) For(bucket, key string) *rules.Settings {
	s := *c.byMode.For(bucket, key)
	s.Compare = 1
	return &s
}

// comparedBench is a gateway whose answers from the cache are all compared with the upstream's.
func comparedBench(t *testing.T, o compare.Options) (*bench, *compare.Comparer) {
	t.Helper()
	up, log := s3mem.New(), slog.New(slog.DiscardHandler)
	config := tiers.Config{HotBytes: 8 << 20, BlockBytes: 64 << 10, SmallBytes: 4 << 10, FetchBytes: 128 << 10, ParallelFetches: 4, MD5ETags: true}
	back := testBack
	back.Dir = t.TempDir()
	kit := openKit(t, storekit.Options{Cache: config, Back: back, Batch: testBatch, Rules: comparedByMode{}, Upstream: up, Log: log})
	t.Cleanup(func() { kit.Close() })
	b := kitBench(kit, up, up, log)
	if o.Upstream == nil {
		o.Upstream = up
	}
	if o.Config == (compare.Config{}) {
		o.Config = compare.Config{MaxRequests: 10_000, MaxBytes: 1 << 30}
	}
	c := compare.New(o)
	b.reconfigure(func(g *Options) { g.Compare = c })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b, c
}

// settle waits until all that was offered is compared. synctest.Wait is too short for that: it returns
// while a comparison sleeps because of max_bytes_per_sec.
func settle() { time.Sleep(time.Minute) }

// signedRequest returns a request of root without a body.
func signedRequest(method, path string) *http.Request {
	r := &http.Request{Method: method, URL: &url.URL{Path: path}, Host: "s3.example.com", Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "127.0.0.1:1"}
	s3client.Signing{AccessKey: "root", Secret: tenantSecret}.Sign(r)
	return r
}

// compared returns how many answers were compared, and how many were skipped.
func compared(r compare.Report) (n, skipped uint64) {
	for _, k := range r.Compared {
		n += k
	}
	for _, k := range r.Skipped {
		skipped += k
	}
	return n, skipped
}

// TestPlantedDifferences: of 100 objects behind an immutable rule 50 are changed in the upstream: replaced,
// given another header, or deleted. A comparison of all answers finds each of them, whatever is read
// of it, and nothing else.
func TestPlantedDifferences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := comparedBench(t, compare.Options{})
		planted := map[string]string{}
		sizes := []int{0, 100, 5000, 100_000}
		for i := range 100 {
			b.up.PutStored(keyOf("immutable", fmt.Sprint(i)), s3mem.Stored{Body: testkit.Bytes(uint64(i), sizes[i%4]), ETag: fmt.Sprintf("%q", fmt.Sprint(i)), Modified: time.Now().Add(-time.Hour), Header: http.Header{"X-Amz-Meta-Color": {"blue"}}})
		}
		read := func(i int) {
			path, method, header := fmt.Sprintf("/immutable/%d", i), "GET", http.Header{}
			switch {
			case i%5 == 1:
				method = "HEAD"
			case i%5 == 2 && sizes[i%4] > 0:
				header.Set("Range", "bytes=10-50")
			}
			if w := b.ask("root", method, path, "", header, ""); w.Code/100 != 2 {
				t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
			}
		}
		for range 2 {
			for i := range 100 {
				read(i)
			}
			settle()
		}
		if r := c.Report(); r.Compared[compare.Equal] != 100 || len(r.Differences)+len(r.Allowed) > 0 {
			t.Fatalf("before anything was planted: %v %v %+v", r.Compared, r.Skipped, r.Differences)
		}
		for i := range 50 {
			key := keyOf("immutable", fmt.Sprint(2*i))
			o, _ := b.up.Get(key)
			switch i % 3 {
			case 0:
				b.up.Put(key, []byte("replaced"))
				planted[key.Name] = "Etag"
			case 1:
				o.Header = http.Header{"X-Amz-Meta-Color": {"red"}}
				b.up.PutStored(key, o)
				planted[key.Name] = "X-Amz-Meta-Color"
			case 2:
				b.up.Delete(key)
				planted[key.Name] = "status"
			}
		}
		for i := range 100 {
			read(i)
		}
		settle()
		r, found := c.Report(), map[string]string{}
		for _, d := range r.Differences {
			if !slices.Contains(d.Differs, planted[d.Key]) {
				// A range of a body that has become shorter is a 416.
				if d.Range == "" || !slices.Equal(d.Differs, []string{"status"}) {
					t.Errorf("%s %s %s differs in %q, planted was %q", d.Method, d.Key, d.Range, d.Differs, planted[d.Key])
				}
			}
			found[d.Key] = planted[d.Key]
		}
		if !maps.Equal(found, planted) || len(planted) != 50 || r.Compared[compare.Different] != 50 || r.Compared[compare.Equal] != 150 {
			t.Errorf("%d of %d planted differences found; %v %v", len(found), len(planted), r.Compared, r.Skipped)
		}
	})
}

// TestHourWithoutDifferences: clients read and write through the gateway for an hour, in all freshness
// modes and written back, while others write to the buckets whose mode expects that, and requests to the
// upstream take their time. All answers from the cache are compared, and none is reported.
func TestHourWithoutDifferences(t *testing.T) {
	testkit.WithoutRace(t, "it is about time that passes; other tests compare with the race detector")
	random := testkit.Random(t)
	seed := random.Uint64()
	synctest.Test(t, func(t *testing.T) {
		b, c := comparedBench(t, compare.Options{})
		late := &latency{random: rand.New(rand.NewPCG(seed, 0))}
		b.up.Before = func(*cold.Request) (*http.Response, error) {
			late.wait()
			return nil, nil
		}
		b.up.After = func(*cold.Request, *http.Response) { late.wait() }
		b.runPool(t)
		var clients sync.WaitGroup
		end := time.Now().Add(time.Hour)
		for n := range uint64(6) {
			clients.Go(func() {
				visitor := &visitor{b: b, random: rand.New(rand.NewPCG(seed, n+1))}
				for time.Now().Before(end) {
					visitor.step()
					time.Sleep(time.Duration(visitor.random.ExpFloat64() * float64(2*time.Second)))
				}
			})
		}
		clients.Wait()
		time.Sleep(time.Minute)
		r := c.Report()
		n, skipped := compared(r)
		t.Logf("%d compared: %v; %d not: %v", n, r.Compared, skipped, r.Skipped)
		for _, d := range r.Differences[:min(5, len(r.Differences))] {
			t.Errorf("%+v", d)
		}
		if r.Compared[compare.Different] > 0 || r.Compared[compare.Equal] < 1000 || r.Compared[compare.Allowed] == 0 || r.Skipped[compare.Changed] == 0 || r.Skipped[compare.Conditional] == 0 {
			t.Errorf("%v %v", r.Compared, r.Skipped)
		}
	})
}

// latency makes requests take up to 100 ms: long enough that some objects change while they are
// compared.
type latency struct {
	mu     sync.Mutex
	random *rand.Rand
}

func (l *latency) wait() {
	l.mu.Lock()
	d := time.Duration(l.random.Int64N(int64(100 * time.Millisecond)))
	l.mu.Unlock()
	time.Sleep(d)
}

// visitor is one client of many, who sometimes goes past the gateway.
type visitor struct {
	b      *bench
	random *rand.Rand
}

// step sends a request about one of a few keys.
func (v *visitor) step() {
	buckets := []string{"strict", "ttl", "immutable", "exclusive", "events", back}
	bucket := buckets[v.random.IntN(len(buckets))]
	key := keyOf(bucket, fmt.Sprint(v.random.IntN(4)))
	path := "/" + key.Bucket + "/" + key.Name
	others := bucket == "strict" || bucket == "ttl" || bucket == "events"
	body := testkit.Bytes(v.random.Uint64(), []int{0, 100, 3000, 150_000}[v.random.IntN(4)])
	switch n := v.random.IntN(100); {
	case n < 50:
		v.b.ask("root", "GET", path, "", nil, "")
	case n < 60:
		v.b.ask("root", "HEAD", path, "", nil, "")
	case n < 68:
		v.b.ask("root", "GET", path, "", http.Header{"Range": {"bytes=20-90000"}}, "")
	case n < 72:
		v.b.ask("root", "GET", path, "response-content-type=a%2Fb", http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}, "")
	case n < 76:
		w := v.b.ask("root", "HEAD", path, "", nil, "")
		v.b.ask("root", "GET", path, "", http.Header{"If-None-Match": {tagOf(w)}}, "")
	case n < 86:
		v.b.ask("root", "PUT", path, "", http.Header{"X-Amz-Meta-N": {fmt.Sprint(v.random.IntN(1000))}}, string(body))
	case n < 88:
		v.b.ask("root", "DELETE", path, "", nil, "")
	case n < 90:
		v.b.ask("root", "PUT", path, "", http.Header{"X-Amz-Copy-Source": {path}, "X-Amz-Metadata-Directive": {"REPLACE"}, "X-Amz-Meta-N": {"copied"}}, "")
	case n < 97 && others:
		v.b.up.Put(key, body)
	case others:
		v.b.up.Delete(key)
	}
}

// TestComparisonNeverDelays: an answer from the cache is sent before the upstream is asked for a
// comparison, at once, while the upstream hangs, and it has what it has without comparisons.
func TestComparisonNeverDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung := &hungUpstream{}
		b, c := comparedBench(t, compare.Options{Upstream: hung})
		b.up.Put(keyOf("immutable", "k"), testkit.Bytes(1, 300_000))
		ask := func(method string) *httptest.ResponseRecorder {
			return b.ask("root", method, "/immutable/k", "", nil, "")
		}
		ask("GET")
		start := time.Now()
		for range 100 {
			for _, method := range []string{"GET", "HEAD"} {
				if w := ask(method); w.Code != 200 || sentHeader(w, "x-akigw-cache") != "hot" || !w.Flushed {
					t.Fatalf("%d %v, sent first: %t", w.Code, w.Header(), w.Flushed)
				}
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the answers took %v", took)
		}
		synctest.Wait()
		if hung.asked.Load() == 0 {
			t.Error("the upstream was not asked")
		}
		time.Sleep(2 * time.Hour)
		if r := c.Report(); r.Skipped[compare.Unanswered] != 200 {
			t.Errorf("%v %v", r.Compared, r.Skipped)
		}
		plain := b.g.options
		plain.Compare = nil
		with := ask("GET")
		b.g = New(plain)
		without := ask("GET")
		for _, w := range []*httptest.ResponseRecorder{with, without} {
			for _, name := range []string{"x-amz-request-id", "x-amz-id-2", "Age"} {
				delete(w.Header(), name)
			}
		}
		if with.Body.String() != without.Body.String() || fmt.Sprint(with.Header()) != fmt.Sprint(without.Header()) {
			t.Errorf("%v, without comparisons %v", with.Header(), without.Header())
		}
	})
}

// hungUpstream never answers.
type hungUpstream struct{ asked atomic.Int64 }

func (h *hungUpstream) Do(ctx context.Context, _ *cold.Request) (*http.Response, error) {
	h.asked.Add(1)
	<-ctx.Done()
	return nil, fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, ctx.Err())
}

// TestWhatIsCompared: hits that were authorised are, requests are signed anew without anything of the
// client's URL, and what has no equal upstream is counted.
func TestWhatIsCompared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spy := &spyUpstream{}
		b, c := comparedBench(t, compare.Options{Upstream: spy})
		spy.Memory = b.up
		b.up.Put(keyOf("immutable", "k"), testkit.Bytes(1, 5000))
		b.up.Put(keyOf("ttl", "k"), []byte("body"))
		b.ask("root", "GET", "/immutable/k", "", nil, "")
		tag := tagOf(b.ask("root", "GET", "/ttl/k", "", nil, ""))
		if b.ask("root", "PUT", "/back/k", "", nil, "pending"); spy.last() != nil {
			t.Fatalf("a miss or a write was compared: %+v", spy.last())
		}
		for _, one := range []struct {
			name, method, path, query string
			header                    http.Header
			who                       string
			reason                    compare.Reason // "" if it is compared
			none                      bool
		}{
			{name: "GET", method: "GET", path: "/immutable/k"},
			{name: "HEAD", method: "HEAD", path: "/immutable/k"},
			{name: "a range", method: "GET", path: "/immutable/k", header: http.Header{"Range": {"bytes=-7"}}},
			{name: "an override", method: "GET", path: "/immutable/k", query: "response-content-type=a%2Fb&response-content-disposition=x"},
			{name: "a condition that is met", method: "GET", path: "/ttl/k", header: http.Header{"If-Match": {tag}}},
			{name: "a 304", method: "GET", path: "/ttl/k", header: http.Header{"If-None-Match": {tag}}, reason: compare.Conditional},
			{name: "a 412", method: "HEAD", path: "/ttl/k", header: http.Header{"If-Match": {`"x"`}}, reason: compare.Conditional},
			{name: "a 416", method: "GET", path: "/immutable/k", header: http.Header{"Range": {"bytes=9999-"}}, reason: compare.Conditional},
			{name: "not authorised", method: "GET", path: "/immutable/k", who: "nobody", none: true},
			{name: "past the cache", method: "GET", path: "/immutable/k", header: http.Header{"Origin": {"http://page"}}, none: true},
			{name: "pending", method: "GET", path: "/back/k", none: true},
			{name: "another operation", method: "GET", path: "/immutable/k", query: "tagging", none: true},
		} {
			spy.forget()
			before, skippedBefore := compared(c.Report())
			who := "root"
			if one.who != "" {
				who = one.who
			}
			b.ask(who, one.method, one.path, one.query, one.header, "")
			synctest.Wait()
			r := c.Report()
			n, skipped := compared(r)
			switch asked := spy.last(); {
			case one.none || one.reason != "":
				if n != before || asked != nil || (skipped != skippedBefore) == one.none || one.reason != "" && r.Skipped[one.reason] == 0 {
					t.Errorf("%s: compared %d, skipped %v, asked %+v", one.name, n-before, r.Skipped, asked)
				}
			case n != before+1 || asked == nil || r.Compared[compare.Equal] != n:
				t.Errorf("%s: %v %v %+v", one.name, r.Compared, r.Skipped, r.Differences)
			default:
				if sent := asked.Header; len(asked.Query) > 0 || sent.Get("Authorization")+sent.Get("X-Amz-Date")+sent.Get("If-Match") != "" || asked.Method != one.method {
					t.Errorf("%s: sent %+v", one.name, asked)
				}
			}
		}
	})
}

// spyUpstream remembers the last request.
type spyUpstream struct {
	*s3mem.Memory
	mu   sync.Mutex
	sent *cold.Request
}

func (s *spyUpstream) Do(ctx context.Context, r *cold.Request) (*http.Response, error) {
	s.mu.Lock()
	s.sent = r
	s.mu.Unlock()
	return s.Memory.Do(ctx, r)
}

func (s *spyUpstream) last() *cold.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

func (s *spyUpstream) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = nil
}

// TestChangesInBetween: what changes between an answer and its comparison is skipped, however it
// changes: written or deleted through the gateway, or reported by the upstream.
func TestChangesInBetween(t *testing.T) {
	for name, change := range map[string]func(b *bench){
		"PUT":    func(b *bench) { b.ask("root", "PUT", "/exclusive/k", "", nil, "new") },
		"DELETE": func(b *bench) { b.ask("root", "DELETE", "/exclusive/k", "", nil, "") },
		"COPY": func(b *bench) {
			b.ask("root", "PUT", "/exclusive/k", "", http.Header{"X-Amz-Copy-Source": {"/exclusive/k"}, "X-Amz-Metadata-Directive": {"REPLACE"}, "X-Amz-Meta-N": {"1"}}, "")
		},
		"an event": func(b *bench) {
			b.up.Put(keyOf("exclusive", "k"), []byte("by another"))
			b.store.Changed(cold.Change{Key: keyOf("exclusive", "k"), ETag: `"another"`})
		},
		"validated anew": func(b *bench) {
			b.up.Put(keyOf("exclusive", "k"), []byte("by another"))
			b.ask("root", "GET", "/exclusive/k", "", http.Header{"Cache-Control": {"no-cache"}}, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				slow := &slowUpstream{}
				b, c := comparedBench(t, compare.Options{Upstream: slow})
				slow.Memory = b.up
				b.up.PutStored(keyOf("exclusive", "k"), s3mem.Stored{Body: []byte("old"), ETag: `"old"`, Modified: time.Now().Add(-time.Hour)})
				for range 2 {
					if w := b.ask("root", "GET", "/exclusive/k", "", nil, ""); w.Body.String() != "old" {
						t.Fatalf("%d %s", w.Code, w.Body)
					}
				}
				change(b)
				time.Sleep(time.Minute)
				if r := c.Report(); r.Skipped[compare.Changed] != 1 || len(r.Differences)+len(r.Allowed) > 0 {
					t.Errorf("%v %v %+v", r.Compared, r.Skipped, r.Differences)
				}
			})
		})
	}
}

// slowUpstream answers after a second.
type slowUpstream struct{ *s3mem.Memory }

func (s *slowUpstream) Do(ctx context.Context, r *cold.Request) (*http.Response, error) {
	time.Sleep(time.Second)
	return s.Memory.Do(ctx, r)
}

// TestAbortedAnswers: an answer that the client did not read to its end is not compared.
func TestAbortedAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := comparedBench(t, compare.Options{})
		b.up.Put(keyOf("immutable", "k"), testkit.Bytes(1, 300_000))
		b.ask("root", "GET", "/immutable/k", "", nil, "")
		r := signedRequest("GET", "/immutable/k")
		b.g.ServeHTTP(&leaver{httptest.NewRecorder()}, r)
		synctest.Wait()
		if r := c.Report(); r.Skipped[compare.Aborted] != 1 || r.Compared[compare.Equal] != 0 {
			t.Errorf("%v %v", r.Compared, r.Skipped)
		}
	})
}

// leaver is a client that disconnects.
type leaver struct{ *httptest.ResponseRecorder }

func (l *leaver) Write(p []byte) (int, error) { return 0, io.ErrClosedPipe }

// TestQuickAnswersAreCompared: an answer on the fast path is compared as well, and stays on it.
func TestQuickAnswersAreCompared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := comparedBench(t, compare.Options{})
		b.up.Put(keyOf("immutable", "k"), testkit.Bytes(1, 300_000))
		b.ask("root", "GET", "/immutable/k", "", nil, "")
		w := httptest.NewRecorder()
		if !b.g.ServeLocal(w, signedRequest("GET", "/immutable/k")) || w.Code != 200 || !strings.HasPrefix(w.Body.String(), string(testkit.Bytes(1, 300_000)[:100])) {
			t.Fatalf("%d", w.Code)
		}
		settle()
		if r := c.Report(); r.Compared[compare.Equal] != 1 {
			t.Errorf("%v %v", r.Compared, r.Skipped)
		}
	})
}
