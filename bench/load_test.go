package bench

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/double"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// startDouble starts an S3 service in memory.
func startDouble(t *testing.T) *Endpoint {
	t.Helper()
	s, err := double.Open(double.Config{AccessKey: s3client.AccessKey, SecretKey: s3client.SecretKey, Dir: filepath.Join(testkit.MemoryDir(t), "double"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return &Endpoint{URL: testkit.Serve(t, s).URL, AccessKey: s3client.AccessKey, SecretKey: s3client.SecretKey, Region: "us-east-1"}
}

func smallLoad(e *Endpoint) *Load {
	return &Load{Endpoint: e, Seed: 1, Config: LoadConfig{DurationSecs: 2, QPS: 200, SearchPct: 0.7, InsertPct: 0.3, Collections: 5, Items: 100, ItemBytes: Sizes{100, 100_000}, Skew: 0.9, Bucket: "bench-bucket"}}
}

// TestLoad: a correct service causes no errors, and requests are sent at the configured rate.
func TestLoad(t *testing.T) {
	l := smallLoad(startDouble(t))
	if err := l.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Prepare(t.Context()); err != nil { // a second time stores nothing
		t.Fatal(err)
	}
	r, err := l.Run(t.Context())
	if err != nil || r.Errors > 0 || r.Requests < 300 || r.Requests > 500 || len(r.Samples) < 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, op := range []string{"GetObject", "GetObject, a range", "HeadObject", "ListObjectsV2", "PutObject"} {
		if r.Ops[op].Requests == 0 {
			t.Errorf("no %s", op)
		}
	}
	var text, html, raw bytes.Buffer
	if err := errors.Join(r.WriteText(&text), r.WriteHTML(&html), r.WriteJSON(&raw)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"0 wrong responses", "GetObject", "P99.9"} {
		if !strings.Contains(text.String(), want) || !strings.Contains(html.String(), want) && want != "0 wrong responses" {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
	for _, no := range []string{"http://www.", "https://", "src="} { // the page needs no network; the only URL is the SVG namespace
		if strings.Contains(strings.Replace(html.String(), "http://www.w3.org/2000/svg", "", 1), no) {
			t.Errorf("%q in the page", no)
		}
	}
}

// TestLoadFindsWhatIsWrong: wrong bytes and failed requests are counted.
func TestLoadFindsWhatIsWrong(t *testing.T) {
	e := startDouble(t)
	l := smallLoad(e)
	if err := l.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	plan := `{"seed": 1, "fault": [{"op": "GetObject", "effect": "corrupt", "probability": 0.1}, {"op": "PutObject", "effect": "slow_down", "probability": 0.1}]}`
	resp, err := http.Post(e.URL+"/_fakes3/plan", "application/json", strings.NewReader(plan))
	if err != nil || resp.StatusCode != http.StatusNoContent {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
	r, err := l.Run(t.Context())
	if err != nil || r.Wrong == 0 || r.Errors <= r.Wrong || r.Ops["PutObject"].Errors == 0 || len(r.Problems) < 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestClosed: each kind of run sends the configured requests, and a comparison has both sides.
func TestClosed(t *testing.T) {
	e := startDouble(t)
	for _, kind := range []string{"get", "put", "mixed"} {
		c := &Closed{Endpoint: e, Seed: 1, Server: PID(os.Getpid()), Config: ClosedConfig{Kind: kind, DurationSecs: 0.25, Clients: 4, Objects: 10, ItemBytes: Sizes{1000, 50_000}, ReadShare: 0.5, Bucket: "bench-bucket"}}
		if err := c.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		r, err := c.Run(t.Context())
		if err != nil || r.Errors > 0 || r.Requests < 20 || (r.Ops["GetObject"].Requests > 0) != (kind != "put") || (r.Ops["PutObject"].Requests > 0) != (kind != "get") || r.Server == nil {
			t.Errorf("%s: %+v, %v", kind, r, err)
		}
		same := *c
		comparison, err := Compare(t.Context(), c, &same, 2)
		if err != nil || len(comparison.A) != 2 || len(comparison.B) != 2 || comparison.Ratios["requests a second"] < 0.2 || comparison.Ratios["requests a second"] > 5 {
			t.Errorf("%s: %+v, %v", kind, comparison, err)
		}
	}
	c := &Closed{Endpoint: e, Config: ClosedConfig{Kind: "get", DurationSecs: 1, Clients: 1, Objects: 1, ItemBytes: Sizes{100, 100}, Class: "hot", Bucket: "bench-bucket"}}
	if err := c.Prepare(t.Context()); err == nil || !strings.Contains(err.Error(), "admin key") {
		t.Errorf("%v", err)
	}
}

// TestStallCounts: the latency of requests that are due while the service stalls counts from their
// scheduled time.
func TestStallCounts(t *testing.T) {
	l := smallLoad(startDouble(t))
	l.Config.QPS = 100
	if err := l.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	stalling := *l.Endpoint
	stalling.HTTP = &http.Client{Transport: &stall{next: http.DefaultTransport}}
	l.Endpoint = &stalling
	r, err := l.Run(t.Context())
	if err != nil || r.Requests < 150 || r.All.P95 < 300 {
		t.Errorf("%+v, %v", r.All, err)
	}
}

// stall serves one request at a time and takes 20 ms for each, which is half the rate of arrivals.
type stall struct {
	next http.RoundTripper
	mu   sync.Mutex
}

// RoundTrip implements http.RoundTripper.
func (s *stall) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	time.Sleep(20 * time.Millisecond)
	return s.next.RoundTrip(r)
}

// TestContent: any difference from the expected body is detected.
func TestContent(t *testing.T) {
	buffer := make([]byte, 777)
	for _, size := range []int64{headBytes, headBytes + 1, 1000, 3 << 20} {
		whole, err := io.ReadAll(newBody(7, 9, size))
		if err != nil || int64(len(whole)) != size {
			t.Fatalf("%d bytes of %d, %v", len(whole), size, err)
		}
		if version, err := verify(bytes.NewReader(whole), 7, size, buffer); err != nil || version != 9 {
			t.Errorf("%d: %d, %v", size, version, err)
		}
		if _, err := verify(bytes.NewReader(whole), 8, size, buffer); !errors.Is(err, errWrong) {
			t.Errorf("%d: another object: %v", size, err)
		}
		if _, err := verify(bytes.NewReader(whole[:size-1]), 7, size, buffer); err == nil {
			t.Errorf("%d: one byte less was not noticed", size)
		}
		if _, err := verify(bytes.NewReader(append(whole, 0)), 7, size, buffer); !errors.Is(err, errWrong) {
			t.Errorf("%d: one byte more: %v", size, err)
		}
		damaged := bytes.Clone(whole)
		damaged[rand.IntN(len(damaged))] ^= 1
		if version, err := verify(bytes.NewReader(damaged), 7, size, buffer); err == nil && version == 9 {
			t.Errorf("%d: a flipped bit was not noticed", size)
		}
		if size > 100 {
			if err := compare(bytes.NewReader(whole[30:90]), newBody(7, 9, size), 30, 90, buffer); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestSizes: sizes are parsed and formatted.
func TestSizes(t *testing.T) {
	for text, want := range map[string]Sizes{"2KiB": {2048, 2048}, "100-1MiB": {100, 1 << 20}} {
		var s Sizes
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%s: %+v, %v", text, s, err)
		}
		for n := range uint64(1000) {
			if size := s.of(n); size < s.Least || size > s.Most || size != s.of(n) {
				t.Errorf("%s: %d", text, size)
			}
		}
	}
	for _, text := range []string{"", "1", "2MiB-1MiB", "x", "1KiB-"} {
		if err := (&Sizes{}).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

// TestThirds: the report of a run that is long enough has the average resource usage of the second and
// the last third.
func TestThirds(t *testing.T) {
	r := &Report{Seconds: leastTrend, Cores: 1}
	for i := range 9 {
		r.Samples = append(r.Samples, Sample{At: float64(i), Server: &Process{RSS: int64(i) << 20, Anonymous: int64(i) << 20, Goroutines: 10 + int64(i), FDs: 5}})
	}
	r.summarize()
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if want := "4 to 7 MiB resident, 4 to 7 MiB anonymous (the memory tier 0 to 0), 14 to 17 goroutines, 5 to 5 files"; !strings.Contains(text.String(), want) {
		t.Errorf("%q is not in\n%s", want, text.String())
	}
	r.Seconds--
	r.summarize()
	if r.Server.SecondThird != nil {
		t.Error("a short run has a trend")
	}
}

// TestProcess: usage is read from /proc for this process, and from metrics for a gateway.
func TestProcess(t *testing.T) {
	p, err := PID(os.Getpid()).Sample(t.Context())
	if err != nil || p.RSS < 1<<20 || p.FDs == 0 {
		t.Errorf("%+v, %v", p, err)
	}
	p, err = parseMetrics(strings.NewReader("# HELP x\nprocess_cpu_seconds_total 1.5\nprocess_resident_memory_bytes 1048576\ngo_goroutines 12\nakigw_hot_used_bytes 7\nakigw_vectors_hot_bytes 5\nother{a=\"b\"} 3\n"))
	if err != nil || p.CPUSecs != 1.5 || p.RSS != 1<<20 || p.Goroutines != 12 || p.HotTier != 12 {
		t.Errorf("%+v, %v", p, err)
	}
}
