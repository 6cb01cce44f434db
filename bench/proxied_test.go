package bench

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/leans3"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// coldBytes is the size of a cold object.
const coldBytes = 256 << 20

// coldBuckets are buckets full of cold objects, by what these objects can be verified with.
var coldBuckets = map[string]string{"crc64nvme": "CRC64NVME", "crc32c": "CRC32C", "md5": ""}

// lean is the upstream of the gateway and the proxies: as cheap as possible, and not measured.
func lean(addr string) {
	s := leans3.New()
	for _, all := range bodies() {
		for _, body := range all {
			s.Know(body)
		}
	}
	block := testkit.Bytes(7, 1<<20)
	for _, name := range strings.Fields(os.Getenv("AKIGW_BENCH_COLD")) {
		if err := s.Fill(name, block, coldBytes, coldBuckets[name]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fmt.Fprintln(os.Stderr, http.ListenAndServe(addr, s))
}

// proxy is a bare httputil.ReverseProxy, to show what net/http costs on both sides.
func proxy(addr, behind string) {
	target, err := url.Parse(behind)
	if err == nil {
		p := httputil.NewSingleHostReverseProxy(target)
		p.Transport = &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: putClients}
		err = http.ListenAndServe(addr, p)
	}
	fmt.Fprintln(os.Stderr, err)
}

// proxied is an upstream, on the core of the client, and what is in front of it: a gateway, a bare
// httputil.ReverseProxy and, if it is installed, nginx's proxy_pass. The last two neither authenticate
// requests nor verify or keep anything; all of them stream bodies and keep their connections open.
// nginx has larger buffers than by default, which nearly halves what 1 MiB costs it.
type proxied struct {
	upstream, gateway, proxy *server
	servers                  []*server // the gateway, the proxy, and nginx if it is there
	bodies                   map[string][][]byte
}

// startProxied starts the servers, the gateway with a configuration file. cold names the buckets of cold
// objects that the upstream has. AKIGW_BENCH_UPSTREAM=upstream takes the embedded upstream for
// PutThrough, which stores and syncs; then rates are those that a client sees in practice.
func startProxied(b *testing.B, config string, cold ...string) *proxied {
	p := &proxied{upstream: startSelf(b, clientsCore, cmp.Or(os.Getenv("AKIGW_BENCH_UPSTREAM"), "lean"), "AKIGW_BENCH_COLD="+strings.Join(cold, " ")), bodies: bodies()}
	file := b.TempDir() + "/akigw.toml"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	behind := p.upstream.client.Endpoint
	p.gateway = launchGateway(b, "gateway", "AKIGW_CONFIG="+file, "AKIGW_UPSTREAM="+behind, "AKIGW_UPSTREAM_ACCESS_KEY=any", "AKIGW_UPSTREAM_SECRET_KEY=any-any-any", "AKIGW_CACHE_FRESHNESS=exclusive")
	p.proxy = startSelf(b, serversCore, "proxy", "AKIGW_BENCH_BEHIND="+behind)
	p.servers = append([]*server{p.gateway, p.proxy}, startNginx(b, fmt.Sprintf(`upstream s3 { server %s; keepalive %d; keepalive_requests 1000000000; }
  client_max_body_size 0; proxy_request_buffering off; client_body_buffer_size 128k;
  proxy_max_temp_file_size 0; proxy_buffer_size 64k; proxy_buffers 16 64k; proxy_busy_buffers_size 128k; proxy_http_version 1.1; proxy_set_header Connection "";
  server { listen LISTEN; location / { proxy_pass http://s3; } }`, strings.TrimPrefix(behind, "http://"), putClients))...)
	return p
}

// rounds has each server do n operations in each round, in an order that changes. do does those of a
// round with one server, after a few that are not counted.
func (p *proxied) rounds(b *testing.B, do func(s *server, round int)) {
	for _, s := range p.servers {
		s.costs = nil
	}
	for round := 0; b.Loop(); round++ {
		for _, i := range rand.Perm(len(p.servers)) {
			do(p.servers[i], round)
		}
	}
}

// cost is what a server spent on an operation in a round.
type cost struct {
	cpu      float64 // microseconds
	allocs   float64 // of a gateway
	bytes    float64 // that it allocated
	upstream float64 // requests that a gateway sent
	took     float64 // seconds until the client had its last response
}

// mark is what a server has spent until a moment. Reading the counters of a gateway takes some of its
// time and allocates; a phase between two marks does not include that.
type mark struct {
	begun, ended           int64 // CPU time before and after the counters were read, in nanoseconds
	first, second, reading map[string]float64
}

func (s *server) mark(b *testing.B) mark {
	m := mark{begun: s.cpuTime(b), first: s.counters(b), second: s.counters(b), reading: map[string]float64{}}
	for name := range m.first {
		m.reading[name] = m.second[name] - m.first[name]
	}
	m.ended = s.cpuTime(b)
	return m
}

// phase returns the cost of each of n operations between two marks.
func phase(from, to mark, n int, took time.Duration) cost {
	each := func(name string) float64 {
		return (to.first[name] - from.second[name] - from.reading[name]) / float64(n)
	}
	return cost{cpu: float64(to.begun-from.ended) / float64(n) / 1e3, allocs: each("go_memstats_mallocs_total"), bytes: each("go_memstats_alloc_bytes_total"), upstream: each("akigw_cold_requests_total"), took: took.Seconds() / float64(n)}
}

// measure returns the cost of the n operations of do, with what the server does in the background
// afterwards. do returns how long they took.
func (s *server) measure(b *testing.B, n int, do func() time.Duration) cost {
	from := s.mark(b)
	took := do()
	s.settle(b)
	return phase(from, s.mark(b), n, took)
}

// settle waits until the server is idle, ten seconds at the most, and returns when it became so. It
// watches the server from outside, which costs the server nothing.
func (s *server) settle(b *testing.B) (since time.Time) {
	const look, busy = 50 * time.Millisecond, 2 * time.Millisecond
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		before := s.cpuTime(b)
		since = time.Now()
		time.Sleep(look)
		if s.cpuTime(b)-before < int64(busy) {
			break
		}
	}
	return since
}

// counters returns the metrics of a gateway, summed over their labels. Other servers have none.
func (s *server) counters(b *testing.B) map[string]float64 {
	values := map[string]float64{}
	if s.admin == "" {
		return values
	}
	resp, err := http.Get("http://" + s.admin + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		name, _, _ = strings.Cut(name, "{")
		if value, err := strconv.ParseFloat(text, 64); err == nil {
			values[name] += value
		}
	}
	if err := lines.Err(); err != nil {
		b.Fatal(err)
	}
	return values
}

// report reports the figures that all benchmarks with an upstream have. Ratios are medians of those of
// the rounds.
func (p *proxied) report(b *testing.B) {
	b.ReportMetric(0, "ns/op") // the rounds of all servers together say nothing
	for _, s := range p.servers {
		b.ReportMetric(column(s.costs, cpuOf), s.name+"-us/op")
		if s != p.gateway {
			b.ReportMetric(ratio(p.gateway.costs, s.costs, cpuOf), "cpu-x-"+s.name)
			b.ReportMetric(ratio(s.costs, p.gateway.costs, tookOf), "rate-x-"+s.name)
		}
	}
	b.ReportAllocs() // those of the gateway, not of this process:
	b.ReportMetric(column(p.gateway.costs, func(c cost) float64 { return c.allocs }), "allocs/op")
	b.ReportMetric(column(p.gateway.costs, func(c cost) float64 { return c.bytes }), "B/op")
	b.ReportMetric(column(p.gateway.costs, func(c cost) float64 { return c.upstream }), "upstream-requests/op")
}

func cpuOf(c cost) float64  { return c.cpu }
func tookOf(c cost) float64 { return c.took }

// column returns the median of a figure over the rounds.
func column(costs []cost, of func(cost) float64) float64 {
	values := make([]float64, len(costs))
	for i, c := range costs {
		values[i] = of(c)
	}
	return median(values)
}

// ratio returns the median over the rounds of the ratio of a figure of two servers.
func ratio(costs, to []cost, of func(cost) float64) float64 {
	values := make([]float64, len(costs))
	for i := range costs {
		values[i] = of(costs[i]) / of(to[i])
	}
	return median(values)
}

// puts returns signed PUTs of known bodies with keys of their own. Their digests are computed once,
// because the client shares its core with the upstream.
func (p *proxied) puts(b *testing.B, s *server, bucket, size, payload string, round, n int) []*http.Request {
	requests := make([]*http.Request, n)
	var digests [objects]string
	for i := range requests {
		header := http.Header{}
		if payload != "" {
			header.Set("X-Amz-Content-Sha256", payload)
		} else if digests[i%objects] != "" {
			header.Set("X-Amz-Content-Sha256", digests[i%objects])
		}
		r, err := s.client.Request("PUT", fmt.Sprintf("/%s/%s/%s%s/%d/%d", bucket, s.name, size, payload, round, i), "", header, p.bodies[size][i%objects])
		if err != nil {
			b.Fatal(err)
		}
		digests[i%objects] = r.Header.Get("X-Amz-Content-Sha256")
		requests[i] = r
	}
	return requests
}

// bodies returns the bodies to upload by size.
func bodies() map[string][][]byte {
	all := map[string][][]byte{}
	for size, n := range sizes {
		for i := range uint64(objects) {
			all[size] = append(all[size], testkit.Bytes(i+1, n))
		}
	}
	return all
}

// send sends requests over a number of connections, and returns how long they took.
func (s *server) send(b *testing.B, requests []*http.Request, connections int) time.Duration {
	started := time.Now()
	var wait sync.WaitGroup
	for c := range connections {
		wait.Go(func() {
			for i := c; i < len(requests); i += connections {
				resp, err := s.client.HTTP.Do(requests[i])
				if err != nil {
					b.Error(err)
					return
				}
				text, err := io.ReadAll(resp.Body)
				if resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
					b.Errorf("%s: %s: %s, %v", s.name, resp.Status, text, err)
					return
				}
			}
		})
	}
	wait.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return time.Since(started)
}
