package bench

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/akidb/akigw/internal/embedded"
	"github.com/akidb/akigw/internal/testing/testkit"
)

var sizes = map[string]int{"4KiB": 4 << 10, "1MiB": 1 << 20}

// objects is the number of objects of each size that are requested in turn. A 1 MiB body is about as
// large as a core's own cache, so with a single object the placement of its pages would decide what
// copying it costs for the lifetime of the process.
const objects = 16

func path(size string, i int) string { return fmt.Sprintf("/benchbucket/%s-%d", size, i) }

// bare serves bodies from memory with plain net/http, to show what net/http itself costs.
func bare(addr string) {
	bodies := map[string][]byte{}
	for name, n := range sizes {
		for i := range objects {
			bodies[path(name, i)] = testkit.Bytes(1, n)
		}
	}
	err := http.ListenAndServe(addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := bodies[r.URL.Path]
		w.Header().Set("Content-Type", "binary/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	}))
	fmt.Fprintln(os.Stderr, err)
}

// upstream is the embedded upstream by itself, and without authentication.
func upstream(addr, dir string) {
	s, err := embedded.Open(dir, nil, slog.New(slog.DiscardHandler))
	if err == nil {
		_, err = s.Listen(addr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	select {}
}

// perRound is the number of consecutive GETs that one server gets on one connection. Each round uses
// a new connection, because the cost differs between connections and stays the same for each: at
// 1 MiB the same handler takes from 140 to 260 us. The first warmUp GETs are not counted.
const (
	perRound = 500
	warmUp   = 32
)

// BenchmarkHotGet reports the server's CPU time per GET of an object in memory:
// of a bare net/http handler, of the gateway from memory and from disk, signature
// verified, of the embedded upstream by itself, and of nginx's proxy_cache and
// Varnish where they are installed, which do not authenticate requests. There are two
// processes of the bare handler, to show the noise of the measurement. Ratios are those of
// means over the rounds of this run, relative to both of them.
func BenchmarkHotGet(b *testing.B) {
	bare, again := startOther(b, "bare"), startOther(b, "bare")
	servers := []*server{bare, again, startGateway(b, "hot"), startGateway(b, "warm", "AKIGW_CACHE_HOT_BYTES=0"), startOther(b, "upstream")}
	servers = append(servers, startCache(b, bare)...)
	servers = append(servers, startVarnish(b, bare)...)
	for _, size := range []string{"4KiB", "1MiB"} {
		b.Run(size, func(b *testing.B) {
			requests := make([][objects]*http.Request, len(servers))
			for i, s := range servers {
				s.rounds = nil
				for k := range objects {
					r, err := s.client.Request("GET", path(size, k), "", nil, nil)
					if err != nil {
						b.Fatal(err)
					}
					requests[i][k] = r
					for range 5 {
						s.get(b, r, sizes[size])
					}
				}
			}
			for b.Loop() {
				for _, i := range rand.Perm(len(servers)) {
					s := servers[i]
					s.client.HTTP.CloseIdleConnections()
					for n := range warmUp {
						s.get(b, requests[i][n%objects], sizes[size])
					}
					before := s.cpuTime(b)
					for n := range perRound {
						s.get(b, requests[i][n%objects], sizes[size])
					}
					s.rounds = append(s.rounds, float64(s.cpuTime(b)-before)/perRound/1e3)
				}
			}
			one := (mean(bare.rounds) + mean(again.rounds)) / 2
			for _, s := range servers[2:] {
				b.ReportMetric(mean(s.rounds)/one, s.name+"-x-bare")
			}
			b.ReportMetric(mean(bare.rounds)/mean(again.rounds), "bare-x-bare") // the noise of the measurement
			b.ReportMetric(one, "bare-us")
		})
	}
}

func mean(values []float64) (sum float64) {
	for _, v := range values {
		sum += v / float64(len(values))
	}
	return sum
}

func (s *server) get(b *testing.B, r *http.Request, want int) {
	resp, err := s.client.HTTP.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if err != nil || int(n) != want || resp.StatusCode != 200 {
		b.Fatal(s.name, resp.StatusCode, n, err)
	}
}

// startCache starts nginx with a proxy_cache in front of another server, if nginx is installed.
func startCache(b *testing.B, behind *server) []*server {
	return startNginx(b, fmt.Sprintf(`proxy_cache_path %s keys_zone=c:10m;
  server { listen LISTEN; location / { proxy_pass %s; proxy_cache c; proxy_cache_valid 200 1h; } }`, b.TempDir(), behind.client.Endpoint))
}

// startVarnish does the same with Varnish.
func startVarnish(b *testing.B, behind *server) []*server {
	if _, err := exec.LookPath("varnishd"); err != nil {
		b.Log("varnishd is not installed")
		return nil
	}
	addr := testkit.FreeAddr(b)
	return []*server{launch(b, serversCore, "varnish", addr, exec.Command("varnishd", "-F", "-n", b.TempDir(), "-a", addr,
		"-b", strings.TrimPrefix(behind.client.Endpoint, "http://"), "-s", "malloc,64m", "-t", "3600", "-p", "vsl_mask=-VCL_trace"))}
}

// startOther starts another server of this package with the objects.
func startOther(b *testing.B, name string) *server {
	s := startSelf(b, serversCore, name)
	s.seed(b)
	return s
}

// startGateway starts a gateway with the objects, in front of the embedded upstream.
func startGateway(b *testing.B, name string, env ...string) *server {
	s := launchGateway(b, name, env...)
	s.seed(b)
	return s
}

// seed stores the objects.
func (s *server) seed(b *testing.B) {
	s.client.Must(b, "PUT", "/benchbucket", "", nil, nil) // the bare server ignores these
	for size, n := range sizes {
		for i := range objects {
			s.client.Must(b, "PUT", path(size, i), "", nil, testkit.Bytes(1, n))
		}
	}
}
