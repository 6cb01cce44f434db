package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/akidb/akigw/gateway/limits"
	appconfig "github.com/akidb/akigw/internal/config"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/tiers/cold"
)

var update = flag.Bool("update", false, "rewrite docs/configuration.md")

// TestRefusals: what would give the data away, or cannot work, does not start.
func TestRefusals(t *testing.T) {
	keys := []string{"AKIGW_ACCESS_KEY=someaccess", "AKIGW_SECRET_KEY=some-secret-key"}
	for _, c := range []struct {
		name string
		env  []string
		want string // "" is accepted
	}{
		{"defaults", nil, ""},
		{"S1 beyond loopback without TLS", append(keys, "AKIGW_LISTEN=0.0.0.0:9000"), "allow_plaintext"},
		{"S1 the same, accepted", append(keys, "AKIGW_LISTEN=0.0.0.0:9000", "AKIGW_ALLOW_PLAINTEXT=true"), ""},
		{"all addresses", append(keys, "AKIGW_LISTEN=:9000"), "allow_plaintext"},
		{"trial keys beyond loopback", []string{"AKIGW_LISTEN=0.0.0.0:9000", "AKIGW_ALLOW_PLAINTEXT=true"}, "allow_trial_keys"},
		{"S43 admin beyond loopback", append(keys, "AKIGW_ADMIN_LISTEN=0.0.0.0:9001"), "allow_open_admin"},
		{"S49 well-known keys", []string{"AKIGW_ACCESS_KEY=minioadmin", "AKIGW_SECRET_KEY=minioadmin"}, "well-known"},
		{"S49 short secret", []string{"AKIGW_ACCESS_KEY=someaccess", "AKIGW_SECRET_KEY=short"}, "at least 8"},
		{"half a key pair", []string{"AKIGW_ACCESS_KEY=someaccess"}, "need each other"},
		{"upstream without keys", []string{"AKIGW_UPSTREAM=http://127.0.0.1:1"}, "AKIGW_UPSTREAM_SECRET_KEY"},
		{"upstream with a path", []string{"AKIGW_UPSTREAM=http://127.0.0.1:1/x", "AKIGW_UPSTREAM_ACCESS_KEY=a", "AKIGW_UPSTREAM_SECRET_KEY=b"}, "must not have a path"},
		{"upstream without a scheme", []string{"AKIGW_UPSTREAM=s3.example.com", "AKIGW_UPSTREAM_ACCESS_KEY=a", "AKIGW_UPSTREAM_SECRET_KEY=b"}, "http://HOST"},
		{"pool of nothing", []string{"AKIGW_STORAGE_CONNECTION_POOL_POOL_SIZE=0"}, "1 to 10000"},
		{"odd block size", []string{"AKIGW_CACHE_BLOCK_BYTES=100KiB"}, "power of two"},
		{"tiny warm tier", []string{"AKIGW_CACHE_WARM_BYTES=1MiB"}, "at least 32MiB"},
		{"size in words", []string{"AKIGW_CACHE_HOT_BYTES=plenty"}, "AKIGW_CACHE_HOT_BYTES"},
		{"freshness nobody knows", []string{"AKIGW_CACHE_FRESHNESS=sometimes"}, "strict"},
		{"log level nobody knows", []string{"AKIGW_LOG_LEVEL=loud"}, "debug, info"},
	} {
		_, err := load("", c.env, nil)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestConfigurationIsDocumented compares docs/configuration.md with the code:
// go test ./cmd/akigw -update rewrites it.
func TestConfigurationIsDocumented(t *testing.T) {
	const path = "../../docs/configuration.md"
	got, err := os.ReadFile(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	want := configurationPage()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(got) != want {
		t.Errorf("%s is not what the code says; run go test ./cmd/akigw -update", path)
	}
}

func configurationPage() string {
	var b strings.Builder
	b.WriteString(`# Configuration

Every setting is a key of the TOML file that ` + "`akigw serve --config FILE`" + ` reads, and an environment variable; those that people
change on the spot are flags too (` + "`akigw serve --help`" + `). A flag wins over a variable, a variable over the file. Unknown keys,
wrong types and impossible values are reported all at once, by name, and nothing starts.

A file that holds a secret must not be readable by others (chmod 600). Sizes are written as "256MiB", "10GiB" or a
number of bytes.

This page is generated from the code and checked by a test.

| key | variable | default | meaning |
|---|---|---|---|
`)
	for _, s := range appconfig.Settings(defaults()) {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s |\n", s.Key, s.Env, defaultOf(s), s.Help)
	}
	b.WriteString("\n## Further upstreams\n\nEach `[[upstreams]]` table of the file is one more upstream, which has some of the buckets. Its settings are those of `[upstream]`, and:\n\n| key | meaning |\n|---|---|\n")
	further := &struct {
		Upstreams []cold.FurtherConfig `toml:"upstreams"`
	}{make([]cold.FurtherConfig, 1)}
	for _, s := range appconfig.Settings(further)[:2] {
		fmt.Fprintf(&b, "| `%s` | %s |\n", strings.TrimPrefix(s.Key, "upstreams[1]."), s.Help)
	}
	b.WriteString("\nObjects cannot be copied from one upstream to another by CopyObject (501). ListBuckets is one list of all upstreams.\n")
	b.WriteString("\n## Classes of service\n\nEach `[[qos]]` table of the file is a class; [rules](rules.md) say which objects belong to it.\n\n| key | default | meaning |\n|---|---|---|\n")
	classes := &struct {
		QoS []limits.QoSConfig `toml:"qos"`
	}{make([]limits.QoSConfig, 1)}
	classes.QoS[0].SetDefaults()
	for _, s := range appconfig.Settings(classes) {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.TrimPrefix(s.Key, "qos[1]."), defaultOf(s), s.Help)
	}
	b.WriteString("\n## Example\n\n```toml\nlisten = \"127.0.0.1:9000\"\ndata = \"/var/lib/akigw\"\n\n[upstream]\nurl = \"https://s3.eu-central-1.amazonaws.com\"\nregion = \"eu-central-1\"\n\n[cache]\nhot_bytes = \"4GiB\"\nwarm_bytes = \"200GiB\"\n\n[storage.connection_pool]\npool_size = 50\n```\n")
	return b.String()
}

func defaultOf(s appconfig.Setting) string {
	if text := s.Text(); text != "" {
		return "`" + text + "`"
	}
	return ""
}

// running is serve on its own goroutine.
type running struct {
	out, log syncBuffer
	stop     context.CancelFunc
	done     chan error
	endpoint string // of S3
	admin    string // URL of the admin listener
}

func run(t *testing.T, dir string, env ...string) *running {
	t.Helper()
	return runFile(t, "", dir, env...)
}

// runFile is run with a configuration file.
func runFile(t *testing.T, file, dir string, env ...string) *running {
	t.Helper()
	c, err := load(file, append(env, "AKIGW_DATA="+dir, "AKIGW_LISTEN="+testkit.FreeAddr(t), "AKIGW_ADMIN_LISTEN="+testkit.FreeAddr(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{stop: cancel, done: make(chan error, 1), endpoint: "http://" + c.Gateway.Listen, admin: "http://" + c.Admin.Listen}
	go func() { r.done <- serve(ctx, c, &r.out, &r.log) }()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if strings.HasSuffix(r.out.String(), "ready\n") {
			return r
		}
		select {
		case err := <-r.done:
			t.Fatalf("serve ended: %v", err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("not ready")
		}
	}
}

// metrics are those of the gateway, as /metrics has them.
func (r *running) metrics(t *testing.T) string {
	t.Helper()
	resp, err := http.Get(r.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return body.String()
}

// TestB24_SecondGatewayOnOneDirectoryRefuses, and the same keys come back with
// the first one's next start.
func TestB24_SecondGatewayOnOneDirectoryRefuses(t *testing.T) {
	dir := t.TempDir()
	first := run(t, dir)
	c, err := load("", []string{"AKIGW_DATA=" + dir, "AKIGW_LISTEN=" + testkit.FreeAddr(t), "AKIGW_ADMIN_LISTEN=" + testkit.FreeAddr(t)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := serve(t.Context(), c, &bytes.Buffer{}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "in use by another akigw") {
		t.Errorf("second start: %v", err)
	}
	first.stop()
	if err := <-first.done; err != nil {
		t.Fatal(err)
	}
	keys := first.out.String()[strings.Index(first.out.String(), "access key"):]
	second := run(t, dir)
	second.stop()
	if err := <-second.done; err != nil {
		t.Fatal(err)
	}
	if again := second.out.String(); keys[:40] != again[strings.Index(again, "access key"):][:40] {
		t.Errorf("other trial keys after a restart")
	}
}

// TestS47_FilesArePrivate: directories 0700, files 0600, all of them.
func TestS47_FilesArePrivate(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "data")
	r := run(t, dir)
	r.stop()
	if err := <-r.done; err != nil {
		t.Fatal(err)
	}
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

// TestAdminListener: what it answers, and that readiness follows the state.
func TestAdminListener(t *testing.T) {
	r := run(t, t.TempDir())
	out := r.out.String()
	base := out[strings.Index(out, "admin")+len("admin"):]
	base = strings.TrimSuffix(strings.TrimSpace(base[:strings.Index(base, "\n")]), "/metrics")
	for path, want := range map[string]string{"/metrics": "akigw_hot_quota_bytes 268435456", "/healthz": "ok", "/readyz": "ready", "/debug/pprof/": "goroutine"} {
		resp, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		body.ReadFrom(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || !strings.Contains(body.String(), want) {
			t.Errorf("%s: %d %.200s", path, resp.StatusCode, &body)
		}
	}
	r.stop()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	if _, err := http.Get(base + "/healthz"); err == nil {
		t.Error("the admin listener is still open")
	}
}

// TestS44_NoAdminOnTheS3Listener: the S3 listener knows none of the admin's
// paths.
func TestS44_NoAdminOnTheS3Listener(t *testing.T) {
	r := run(t, t.TempDir())
	defer func() { r.stop(); <-r.done }()
	out := r.out.String()
	base := out[strings.Index(out, "http://"):]
	base = base[:strings.Index(base, " ")]
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/debug/pprof/", "/debug/vars"} {
		resp, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 403 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
}

// TestS47_SharedDirectoryIsRefused, and left as it is: it may be /tmp.
func TestS47_SharedDirectoryIsRefused(t *testing.T) {
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

func TestPortInUseIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := load("", []string{"AKIGW_DATA=" + t.TempDir(), "AKIGW_LISTEN=" + l.Addr().String(), "AKIGW_ADMIN_LISTEN=" + testkit.FreeAddr(t)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := serve(t.Context(), c, &bytes.Buffer{}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("%v", err)
	}
}
