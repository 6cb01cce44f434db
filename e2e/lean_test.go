package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw/bench"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/internal/testing/leans3"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// startLean starts the cheapest upstream there is.
func startLean(t testing.TB) (*leans3.Service, upstream) {
	s := leans3.New()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, upstream{"lean", server.URL}
}

// TestLongPutMemory: 200 parallel PUTs of 64 MiB need no more anonymous memory than the hot quota and
// 128 MiB, and what they allocate is no share of their bytes.
func TestLongPutMemory(t *testing.T) {
	long(t)
	const clients, each, hot, besides = 200, 64 << 20, 256 << 20, 128 << 20
	up, behind := startLean(t)
	g := startGateway(t, options{plain: true, upstream: behind, env: []string{"AKIGW_CACHE_HOT_BYTES=256MiB", "AKIGW_CACHE_WARM_BYTES=2GiB", "AKIGW_CACHE_FRESHNESS=exclusive"}})
	peak := g.watchMemory()
	block := testkit.Bytes(7, 1<<20)
	allocated, started := g.metric("go_memstats_alloc_bytes_total"), time.Now()
	var wait sync.WaitGroup
	for i := range clients {
		wait.Go(func() {
			if status := g.do(t, "PUT", fmt.Sprintf("/membucket/object-%d", i), &repeated{block: block, left: each}, each, nil); status != 200 {
				t.Errorf("PUT %d: %d", i, status)
			}
		})
	}
	wait.Wait()
	took := time.Since(started)
	share := (g.metric("go_memstats_alloc_bytes_total") - allocated) / (clients * each)
	t.Logf("%d parallel PUTs of %d MiB: %.0f MiB/s, peak anonymous memory %d MiB of %d, %.3f bytes allocated per byte", clients, each>>20,
		clients*(each>>20)/took.Seconds(), peak()>>20, (hot+besides)>>20, share)
	for i := range clients {
		if etag := up.ETag(fmt.Sprintf("/membucket/object-%d", i)); etag == "" || etag != up.ETag("/membucket/object-0") {
			t.Errorf("object %d is upstream with ETag %q", i, etag)
		}
	}
	if peak() > hot+besides {
		t.Errorf("anonymous memory reached %d MiB, limit %d", peak()>>20, (hot+besides)>>20)
	}
	if share > 0.1 {
		t.Errorf("%.2f bytes were allocated for each byte of a body", share)
	}
}

// interrupted is a service whose listener closes and opens again, so that it refuses connections
// meanwhile.
type interrupted struct {
	http.Handler
	t      testing.TB
	addr   string
	server *http.Server
}

// open lets the service listen.
func (i *interrupted) open() {
	l, err := net.Listen("tcp", i.addr)
	if err != nil {
		i.t.Fatal(err)
	}
	i.server = &http.Server{Handler: i.Handler}
	go i.server.Serve(l)
}

// close refuses connections from then on.
func (i *interrupted) close() { i.server.Close() }

// TestLongFlushRequests: 30,000 writes that became pending while the upstream was away are uploaded with
// one request each. Fewer than 1% are verified with a second one.
func TestLongFlushRequests(t *testing.T) {
	long(t)
	const objects, clients = 30_000, 64
	up := leans3.New()
	way := &interrupted{Handler: up, t: t, addr: testkit.FreeAddr(t)}
	way.open()
	t.Cleanup(func() { way.close() })
	g := startGateway(t, options{plain: true, upstream: upstream{"lean", "http://" + way.addr}, config: backConfig, env: []string{"AKIGW_CACHE_FRESHNESS=exclusive"}})
	body := testkit.Bytes(3, 4096)
	up.Know(body)
	client := &s3client.Client{Endpoint: g.endpoint, HTTP: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}}
	client.Must(t, "PUT", "/backbucket/first", "", nil, body) // the gateway learns about the bucket
	waitDrained(t, g, 10*time.Second)
	way.close()
	var next, failed atomic.Int64
	var wait sync.WaitGroup
	for range clients {
		wait.Go(func() {
			for i := next.Add(1); i <= objects; i = next.Add(1) {
				r, err := client.Request("PUT", fmt.Sprintf("/backbucket/%d", i), "", nil, body)
				if err != nil {
					t.Error(err)
					return
				}
				if a, err := client.Do(r); err != nil || a.Header.Get("X-Akigw-Commit") != "journal" {
					failed.Add(1)
				}
			}
		})
	}
	wait.Wait()
	if pending := g.status().Pending; failed.Load() > 0 || pending != objects {
		t.Fatalf("%d writes failed, %d are pending", failed.Load(), pending)
	}
	puts, heads, asked := up.Count("PUT"), up.Count("HEAD"), g.metric("akigw_cold_requests_total")
	way.open()
	started := time.Now()
	waitDrained(t, g, 10*time.Minute)
	puts, heads = up.Count("PUT")-puts, up.Count("HEAD")-heads
	t.Logf("%d pending writes: %d PUTs and %d HEADs (%.2f%%) in %s, %.0f requests of all kinds", objects, puts, heads, 100*float64(heads)/objects,
		time.Since(started).Round(100*time.Millisecond), g.metric("akigw_cold_requests_total")-asked)
	want := up.ETag("/backbucket/first")
	for i := range objects {
		if etag := up.ETag(fmt.Sprintf("/backbucket/%d", i+1)); etag != want {
			t.Fatalf("object %d is upstream with ETag %q", i+1, etag)
		}
	}
	if puts > objects+objects/100 || heads > objects/100 {
		t.Errorf("%d PUTs and %d HEADs for %d objects", puts, heads, objects)
	}
}

// TestLongLoadCost: a tenth of the load test, preparation included, sends no more requests upstream than
// the clients send, and saves money by the prices of the cost report.
func TestLongLoadCost(t *testing.T) {
	long(t)
	loadCost(t, 10_000, 60)
}

// TestLongWholeLoadCost is TestLongLoadCost with all objects and ten minutes.
func TestLongWholeLoadCost(t *testing.T) {
	long(t)
	loadCost(t, 100_000, 600)
}

func loadCost(t *testing.T, items, seconds int) {
	for name, rule := range map[string]string{"through": "", "back": "[[rule]]\nwrite = \"back\"\n[write_back]\nmin_free_bytes = 0\n"} {
		t.Run(name, func(t *testing.T) {
			addr := testkit.FreeAddr(t)
			spawn(t, addr, exec.Command(build(t, plain), "fakes3", "--listen", addr, "--access-key", upstreamAccessKey, "--secret-key", upstreamSecretKey))
			g := startGateway(t, options{plain: true, upstream: upstream{"fakes3", "http://" + addr}, config: rule, env: []string{"AKIGW_CACHE_FRESHNESS=exclusive"}})
			g.operator()
			var load bench.Report
			out, err := g.command("bench", "load", "--json", "--items", fmt.Sprint(items), "--duration-secs", fmt.Sprint(seconds), "--qps", "100").Output()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if err := json.Unmarshal(out, &load); err != nil || load.Wrong > 0 || load.Errors > load.Requests/1000 {
				t.Errorf("%v, %d of %d requests failed, %d were wrong", err, load.Errors, load.Requests, load.Wrong)
			}
			waitDrained(t, g, 5*time.Minute)
			var report cost.Report
			if err := json.Unmarshal([]byte(g.mustAkigw("cost", "--json")), &report); err != nil {
				t.Fatal(err)
			}
			clients, sent := report.Total.Clients.Requests(), report.Total.Upstream.Requests()
			ratio := float64(sent) / float64(clients)
			t.Logf("%d objects: %d requests of clients (%d of them under load), %d upstream (ratio %.3f), saved %.4f %s\n%s", items, clients, load.Requests, sent, ratio,
				report.Total.Saved, report.Prices.Currency, g.requests())
			if ratio > 1 || report.Total.Saved <= 0 {
				t.Errorf("%.3f upstream requests for each of a client's, saved %.4f", ratio, report.Total.Saved)
			}
		})
	}
}

// requests returns the gateway's counts of upstream requests by operation.
func (g *gateway) requests() string {
	resp, err := http.Get(g.admin + "/metrics")
	if err != nil {
		g.t.Fatal(err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(readAll(g.t, resp.Body))) {
		if strings.HasPrefix(line, "akigw_cold_requests_total{") {
			b.WriteString(line)
		}
	}
	return b.String()
}
