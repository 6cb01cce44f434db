package bench

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/embedded"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestMain doubles as the servers that the gateway is compared with.
func TestMain(m *testing.M) {
	addr := os.Getenv("AKIGW_BENCH_ADDR")
	switch os.Getenv("AKIGW_BENCH_SERVER") {
	case "bare":
		bare(addr)
		return
	case "upstream":
		upstream(addr, os.Getenv("AKIGW_BENCH_DIR"))
		return
	}
	os.Exit(m.Run())
}

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

// server is a process, and its children, whose CPU time is measured.
type server struct {
	name   string
	client *s3client.Client
	pid    int
	admin  string    // address of a gateway's admin listener
	rounds []float64 // CPU time per GET of each round, in microseconds
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
	servers = append(servers, startNginx(b, bare)...)
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

// startNginx starts nginx with a proxy_cache in front of another server, if nginx is installed.
func startNginx(b *testing.B, behind *server) []*server {
	if _, err := exec.LookPath("nginx"); err != nil {
		b.Log("nginx is not installed")
		return nil
	}
	dir, addr := b.TempDir(), testkit.FreeAddr(b)
	config := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 256; }
http {
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/tmp; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  proxy_cache_path %[1]s/cache keys_zone=c:10m;
  server { listen %[2]s; location / { proxy_pass %[3]s; proxy_cache c; proxy_cache_valid 200 1h; } }
}`, dir, addr, behind.client.Endpoint)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	return []*server{start(b, "nginx", addr, exec.Command("nginx", "-c", file, "-p", dir))}
}

// startVarnish does the same with Varnish.
func startVarnish(b *testing.B, behind *server) []*server {
	if _, err := exec.LookPath("varnishd"); err != nil {
		b.Log("varnishd is not installed")
		return nil
	}
	addr := testkit.FreeAddr(b)
	return []*server{start(b, "varnish", addr, exec.Command("varnishd", "-F", "-n", b.TempDir(), "-a", addr,
		"-b", strings.TrimPrefix(behind.client.Endpoint, "http://"), "-s", "malloc,64m", "-t", "3600", "-p", "vsl_mask=-VCL_trace"))}
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

func startOther(b *testing.B, name string) *server {
	addr := testkit.FreeAddr(b)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "AKIGW_BENCH_SERVER="+name, "AKIGW_BENCH_ADDR="+addr, "AKIGW_BENCH_DIR="+b.TempDir())
	return start(b, name, addr, cmd)
}

func startGateway(b *testing.B, name string, env ...string) *server {
	binary := filepath.Join(b.TempDir(), "akigw")
	build := exec.Command("go", "build", "-o", binary, "./cmd/akigw")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	addr, admin := testkit.FreeAddr(b), testkit.FreeAddr(b)
	cmd := exec.Command(binary, "serve", "--data", b.TempDir(), "--listen", addr, "--admin-listen", admin)
	cmd.Env = append(os.Environ(), "AKIGW_ACCESS_KEY="+s3client.AccessKey, "AKIGW_SECRET_KEY="+s3client.SecretKey)
	cmd.Env = append(cmd.Env, env...)
	s := start(b, name, addr, cmd)
	s.admin = admin
	return s
}

// pin assigns the servers to one core and the client to another, if there are two cores and taskset.
// Otherwise the scheduler's placement would decide what a system call costs.
func pin(b *testing.B, cmd *exec.Cmd) {
	taskset, err := exec.LookPath("taskset")
	if err != nil || runtime.NumCPU() < 2 {
		b.Log("cores are not assigned: no taskset, or one core")
		return
	}
	if err := exec.Command(taskset, "-a", "-p", "-c", "0", strconv.Itoa(os.Getpid())).Run(); err != nil {
		b.Fatal(err)
	}
	cmd.Args = append([]string{"taskset", "-c", "1", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = taskset
}

func start(b *testing.B, name, addr string, cmd *exec.Cmd) *server {
	pin(b, cmd)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s does not listen", name)
		}
	}
	s := &server{name: name, pid: cmd.Process.Pid, client: &s3client.Client{Endpoint: "http://" + addr, HTTP: &http.Client{Transport: &http.Transport{DisableCompression: true}}}}
	if name == "nginx" || name == "varnish" { // these fetch their objects from the bare server
		return s
	}
	s.client.Must(b, "PUT", "/benchbucket", "", nil, nil) // the bare server ignores these
	for size, n := range sizes {
		for i := range objects {
			s.client.Must(b, "PUT", path(size, i), "", nil, testkit.Bytes(1, n))
		}
	}
	return s
}

// cpuTime returns the CPU time that the server has used, in nanoseconds. It comes from the accounting
// of its threads, which is finer than clock ticks.
func (s *server) cpuTime(b *testing.B) (sum int64) {
	for _, pid := range family(s.pid) {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			b.Fatal(err)
		}
		for _, task := range tasks {
			line, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, task.Name()))
			if err != nil {
				continue // a thread that has ended
			}
			n, _ := strconv.ParseInt(strings.Fields(string(line) + " 0")[0], 10, 64)
			sum += n
		}
	}
	return sum
}

// family returns the IDs of a process and its descendants.
func family(pid int) []int {
	all := []int{pid}
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", pid)) // no children if it cannot be read
	for _, child := range strings.Fields(string(raw)) {
		if n, err := strconv.Atoi(child); err == nil {
			all = append(all, family(n)...)
		}
	}
	return all
}
