package e2e

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/tiers/cold"
)

const backConfig = `
[[rule]]
bucket = "back*"
write = "back"
[write_back]
min_free_bytes = 0
segment_bytes = "1MiB"
`

// slowMemory serves an upstream in memory over HTTP, with a delay before each response.
type slowMemory struct {
	*s3mem.Memory
	delay atomic.Int64 // nanoseconds
	down  atomic.Bool
	stops atomic.Bool  // it accepts requests and answers none, like a process after SIGSTOP
	asked atomic.Int64 // requests
	fail  atomic.Int64 // in percent, with 503
	slots chan struct{}
}

// startMemory starts one that answers a limited number of requests at a time.
func startMemory(t testing.TB, delay time.Duration, atOnce int) (*slowMemory, upstream) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveMemory(t, l, delay, atOnce)
}

// serveMemory is startMemory with a given listener, which it closes.
func serveMemory(t testing.TB, l net.Listener, delay time.Duration, atOnce int) (*slowMemory, upstream) {
	m := &slowMemory{Memory: s3mem.New(), slots: make(chan struct{}, atOnce)}
	m.delay.Store(int64(delay))
	server := &http.Server{Handler: m}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return m, upstream{"memory", "http://" + l.Addr().String()}
}

func (m *slowMemory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m.down.Load() {
		panic(http.ErrAbortHandler)
	}
	for m.stops.Load() && r.Context().Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	m.asked.Add(1)
	if !strings.HasPrefix(r.URL.Path, "/"+vectorObjects+"/") { // these do not queue behind the objects
		m.slots <- struct{}{}
		defer func() { <-m.slots }()
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		time.Sleep(time.Duration(m.delay.Load()))
	}
	if rand.Int64N(100) < m.fail.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "<Error><Code>SlowDown</Code></Error>")
		return
	}
	bucket, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	resp, err := m.Do(context.Background(), &cold.Request{Method: r.Method, Key: akigw.Key{Bucket: bucket, Name: name}, Query: r.URL.Query(), Header: r.Header, Body: bytes.NewReader(body), Length: int64(len(body))})
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	maps.Copy(w.Header(), resp.Header)
	w.Header().Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	w.WriteHeader(resp.StatusCode)
	io.Copy(w, resp.Body)
}

// TestUpstreamAway: while the upstream is unavailable every write is acknowledged and can be read
// and listed. Afterwards all writes are upstream with the ETags that were promised.
func TestUpstreamAway(t *testing.T) {
	t.Parallel()
	upstreamAway(t, 3*time.Second)
}

// TestLongUpstreamAway is the same for a minute.
func TestLongUpstreamAway(t *testing.T) {
	if os.Getenv("AKIGW_LONG") == "" {
		t.Skip("make long TEST=UpstreamAway")
	}
	upstreamAway(t, time.Minute)
}

func upstreamAway(t *testing.T, long time.Duration) {
	up, behind := startMemory(t, time.Millisecond, 64)
	g := startGateway(t, options{upstream: behind, plain: true, config: backConfig})
	client := &s3client.Client{Endpoint: g.endpoint}
	promised := map[string]string{}
	var mu sync.Mutex
	put := func(name string) {
		body := []byte("body of " + name)
		a := client.Must(t, "PUT", "/backbucket/"+name, "", nil, body)
		if a.Status != 200 || a.Header.Get("X-Akigw-Commit") != "journal" {
			t.Errorf("PUT %s: %d %s %+v", name, a.Status, a.Body, g.status())
		}
		got := client.Must(t, "GET", "/backbucket/"+name, "", nil, nil)
		if got.Status != 200 || !bytes.Equal(got.Body, body) || got.Header.Get("Etag") != a.Header.Get("Etag") {
			t.Errorf("GET %s: %d", name, got.Status)
		}
		mu.Lock()
		defer mu.Unlock()
		promised[name] = a.Header.Get("Etag")
	}
	put("before")
	up.down.Store(true)
	started := time.Now()
	var wait sync.WaitGroup
	for w := range 8 {
		wait.Go(func() {
			for i := 0; time.Since(started) < long && i < 5000; i++ {
				put(fmt.Sprintf("%d/%04d", w, i))
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	wait.Wait()
	pending := g.status().Pending
	if out := g.says("status"); !strings.Contains(out, `requests to bucket "backbucket" are refused`) && !strings.Contains(out, "last failure") {
		t.Errorf("status does not show the outage: %s", out)
	}
	up.down.Store(false)
	back := time.Now()
	listed := map[string]string{}
	for token := ""; ; {
		query := url.Values{"list-type": {"2"}}
		if token != "" {
			query.Set("continuation-token", token)
		}
		a := client.Must(t, "GET", "/backbucket", query.Encode(), nil, nil)
		if a.Status == 503 && time.Since(back) < 10*time.Second { // the breaker is open
			time.Sleep(100 * time.Millisecond)
			continue
		}
		var l struct {
			IsTruncated           bool
			NextContinuationToken string
			Contents              []struct{ Key, ETag string }
		}
		if err := xml.Unmarshal(a.Body, &l); err != nil || a.Status != 200 {
			t.Fatalf("LIST: %d %v %s", a.Status, err, a.Body)
		}
		for _, c := range l.Contents {
			listed[c.Key] = c.ETag
		}
		if token = l.NextContinuationToken; !l.IsTruncated {
			break
		}
	}
	if !maps.Equal(listed, promised) {
		t.Errorf("LIST shows %d keys, %d were acknowledged", len(listed), len(promised))
	}
	waitDrained(t, g, time.Minute)
	took := time.Since(back)
	if out := g.says("status"); !regexp.MustCompile(`rate +[1-9][0-9.]* writes per second`).MatchString(out) {
		t.Errorf("status shows no rate: %s", out)
	}
	for name, etag := range promised {
		if o, ok := up.Get(akigw.Key{Bucket: "backbucket", Name: name}); !ok || o.ETag != etag {
			t.Errorf("%s is not upstream as it was promised", name)
		}
	}
	t.Logf("%d writes acknowledged in %s without an upstream, %d pending, all flushed %s after it returned", len(promised), long, pending, took.Round(100*time.Millisecond))
	if pending < 100 {
		t.Error("hardly anything was pending: the path was not exercised")
	}
}

// TestRestartWhileTheUpstreamHangs: a gateway is killed and restarted while its upstream accepts
// connections but does not respond. It acknowledges writes to buckets that it knew, and flushes all
// of them once the upstream responds.
func TestRestartWhileTheUpstreamHangs(t *testing.T) {
	t.Parallel()
	writes := 10_000
	if testing.Short() {
		writes = 1000
	}
	up, behind := startMemory(t, 0, 64)
	defer up.stops.Store(false)
	g := startGateway(t, options{upstream: behind, plain: true, config: backConfig})
	client := &s3client.Client{Endpoint: g.endpoint}
	acknowledged := func(name string) string {
		a := client.Must(t, "PUT", "/backbucket/"+name, "", nil, []byte("body of "+name))
		if a.Status != 200 || a.Header.Get("X-Akigw-Commit") != "journal" {
			t.Errorf("PUT %s: %d %s", name, a.Status, a.Body)
		}
		return a.Header.Get("Etag")
	}
	acknowledged("before")
	time.Sleep(2 * time.Second) // facts about the bucket are saved within a second
	up.stops.Store(true)
	g.kill()
	g.start()
	promised := make([]string, writes)
	var wait sync.WaitGroup
	for w := range 16 {
		wait.Go(func() {
			for i := w; i < writes && !t.Failed(); i += 16 {
				promised[i] = acknowledged(fmt.Sprintf("%05d", i))
			}
		})
	}
	wait.Wait()
	if t.Failed() {
		return
	}
	if st := g.status(); st.Pending < writes {
		t.Errorf("%d are pending: the path was not exercised", st.Pending)
	}
	up.stops.Store(false)
	waitDrained(t, g, time.Minute)
	for i, etag := range promised {
		if o, ok := up.Get(akigw.Key{Bucket: "backbucket", Name: fmt.Sprintf("%05d", i)}); !ok || o.ETag != etag {
			t.Fatalf("%d is not upstream as it was promised", i)
		}
	}
}

// TestStopWithPendingWrites: a stop flushes pending writes and exits with 0. If it cannot, it exits
// with 75, and the next start flushes them.
//
// Scenarios: E34.
func TestStopWithPendingWrites(t *testing.T) {
	t.Parallel()
	up, behind := startMemory(t, 5*time.Millisecond, 8)
	g := startGateway(t, options{upstream: behind, config: backConfig, env: []string{"AKIGW_WRITE_BACK_DRAIN_TIMEOUT_SECS=2"}})
	client := &s3client.Client{Endpoint: g.endpoint}
	write := func(prefix string) {
		for i := range 200 {
			if a := client.Must(t, "PUT", fmt.Sprintf("/backbucket/%s%d", prefix, i), "", nil, []byte("x")); a.Header.Get("X-Akigw-Commit") != "journal" {
				t.Fatalf("%d %v", a.Status, a.Header)
			}
		}
	}
	write("a")
	g.stop()
	if up.Len() != 200 {
		t.Errorf("%d objects upstream after a clean stop", up.Len())
	}
	g.start()
	write("warm") // so that the gateway knows the bucket
	up.down.Store(true)
	write("b")
	g.cmd.Process.Signal(syscall.SIGTERM)
	var exit interface{ ExitCode() int }
	if err := g.cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 75 {
		t.Errorf("stopped with %v, want exit code 75: %s", err, g.stderr)
	}
	up.down.Store(false)
	g.start()
	waitDrained(t, g, 20*time.Second)
	if up.Len() != 600 {
		t.Errorf("%d objects upstream", up.Len())
	}
}

// TestDeadLetterCommands: an operator lists, shows, exports, retries and drops the writes that the
// upstream refuses.
func TestDeadLetterCommands(t *testing.T) {
	t.Parallel()
	up, behind := startMemory(t, 0, 8)
	g := startGateway(t, options{upstream: behind, config: backConfig})
	refuse := atomic.Bool{}
	refuse.Store(true)
	up.Before = func(r *cold.Request) (*http.Response, error) {
		if r.Method == http.MethodPut && !r.Query.Has("uploadId") && refuse.Load() {
			return s3mem.Response(400, nil, []byte("<Error><Code>EntityTooLarge</Code></Error>")), nil
		}
		return nil, nil
	}
	client := &s3client.Client{Endpoint: g.endpoint}
	for _, name := range []string{"a", "b", "c"} {
		client.Must(t, "PUT", "/backbucket/"+name, "", nil, []byte("body "+name))
	}
	waitDrained(t, g, 10*time.Second)
	akigw := g.says
	list := akigw("dead-letters", "list")
	ids := regexp.MustCompile(`(?m)^(\d+) .*EntityTooLarge`).FindAllStringSubmatch(list, -1)
	if len(ids) != 3 || !strings.Contains(list, `backbucket/"a"`) {
		t.Fatalf("%s", list)
	}
	if out := akigw("dead-letters", "retry", "--all"); !strings.Contains(out, "requires an admin key") {
		t.Errorf("without an admin key: %s", out)
	}
	g.operator()
	if out := akigw("dead-letters", "export", ids[0][1], "-"); out != "body a" {
		t.Errorf("export: %q", out)
	}
	if out := akigw("dead-letters", "show", ids[1][1]); !strings.Contains(out, `"key": "b"`) {
		t.Errorf("show: %s", out)
	}
	if out := akigw("dead-letters", "archive", "s3://backbucket/archive"); !strings.HasPrefix(out, "archived 3 dead letters in s3://backbucket/archive") {
		t.Errorf("archive: %s", out)
	}
	archive := filepath.Join(t.TempDir(), "archive")
	if err := os.WriteFile(archive, client.Must(t, "GET", "/backbucket/archive", "", nil, nil).Body, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := akigw("pack", "list", archive); strings.Count(out, "\n") != 4 || !strings.Contains(out, `"backbucket/c"`) {
		t.Errorf("pack list: %s", out)
	}
	if out := akigw("pack", "get", archive, "backbucket/c", "-"); out != "body c" {
		t.Errorf("pack get: %q", out)
	}
	if a := client.Must(t, "GET", "/backbucket/b", "", nil, nil); a.Status != 200 || string(a.Body) != "body b" || a.Header.Get("X-Akigw-Cache") != "overlay" {
		t.Errorf("a dead letter reads as %d %s", a.Status, a.Body)
	}
	if a := client.Must(t, "PUT", "/backbucket/b", "", http.Header{"If-None-Match": {"*"}}, []byte("x")); a.Status != 503 {
		t.Errorf("a conditional write over a dead letter: %d %s", a.Status, a.Body)
	}
	if out := akigw("dead-letters", "drop", ids[2][1]); !strings.Contains(out, "dropped") {
		t.Errorf("drop: %s", out)
	}
	if a := client.Must(t, "GET", "/backbucket/c", "", nil, nil); a.Status != 404 {
		t.Errorf("after it was dropped: %d", a.Status)
	}
	refuse.Store(false)
	akigw("dead-letters", "retry", "--all")
	waitDrained(t, g, 20*time.Second)
	for name, want := range map[string]bool{"a": true, "b": true, "c": false} {
		if _, ok := up.Get(keyIn("backbucket", name)); ok != want {
			t.Errorf("%s upstream: %t", name, ok)
		}
	}
	if out := akigw("status"); !strings.Contains(out, "dead letters    0") {
		t.Errorf("%s", out)
	}
	outcome := func() string { return client.Must(t, "GET", "/backbucket/a", "", nil, nil).Header.Get("X-Akigw-Cache") }
	if outcome(); outcome() != "hot" {
		t.Errorf("a was read twice and is not in memory")
	}
	if out := akigw("purge", "s3://backbucket/a"); !strings.HasPrefix(out, "dropped ") || outcome() != "cold" {
		t.Errorf("purge: %s", out)
	}
	if out := akigw("purge", "backbucket/a"); !strings.Contains(out, "names no bucket") {
		t.Errorf("purge of no URL: %s", out)
	}
	if out := akigw("dead-letters", "show", "999999"); !strings.Contains(out, "no such dead letter") {
		t.Errorf("%s", out)
	}
}

func keyIn(bucket, name string) akigw.Key { return akigw.Key{Bucket: bucket, Name: name} }

// tail returns the end of a log.
func tail(s string) string { return s[max(0, len(s)-1500):] }

// seededDisk writes to a gateway whose disk is broken on purpose.
type seededDisk struct{ t *testing.T }

// writes puts n objects. It returns, for each acknowledged one, where it was committed.
func (d seededDisk) writes(g *gateway, prefix string, n int) map[string]string {
	client := &s3client.Client{Endpoint: g.endpoint}
	done := map[string]string{}
	for i := range n {
		name := fmt.Sprintf("%s%d", prefix, i)
		if a := client.Must(d.t, "PUT", "/backbucket/"+name, "", nil, []byte("body of "+name)); a.Status == 200 {
			done[name] = a.Header.Get("X-Akigw-Commit")
		}
	}
	return done
}

// lost counts the acknowledged objects that cannot be read.
func (d seededDisk) lost(g *gateway, names map[string]string) (lost int) {
	client := &s3client.Client{Endpoint: g.endpoint}
	for name := range names {
		if a := client.Must(d.t, "GET", "/backbucket/"+name, "", nil, nil); a.Status != 200 || string(a.Body) != "body of "+name {
			lost++
		}
	}
	return lost
}

func (d seededDisk) healthy(g *gateway) bool {
	resp, err := http.Get(g.admin + "/healthz")
	if err != nil {
		d.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode == 200
}

const firstSegment = "journal/segments/0000000000000001.seg"

// injected uses strace to make system calls on the journal's segment fail. It returns how many
// writes were acknowledged by each means.
func (d seededDisk) injected(inject string) map[string]int {
	t := d.t
	need(t, "strace")
	up, behind := startMemory(t, 0, 8)
	up.delay.Store(int64(200 * time.Millisecond)) // so that some writes are pending
	dir := t.TempDir()
	g := newGateway(t, options{upstream: behind, plain: true, dir: dir, config: backConfig, under: "strace -D -f -qq -o /dev/null -P " + filepath.Join(dir, firstSegment) + " " + inject})
	if !g.tryStart() { // the sync of the start failed: it reports that, and the next start succeeds
		if !strings.Contains(g.stderr.String(), "fdatasync: input/output error") {
			t.Errorf("the gateway did not start: %s", g.stderr)
		}
		startGateway(t, options{upstream: behind, plain: true, dir: dir, config: backConfig})
		return nil
	}
	full := strings.Contains(inject, "ENOSPC") // not fatal: the reserve is used until there is room
	struck := func() bool {
		return !d.healthy(g) || full && strings.Contains(g.stderr.String(), "accepts no more data")
	}
	done := d.writes(g, "k", 60)
	for more := 0; !struck() && more < 20; more++ { // strace counts the calls of each thread separately
		maps.Copy(done, d.writes(g, fmt.Sprintf("more%d/", more), 60))
	}
	maps.Copy(done, d.writes(g, "after/", 10))
	kinds := map[string]int{}
	for _, commit := range done {
		kinds[commit]++
	}
	if !struck() || kinds["upstream"] < 1 || d.healthy(g) != full || !full && kinds["upstream"] < 5 {
		t.Errorf("acknowledged %v, healthy %t", kinds, d.healthy(g))
	}
	if lost := d.lost(g, done); lost > 0 {
		t.Errorf("%d lost while it runs", lost)
	}
	g.kill()
	again := startGateway(t, options{upstream: behind, plain: true, dir: dir, config: backConfig})
	waitDrained(t, again, time.Minute)
	if lost := d.lost(again, done); lost > 0 || !d.healthy(again) {
		t.Errorf("%d lost after a restart", lost)
	}
	return kinds
}

// TestT9_SyscallsFail makes the k-th sync of the real binary's journal fail once. Whichever it is,
// nothing that was acknowledged is lost.
func TestT9_SyscallsFail(t *testing.T) {
	t.Parallel()
	p := testkit.Prove(t, "T9-syscalls")
	p.NotSmall()
	var last, acknowledged int
	for k := 1; k <= 50; k += p.Amount(0, 10, 1) {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			kinds := seededDisk{t}.injected(fmt.Sprintf("-e trace=fdatasync -e inject=fdatasync:error=EIO:when=%d", k))
			acknowledged += kinds["journal"] + kinds["upstream"]
			last = k
		})
	}
	p.Figure("syncs up to", last)
	p.Figure("acknowledged writes, none lost", acknowledged)
}

// TestSeededDiskFaults breaks the disk of the real binary. Acknowledged writes are kept, writes
// that the journal cannot take are written through, and health reports the problem.
func TestSeededDiskFaults(t *testing.T) {
	t.Parallel()
	for name, inject := range map[string]string{
		"C6 EIO on fdatasync": "-e trace=fdatasync -e inject=fdatasync:error=EIO:when=20+",
		"C2 ENOSPC on write":  "-e trace=write -e inject=write:error=ENOSPC:when=20+",
		"C5 EROFS on write":   "-e trace=write -e inject=write:error=EROFS:when=20+",
	} {
		t.Run(name, func(t *testing.T) {
			if kinds := (seededDisk{t}).injected(inject); kinds["journal"] < 5 {
				t.Errorf("acknowledged %v", kinds)
			}
		})
	}
	for name, damage := range map[string]func([]byte) []byte{
		"B23 torn tail":     func(raw []byte) []byte { return append(raw, raw[:40]...) },
		"B23 middle damage": func(raw []byte) []byte { raw[bytes.Index(raw, []byte("body of k7"))] ^= 1; return raw },
	} {
		t.Run(name, func(t *testing.T) {
			d := seededDisk{t}
			up, behind := startMemory(t, 0, 8)
			dir := t.TempDir()
			g := startGateway(t, options{upstream: behind, plain: true, dir: dir, config: backConfig})
			d.writes(g, "warm", 1)
			waitDrained(t, g, 10*time.Second)
			up.down.Store(true)
			done := d.writes(g, "k", 20)
			g.kill()
			file := filepath.Join(dir, firstSegment)
			if err := os.WriteFile(file, damage(readFile(t, file)), 0o600); err != nil {
				t.Fatal(err)
			}
			up.down.Store(false)
			g.start()
			middle := strings.Contains(name, "middle")
			if d.healthy(g) == middle {
				t.Errorf("healthy: %t: %s", d.healthy(g), g.stderr)
			}
			if middle {
				if lost := d.lost(g, done); lost != 1 { // the others are served
					t.Errorf("%d are not served", lost)
				}
				if st := g.status(); !strings.Contains(st.Problem, "damaged") || st.Pending != 19 {
					t.Errorf("%+v", st)
				}
				cmd := exec.Command(build(t, plain), "journal", "accept")
				cmd.Env = append(os.Environ(), "AKIGW_ACCESS_KEY="+accessKey, "AKIGW_SECRET_KEY="+secretKey, "AKIGW_DATA="+dir, "AKIGW_ADMIN_LISTEN="+strings.TrimPrefix(g.admin, "http://"))
				g.mustAkigw("users", "set", "operator", "--admin")
				g.mustAkigw("keys", "create", "--user", "operator")
				time.Sleep(3 * time.Second) // until the gateway has applied the change
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			waitDrained(t, g, 10*time.Second)
			if !d.healthy(g) || up.Len() < 20 {
				t.Errorf("healthy %t, %d objects upstream", d.healthy(g), up.Len())
			}
		})
	}
}

// TestLongHalfSlowDown: half of all requests get 503 SlowDown, including those of the verification.
// Everything is flushed with few extra requests. It is slow, because the breaker opens and the
// retry budget limits retries (A1).
func TestLongHalfSlowDown(t *testing.T) {
	if os.Getenv("AKIGW_LONG") == "" {
		t.Skip("make long TEST=HalfSlowDown")
	}
	up, behind := startMemory(t, time.Millisecond, 64)
	g := startGateway(t, options{upstream: behind, plain: true, config: backConfig})
	client := &s3client.Client{Endpoint: g.endpoint}
	const n = 150
	client.Must(t, "PUT", "/backbucket/first", "", nil, nil)
	waitDrained(t, g, 10*time.Second)
	up.fail.Store(50)
	before := up.asked.Load()
	for i := range n {
		if a := client.Must(t, "PUT", fmt.Sprintf("/backbucket/%d", i), "", nil, []byte("x")); a.Status != 200 || a.Header.Get("X-Akigw-Commit") != "journal" {
			t.Errorf("%d %s", a.Status, a.Body)
		}
	}
	started := time.Now()
	waitDrained(t, g, 20*time.Minute)
	requests := up.asked.Load() - before
	t.Logf("%d objects, %d requests, %.2f of the ideal, %s", n, requests, float64(requests)/(2*n), time.Since(started).Round(time.Second))
	if requests > 5*n || up.Len() != n+1 || requests < 2*n+n/2 {
		t.Errorf("%d requests, %d objects upstream", requests, up.Len())
	}
}
