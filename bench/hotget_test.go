package bench

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/embedded"
	"github.com/akidb/akigw/internal/testkit"
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

// bare is what net/http costs by itself: a handler that serves memory.
func bare(addr string) {
	bodies := map[string][]byte{}
	for name, n := range sizes {
		bodies["/benchbucket/"+name] = testkit.Bytes(1, n)
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

// server is a process whose CPU time is measured.
type server struct {
	name   string
	client *testkit.Client
	pid    int
}

// BenchmarkHotGet reports the server's CPU time per GET of an object in memory,
// for a bare net/http handler, for the gateway (signature verified), and for
// the embedded upstream by itself. The ratio is to the bare handler, in this
// run.
func BenchmarkHotGet(b *testing.B) {
	servers := []*server{startOther(b, "bare"), startGateway(b), startOther(b, "upstream")}
	for _, size := range []string{"4KiB", "1MiB"} {
		base := 0.0
		for _, s := range servers {
			b.Run(size+"/"+s.name, func(b *testing.B) {
				r, err := s.client.Request("GET", "/benchbucket/"+size, "", nil, nil)
				if err != nil {
					b.Fatal(err)
				}
				for range 20 {
					s.get(b, r, sizes[size])
				}
				before := cpuTime(b, s.pid)
				n := 0
				for b.Loop() {
					s.get(b, r, sizes[size])
					n++
				}
				cpu := float64(cpuTime(b, s.pid)-before) / float64(n) / 1e3
				b.ReportMetric(cpu, "server-us/op")
				if s.name == "bare" {
					base = cpu
				} else if base > 0 {
					b.ReportMetric(cpu/base, "x-bare")
				}
			})
		}
	}
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

func startGateway(b *testing.B) *server {
	binary := filepath.Join(b.TempDir(), "akigw")
	build := exec.Command("go", "build", "-o", binary, "./cmd/akigw")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	addr := testkit.FreeAddr(b)
	cmd := exec.Command(binary, "serve", "--data", b.TempDir(), "--listen", addr, "--admin-listen", testkit.FreeAddr(b))
	cmd.Env = append(os.Environ(), "AKIGW_ACCESS_KEY="+testkit.AccessKey, "AKIGW_SECRET_KEY="+testkit.SecretKey)
	return start(b, "gateway", addr, cmd)
}

func start(b *testing.B, name, addr string, cmd *exec.Cmd) *server {
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
	s := &server{name: name, pid: cmd.Process.Pid, client: &testkit.Client{Endpoint: "http://" + addr, HTTP: &http.Client{Transport: &http.Transport{DisableCompression: true}}}}
	s.client.Must(b, "PUT", "/benchbucket", "", nil, nil) // the bare server ignores these
	for size, n := range sizes {
		s.client.Must(b, "PUT", "/benchbucket/"+size, "", nil, testkit.Bytes(1, n))
	}
	return s
}

// cpuTime is the CPU time that a process has used, in nanoseconds, from its
// threads' accounting, which is finer than clock ticks.
func cpuTime(b *testing.B, pid int) int64 {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		b.Fatal(err)
	}
	var sum int64
	for _, task := range tasks {
		f, err := os.Open(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, task.Name()))
		if err != nil {
			continue // a thread that has ended
		}
		line, _ := bufio.NewReader(f).ReadString('\n')
		f.Close()
		n, _ := strconv.ParseInt(strings.Fields(line + " 0")[0], 10, 64)
		sum += n
	}
	return sum
}
