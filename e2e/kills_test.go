package e2e

import (
	"bytes"
	"crypto/md5"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// points are the failpoints at which the gateway is killed, and how often each is reached in about
// a second.
var points = []struct {
	name  string
	often int
}{
	{"spool.afterCreate", 20}, {"spool.midWrite", 40}, {"spool.afterWrite", 20}, {"spool.afterSync", 20}, {"spool.afterRename", 20}, {"spool.afterDirSync", 20},
	{"journal.afterAppend", 200}, {"journal.afterSync", 200}, {"ack.beforeSend", 400}, {"ack.afterSend", 400},
	{"flush.beforePut", 60}, {"flush.afterPut", 60}, {"flush.afterVerify", 60}, {"journal.beforeDone", 60}, {"journal.afterDone", 60}, {"spool.afterDelete", 4},
	{"copy.beforeCommit", 20}, {"part.beforeCommit", 30}, {"complete.beforeCommit", 20}, {"flush.afterCreateUpload", 4}, {"flush.afterPart", 4}, {"flush.beforeComplete", 4}, {"flush.afterComplete", 4},
	{"delete.afterTombstone", 60}, {"delete.afterUpstream", 5}, {"rotate.afterCreate", 1}, {"rotate.afterDirSync", 1}, {"compact.beforeUnlink", 1}, {"recovery.midReplay", 1},
	{"vectors.afterAnnounce", 2}, {"vectors.beforeManifest", 1}, {"vectors.afterManifest", 1}, {"vectors.afterCopy", 1}, {"vectors.beforeDone", 1}, {"vectors.afterMerge", 1}, {"vectors.afterCatalog", 2}, {"vectors.beforeDrop", 1}, {"vectors.afterDrop", 1},
}

// register is what a key may hold: what was acknowledged last, or the result of a write that got no
// response. "" is nothing.
type register struct {
	acked   string // ETag
	unknown []string
}

// killRig writes through a gateway that is killed again and again.
type killRig struct {
	t        *testing.T
	g        *gateway
	up       *slowMemory
	env      []string    // of the gateway, besides what a kill needs
	foul     bool        // a fault plan is in force: responses may be cut off
	begin    func(n int) // prepares the n-th start
	manifest *os.File
	vectors  *vectorRig // nil: no vector collections

	mu      sync.Mutex
	keys    map[string]*register // guarded by mu
	uploads map[string]*upload   // open uploads, by id; guarded by mu
	sums    map[string]string    // MD5 of the body by multipart ETag; guarded by mu
	acks    int                  // acknowledged writes; guarded by mu
	parts   int                  // acknowledged parts; guarded by mu
	copies  int                  // acknowledged copies; guarded by mu
	kinds   map[string]int       // guarded by mu
}

// upload is an open multipart upload, with the ETags of the acknowledged parts.
type upload struct {
	name  string
	parts map[int]string
}

// multipart begins a write in parts and, most of the time, completes it. killed reports that the
// gateway is gone.
func (k *killRig) multipart(client *s3client.Client, random *rand.Rand, name string) (killed bool) {
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
		return false // leave it open
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

// register records that a write of a key is in progress. The caller holds mu.
func (k *killRig) register(name, tag string) *register {
	reg := k.keys[name]
	if reg == nil {
		reg = &register{}
		k.keys[name] = reg
	}
	reg.unknown = append(reg.unknown, tag)
	return reg
}

// acknowledged records an acknowledgement.
func (k *killRig) acknowledged(name string, reg *register, tag string, resp *http.Response) {
	k.mu.Lock()
	defer k.mu.Unlock()
	reg.acked, reg.unknown = tag, nil
	k.acks++
	k.kinds[resp.Header.Get("X-Akigw-Commit")]++
	fmt.Fprintf(k.manifest, "%s %s\n", name, tag)
}

// verifyUploads checks that open uploads have the acknowledged parts.
func (k *killRig) verifyUploads(g *gateway) {
	k.t.Helper()
	client := &s3client.Client{Endpoint: g.endpoint}
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

// abortUploads aborts the uploads that were left open.
func (k *killRig) abortUploads(g *gateway) {
	k.t.Helper()
	client := &s3client.Client{Endpoint: g.endpoint}
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
	client := k.client()
	defer client.HTTP.CloseIdleConnections()
	random := rand.New(rand.NewPCG(uint64(writer), uint64(time.Now().UnixNano())))
	last := "" // the last written key, which is pending
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
		if err == nil { // the status is the acknowledgement, even if the rest is lost
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		switch {
		case err != nil:
			return // killed
		case resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests:
			continue // the write may or may not be kept
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
func (k *killRig) copy(client *s3client.Client, from, to string) (gone bool) {
	k.mu.Lock()
	tag := k.keys[from].acked
	if strings.Contains(tag, "-") { // a multipart object replaced it: the ETag of a copy depends on who makes the copy
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
	case resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests: // the copy may or may not be kept
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

// verify reads keys from a gateway, compares them with what they may hold, and resolves the unknown
// outcomes.
func (k *killRig) verify(g *gateway, sample int) {
	k.t.Helper()
	client := &s3client.Client{Endpoint: g.endpoint, HTTP: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	defer client.HTTP.CloseIdleConnections()
	if k.foul {
		client.HTTP.Timeout = 5 * time.Second // a body may hang; it is requested again
	}
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

func (k *killRig) verifyKey(client *s3client.Client, name string, reg *register) {
	var a *s3client.Answer
	var err error
	for range 60 { // a breaker may be open for some seconds
		var r *http.Request
		r, err = client.Request("GET", "/backbucket/"+name, "", nil, nil)
		if err == nil {
			a, err = client.Do(r)
		}
		if err == nil && a.Status != http.StatusServiceUnavailable || err != nil && !k.foul {
			break
		}
		time.Sleep(250 * time.Millisecond)
	}
	if err != nil {
		k.t.Errorf("%s: %v", name, err)
		return
	}
	found := ""
	switch {
	case a.Status == 200:
		found = a.Header.Get("Etag")
		if sum := fmt.Sprintf("\"%x\"", md5.Sum(a.Body)); sum != k.sum(found) {
			k.t.Errorf("%s: the body does not match its ETag", name)
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

// stride is coprime to the number of points, so that a few kills are at points of all kinds.
const stride = 31

// requestLines are the lines of the log that say of each request what became of it.
var requestLines = regexp.MustCompile(`(?m)^.*"msg":"request".*\n`)

var pendingAtStart = regexp.MustCompile(`"msg":"the journal holds writes that are not in the upstream yet","pending":(\d+)`)

func (k *killRig) run(kills, sooner int) {
	t := k.t
	void, missed, died, early := 0, 0, 0, false // void counts kills with nothing pending: they prove nothing and do not count
	n := 0
	for ; n-void < kills && n < 4*kills; n++ {
		point := points[n*stride%len(points)]
		byName := n%4 != 3 // a quarter at random moments
		k.begin(n)
		k.g.env = append(k.env, "AKIGW_LOG_LEVEL=debug")
		when := rand.IntN(max(1, point.often/sooner))
		if strings.HasPrefix(point.name, "rotate") { // the start also creates a segment
			when = 1
		}
		if strings.HasPrefix(point.name, "flush") { // not before the gateway is ready
			when += point.often / 3 / sooner
		}
		if byName {
			k.g.env = append(k.g.env, fmt.Sprintf("AKIGW_FAILPOINT=%s:%d", point.name, 1+when))
		}
		if point.name == "recovery.midReplay" && byName { // the gateway does not even become ready
			k.g.startAndDie()
			k.g.env = k.env
			k.g.start()
			early = false
		} else {
			early = !k.g.tryStart() // flushing what is left may already reach the failpoint
		}
		var writers sync.WaitGroup
		until := time.Now().Add(4 * time.Second)
		for w := range 8 {
			if !early {
				writers.Go(func() { k.write(w, until) })
			}
		}
		if !early {
			k.vectors.begin(k, &writers, until)
		}
		if early {
			died++
		} else if !byName || point.name == "recovery.midReplay" {
			k.vectors.served(k.g, 2*time.Second)
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
			t.Logf("kill %d: %s was not reached: %s", n, k.g.env[len(k.g.env)-1], tail(requestLines.ReplaceAllString(k.g.stderr.String(), "")))
			k.g.cmd.Process.Kill()
			<-done
		}
		if err := k.manifest.Sync(); err != nil {
			t.Fatal(err)
		}
		// The next start logs what was pending.
		k.g.env = k.env
		k.g.start()
		if m := pendingAtStart.FindStringSubmatch(k.g.stderr.String()); m == nil || m[1] == "0" {
			void++
		}
		k.verify(k.g, 200)
		k.verifyUploads(k.g)
		k.vectors.verify(k)
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
	k.verifyUpstream()
	k.vectors.startAnew(k)
	t.Logf("%d kills with something pending (%d more without; %d points not reached, %d before it was ready), %d acknowledged writes (%v) of %d keys, %d copies and %d parts, none lost", n-void, void, missed, died, k.acks, k.kinds, len(k.keys), k.copies, k.parts)
	if n-void < kills || k.copies < kills || k.acks < 50*kills || k.kinds["journal"] < k.acks*9/10 || missed > n/5 {
		t.Errorf("the path was not exercised")
	}
}

// verifyUpstream checks that everything is upstream, directly and through a gateway with an empty
// cache.
func (k *killRig) verifyUpstream() {
	k.t.Helper()
	for name, reg := range k.keys {
		o, ok := k.up.Get(akigw.Key{Bucket: "backbucket", Name: name})
		if ok != (reg.acked != "") || ok && (o.ETag != reg.acked || fmt.Sprintf("\"%x\"", md5.Sum(o.Body)) != k.sum(reg.acked)) {
			k.t.Errorf("LOST: upstream %s is %s (%t), was acknowledged as %q", name, o.ETag, ok, reg.acked)
		}
	}
	k.foul = false
	k.verify(startGateway(k.t, options{upstream: k.g.upstream, plain: true}), len(k.keys))
}

// client returns a client with its own connection.
func (k *killRig) client() *s3client.Client {
	return &s3client.Client{Endpoint: k.g.endpoint, HTTP: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}}
}

// startAndDie starts a gateway that ends before it is ready.
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
	Packed  int   `json:"packed"`
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

// runKills kills the gateway the given number of times, and sooner than points say by the given
// factor. plan returns the fault plan of each start, by its number; nil for none. The plans need different
// seeds: with one seed, a plan that begins with a hang would stop the first request of each start.
func runKills(t *testing.T, kills, sooner int, plan func(n int) string) *killRig {
	up, behind := startMemory(t, 50*time.Millisecond, 4) // slow, so that something is always pending
	o := options{upstream: behind, kind: failpoints, config: backConfig}
	begin := func(int) {}
	if plan == nil {
		o.config += vectorsUnderKills
	} else {
		o.config = impatientConfig
		file := filepath.Join(t.TempDir(), "plan.json")
		begin = func(n int) { writeFile(t, file, []byte(plan(n))) }
		begin(0)
		o.env = []string{"AKIGW_ENABLE_FAULTS=true", "AKIGW_FAULT_PLAN=" + file}
	}
	g := startGateway(t, o)
	g.kill()
	k := newKillRig(t, g, up)
	k.foul, k.begin = plan != nil, begin
	if plan == nil {
		k.vectors = newVectorRig()
	}
	k.run(kills, sooner)
	return k
}

// TestT4_B5_Killed kills the gateway at failpoints and at random moments under load. No
// acknowledged write is lost and no deletion undone.
//
// Scenarios: B5.
func TestT4_B5_Killed(t *testing.T) {
	t.Parallel()
	p := testkit.Prove(t, "T4")
	kills, sooner, rigs := p.Amount(5, 100, 1000), 1, 1
	if p.Quick() {
		sooner = 3
	}
	if kills >= 100 {
		rigs = 2 // they mostly wait
	}
	var mu sync.Mutex
	sums := map[string]int{"kills with something pending": kills, "points": len(points)}
	t.Run("rigs", func(t *testing.T) {
		if kills >= 100 { // with an upstream that sometimes does not respond
			t.Run("hanging", func(t *testing.T) {
				t.Parallel()
				needDeadlines(t)
				k := runKills(t, kills/5, sooner, func(n int) string { return presetPlan(t, "hang", p.Seed+uint64(n)) })
				mu.Lock()
				defer mu.Unlock()
				sums["kills while the upstream hangs now and then"] = kills / 5
				sums["acknowledged writes while it does"] = k.acks
			})
		}
		for n := range rigs {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				k := runKills(t, kills/rigs, sooner, nil)
				mu.Lock()
				defer mu.Unlock()
				for name, n := range map[string]int{"acknowledged writes": k.acks, "keys": len(k.keys), "copies": k.copies, "parts": k.parts, "acknowledged vector calls": k.vectors.acked, "indexes deleted and created again": k.vectors.recreated} {
					sums[name] += n
				}
			})
		}
	})
	for name, n := range sums {
		p.Figure(name, n)
	}
}

// newKillRig returns a rig with a running gateway.
func newKillRig(t *testing.T, g *gateway, up *slowMemory) *killRig {
	manifest, err := os.Create(filepath.Join(t.TempDir(), "manifest"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { manifest.Close() })
	return &killRig{t: t, g: g, up: up, env: slices.Clip(g.env), manifest: manifest, keys: map[string]*register{}, uploads: map[string]*upload{}, sums: map[string]string{}, kinds: map[string]int{}}
}
