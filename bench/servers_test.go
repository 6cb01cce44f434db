package bench

import (
	"fmt"
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
	case "lean":
		lean(addr)
		return
	case "proxy":
		proxy(addr, os.Getenv("AKIGW_BENCH_BEHIND"))
		return
	}
	os.Exit(m.Run())
}

// server is a process, and its children, whose CPU time is measured.
type server struct {
	name   string
	client *s3client.Client
	pid    int
	admin  string    // address of a gateway's admin listener
	rounds []float64 // CPU time per GET of each round, in microseconds
	costs  []cost    // likewise, of the benchmarks with an upstream
}

// The cores that processes are assigned to. Otherwise the scheduler's placement would decide what a
// system call costs. Upstreams whose cost is not measured share the core of the client.
const (
	clientsCore = "0"
	serversCore = "1"
)

// pin assigns this process to the clients' core and cmd to another one, if there are two cores and taskset,
// unless AKIGW_BENCH_PIN is "no".
func pin(b *testing.B, core string, cmd *exec.Cmd) {
	if os.Getenv("AKIGW_BENCH_PIN") == "no" {
		return
	}
	taskset, err := exec.LookPath("taskset")
	if err != nil || runtime.NumCPU() < 2 {
		b.Log("cores are not assigned: no taskset, or one core")
		return
	}
	if err := exec.Command(taskset, "-a", "-p", "-c", clientsCore, strconv.Itoa(os.Getpid())).Run(); err != nil {
		b.Fatal(err)
	}
	cmd.Args = append([]string{"taskset", "-c", core, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = taskset
}

// launch starts a server on a core, and returns when it listens.
func launch(b *testing.B, core, name, addr string, cmd *exec.Cmd) *server {
	pin(b, core, cmd)
	cmd.Stderr = os.Stderr
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
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: putClients}}
	return &server{name: name, pid: cmd.Process.Pid, client: &s3client.Client{Endpoint: "http://" + addr, HTTP: client}}
}

// startSelf starts one of the servers that TestMain doubles as.
func startSelf(b *testing.B, core, name string, env ...string) *server {
	addr := testkit.FreeAddr(b)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "AKIGW_BENCH_SERVER="+name, "AKIGW_BENCH_ADDR="+addr, "AKIGW_BENCH_DIR="+b.TempDir())
	cmd.Env = append(cmd.Env, env...)
	return launch(b, core, name, addr, cmd)
}

// launchGateway starts AKIGW_BENCH_BINARY, or a gateway that it builds.
func launchGateway(b *testing.B, name string, env ...string) *server {
	binary := os.Getenv("AKIGW_BENCH_BINARY")
	if binary == "" {
		binary = filepath.Join(b.TempDir(), "akigw")
		build := exec.Command("go", "build", "-o", binary, "./cmd/akigw")
		build.Dir = ".."
		if out, err := build.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
	addr, admin := testkit.FreeAddr(b), testkit.FreeAddr(b)
	cmd := exec.Command(binary, "serve", "--data", b.TempDir(), "--listen", addr, "--admin-listen", admin)
	cmd.Env = append(os.Environ(), "AKIGW_ACCESS_KEY="+s3client.AccessKey, "AKIGW_SECRET_KEY="+s3client.SecretKey, "AKIGW_LOG_LEVEL=error")
	cmd.Env = append(cmd.Env, env...)
	s := launch(b, serversCore, name, addr, cmd)
	s.admin = admin
	return s
}

// startNginx starts nginx with directives of its http block, if it is installed. LISTEN in them stands
// for its address.
func startNginx(b *testing.B, directives string) []*server {
	if _, err := exec.LookPath("nginx"); err != nil {
		fmt.Fprintln(os.Stderr, "no comparison with nginx: it is not installed (Debian's package nginx-light)") // b.Log is silent in front of sub-benchmarks
		return nil
	}
	dir, addr := b.TempDir(), testkit.FreeAddr(b)
	config := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 256; }
http {
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/tmp; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  %[2]s
}`, dir, strings.ReplaceAll(directives, "LISTEN", addr))
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	return []*server{launch(b, serversCore, "nginx", addr, exec.Command("nginx", "-c", file, "-p", dir))}
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
