package compare

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cespare/xxhash/v2"
	"go.uber.org/goleak"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watch is a Watch that says what it is told.
type watch struct {
	changed, gone atomic.Bool
	closed        atomic.Int64
}

func (w *watch) Changed() bool                { return w.changed.Load() }
func (w *watch) Confirm(context.Context) bool { return !w.gone.Load() }
func (w *watch) Close()                       { w.closed.Add(1) }

// service is an upstream of one answer.
type service struct {
	answer  func(ctx context.Context, r *cold.Request) (*http.Response, error)
	crowded bool
	asked   atomic.Int64
}

func (s *service) Do(ctx context.Context, r *cold.Request) (*http.Response, error) {
	s.asked.Add(1)
	return s.answer(ctx, r)
}

func (s *service) Crowded(string) bool { return s.crowded }

const body = "the body"

// header returns the headers of the object that everybody has, with some changed.
func header(changes ...string) http.Header {
	h := http.Header{"Etag": {`"tag"`}, "Last-Modified": {"Fri, 31 Dec 1999 00:00:00 GMT"}, "Content-Type": {"text/plain"}, "X-Amz-Meta-Color": {"blue"}}
	for i := 0; i < len(changes); i += 2 {
		h[changes[i]] = []string{changes[i+1]}
	}
	return h
}

// answers is a service that has an object.
func answers(status int, h http.Header, body string) *service {
	return &service{answer: func(_ context.Context, r *cold.Request) (*http.Response, error) {
		h := h.Clone()
		h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
		h.Set("X-Amz-Request-Id", "theirs")
		return &http.Response{StatusCode: status, Header: h, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}, nil
	}}
}

func digestOf(body string) string {
	sum := xxhash.New()
	_, _ = sum.WriteString(body)
	return Digest(sum)
}

// sample is an answer with the object that everybody has.
func sample(settings rules.Settings) (*Sample, *watch) {
	w := &watch{}
	return &Sample{
		Key: akigw.Key{Bucket: "bucket", Name: "key"}, Method: http.MethodGet, RequestID: "REQUEST", At: time.Now(), Tier: akigw.Hot, Settings: &settings, Watch: w,
		Answer: Answer{Status: 200, Header: Header(header()), Length: int64(len(body)), Digest: digestOf(body)},
	}, w
}

// compareOne compares a sample, and returns the comparer when that has ended.
func compareOne(t *testing.T, o Options, s *Sample) *Comparer {
	t.Helper()
	c := New(o)
	ctx, cancel := context.WithCancel(context.Background())
	c.Offer(s)
	ran := make(chan error)
	go func() { ran <- c.Run(ctx) }()
	time.Sleep(time.Hour) // of the bubble
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	return c
}

// TestResults: what is the same is equal, each thing that is not is named, and what a freshness mode
// allows is counted apart.
func TestResults(t *testing.T) {
	immutable, strict := rules.Settings{Freshness: rules.Immutable}, rules.Settings{Freshness: rules.Strict}
	ttl := rules.Settings{Freshness: rules.TTL, TTL: time.Minute, MaxStale: time.Hour}
	for _, c := range []struct {
		name     string
		up       *service
		settings rules.Settings
		change   func(s *Sample, w *watch)
		result   Result
		differs  string
		skipped  Reason
	}{
		{name: "the same", up: answers(200, header(), body), settings: immutable, result: Equal},
		{name: "another body", up: answers(200, header(), "the BODY"), settings: immutable, result: Different, differs: "body"},
		{name: "another body, within the ttl", up: answers(200, header(), "the BODY"), settings: ttl, result: Different, differs: "body"},
		{name: "a longer body", up: answers(200, header(), body+"!"), settings: immutable, result: Different, differs: "Content-Length"},
		{name: "replaced", up: answers(200, header("Etag", `"new"`, "Last-Modified", "Sat, 01 Jan 2000 00:00:00 GMT"), "the BODY"), settings: immutable, result: Different, differs: "Etag Last-Modified"},
		{name: "replaced in exclusive", up: answers(200, header("Etag", `"new"`), body), settings: rules.Settings{Freshness: rules.Exclusive}, result: Different, differs: "Etag"},
		{name: "replaced after the validation", up: answers(200, header("Etag", `"new"`, "Last-Modified", "Sat, 01 Jan 2000 00:00:00 GMT"), body), settings: strict, skipped: Changed},
		{name: "replaced before the validation", up: answers(200, header("Etag", `"new"`, "Last-Modified", "Fri, 31 Dec 1999 23:59:50 GMT"), body), settings: strict, result: Different, differs: "Etag Last-Modified"},
		{name: "replaced within the ttl", up: answers(200, header("Etag", `"new"`), body), settings: ttl, result: Allowed, differs: "Etag"},
		{name: "replaced, older than the ttl", up: answers(200, header("Etag", `"new"`), body), settings: ttl, change: func(s *Sample, _ *watch) { s.Age = 2 * time.Minute }, result: Different, differs: "Etag"},
		{name: "stale while the upstream was down", up: answers(200, header("Etag", `"new"`), body), settings: ttl, change: func(s *Sample, _ *watch) { s.Age, s.Tier = 2*time.Minute, akigw.Stale }, result: Allowed, differs: "Etag"},
		{name: "too stale", up: answers(200, header("Etag", `"new"`), body), settings: ttl, change: func(s *Sample, _ *watch) { s.Age, s.Tier = 2*time.Hour, akigw.Stale }, result: Different, differs: "Etag"},
		{name: "no event yet", up: answers(200, header("Etag", `"new"`), body), settings: rules.Settings{Freshness: rules.Events, TTL: time.Minute}, result: Allowed, differs: "Etag"},
		{name: "deleted", up: answers(404, http.Header{"Content-Type": {"application/xml"}}, "<Error/>"), settings: immutable, result: Different, differs: "status"},
		{name: "deleted after the validation", up: answers(404, http.Header{}, ""), settings: strict, change: func(_ *Sample, w *watch) { w.gone.Store(true) }, skipped: Changed},
		{name: "deleted, and the cache does not notice", up: answers(404, http.Header{}, ""), settings: strict, result: Different, differs: "status"},
		{name: "forbidden", up: answers(403, http.Header{}, ""), settings: immutable, result: Different, differs: "status"},
		{name: "another header", up: answers(200, header("X-Amz-Meta-Color", "red"), body), settings: immutable, result: Different, differs: "X-Amz-Meta-Color"},
		{name: "one header more", up: answers(200, header("X-Amz-Tagging-Count", "1"), body), settings: strict, result: Different, differs: "X-Amz-Tagging-Count"},
		{name: "one header less", up: answers(200, header(), body), settings: immutable, change: func(s *Sample, _ *watch) { s.Answer.Header["Cache-Control"] = []string{"no-store"} }, result: Different, differs: "Cache-Control"},
		{name: "a header that the client replaced", up: answers(200, header(), body), settings: immutable, change: func(s *Sample, _ *watch) {
			s.Answer.Header["Content-Type"], s.Replaced = []string{"a/b"}, []string{"Content-Type"}
		}, result: Equal},
		{name: "checksums that were not asked for", up: answers(200, header("X-Amz-Checksum-Crc32", "x"), body), settings: immutable, result: Equal},
		{name: "checksums that were asked for", up: answers(200, header("X-Amz-Checksum-Crc32", "x"), body), settings: immutable, change: func(s *Sample, _ *watch) { s.Checksums = true }, result: Different, differs: "X-Amz-Checksum-Crc32"},
		{name: "headers of the exchange", up: answers(200, header("Server", "x", "Connection", "close", "Age", "7"), body), settings: immutable, result: Equal},
		{name: "the upstream fails", up: answers(503, http.Header{}, ""), settings: immutable, skipped: Unanswered},
		{name: "the upstream has had enough", up: answers(429, http.Header{}, ""), settings: immutable, skipped: Unanswered},
		{name: "changed before", up: answers(200, header("Etag", `"new"`), body), settings: immutable, change: func(_ *Sample, w *watch) { w.changed.Store(true) }, skipped: Changed},
		{name: "busy", up: &service{crowded: true}, settings: immutable, skipped: Busy},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, w := sample(c.settings)
				if c.change != nil {
					c.change(s, w)
				}
				r := compareOne(t, Options{Upstream: c.up}, s).Report()
				wantCompared, wantSkipped := map[Result]uint64{}, map[Reason]uint64{}
				if c.skipped != "" {
					wantSkipped[c.skipped] = 1
				} else {
					wantCompared[c.result] = 1
				}
				if got := counted(r.Compared); !reflect.DeepEqual(got, wantCompared) {
					t.Errorf("compared: %v, want %v", got, wantCompared)
				}
				if got := counted(r.Skipped); !reflect.DeepEqual(got, wantSkipped) {
					t.Errorf("skipped: %v, want %v", got, wantSkipped)
				}
				differs := ""
				for _, d := range append(r.Differences, r.Allowed...) {
					differs = strings.Join(d.Differs, " ")
				}
				if differs != c.differs || (c.result == Allowed) != (len(r.Allowed) == 1) {
					t.Errorf("differs in %q, want %q; %d are allowed", differs, c.differs, len(r.Allowed))
				}
				if w.closed.Load() != 1 {
					t.Errorf("the watch was closed %d times", w.closed.Load())
				}
			})
		})
	}
}

// counted returns the counts that are not 0.
func counted[K comparable](all map[K]uint64) map[K]uint64 {
	counts := map[K]uint64{}
	for k, n := range all {
		if n > 0 {
			counts[k] = n
		}
	}
	return counts
}

// TestChangedMeanwhile: a key that changes while the upstream is asked is not compared.
func TestChangedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := sample(rules.Settings{Freshness: rules.Exclusive})
		up := answers(200, header("Etag", `"new"`), body)
		inner := up.answer
		up.answer = func(ctx context.Context, r *cold.Request) (*http.Response, error) {
			w.changed.Store(true)
			return inner(ctx, r)
		}
		if r := compareOne(t, Options{Upstream: up}, s).Report(); r.Skipped[Changed] != 1 || len(r.Differences) > 0 {
			t.Errorf("%+v", r)
		}
	})
}

// TestRequests: what is sent is what the client was answered, with nothing of the client's request
// but the range and the wish for checksums.
func TestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got *cold.Request
		up := answers(206, header("Content-Range", "bytes 0-7/100"), body)
		inner := up.answer
		up.answer = func(ctx context.Context, r *cold.Request) (*http.Response, error) {
			got = r
			if flow := cold.FlowOf(ctx); flow.ID != flowID || flow.Weight != 0 {
				t.Errorf("flow %+v", flow)
			}
			return inner(ctx, r)
		}
		s, _ := sample(rules.Settings{Freshness: rules.Immutable})
		s.Key.Version, s.Range, s.Checksums, s.Answer.Status = "v1", "bytes=0-7", true, 206
		s.Answer.Header["Content-Range"] = []string{"bytes 0-7/100"}
		r := compareOne(t, Options{Upstream: up}, s).Report()
		want := http.Header{"Range": {"bytes=0-7"}, "X-Amz-Checksum-Mode": {"ENABLED"}}
		if r.Compared[Equal] != 1 || got.Op != "GetObject" || got.Method != "GET" || got.Key != s.Key || len(got.Query) > 0 || !reflect.DeepEqual(got.Header, want) || got.Bytes != 8 {
			t.Errorf("%+v, %v", got, r.Compared)
		}
		s, _ = sample(rules.Settings{Freshness: rules.Immutable})
		s.Method, s.Answer.Digest = http.MethodHead, ""
		up.answer = answers(200, header(), body).answer
		inner = up.answer
		up.answer = func(ctx context.Context, r *cold.Request) (*http.Response, error) {
			got = r
			return inner(ctx, r)
		}
		c := compareOne(t, Options{Upstream: up}, s)
		if r := c.Report(); r.Compared[Equal] != 1 || got.Op != "HeadObject" || len(got.Header) > 0 || c.counters.received.Get() != 0 {
			t.Errorf("%+v, %v", got, r.Compared)
		}
	})
}

// TestUpstreamHangs: comparisons end although the upstream never answers, or never ends its answer.
func TestUpstreamHangs(t *testing.T) {
	for name, answer := range map[string]func(ctx context.Context, _ *cold.Request) (*http.Response, error){
		"no answer": func(ctx context.Context, _ *cold.Request) (*http.Response, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"no end": func(ctx context.Context, _ *cold.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: header(), ContentLength: int64(len(body)), Body: io.NopCloser(silent{ctx})}, nil
		},
		"broken": func(context.Context, *cold.Request) (*http.Response, error) {
			return nil, fmt.Errorf("%w: reset", akigw.ErrUpstreamUnavailable)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, w := sample(rules.Settings{Freshness: rules.Immutable})
				up := &service{answer: answer}
				if r := compareOne(t, Options{Upstream: up}, s).Report(); r.Skipped[Unanswered] != 1 || up.asked.Load() != 1 || w.closed.Load() != 1 {
					t.Errorf("%v, asked %d times, closed %d times", r.Skipped, up.asked.Load(), w.closed.Load())
				}
			})
		})
	}
}

// silent is a body without a byte and without an end.
type silent struct{ ctx context.Context }

func (s silent) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

// TestBounds: requests, the queue, bytes and the list are bounded, and nothing waits for any of them.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := &service{answer: func(ctx context.Context, _ *cold.Request) (*http.Response, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		offer := func(c *Comparer, n int) (all []*watch) {
			for range n {
				s, w := sample(rules.Settings{Freshness: rules.Immutable})
				c.Offer(s)
				all = append(all, w)
			}
			return all
		}
		start := time.Now()
		c := New(Options{Upstream: up, Config: Config{MaxRequests: 10, MaxBytes: 1 << 20}})
		offer(c, 25)
		if r := c.Report(); r.Queued != 10 || r.Skipped[TooMany] != 15 {
			t.Errorf("of 25 at once %d are queued, and %v", r.Queued, r.Skipped)
		}
		c = New(Options{Upstream: up, Config: Config{MaxRequests: 100_000, MaxBytes: 1 << 20}})
		watches := offer(c, maxQueued+100)
		if r := c.Report(); r.Queued != maxQueued || r.Skipped[TooMany] != 100 || time.Since(start) != 0 {
			t.Errorf("%d are queued after %v, and %v", r.Queued, time.Since(start), r.Skipped)
		}
		s, _ := sample(rules.Settings{Freshness: rules.Immutable})
		s.Answer.Length = 5 << 30
		if c.Offer(s); c.Report().Skipped[Large] != 1 {
			t.Errorf("%v", c.Report().Skipped)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ran := make(chan error)
		go func() { ran <- c.Run(ctx) }()
		synctest.Wait()
		if up.asked.Load() != parallel {
			t.Errorf("%d at a time", up.asked.Load())
		}
		cancel()
		if err := <-ran; err != nil || c.Report().Queued != 0 {
			t.Error(err, c.Report().Queued)
		}
		for i, w := range watches {
			if w.closed.Load() != 1 {
				t.Fatalf("watch %d was closed %d times", i, w.closed.Load())
			}
		}
	})
}

// TestBytesPerSecond: bodies are read no faster than allowed, by all comparisons together.
func TestBytesPerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pace = 128 << 10
		large := strings.Repeat("x", 10*pace)
		c := New(Options{Upstream: answers(200, header(), large), Config: Config{MaxRequests: 100, MaxBytes: pace}})
		ctx, cancel := context.WithCancel(context.Background())
		ran := make(chan error)
		go func() { ran <- c.Run(ctx) }()
		for range 2 {
			s, _ := sample(rules.Settings{Freshness: rules.Immutable})
			s.Answer.Length, s.Answer.Digest = int64(len(large)), digestOf(large)
			c.Offer(s)
		}
		time.Sleep(15 * time.Second)
		if n := c.counters.received.Get(); n < 14*pace || n > 17*pace {
			t.Errorf("%d bytes in 15 s, at %d a second", n, pace)
		}
		time.Sleep(time.Minute)
		if r := c.Report(); r.Compared[Equal] != 2 {
			t.Errorf("%v %v", r.Compared, r.Skipped)
		}
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// TestListIsBounded: the newest differences are kept, newest first.
func TestListIsBounded(t *testing.T) {
	var list []Difference
	for i := range maxListed + 5 {
		list = appendBounded(list, Difference{Key: fmt.Sprint(i)})
	}
	c := New(Options{})
	c.found = list
	if r := c.Report(); len(r.Differences) != maxListed || r.Differences[0].Key != fmt.Sprint(maxListed+4) || r.Differences[maxListed-1].Key != "5" {
		t.Errorf("%d, from %s", len(r.Differences), r.Differences[0].Key)
	}
}

// TestNoSecretsAreShown: neither list nor log contain secrets or bodies, and both contain the headers of
// both answers.
func TestNoSecretsAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		up := answers(200, header("X-Amz-Meta-Color", "red", "X-Amz-Security-Token", "SECRET", "X-Amz-Website-Redirect-Location", "http://host/?X-Amz-Signature=SECRET"), body)
		s, _ := sample(rules.Settings{Freshness: rules.Immutable})
		c := compareOne(t, Options{Upstream: up, Log: slog.New(slog.NewJSONHandler(&log, nil))}, s)
		listed, err := json.Marshal(c.Report())
		if err != nil {
			t.Fatal(err)
		}
		for where, text := range map[string]string{"list": string(listed), "log": log.String()} {
			if strings.Contains(text, "SECRET") || strings.Contains(text, body) {
				t.Errorf("a secret or a body in the %s: %s", where, text)
			}
			for _, want := range []string{"blue", "red", "X-Amz-Website-Redirect-Location", "REQUEST", "X-Amz-Meta-Color", "immutable"} {
				if !strings.Contains(text, want) {
					t.Errorf("no %s in the %s: %s", want, where, text)
				}
			}
		}
	})
}

// TestShare: about the share that is asked for is chosen: all of them with 1, none with 0.
func TestShare(t *testing.T) {
	n := 0
	c := New(Options{Random: func() float64 { n++; return float64(n%100) / 100 }})
	for share, want := range map[float64]int{0: 0, 0.01: 10, 0.5: 500, 1: 1000} {
		got := 0
		for range 1000 {
			if c.Chosen(share) {
				got++
			}
		}
		if got != want {
			t.Errorf("%d of 1,000 with a share of %g, want %d", got, share, want)
		}
	}
}

// TestConfig: limits that are none are reported by key.
func TestConfig(t *testing.T) {
	var wrong []string
	(&Config{}).Check(func(key, _ string) { wrong = append(wrong, key) })
	if want := []string{"max_requests_per_sec", "max_bytes_per_sec"}; !reflect.DeepEqual(wrong, want) {
		t.Error(wrong)
	}
	good := Default()
	good.Check(func(key, problem string) { t.Error(errors.New(key + problem)) })
}
