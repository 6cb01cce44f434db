package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
)

const (
	accessKey         = s3client.AccessKey
	secretKey         = s3client.SecretKey
	upstreamAccessKey = "upstreamkey"
	upstreamSecretKey = "secret-of-the-upstream"
	region            = "us-east-1"
)

// TestMain doubles as the versitygw process, because that library changes the working directory and
// can run only once per process.
func TestMain(m *testing.M) {
	if dir := os.Getenv("AKIGW_E2E_VERSITY"); dir != "" {
		if err := runVersity(dir, os.Getenv("AKIGW_E2E_ADDR")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv("AKIGW_E2E_OUTAGE") != "" {
		if err := runOutageUpstream(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if run := os.Getenv("AKIGW_E2E_CONFORMANCE"); run != "" {
		if err := runConformance(run); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	for _, b := range binaries {
		os.RemoveAll(filepath.Dir(b.path))
	}
	os.Exit(code)
}

// binary is akigw, built once for each kind.
type binary struct {
	once sync.Once
	path string
	err  error
}

// The kinds of binaries, as flags of go build.
const (
	plain      = ""
	race       = "-race"
	failpoints = "-tags=failpoints"
)

var binaries = map[string]*binary{plain: {}, race: {}, failpoints: {}}

func build(t testing.TB, kind string) string {
	t.Helper()
	b := binaries[kind]
	b.once.Do(func() {
		dir, err := os.MkdirTemp("", "akigw-e2e")
		if err != nil {
			b.err = err
			return
		}
		b.path = filepath.Join(dir, "akigw")
		args := []string{"build", "-o", b.path}
		if kind != plain {
			args = append(args, kind)
		}
		cmd := exec.Command("go", append(args, "./cmd/akigw")...)
		cmd.Dir = ".."
		if out, err := cmd.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.path
}

// upstream is an S3 service behind the gateway. The zero value is the embedded upstream.
type upstream struct {
	name     string
	endpoint string
}

// gateway is a running akigw.
type gateway struct {
	t        testing.TB
	cmd      *exec.Cmd
	dir      string
	upstream upstream
	endpoint string
	admin    string
	stderr   *bytes.Buffer
	binary   string
	race     bool // the binary has the race detector
	env      []string
	key      pair // of its operator, if it has one
}

type options struct {
	upstream upstream
	dir      string
	plain    bool   // without the race detector
	kind     string // the kind of binary, if not the default
	release  string // path of the binary of another release
	config   string // a configuration file
	under    string // a command that runs the binary: "strace -D"
	env      []string
}

func startGateway(t testing.TB, o options) *gateway {
	t.Helper()
	g := newGateway(t, o)
	g.start()
	return g
}

// newGateway returns a gateway that is not started yet.
func newGateway(t testing.TB, o options) *gateway {
	t.Helper()
	if o.dir == "" {
		o.dir = t.TempDir()
	}
	if o.kind == "" && !o.plain {
		o.kind = race
	}
	g := &gateway{t: t, dir: o.dir, upstream: o.upstream, binary: o.release, race: o.release == "" && o.kind == race, env: o.env}
	if o.release == "" {
		g.binary = build(t, o.kind)
	}
	if o.config != "" {
		g.env = append(g.env, "AKIGW_CONFIG="+writeFile(t, filepath.Join(t.TempDir(), "akigw.toml"), []byte(o.config)))
	}
	if o.under != "" {
		g.binary = writeFile(t, filepath.Join(t.TempDir(), "akigw"), []byte("#!/bin/sh\nexec "+o.under+" "+g.binary+" \"$@\"\n"))
		if err := os.Chmod(g.binary, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	g.endpoint, g.admin = "http://"+testkit.FreeAddr(t), "http://"+testkit.FreeAddr(t)
	t.Cleanup(func() {
		if g.cmd == nil {
			return
		}
		if g.cmd.ProcessState == nil {
			g.stop()
		}
		if strings.Contains(g.stderr.String(), "DATA RACE") || strings.Contains(g.stderr.String(), "panic") {
			t.Errorf("the gateway reported:\n%s", g.stderr)
		}
	})
	return g
}

func (g *gateway) start() {
	g.t.Helper()
	if !g.tryStart() {
		g.t.Fatalf("the gateway ended: %s", g.stderr)
	}
}

// tryStart is start for a gateway that may end before it is ready; then it returns false.
func (g *gateway) tryStart() bool {
	g.t.Helper()
	args := []string{"serve", "--data", g.dir, "--listen", strings.TrimPrefix(g.endpoint, "http://"), "--admin-listen", strings.TrimPrefix(g.admin, "http://")}
	if g.upstream.endpoint != "" {
		args = append(args, "--upstream", g.upstream.endpoint)
	}
	g.cmd = exec.Command(g.binary, args...)
	g.cmd.Env = append(os.Environ(), "AKIGW_ACCESS_KEY="+accessKey, "AKIGW_SECRET_KEY="+secretKey,
		"AKIGW_UPSTREAM_ACCESS_KEY="+upstreamAccessKey, "AKIGW_UPSTREAM_SECRET_KEY="+upstreamSecretKey, "AKIGW_UPSTREAM_REGION="+region)
	g.cmd.Env = append(g.cmd.Env, g.env...)
	g.stderr = &bytes.Buffer{}
	g.cmd.Stderr = g.stderr
	stdout, err := g.cmd.StdoutPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	ready := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if lines.Text() == "ready" {
				ready <- true
			}
		}
		ready <- false
	}()
	select {
	case ok := <-ready:
		if !ok {
			g.cmd.Wait()
		}
		return ok
	case <-time.After(30 * time.Second):
		g.t.Fatal("the gateway did not become ready")
	}
	return false
}

// stop stops the gateway as an operator does and expects exit code 0.
func (g *gateway) stop() {
	g.t.Helper()
	g.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan error, 1)
	go func() { done <- g.cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			g.t.Errorf("the gateway ended with %v: %s", err, g.stderr)
		}
	case <-time.After(60 * time.Second):
		g.cmd.Process.Kill()
		<-done
		g.t.Error("the gateway did not stop within a minute")
	}
}

// kill ends the gateway at once, with SIGKILL.
func (g *gateway) kill() {
	g.cmd.Process.Kill()
	g.cmd.Wait()
}

// metric sums the values of a metric over all labels that contain with.
func (g *gateway) metric(name string, with ...string) float64 {
	g.t.Helper()
	resp, err := http.Get(g.admin + "/metrics")
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	sum := 0.0
	lines := bufio.NewScanner(resp.Body)
next:
	for lines.Scan() {
		metric, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || metric != name && !strings.HasPrefix(metric, name+"{") {
			continue
		}
		for _, label := range with {
			if !strings.Contains(metric, label) {
				continue next
			}
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			g.t.Fatal(err)
		}
		sum += v
	}
	return sum
}

// objectGets is the number of object GETs that reached the upstream.
func (g *gateway) objectGets() int {
	return int(g.metric("akigw_cold_requests_total", `op="GetObject"`))
}

// clientEnv is the environment of a command-line client.
func (g *gateway) clientEnv() []string {
	var env []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "AWS_") { // keeps out the configuration of the machine
			env = append(env, pair)
		}
	}
	return append(env, "AWS_ACCESS_KEY_ID="+accessKey, "AWS_SECRET_ACCESS_KEY="+secretKey, "AWS_DEFAULT_REGION="+region,
		"AWS_ENDPOINT_URL="+g.endpoint, "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "HOME="+g.t.TempDir())
}

// run runs a client to its end and returns its output.
func (g *gateway) run(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = g.clientEnv()
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func (g *gateway) must(name string, args ...string) string {
	g.t.Helper()
	out, err := g.run(name, args...)
	if err != nil {
		g.t.Fatal(err)
	}
	return out
}

// says returns the output of an akigw command, preceded by the exit code if it failed.
func (g *gateway) says(args ...string) string {
	g.t.Helper()
	out, err := g.akigw(args...)
	if err != nil {
		return err.Error()
	}
	return out
}

// operator gives the gateway an operator with an admin key, and waits until the gateway knows it. From then on
// commands are given the key, because finding it takes a quarter of a second of PBKDF2 each time. For that reason,
// too, all gateways of a binary share one keyring, unless they have users already.
func (g *gateway) operator() {
	g.t.Helper()
	const reloads = "akigw_access_reloads_total"
	before := g.metric(reloads, `result="ok"`)
	file := filepath.Join(g.dir, "access", "keyring")
	if _, err := os.Stat(file); err == nil {
		g.mustAkigw("users", "set", "operator", "--admin")
		g.key = g.newKey("--user", "operator")
	} else {
		shared := keyringOf(g.t, g.binary)
		g.key = shared.key
		err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file+".new", shared.raw, 0o600), os.Rename(file+".new", file))
		if err != nil {
			g.t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(30 * time.Second); g.metric(reloads, `result="ok"`) == before; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			g.t.Fatalf("the gateway does not know its operator: %s", g.stderr)
		}
	}
}

// keyring is a file of users and keys with the operator alone.
type keyring struct {
	once sync.Once
	raw  []byte
	key  pair
}

// keyrings are the keyrings by the binary that made them: only a build with the race detector can read what such a
// build has sealed.
var keyrings sync.Map

func keyringOf(t testing.TB, binary string) *keyring {
	t.Helper()
	found, _ := keyrings.LoadOrStore(binary, &keyring{})
	k := found.(*keyring)
	k.once.Do(func() {
		g := &gateway{t: t, dir: t.TempDir(), binary: binary}
		g.mustAkigw("users", "set", "operator", "--admin")
		g.key = g.newKey("--user", "operator")
		k.raw, k.key = readFile(t, filepath.Join(g.dir, "access", "keyring")), g.key
	})
	if k.raw == nil {
		t.Fatal("another test could not make the keyring")
	}
	return k
}

// need skips the test if a program is not installed.
func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

func needPython(t testing.TB, module string) {
	t.Helper()
	need(t, "python3")
	if err := exec.Command("python3", "-c", "import "+module).Run(); err != nil {
		t.Skipf("python3 has no %s", module)
	}
}

// startUpstreams starts the S3 servers that stand behind the gateway.
func embedded(testing.TB) upstream { return upstream{name: "embedded"} }

func moto(t testing.TB) upstream {
	t.Helper()
	need(t, "moto_server")
	addr := testkit.FreeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	spawn(t, addr, exec.Command("moto_server", "-H", host, "-p", port))
	return upstream{"moto", "http://" + addr}
}

func versity(t testing.TB) upstream { return startVersity(t) }

// versityVersioned keeps versions in buckets that have versioning enabled.
func versityVersioned(t testing.TB) upstream { return startVersity(t, "AKIGW_E2E_VERSIONS=yes") }

func startVersity(t testing.TB, env ...string) upstream {
	t.Helper()
	addr := testkit.FreeAddr(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), "AKIGW_E2E_VERSITY="+t.TempDir(), "AKIGW_E2E_ADDR="+addr), env...)
	spawn(t, addr, cmd)
	return upstream{"versitygw", "http://" + addr}
}

// spawn starts a server in its own process group and waits until it listens.
func spawn(t testing.TB, addr string, cmd *exec.Cmd) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	})
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return
		}
	}
	t.Fatalf("%s does not listen: %s", cmd.Path, &out)
}

type starters = []func(testing.TB) upstream

var upstreams = starters{embedded, moto, versity}

// packedConfig sends all writes through the journal, and small objects into packs.
const packedConfig = `
[[rule]]
write = "back"
pack_bytes = "64KiB"
`

// inFrontOf runs a test of a client in front of the given upstreams. TestLongClients uses all of
// them, and repeats the test with write-back.
func inFrontOf(t *testing.T, starts starters, f func(t *testing.T, g *gateway)) {
	if os.Getenv("AKIGW_LONG") != "" {
		starts = upstreams
	}
	for _, start := range starts {
		up := start(t)
		t.Run(up.name, func(t *testing.T) {
			t.Parallel()
			f(t, startGateway(t, options{plain: true, upstream: up}))
		})
		if os.Getenv("AKIGW_LONG") != "" {
			written := start(t)
			t.Run(up.name+"-written-back", func(t *testing.T) {
				t.Parallel()
				f(t, startGateway(t, options{plain: true, upstream: written, config: packedConfig}))
			})
		}
	}
}

func writeFile(t testing.TB, path string, data []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func readAll(t testing.TB, r io.ReadCloser) []byte {
	t.Helper()
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
