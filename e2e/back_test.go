package e2e

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/json"
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
	"github.com/akidb/akigw/internal/testkit"
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

// slowMemory serves an upstream in memory over HTTP, each answer after a while.
type slowMemory struct {
	*testkit.Memory
	delay atomic.Int64 // nanoseconds
	down  atomic.Bool
	asked atomic.Int64 // requests
	fail  atomic.Int64 // in percent, with 503
	slots chan struct{}
}

// startMemory starts one that answers a number of requests at a time.
func startMemory(t testing.TB, delay time.Duration, atOnce int) (*slowMemory, upstream) {
	m := &slowMemory{Memory: testkit.NewMemory(), slots: make(chan struct{}, atOnce)}
	m.delay.Store(int64(delay))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: m}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return m, upstream{"memory", "http://" + l.Addr().String()}
}

func (m *slowMemory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m.down.Load() {
		panic(http.ErrAbortHandler)
	}
	m.asked.Add(1)
	m.slots <- struct{}{}
	defer func() { <-m.slots }()
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

// points are the named places at which the gateway is killed, and how often they
// are reached in a second or so.
var points = []struct {
	name  string
	often int
}{
	{"spool.afterCreate", 20}, {"spool.midWrite", 40}, {"spool.afterWrite", 20}, {"spool.afterSync", 20}, {"spool.afterRename", 20}, {"spool.afterDirSync", 20},
	{"journal.afterAppend", 200}, {"journal.afterSync", 200}, {"ack.beforeSend", 400}, {"ack.afterSend", 400},
	{"flush.beforePut", 60}, {"flush.afterPut", 60}, {"flush.afterVerify", 60}, {"journal.afterDone", 60}, {"spool.afterDelete", 4},
	{"copy.beforeCommit", 20}, {"part.beforeCommit", 30}, {"complete.beforeCommit", 20}, {"flush.afterCreateUpload", 4}, {"flush.afterPart", 4}, {"flush.beforeComplete", 4}, {"flush.afterComplete", 4},
	{"delete.afterTombstone", 60}, {"delete.afterUpstream", 5}, {"rotate.afterCreate", 1}, {"rotate.afterDirSync", 1}, {"compact.beforeUnlink", 1}, {"recovery.midReplay", 1},
}

// register is what a key may hold: what was acknowledged last, or what a write whose
// answer never came would have made of it. "" is nothing.
type register struct {
	acked   string // ETag
	unknown []string
}

// killRig writes through a gateway that is killed again and again.
type killRig struct {
	t        *testing.T
	g        *gateway
	up       *slowMemory
	manifest *os.File

	mu      sync.Mutex
	keys    map[string]*register // guarded by mu
	uploads map[string]*upload   // that are open, by id; guarded by mu
	sums    map[string]string    // of multipart ETags: the MD5 of the body; guarded by mu
	acks    int                  // guarded by mu
	parts   int                  // likewise, of parts; guarded by mu
	copies  int                  // likewise, of copies; guarded by mu
	kinds   map[string]int       // guarded by mu
}

// upload is an open multipart upload, with the ETags of the parts that were
// acknowledged.
type upload struct {
	name  string
	parts map[int]string
}

// multipart is a write in parts, begun and, most of the time, completed. killed
// reports that the gateway is gone.
func (k *killRig) multipart(client *testkit.Client, random *rand.Rand, name string) (killed bool) {
	ask := func(method, query string, body []byte) (*http.Response, []byte, bool) {
		r, err := client.Request(method, "/backbucket/"+name, query, nil, body)
		if err != nil {
			k.t.Error(err)
			return nil, nil, false
		}
		resp, err := client.HTTP.Do(r)
		if err != nil {
			return nil, nil, false
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return resp, text, resp.StatusCode == http.StatusOK && err == nil
	}
	_, text, ok := ask("POST", "uploads=", nil)
	id := uploadID.FindSubmatch(text)
	if !ok || id == nil {
		return !ok
	}
	u := &upload{name, map[int]string{}}
	k.mu.Lock()
	k.uploads[string(id[1])] = u
	k.mu.Unlock()
	bodies := [][]byte{testkit.Bytes(random.Uint64()|1, testkit.Pick(random, 1, 1000, 100_000))}
	if random.IntN(10) == 0 {
		bodies = append([][]byte{make([]byte, 5<<20)}, bodies...)
		copy(bodies[0], bodies[1])
	}
	document, sums := "<CompleteMultipartUpload>", []byte{}
	for i, body := range bodies {
		resp, _, ok := ask("PUT", fmt.Sprintf("partNumber=%d&uploadId=%s", i+1, id[1]), body)
		if !ok {
			return resp == nil
		}
		sum := md5.Sum(body)
		sums = append(sums, sum[:]...)
		document += fmt.Sprintf("<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", i+1, resp.Header.Get("Etag"))
		k.mu.Lock()
		u.parts[i+1] = resp.Header.Get("Etag")
		k.parts++
		k.mu.Unlock()
	}
	if random.IntN(6) == 0 {
		return false // it stays open
	}
	tag := fmt.Sprintf("\"%x-%d\"", md5.Sum(sums), len(bodies))
	k.mu.Lock()
	delete(k.uploads, string(id[1]))
	k.sums[tag] = fmt.Sprintf("\"%x\"", md5.Sum(bytes.Join(bodies, nil)))
	reg := k.register(name, tag)
	k.mu.Unlock()
	resp, _, ok := ask("POST", "uploadId="+string(id[1]), []byte(document+"</CompleteMultipartUpload>"))
	if !ok {
		return resp == nil
	}
	k.acknowledged(name, reg, tag, resp)
	return false
}

var uploadID = regexp.MustCompile(`<UploadId>([^<]+)</UploadId>`)

// register says that a write of a key is under way. It needs mu.
func (k *killRig) register(name, tag string) *register {
	reg := k.keys[name]
	if reg == nil {
		reg = &register{}
		k.keys[name] = reg
	}
	reg.unknown = append(reg.unknown, tag)
	return reg
}

// acknowledged notes an acknowledgement.
func (k *killRig) acknowledged(name string, reg *register, tag string, resp *http.Response) {
	k.mu.Lock()
	defer k.mu.Unlock()
	reg.acked, reg.unknown = tag, nil
	k.acks++
	k.kinds[resp.Header.Get("X-Akigw-Commit")]++
	fmt.Fprintf(k.manifest, "%s %s\n", name, tag)
}

// verifyUploads sees that open uploads have the parts that were acknowledged.
func (k *killRig) verifyUploads(g *gateway) {
	k.t.Helper()
	client := &testkit.Client{Endpoint: g.endpoint}
	for id, u := range k.uploads {
		a := client.Must(k.t, "GET", "/backbucket/"+u.name, "uploadId="+id, nil, nil)
		var list struct {
			Part []struct {
				PartNumber int
				ETag       string
			}
		}
		if err := xml.Unmarshal(a.Body, &list); a.Status != 200 || err != nil {
			k.t.Errorf("LOST: upload %s of %s: %d %s", id, u.name, a.Status, a.Body)
			continue
		}
		there := map[int]string{}
		for _, p := range list.Part {
			there[p.PartNumber] = p.ETag
		}
		for n, tag := range u.parts {
			if there[n] != tag {
				k.t.Errorf("LOST: part %d of %s is %q, was acknowledged as %q", n, u.name, there[n], tag)
			}
		}
	}
}

// abortUploads ends those that were left open.
func (k *killRig) abortUploads(g *gateway) {
	k.t.Helper()
	client := &testkit.Client{Endpoint: g.endpoint}
	for id, u := range k.uploads {
		if a := client.Must(k.t, "DELETE", "/backbucket/"+u.name, "uploadId="+id, nil, nil); a.Status != 204 {
			k.t.Errorf("abort of %s: %d %s", u.name, a.Status, a.Body)
		}
	}
}

// sum is the MD5 of the body that has an ETag.
func (k *killRig) sum(tag string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if sum, ok := k.sums[tag]; ok {
		return sum
	}
	return tag
}

// write writes until the gateway is gone or the time is over.
func (k *killRig) write(writer int, until time.Time) {
	client := &testkit.Client{Endpoint: k.g.endpoint, HTTP: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}}
	defer client.HTTP.CloseIdleConnections()
	random := rand.New(rand.NewPCG(uint64(writer), uint64(time.Now().UnixNano())))
	last := "" // what was written last, and is pending
	for time.Now().Before(until) {
		name := fmt.Sprintf("w%d/%d", writer, random.IntN(400))
		if random.IntN(10) == 0 && last != "" && last != name {
			if k.copy(client, last, name) {
				return
			}
			continue
		}
		if random.IntN(8) == 0 {
			if k.multipart(client, random, name) {
				return
			}
			continue
		}
		method, body, tag, want := http.MethodPut, []byte(nil), "", 200
		if random.IntN(6) == 0 {
			method, want = http.MethodDelete, 204
		} else {
			body = testkit.Bytes(random.Uint64()|1, testkit.Pick(random, 0, 100, 1000, 4000, 4000, 4000, 4000, 100_000))
			tag = fmt.Sprintf("\"%x\"", md5.Sum(body))
		}
		k.mu.Lock()
		reg := k.register(name, tag)
		k.mu.Unlock()
		r, err := client.Request(method, "/backbucket/"+name, "", nil, body)
		if err != nil {
			k.t.Error(err)
			return
		}
		resp, err := client.HTTP.Do(r)
		if err == nil { // the status is the acknowledgement, whatever becomes of the rest
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		switch {
		case err != nil:
			return // killed
		case resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests:
			continue // it may be kept or not
		case resp.StatusCode != want:
			k.t.Errorf("%s %s: %d", method, name, resp.StatusCode)
			return
		}
		k.acknowledged(name, reg, tag, resp)
		if last = ""; tag != "" {
			last = name
		}
	}
}

// copy copies one key of a writer to another. It reports whether the gateway is gone.
func (k *killRig) copy(client *testkit.Client, from, to string) (gone bool) {
	k.mu.Lock()
	tag := k.keys[from].acked
	if strings.Contains(tag, "-") { // an upload in parts came after it: the copy has another ETag, by whom it is made
		k.mu.Unlock()
		return false
	}
	reg := k.register(to, tag)
	k.mu.Unlock()
	r, err := client.Request("PUT", "/backbucket/"+to, "", http.Header{"X-Amz-Copy-Source": {"/backbucket/" + from}}, nil)
	if err != nil {
		k.t.Error(err)
		return true
	}
	resp, err := client.HTTP.Do(r)
	if err != nil {
		return true
	}
	body, _ := io.ReadAll(resp.Body) // the status is the acknowledgement
	resp.Body.Close()
	switch {
	case resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests: // it may be kept or not
	case resp.StatusCode != http.StatusOK:
		k.t.Errorf("copy of %s to %s: %d %s", from, to, resp.StatusCode, body)
	default:
		k.acknowledged(to, reg, tag, resp)
		k.mu.Lock()
		k.copies++
		k.mu.Unlock()
	}
	return false
}

// verify compares keys with what they may hold, by reading them from a gateway, and
// settles what was unknown.
func (k *killRig) verify(g *gateway, sample int) {
	k.t.Helper()
	client := &testkit.Client{Endpoint: g.endpoint, HTTP: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	defer client.HTTP.CloseIdleConnections()
	names := make(chan string)
	var readers sync.WaitGroup
	for range 16 {
		readers.Go(func() {
			for name := range names {
				k.verifyKey(client, name, k.keys[name])
			}
		})
	}
	for name := range k.keys {
		if sample--; sample < 0 {
			break
		}
		names <- name
	}
	close(names)
	readers.Wait()
}

func (k *killRig) verifyKey(client *testkit.Client, name string, reg *register) {
	var a *testkit.Answer
	for range 60 { // a breaker may be open for some seconds
		r, err := client.Request("GET", "/backbucket/"+name, "", nil, nil)
		if err == nil {
			a, err = client.Do(r)
		}
		if err != nil {
			k.t.Errorf("%s: %v", name, err)
			return
		}
		if a.Status != http.StatusServiceUnavailable {
			break
		}
		time.Sleep(250 * time.Millisecond)
	}
	found := ""
	switch {
	case a.Status == 200:
		found = a.Header.Get("Etag")
		if sum := fmt.Sprintf("\"%x\"", md5.Sum(a.Body)); sum != k.sum(found) {
			k.t.Errorf("%s: the body is not what its ETag says", name)
		}
	case a.Status != 404:
		k.t.Errorf("%s: %d %s", name, a.Status, a.Body)
		return
	}
	ok := found == reg.acked
	for _, tag := range reg.unknown {
		ok = ok || found == tag
	}
	if !ok {
		k.t.Errorf("LOST: %s holds %q, was acknowledged as %q, unknown %q", name, found, reg.acked, reg.unknown)
	}
	reg.acked, reg.unknown = found, nil
}

var pendingAtStart = regexp.MustCompile(`"msg":"the journal holds writes that are not upstream yet","pending":(\d+)`)

func (k *killRig) run(kills, sooner int) {
	t := k.t
	void, missed, died, early := 0, 0, 0, false // void are kills with nothing pending: they prove nothing, and do not count
	for n := 0; n-void < kills && n < 3*kills; n++ {
		point := points[n%len(points)]
		byName := n%4 != 3 // a quarter at random moments
		k.g.env = append(k.g.env[:1:1], "AKIGW_LOG_LEVEL=debug")
		when := rand.IntN(max(1, point.often/sooner))
		if strings.HasPrefix(point.name, "rotate") { // the start makes a segment, too
			when = 1
		}
		if strings.HasPrefix(point.name, "flush") { // not before the gateway is ready
			when += point.often / 3 / sooner
		}
		if byName {
			k.g.env = append(k.g.env, fmt.Sprintf("AKIGW_FAILPOINT=%s:%d", point.name, 1+when))
		}
		if point.name == "recovery.midReplay" && byName { // it does not even get ready
			k.g.startAndDie()
			k.g.env = k.g.env[:1:1]
			k.g.start()
			early = false
		} else {
			early = !k.g.tryStart() // it may come to the point by what is left to do
		}
		var writers sync.WaitGroup
		until := time.Now().Add(4 * time.Second)
		for w := range 8 {
			if !early {
				writers.Go(func() { k.write(w, until) })
			}
		}
		if early {
			died++
		} else if !byName || point.name == "recovery.midReplay" {
			time.Sleep(100*time.Millisecond + time.Duration(rand.Int64N(int64(400*time.Millisecond))))
			k.g.cmd.Process.Kill()
		}
		writers.Wait()
		done := make(chan error, 1)
		go func() {
			if !early {
				done <- k.g.cmd.Wait()
				return
			}
			done <- nil
		}()
		select {
		case <-done:
		case <-time.After(100 * time.Millisecond):
			missed++
			t.Logf("kill %d: %s was not reached: %s", n, k.g.env[len(k.g.env)-1], tail(k.g.stderr.String())+fmt.Sprintf("%+v", k.g.status()))
			k.g.cmd.Process.Kill()
			<-done
		}
		if err := k.manifest.Sync(); err != nil {
			t.Fatal(err)
		}
		// What was pending is said by the next start.
		k.g.env = k.g.env[:1:1]
		k.g.start()
		if m := pendingAtStart.FindStringSubmatch(k.g.stderr.String()); m == nil || m[1] == "0" {
			void++
		}
		k.verify(k.g, 200)
		k.verifyUploads(k.g)
		k.g.kill()
		if t.Failed() {
			t.Fatalf("at kill %d, %s", n, point.name)
		}
	}
	k.up.delay.Store(0)
	k.g.start()
	k.verify(k.g, len(k.keys))
	k.abortUploads(k.g)
	waitDrained(t, k.g, 2*time.Minute)
	for name, reg := range k.keys {
		o, ok := k.up.Get(akigw.Key{Bucket: "backbucket", Name: name})
		if ok != (reg.acked != "") || ok && (o.ETag != reg.acked || fmt.Sprintf("\"%x\"", md5.Sum(o.Body)) != k.sum(reg.acked)) {
			t.Errorf("LOST: upstream %s is %s (%t), was acknowledged as %q", name, o.ETag, ok, reg.acked)
		}
	}
	fresh := startGateway(t, options{upstream: k.g.upstream, plain: true})
	k.verify(fresh, len(k.keys))
	t.Logf("%d kills with something pending (%d more without; %d points not reached, %d before it was ready), %d acknowledged writes (%v) of %d keys, %d copies and %d parts, none lost", kills, void, missed, died, k.acks, k.kinds, len(k.keys), k.copies, k.parts)
	if k.copies < kills || void > kills/2 || k.acks < 50*kills || k.kinds["journal"] < k.acks*9/10 || missed > kills/10 {
		t.Errorf("the path was not exercised")
	}
}

// startAndDie starts a gateway that ends by itself before it is ready.
func (g *gateway) startAndDie() {
	g.t.Helper()
	addr := func(s string) string { return strings.TrimPrefix(s, "http://") }
	cmd := exec.Command(g.binary, "serve", "--data", g.dir, "--listen", addr(g.endpoint), "--admin-listen", addr(g.admin))
	if g.upstream.endpoint != "" {
		cmd.Args = append(cmd.Args, "--upstream", g.upstream.endpoint)
	}
	g.stderr = &bytes.Buffer{}
	cmd.Stderr = g.stderr
	cmd.Env = append(os.Environ(), "AKIGW_ACCESS_KEY="+accessKey, "AKIGW_SECRET_KEY="+secretKey, "AKIGW_UPSTREAM_ACCESS_KEY="+upstreamAccessKey, "AKIGW_UPSTREAM_SECRET_KEY="+upstreamSecretKey)
	cmd.Env = append(cmd.Env, g.env...)
	if err := cmd.Run(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		g.t.Errorf("the gateway ended with %v", err)
	}
}

// status asks a gateway for its status.
func (g *gateway) status() (st struct {
	Pending int   `json:"pending"`
	Bytes   int64 `json:"pending_bytes"`
	Dead    int   `json:"dead_letters"`
	Problem string
}) {
	g.t.Helper()
	resp, err := http.Get(g.admin + "/api/v1/status")
	if err == nil {
		defer resp.Body.Close()
		err = json.NewDecoder(resp.Body).Decode(&st)
	}
	if err != nil {
		g.t.Fatal(err)
	}
	return st
}

func waitDrained(t testing.TB, g *gateway, limit time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(limit); g.status().Pending > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not upstream after %s: %+v", limit, g.status())
		}
	}
}

// runKills kills so many times, and so many times sooner than points say.
func runKills(t *testing.T, kills, sooner int) *killRig {
	up, behind := startMemory(t, 50*time.Millisecond, 4) // slow, so that there is always something pending
	g := startGateway(t, options{upstream: behind, kind: failpoints, config: backConfig})
	g.kill()
	k := newKillRig(t, g, up)
	k.run(kills, sooner)
	return k
}

// TestT4_B5_Killed kills the gateway at named points and at random moments, under load:
// no acknowledged write is lost, no deletion undone.
func TestT4_B5_Killed(t *testing.T) {
	t.Parallel()
	p := testkit.Prove(t, "T4")
	kills := p.Amount(12, 100, 1000)
	sooner := 3 // than in a long run
	if p.Long() {
		sooner = 1
	}
	k := runKills(t, kills, sooner)
	for name, n := range map[string]int{"kills with something pending": kills, "points": len(points), "acknowledged writes": k.acks, "keys": len(k.keys), "copies": k.copies, "parts": k.parts} {
		p.Figure(name, n)
	}
}

// TestUpstreamAway: while the upstream is away every write is acknowledged, read and
// listed; afterwards all of it is there with the ETags that were promised.
func TestUpstreamAway(t *testing.T) { upstreamAway(t, 3*time.Second) }

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
	client := &testkit.Client{Endpoint: g.endpoint}
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
	if out := g.says("status"); !strings.Contains(out, `requests to bucket "backbucket" are refused`) {
		t.Errorf("status does not tell of the breaker: %s", out)
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
	if out := g.says("status"); !regexp.MustCompile(`rate +[1-9][0-9.]* writes a second`).MatchString(out) {
		t.Errorf("status tells no rate: %s", out)
	}
	for name, etag := range promised {
		if o, ok := up.Get(akigw.Key{Bucket: "backbucket", Name: name}); !ok || o.ETag != etag {
			t.Errorf("%s is not upstream as it was promised", name)
		}
	}
	t.Logf("%d writes acknowledged in %s without an upstream, %d pending, all of them there %s after it was back", len(promised), long, pending, took.Round(100*time.Millisecond))
	if pending < 100 {
		t.Error("hardly anything was pending: the path was not exercised")
	}
}

// TestE34_StopWithPendingWrites: a stop takes what is pending to the upstream and
// ends with 0; if it cannot, with 75, and the next start does.
func TestE34_StopWithPendingWrites(t *testing.T) {
	up, behind := startMemory(t, 5*time.Millisecond, 8)
	g := startGateway(t, options{upstream: behind, config: backConfig, env: []string{"AKIGW_WRITE_BACK_DRAIN_TIMEOUT_SECS=2"}})
	client := &testkit.Client{Endpoint: g.endpoint}
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
	write("warm") // so that the bucket is known
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

// TestDeadLetterCommands: an operator lists, shows, exports, retries and drops what
// the upstream does not take.
func TestDeadLetterCommands(t *testing.T) {
	up, behind := startMemory(t, 0, 8)
	g := startGateway(t, options{upstream: behind, config: backConfig})
	refuse := atomic.Bool{}
	refuse.Store(true)
	up.Before = func(r *cold.Request) (*http.Response, error) {
		if r.Method == http.MethodPut && !r.Query.Has("uploadId") && refuse.Load() {
			return testkit.Response(400, nil, []byte("<Error><Code>EntityTooLarge</Code></Error>")), nil
		}
		return nil, nil
	}
	client := &testkit.Client{Endpoint: g.endpoint}
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
	if out := akigw("dead-letters", "retry", "--all"); !strings.Contains(out, "an admin key is needed") {
		t.Errorf("without an admin key: %s", out)
	}
	g.operator()
	if out := akigw("dead-letters", "export", ids[0][1], "-"); out != "body a" {
		t.Errorf("export: %q", out)
	}
	if out := akigw("dead-letters", "show", ids[1][1]); !strings.Contains(out, `"key": "b"`) {
		t.Errorf("show: %s", out)
	}
	if out := akigw("dead-letters", "archive", "s3://backbucket/archive"); !strings.HasPrefix(out, "3 dead letters are in s3://backbucket/archive") {
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
	if out := akigw("purge", "s3://backbucket/a"); !strings.HasPrefix(out, "forgot what was cached of ") || outcome() != "cold" {
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

// tail is the end of a log.
func tail(s string) string { return s[max(0, len(s)-1500):] }

// TestSeededDiskFaults breaks the real binary's disk: an acknowledgement that is
// given holds, what cannot be acknowledged goes through, and health says so.
func TestSeededDiskFaults(t *testing.T) {
	type acked map[string]string // name -> commit
	writes := func(g *gateway, prefix string, n int) acked {
		client := &testkit.Client{Endpoint: g.endpoint}
		done := acked{}
		for i := range n {
			name := fmt.Sprintf("%s%d", prefix, i)
			if a := client.Must(t, "PUT", "/backbucket/"+name, "", nil, []byte("body of "+name)); a.Status == 200 {
				done[name] = a.Header.Get("X-Akigw-Commit")
			}
		}
		return done
	}
	there := func(g *gateway, names acked) (lost int) {
		client := &testkit.Client{Endpoint: g.endpoint}
		for name := range names {
			if a := client.Must(t, "GET", "/backbucket/"+name, "", nil, nil); a.Status != 200 || string(a.Body) != "body of "+name {
				lost++
			}
		}
		return lost
	}
	healthy := func(g *gateway) bool {
		resp, err := http.Get(g.admin + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	}
	const segment = "journal/segments/0000000000000001.seg"
	for name, inject := range map[string]string{
		"C6 EIO on fdatasync": "-e trace=fdatasync -e inject=fdatasync:error=EIO:when=20+",
		"C2 ENOSPC on write":  "-e trace=write -e inject=write:error=ENOSPC:when=20+",
	} {
		t.Run(name, func(t *testing.T) {
			need(t, "strace")
			up, behind := startMemory(t, 0, 8)
			up.delay.Store(int64(200 * time.Millisecond)) // so that something is pending
			dir := t.TempDir()
			g := startGateway(t, options{upstream: behind, plain: true, dir: dir, config: backConfig, under: "strace -D -f -qq -o /dev/null -P " + filepath.Join(dir, segment) + " " + inject})
			done := writes(g, "k", 60)
			for more := 0; healthy(g) && more < 20; more++ { // strace counts the calls of each thread
				maps.Copy(done, writes(g, fmt.Sprintf("more%d/", more), 60))
			}
			maps.Copy(done, writes(g, "after/", 10))
			kinds := map[string]int{}
			for _, commit := range done {
				kinds[commit]++
			}
			if kinds["journal"] < 5 || kinds["upstream"] < 5 || healthy(g) {
				t.Errorf("acknowledged %v, healthy %t", kinds, healthy(g))
			}
			if lost := there(g, done); lost > 0 {
				t.Errorf("%d lost while it runs", lost)
			}
			g.kill()
			again := startGateway(t, options{upstream: behind, plain: true, dir: dir, config: backConfig})
			waitDrained(t, again, time.Minute)
			if lost := there(again, done); lost > 0 || !healthy(again) {
				t.Errorf("%d lost after a restart", lost)
			}
			t.Logf("acknowledged %v, none lost", kinds)
		})
	}
	for name, damage := range map[string]func([]byte) []byte{
		"B23 torn tail":     func(raw []byte) []byte { return append(raw, raw[:40]...) },
		"B23 middle damage": func(raw []byte) []byte { raw[bytes.Index(raw, []byte("body of k7"))] ^= 1; return raw },
	} {
		t.Run(name, func(t *testing.T) {
			up, behind := startMemory(t, 0, 8)
			dir := t.TempDir()
			g := startGateway(t, options{upstream: behind, plain: true, dir: dir, config: backConfig})
			writes(g, "warm", 1)
			waitDrained(t, g, 10*time.Second)
			up.down.Store(true)
			done := writes(g, "k", 20)
			g.kill()
			file := filepath.Join(dir, segment)
			if err := os.WriteFile(file, damage(readFile(t, file)), 0o600); err != nil {
				t.Fatal(err)
			}
			up.down.Store(false)
			g.start()
			middle := strings.Contains(name, "middle")
			if healthy(g) == middle {
				t.Errorf("healthy: %t: %s", healthy(g), g.stderr)
			}
			if middle {
				if lost := there(g, done); lost != 1 { // the others are served
					t.Errorf("%d are not served", lost)
				}
				if st := g.status(); !strings.Contains(st.Problem, "damaged") || st.Pending != 19 {
					t.Errorf("%+v", st)
				}
				cmd := exec.Command(build(t, plain), "journal", "accept")
				cmd.Env = append(os.Environ(), "AKIGW_ACCESS_KEY="+accessKey, "AKIGW_SECRET_KEY="+secretKey, "AKIGW_DATA="+dir, "AKIGW_ADMIN_LISTEN="+strings.TrimPrefix(g.admin, "http://"))
				g.mustAkigw("users", "set", "operator", "--admin")
				g.mustAkigw("keys", "create", "--user", "operator")
				time.Sleep(3 * time.Second) // until the gateway has taken it over
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			waitDrained(t, g, 10*time.Second)
			if !healthy(g) || up.Len() < 20 {
				t.Errorf("healthy %t, %d objects upstream", healthy(g), up.Len())
			}
		})
	}
}

// TestLongHalfSlowDown: half of all requests are told to slow down, those of the
// verification too. Everything arrives, for not many more requests than it takes. It is
// slow: the breaker opens, and repetitions have to be earned (A1).
func TestLongHalfSlowDown(t *testing.T) {
	if os.Getenv("AKIGW_LONG") == "" {
		t.Skip("make long TEST=HalfSlowDown")
	}
	up, behind := startMemory(t, time.Millisecond, 64)
	g := startGateway(t, options{upstream: behind, plain: true, config: backConfig})
	client := &testkit.Client{Endpoint: g.endpoint}
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
