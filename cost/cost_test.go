package cost

import (
	"context"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKindOf: requests are priced as S3 prices them.
func TestKindOf(t *testing.T) {
	for _, c := range []struct {
		method string
		key    bool
		query  string
		want   Kind
	}{
		{"GET", true, "", Read}, {"HEAD", true, "", Read}, {"HEAD", false, "", Read}, {"GET", true, "tagging", Read}, {"GET", false, "versioning", Read},
		{"GET", false, "", Write}, {"GET", false, "list-type=2&prefix=a", Write}, {"GET", false, "versions", Write}, {"GET", false, "uploads", Write}, {"GET", true, "uploadId=1", Write},
		{"PUT", true, "", Write}, {"PUT", true, "partNumber=1&uploadId=1", Write}, {"POST", true, "uploads", Write}, {"POST", true, "uploadId=1", Write},
		{"POST", false, "delete", Free}, {"DELETE", true, "", Free}, {"DELETE", true, "uploadId=1", Free},
	} {
		query, err := url.ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		if got := KindOf(c.method, c.key, query); got != c.want {
			t.Errorf("%s key %t %q: %d, want %d", c.method, c.key, c.query, got, c.want)
		}
	}
}

// TestReport: the report has the requests of both sides, their costs and the savings. The counts
// survive restarts, and start from zero when they cannot be read.
func TestReport(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat("x", 1000)) }))
	defer upstream.Close()
	path := filepath.Join(t.TempDir(), "cost.json")
	prices := Config{Currency: "EUR", Thousands: 5, Reads: 0.4, GiBOut: 1 << 10}
	b := Open(prices, path, slog.New(slog.DiscardHandler))
	for range 1000 {
		b.Clients.Count("bucket", Read, 0, 1000)
	}
	client := &http.Client{Transport: b.Upstream.Wrap(http.DefaultTransport)}
	for _, r := range []struct{ method, path, body string }{{"GET", "/bucket/key", ""}, {"PUT", "/bucket/key", "12345"}, {"GET", "/", ""}} {
		req, err := http.NewRequest(r.method, upstream.URL+r.path, strings.NewReader(r.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if _, err := client.Get("http://127.0.0.1:1/bucket/key"); err == nil {
		t.Error("nobody is there")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Run(ctx); err != nil {
		t.Fatal(err)
	}
	r := Open(prices, path, slog.New(slog.DiscardHandler)).Report()
	if len(r.Buckets) != 2 || r.Buckets[0].Bucket != "bucket" {
		t.Fatalf("%+v", r)
	}
	l := r.Buckets[0]
	if l.Clients != (Counts{Reads: 1000, Out: 1e6}) || l.Upstream != (Counts{Reads: 1, Writes: 1, In: 5, Out: 2000}) {
		t.Errorf("%+v", l)
	}
	without, with := 0.4+1e6/(1<<20), (0.4+5)/1000+2000.0/(1<<20)
	if math.Abs(l.Without-without) > 1e-9 || math.Abs(l.With-with) > 1e-9 || math.Abs(l.Saved-(without-with)) > 1e-9 {
		t.Errorf("%+v, want %g and %g", l, without, with)
	}
	if r.Total.Upstream.Writes != 2 || r.Total.Saved >= l.Saved || r.Prices.Currency != "EUR" {
		t.Errorf("%+v", r.Total)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := Open(prices, path, slog.New(slog.DiscardHandler)).Report(); len(r.Buckets) != 0 {
		t.Errorf("%+v", r)
	}
	var many Ledger
	for n := range mostBuckets + 10 {
		many.Count(strings.Repeat("b", n%100)+string(rune('a'+n/100)), Read, 0, 0)
	}
	if counts := many.Counts(); len(counts) > mostBuckets+1 {
		t.Errorf("%d buckets", len(counts))
	}
}

// BenchmarkCount measures the overhead of counting per request.
func BenchmarkCount(b *testing.B) {
	var l Ledger
	bucket := strings.Repeat("b", 20)
	b.ReportAllocs()
	for b.Loop() {
		l.Count(bucket, Read, 0, 4096)
	}
}

// TestInventedBuckets: bucket names that occur only in refused requests do not displace real buckets,
// on either side.
func TestInventedBuckets(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/invented") || r.URL.Path == "/real/absent" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer upstream.Close()
	var clients, sent Ledger
	client := &http.Client{Transport: sent.Wrap(http.DefaultTransport)}
	for _, path := range []string{"/invented-1/key", "/invented-2/key", "/real/key", "/real/absent"} {
		resp, err := client.Get(upstream.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		bucket, _, _ := strings.Cut(path[1:], "/")
		clients.Count(clients.Named(bucket, resp.StatusCode), Read, 0, 0)
	}
	for name, l := range map[string]*Ledger{"clients": &clients, "upstream": &sent} {
		counts := l.Counts()
		if len(counts) != 2 || counts["real"].Reads != 2 || counts[Others].Reads != 2 {
			t.Errorf("%s: %v, want two reads of real and two of others", name, counts)
		}
	}
}
