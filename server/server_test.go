package server

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/akidb/akigw/internal/testing/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testkit.BadgerLeaks()...) }

// running is a Server on a goroutine of its own.
type running struct {
	*Server
	log      *syncBuffer
	stop     context.CancelFunc
	done     chan error
	endpoint string // of S3
	admin    string // URL of the admin listener
}

func run(t *testing.T, dir string, env ...string) *running {
	t.Helper()
	return runFile(t, "", dir, env...)
}

// runFile is like run, with a configuration file.
func runFile(t *testing.T, file, dir string, env ...string) *running {
	t.Helper()
	return runConfig(t, config(t, file, dir, env...))
}

// config returns a configuration with free ports.
func config(t *testing.T, file, dir string, env ...string) *Config {
	t.Helper()
	c, err := Load(file, append(env, "AKIGW_DATA="+dir, "AKIGW_LISTEN=127.0.0.1:0", "AKIGW_ADMIN_LISTEN=127.0.0.1:0"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// runConfig starts a gateway and waits until it is ready.
func runConfig(t *testing.T, c *Config) *running {
	t.Helper()
	return runPlan(t, c, nil)
}

// runPlan is like runConfig, with the tasks modified by change.
func runPlan(t *testing.T, c *Config, change func(*Server, *plan)) *running {
	t.Helper()
	log := &syncBuffer{}
	c.Log = log
	s, err := New(*c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Server: s, log: log, stop: cancel, done: make(chan error, 1), endpoint: "http://" + s.Addr().String(), admin: "http://" + s.AdminAddr().String()}
	ended := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	go func() {
		defer close(ended)
		if change == nil {
			r.done <- s.Run(ctx)
			return
		}
		p := s.plan()
		change(s, &p)
		r.done <- errors.Join(s.serve(ctx, p), s.Close())
	}()
	select {
	case <-s.Ready():
	case err := <-r.done:
		t.Fatalf("the gateway ended: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("not ready")
	}
	return r
}

// end stops the gateway and waits for its end.
func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}

// get reads a path of the admin listener.
func (r *running) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	resp, err := http.Get(r.admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// shown returns the output of /metrics.
func (r *running) shown(t *testing.T) string {
	t.Helper()
	_, body := r.get(t, "/metrics")
	return body
}

// TestSecondGatewayOnOneDirectoryRefuses, a second gateway on the same data directory refuses to
// start. A restart of the first one uses the same trial keys.
//
// Scenarios: B24.
func TestSecondGatewayOnOneDirectoryRefuses(t *testing.T) {
	dir := t.TempDir()
	first := run(t, dir)
	if _, err := New(*config(t, "", dir)); err == nil || !strings.Contains(err.Error(), "in use by another akigw") {
		t.Errorf("second start: %v", err)
	}
	first.end(t)
	second := run(t, dir)
	second.end(t)
	keys, again := first.Trial(), second.Trial()
	if keys == nil || again == nil || keys.Root.SecretKey == "" || keys.Root != again.Root {
		t.Errorf("trial keys %v, after a restart %v", keys, again)
	}
	if keys.Admin == nil || again.Admin == nil || keys.Admin.SecretKey == "" || keys.Admin.SecretKey != again.Admin.SecretKey {
		t.Error("another admin key after a restart")
	}
}

// TestFilesArePrivate: directories 0700, files 0600, all of them.
//
// Scenarios: S47.
func TestFilesArePrivate(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "data")
	run(t, dir).end(t)
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		n++
		return err
	})
	if err != nil || n < 5 {
		t.Errorf("saw %d files, error %v", n, err)
	}
}

// TestAdminListener: the admin listener responds, and stops with the gateway.
func TestAdminListener(t *testing.T) {
	r := run(t, t.TempDir())
	for path, want := range map[string]string{"/metrics": "akigw_hot_quota_bytes 268435456", "/healthz": "ok", "/readyz": "ready", "/debug/pprof/": "goroutine"} {
		if status, body := r.get(t, path); status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.200s", path, status, body)
		}
	}
	r.end(t)
	if _, err := http.Get(r.admin + "/healthz"); err == nil {
		t.Error("the admin listener is still open")
	}
}

// TestNoAdminOnTheS3Listener: the S3 listener serves none of the admin paths.
//
// Scenarios: S44.
func TestNoAdminOnTheS3Listener(t *testing.T) {
	r := run(t, t.TempDir())
	defer r.end(t)
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/debug/pprof/", "/debug/vars"} {
		resp, err := http.Get(r.endpoint + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 403 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
}

// TestSharedDirectoryIsRefused, a directory that others can write is refused and not modified,
// because it may be /tmp.
//
// Scenarios: S47.
func TestSharedDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	for _, mode := range []os.FileMode{0o777, 0o777 | os.ModeSticky} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := lockData(dir); err == nil || !strings.Contains(err.Error(), "--data") {
			t.Errorf("%v: %v", mode, err)
		}
		if info, err := os.Stat(dir); err != nil || info.Mode()&(os.ModePerm|os.ModeSticky) != mode {
			t.Errorf("%v became %v", mode, info.Mode())
		}
	}
}

// TestPortInUseIsNamed: the error names the flag of the address that is in use, and the data
// directory is free again.
func TestPortInUseIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	for flag, set := range map[string]func(*Config){
		"--listen":       func(c *Config) { c.Gateway.Listen = l.Addr().String() },
		"--admin-listen": func(c *Config) { c.Admin.Listen = l.Addr().String() },
	} {
		c := config(t, "", dir)
		set(c)
		if _, err := New(*c); err == nil || !strings.Contains(err.Error(), "("+flag+")") {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// TestCloseWithoutRun: a Server that never ran leaves nothing behind, and neither runs twice.
func TestCloseWithoutRun(t *testing.T) {
	dir := t.TempDir()
	s, err := New(*config(t, "", dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if err := s.Run(t.Context()); !errors.Is(err, errUsed) {
		t.Errorf("Run after Close: %v", err)
	}
	run(t, dir).end(t)
}
