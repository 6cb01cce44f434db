package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// smallConfig is for a disk of some MiB.
const smallConfig = backConfig + `
reserve_bytes = "1MiB"
[cache]
warm_bytes = "32MiB"
freshness = "ttl"
`

// diskRig is a gateway on a small disk, with pending writes and cached objects.
type diskRig struct {
	*testing.T
	disk    *testkit.SmallDisk
	up      *slowMemory
	g       *gateway
	b       *bucketOf
	pending map[string][]byte
}

func newDiskRig(t *testing.T, config string) *diskRig {
	return newDiskRigOn(t, testkit.NewSmallDisk(t, 96<<20, 2000), config)
}

func newDiskRigOn(t *testing.T, disk *testkit.SmallDisk, config string) *diskRig {
	r := &diskRig{T: t, disk: disk, pending: map[string][]byte{}}
	up, behind := startMemory(t, 0, 16)
	r.up = up
	up.Put(akigw.Key{Bucket: "backbucket", Name: "cached"}, testkit.Bytes(1, 300_000))
	r.g = startGateway(t, options{plain: true, upstream: behind, dir: filepath.Join(r.disk.Dir, "data"), config: config})
	r.b = &bucketOf{t: t, g: r.g, client: &s3client.Client{Endpoint: r.g.endpoint}, name: "backbucket"}
	r.b.put("first", nil)
	waitDrained(t, r.g, 10*time.Second)
	r.b.get("cached", testkit.Bytes(1, 300_000))
	return r
}

// fill leaves small and large writes pending, because the upstream is unavailable.
func (r *diskRig) fill() {
	r.Helper()
	r.up.down.Store(true)
	for i := range 40 {
		name, body := fmt.Sprint("pending/", i), testkit.Bytes(uint64(i), 100+i%4*50_000)
		if a := r.b.ask("PUT", name, body); a.Status != 200 || a.Header.Get("X-Akigw-Commit") != "journal" {
			r.Fatalf("PUT %s: %d %s", name, a.Status, a.Body)
		}
		r.pending[name] = body
	}
}

// read reads everything that was acknowledged.
func (r *diskRig) read() {
	r.Helper()
	for name, body := range r.pending {
		r.b.get(name, body)
	}
}

// restart restarts the gateway, which takes at most 5 s.
func (r *diskRig) restart() {
	r.Helper()
	started := time.Now()
	r.g.start()
	if took := time.Since(started); took > 5*time.Second {
		r.Errorf("the start took %v", took)
	}
}

// arrived checks that everything is upstream within 5 s of the upstream's return.
func (r *diskRig) arrived() {
	r.Helper()
	r.up.down.Store(false)
	waitDrained(r, r.g, 5*time.Second)
	for name, body := range r.pending {
		if o, ok := r.up.Get(akigw.Key{Bucket: "backbucket", Name: name}); !ok || string(o.Body) != string(body) {
			r.Errorf("%s is not upstream as it was acknowledged", name)
		}
	}
	if st := r.g.status(); st.Dead > 0 {
		r.Errorf("%+v", st)
	}
}

// recovers waits until requests go to the upstream again, because its breaker has to close first.
func (r *diskRig) recovers() {
	r.Helper()
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		a := r.b.ask("GET", "nothing", nil)
		if a.Status == 404 {
			return
		}
		if time.Now().After(end) {
			r.Fatalf("requests do not reach the upstream: %d %s", a.Status, a.Body)
		}
	}
}

// health returns the status and the body of /healthz.
func (r *diskRig) health() (int, string) {
	r.Helper()
	resp, err := http.Get(r.g.admin + "/healthz")
	if err != nil {
		r.Fatal(err)
	}
	return resp.StatusCode, string(readAll(r, resp.Body))
}

// says checks that health, with a status, and doctor report all of the given texts.
func (r *diskRig) says(status int, wanted ...string) {
	r.Helper()
	got, text := r.health()
	doctor := r.g.says("doctor", "--data", r.g.dir, "--admin-listen", strings.TrimPrefix(r.g.admin, "http://"))
	for _, one := range wanted {
		if got != status || !strings.Contains(text, one) {
			r.Errorf("health: %d %s, want %d with %q", got, text, status, one)
		}
		if !strings.Contains(doctor, one) {
			r.Errorf("doctor does not say %q: %s", one, doctor)
		}
	}
}

// journals waits until the journal acknowledges writes.
func (r *diskRig) journals() {
	r.Helper()
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		a := r.b.ask("PUT", "again", []byte("x"))
		if a.Header.Get("X-Akigw-Commit") == "journal" {
			return
		}
		if time.Now().After(end) {
			r.Fatalf("writes are not journalled again: %d, %+v", a.Status, r.g.status())
		}
	}
}

// TestStartOnAFullDisk: on a disk without room, or without room for more files, the gateway starts
// in time, serves pending writes and flushes them. Without its reserve it flushes them once there
// is room again. Only the cache needs another start.
//
// Scenarios: C3.
func TestStartOnAFullDisk(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		fill    func(*testkit.SmallDisk)
		reserve bool
		takes   bool // the journal accepts new writes
		flush   bool
	}{
		{"no bytes", func(d *testkit.SmallDisk) { d.Fill(0) }, true, false, true},
		{"64 KiB", func(d *testkit.SmallDisk) { d.Fill(64 << 10) }, true, true, true},
		{"no more files", func(d *testkit.SmallDisk) { d.FillFiles() }, true, false, true},
		{"no bytes and no reserve", func(d *testkit.SmallDisk) { d.Fill(0) }, false, false, false},
		{"64 KiB and no reserve", func(d *testkit.SmallDisk) { d.Fill(64 << 10) }, false, false, true},
		{"no more files and no reserve", func(d *testkit.SmallDisk) { d.FillFiles() }, false, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newDiskRig(t, smallConfig)
			r.fill()
			r.g.kill()
			if !test.reserve {
				pieces, err := filepath.Glob(filepath.Join(r.g.dir, "journal", "reserve*"))
				if err != nil || len(pieces) == 0 {
					t.Fatalf("%q, %v", pieces, err)
				}
				for _, piece := range pieces {
					if err := os.Remove(piece); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := os.Truncate(filepath.Join(r.g.dir, "warm", "BALLAST"), 0); err != nil { // otherwise it would be released
				t.Fatal(err)
			}
			test.fill(r.disk)
			r.restart()
			r.read()
			switch {
			case test.takes:
				r.says(200, "warm tier: off until restart")
				r.arrived()
			case test.flush:
				r.says(200, "warm tier: off until restart", "journal: the journal's disk accepts no more data")
				r.arrived()
			default:
				r.says(503, "warm tier: off until restart", "journal: the journal's disk accepts no more data", "free some space, or remount")
				r.up.down.Store(false)
				time.Sleep(time.Second)
				r.read()
				if st := r.g.status(); st.Pending != len(r.pending) {
					t.Errorf("%+v", st)
				}
			}
			r.recovers()
			r.b.get("cached", testkit.Bytes(1, 300_000)) // from the upstream
			if a := r.b.ask("PUT", "through", []byte("x")); a.Status != 200 || a.Header.Get("X-Akigw-Commit") == "journal" != test.takes {
				t.Errorf("a write: %d %s, %v", a.Status, a.Body, a.Header)
			}
			r.disk.Empty()
			r.journals()
			r.arrived()
			r.g.stop()
			r.restart()
			if status, text := r.health(); status != 200 || text != "ok\n" {
				t.Errorf("health: %d %s", status, text)
			}
			r.b.get("cached", testkit.Bytes(1, 300_000))
		})
	}
}

// TestDiskBecomesFull: another process fills the disk while the gateway runs. Acknowledged writes
// can be read and are flushed. New writes are written through, and are journalled again once there
// is room.
//
// Scenarios: C2.
func TestDiskBecomesFull(t *testing.T) {
	t.Parallel()
	for name, fill := range map[string]func(*testkit.SmallDisk){
		"bytes": func(d *testkit.SmallDisk) { d.Fill(0) },
		"files": func(d *testkit.SmallDisk) { d.FillFiles() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newDiskRig(t, smallConfig)
			r.fill()
			fill(r.disk)
			time.Sleep(600 * time.Millisecond)
			fill(r.disk) // including what the cache released
			r.read()
			for i := range 5 { // the first ones may discover the full disk
				name, size := fmt.Sprint("full/", i), 100+i%2*100_000
				a := r.b.ask("PUT", name, testkit.Bytes(1, size))
				if a.Status != 503 {
					t.Errorf("PUT %s without an upstream: %d %s", name, a.Status, a.Body)
				}
				if got := r.b.ask("GET", "pending/1", nil); got.Status != 200 {
					t.Errorf("%d %s", got.Status, got.Body)
				}
			}
			r.up.down.Store(false)
			r.arrived()
			for i := range 5 {
				body := testkit.Bytes(uint64(i), 100+i%2*100_000)
				name := fmt.Sprint("through/", i)
				r.b.put(name, body)
				r.b.get(name, body)
			}
			if a := r.b.ask("DELETE", "cached", nil); a.Status != 204 {
				t.Errorf("DELETE: %d %s", a.Status, a.Body)
			}
			if a := r.b.ask("GET", "cached", nil); a.Status != 404 {
				t.Errorf("GET of a deleted object: %d", a.Status)
			}
			r.g.stop() // a clean stop, although there is no room for it
			r.restart()
			r.disk.Empty()
			r.journals()
			r.arrived()
			r.g.stop()
			r.restart()
			if a := r.b.ask("GET", "cached", nil); a.Status != 404 {
				t.Errorf("GET of a deleted object after a restart: %d", a.Status)
			}
		})
	}
}

// TestStartOnAReadOnlyDisk: pending writes can be read. Once the disk is writable again they are
// flushed without a restart.
//
// Scenarios: C5.
func TestStartOnAReadOnlyDisk(t *testing.T) {
	t.Parallel()
	r := newDiskRig(t, smallConfig)
	r.fill()
	r.g.kill()
	r.disk.ReadOnly(true)
	r.restart()
	r.read()
	r.says(503, "read-only", r.g.dir)
	r.up.down.Store(false)
	r.recovers()
	r.b.put("through", []byte("x"))
	r.b.get("through", []byte("x"))
	second := exec.Command(r.g.binary, "serve", "--data", r.g.dir, "--listen", testkit.FreeAddr(t), "--admin-listen", testkit.FreeAddr(t), "--upstream", r.g.upstream.endpoint)
	second.Env = append(os.Environ(), "AKIGW_ACCESS_KEY="+accessKey, "AKIGW_SECRET_KEY="+secretKey, "AKIGW_UPSTREAM_ACCESS_KEY="+upstreamAccessKey, "AKIGW_UPSTREAM_SECRET_KEY="+upstreamSecretKey)
	if out, err := second.CombinedOutput(); err == nil || !strings.Contains(string(out), "in use by another") {
		t.Errorf("starting a second gateway: %v, %s", err, out)
	}
	r.disk.ReadOnly(false)
	r.journals()
	r.arrived()
}

// TestDiskBecomesReadOnly: the file system of the running gateway detects damage and becomes
// read-only. Pending writes can be read, and new writes are written through.
//
// Scenarios: C5.
func TestDiskBecomesReadOnly(t *testing.T) {
	t.Parallel()
	r := newDiskRigOn(t, testkit.NewSmallExt4(t, 128<<20, 2000), smallConfig)
	r.fill()
	r.disk.Break()
	for _, size := range []int{100, 100_000} {
		for i := range 3 {
			if a := r.b.ask("PUT", fmt.Sprintf("broken/%d/%d", size, i), testkit.Bytes(1, size)); a.Status != 503 {
				t.Errorf("PUT without an upstream: %d, %v", a.Status, a.Header)
			}
		}
	}
	r.up.down.Store(false)
	r.recovers()
	for i := range 100 { // the cache would store them
		name, body := fmt.Sprint("through/", i), testkit.Bytes(uint64(i), 20_000)
		r.b.put(name, body)
		r.b.get(name, body)
	}
	r.read()
	if status, text := r.health(); status != 503 || !strings.Contains(text, "read-only") {
		t.Errorf("health: %d %s", status, text)
	}
	r.g.cmd.Process.Signal(syscall.SIGTERM)
	_ = r.g.cmd.Wait() // not everything could be saved
	r.restart()
	r.read()
	if status, text := r.health(); status != 503 || !strings.Contains(text, "read-only") {
		t.Errorf("health: %d %s", status, text)
	}
	r.b.put("through/again", []byte("x"))
	r.g.cmd.Process.Signal(syscall.SIGTERM)
	_ = r.g.cmd.Wait()
}

// TestDirectoryGone: the data directory disappears under the running gateway and comes back.
// Nothing is acknowledged that would not be found again.
func TestDirectoryGone(t *testing.T) {
	t.Parallel()
	r := newDiskRig(t, smallConfig)
	r.fill()
	aside := r.g.dir + ".aside"
	if err := os.Rename(r.g.dir, aside); err != nil {
		t.Fatal(err)
	}
	if a := r.b.ask("PUT", "at once", []byte("x")); a.Status != 503 {
		t.Errorf("a write is acknowledged although the directory is missing: %d, %v", a.Status, a.Header)
	}
	r.up.down.Store(false)
	time.Sleep(1500 * time.Millisecond) // by then the gateway has noticed
	r.recovers()
	for i := range 10 {
		for _, size := range []int{100, 100_000} {
			name, body := fmt.Sprintf("gone/%d/%d", i, size), testkit.Bytes(uint64(i), size)
			switch a := r.b.ask("PUT", name, body); {
			case a.Status == 200 && a.Header.Get("X-Akigw-Commit") == "upstream":
				r.b.get(name, body)
			default:
				t.Errorf("PUT %s: %d %s, commit %q", name, a.Status, a.Body, a.Header.Get("X-Akigw-Commit"))
			}
		}
	}
	if a := r.b.ask("PUT", "pending/1", []byte("x")); a.Status != 503 {
		t.Errorf("a write to a pending key: %d", a.Status)
	}
	status, text := r.health()
	if status != 503 || !strings.Contains(text, r.g.dir) || !strings.Contains(text, "bring the directory back") {
		t.Errorf("health: %d %s", status, text)
	}
	r.g.cmd.Process.Signal(syscall.SIGTERM)
	_ = r.g.cmd.Wait() // the exit code depends on what is pending
	if err := os.RemoveAll(r.g.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(aside, r.g.dir); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.read()
	r.journals()
	r.arrived()
}

// TestRemovedWhileRunning: after everything was removed with "rm -rf", the gateway forwards
// requests.
func TestRemovedWhileRunning(t *testing.T) {
	t.Parallel()
	r := newDiskRig(t, smallConfig)
	if err := os.RemoveAll(r.g.dir); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	for i := range 300 { // more than the cache's memtables hold
		name, body := fmt.Sprint("gone/", i), testkit.Bytes(uint64(i), 5_000)
		started := time.Now()
		r.b.put(name, body)
		r.b.get(name, body)
		if took := time.Since(started); took > 5*time.Second {
			t.Fatalf("%s took %v", name, took)
		}
	}
	status, text := r.health()
	if status != 503 || !strings.Contains(text, "directory") {
		t.Errorf("health: %d %s", status, text)
	}
	if r.g.cmd.Process.Signal(syscall.SIGTERM) != nil || r.g.cmd.Wait() != nil {
		t.Log("the gateway ended with ", r.g.cmd.ProcessState) // what it could not write is in the log
	}
}

// TestStartWithoutTheDisposable: unusable files that are not needed for correctness do not prevent
// the start.
func TestStartWithoutTheDisposable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"snapshots", "tiers"} {
		writeFile(t, filepath.Join(dir, name), []byte("a file, where a directory should be"))
	}
	for _, name := range []string{"cost.json", "audit.jsonl", "gateway-id"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	up, behind := startMemory(t, 0, 16)
	g := startGateway(t, options{plain: true, upstream: behind, dir: dir, config: backConfig})
	b := newBucket(t, g, "backbucket")
	b.put("k", []byte("x"))
	b.get("k", []byte("x"))
	waitDrained(t, g, 10*time.Second)
	if _, ok := up.Get(akigw.Key{Bucket: "backbucket", Name: "k"}); !ok {
		t.Error("the write did not reach the upstream")
	}
	r := &diskRig{T: t, g: g}
	if status, text := r.health(); status != 200 || !strings.Contains(text, filepath.Join(dir, "snapshots")) {
		t.Errorf("health: %d %s", status, text)
	}
	for _, name := range []string{"snapshots", "tiers", "gateway-id"} {
		if !strings.Contains(g.stderr.String(), filepath.Join(dir, name)) {
			t.Errorf("the log does not mention %s", name)
		}
	}
}

// nobody makes a command run as a user without privileges.
func nobody(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can run commands as another user")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

// TestWrongPermissions: if the data directory belongs to another user, the error says so and says
// what to do. Disposable parts of another user do not prevent the start.
func TestWrongPermissions(t *testing.T) {
	t.Parallel()
	base, err := os.MkdirTemp("", "akigw-permissions")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	binary, dir := filepath.Join(base, "akigw"), filepath.Join(base, "data")
	raw := readFile(t, build(t, plain))
	if err := os.WriteFile(binary, raw, 0o755); err != nil {
		t.Fatal(err)
	}
	_, behind := startMemory(t, 0, 16)
	command := func() *exec.Cmd {
		cmd := exec.Command(binary, "serve", "--data", dir, "--listen", testkit.FreeAddr(t), "--admin-listen", testkit.FreeAddr(t), "--upstream", behind.endpoint)
		cmd.Env = append(os.Environ(), "AKIGW_ACCESS_KEY="+accessKey, "AKIGW_SECRET_KEY="+secretKey, "AKIGW_UPSTREAM_ACCESS_KEY="+upstreamAccessKey, "AKIGW_UPSTREAM_SECRET_KEY="+upstreamSecretKey)
		nobody(t, cmd)
		return cmd
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := command().CombinedOutput(); err == nil || !strings.Contains(string(out), "chown -R 65534 "+dir) {
		t.Errorf("a directory of another user: %v, %s", err, out)
	}
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "journal"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := command().CombinedOutput(); err == nil || !strings.Contains(string(out), filepath.Join(dir, "journal")) {
		t.Errorf("a journal of another user: %v, %s", err, out)
	}
	if err := os.Remove(filepath.Join(dir, "journal")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"warm", "snapshots", "tiers", "cost.json", "audit.jsonl", "gateway-id"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := command()
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = nil, out
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Second, func() { cmd.Process.Signal(syscall.SIGTERM) })
	var said strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(said.String(), "ready\n") {
		n, err := stdout.Read(buf)
		said.Write(buf[:n])
		if err != nil {
			break
		}
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil || !strings.Contains(said.String(), "ready\n") {
		t.Errorf("the gateway did not start: %v, %s", err, out)
	}
}
