package e2e

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// deadlineKeys reports that the gateway has the keys request_deadline_secs, write_deadline_secs,
// long_deadline_secs, suspect_after_ms and probe_timeout_ms of [upstream].
const deadlineKeys = true

// needDeadlines skips a test that only ends thanks to those deadlines.
func needDeadlines(t testing.TB) {
	t.Helper()
	if !deadlineKeys {
		t.Skip("the gateway has no deadlines")
	}
}

// outageTimes are the gateway's deadlines in a run, and the tolerances beyond them.
type outageTimes struct {
	request, write, long, suspect, probe time.Duration // the gateway's settings

	local    time.Duration // p99 of a response that needs no upstream
	refusal  time.Duration // of a refusal because the upstream is suspect
	stale    time.Duration // of a response that may be stale, while the upstream is suspect
	slack    time.Duration // beyond each deadline
	recovery time.Duration // until everything is as before
	start    time.Duration // until the gateway is ready

	pace outagePace
	reps int // of requests that need no upstream
}

// The real deadlines, except that of long operations, which is ten minutes by default; and shorter
// ones, with room for a machine that is busy with other tests.
var (
	realTimes = outageTimes{
		request: 15 * time.Second, write: 30 * time.Second, long: 60 * time.Second, suspect: 3 * time.Second, probe: 10 * time.Second,
		local: 50 * time.Millisecond, refusal: 100 * time.Millisecond, stale: 1200 * time.Millisecond, slack: 500 * time.Millisecond, recovery: 5 * time.Second, start: 5 * time.Second,
		pace: outagePace{Slow: 8 * time.Second, Trickle: time.Second}, reps: 100,
	}
	quickTimes = outageTimes{
		request: time.Second, write: 2 * time.Second, long: 3 * time.Second, suspect: 300 * time.Millisecond, probe: 200 * time.Millisecond,
		local: 700 * time.Millisecond, refusal: 700 * time.Millisecond, stale: 1200 * time.Millisecond, slack: time.Second, recovery: 8 * time.Second, start: 10 * time.Second,
		pace: outagePace{Slow: 400 * time.Millisecond, Trickle: 100 * time.Millisecond}, reps: 5,
	}
)

func outageTimesOf(p *testkit.Proof) outageTimes {
	if p.Long() {
		return realTimes
	}
	return quickTimes
}

// config returns the gateway's configuration.
func (o outageTimes) config() string {
	deadlines := ""
	if deadlineKeys {
		deadlines = fmt.Sprintf("request_deadline_secs = %d\nwrite_deadline_secs = %d\nlong_deadline_secs = %d\nsuspect_after_ms = %d\nprobe_timeout_ms = %d\n",
			int(o.request.Seconds()), int(o.write.Seconds()), int(o.long.Seconds()), o.suspect.Milliseconds(), o.probe.Milliseconds())
	}
	return `
[upstream]
events = "webhook"
` + deadlines + `
[write_back]
min_free_bytes = 0
drain_timeout_secs = 1
[storage.connection_pool]
idle_timeout_secs = 1
[[rule]]
bucket = "back"
write = "back"
[[rule]]
bucket = "ttl"
freshness = "ttl"
ttl_secs = 1
max_stale_secs = 86400
[[rule]]
bucket = "events"
freshness = "events"
ttl_secs = 86400
[[rule]]
bucket = "immutable"
freshness = "immutable"
[[rule]]
bucket = "exclusive"
freshness = "exclusive"
`
}

// ailments are the states of the upstream in docs/outages.md, in its order.
var ailments = []struct {
	is      ailment
	suspect bool   // no response arrives, so the gateway has to notice
	title   string // of its section
	how     string // how the state is caused
}{
	{refuses, false, "Refuses connections", "No process listens on its port: it is not running, or a firewall rejects the connections."},
	{stopped, true, "Accepts connections and never answers", "Its process is stopped (`SIGSTOP`), but the kernel still accepts connections."},
	{drops, true, "Drops packets", "No packet comes back: a firewall drops them, a cable is unplugged, or the machine is dead."},
	{stallsTLS, true, "Stalls in the TLS handshake", "It accepts connections and never answers the client's first message."},
	{stallsHead, true, "Stalls in the head of an answer", "It accepts a request, sends a status line and half of a header, and then nothing."},
	{stallsBody, false, "Stalls in the middle of a body", "Bodies stop half-way, in both directions. Requests without a body are answered."},
	{trickles, false, "Sends and takes 1 byte a second", "Bodies crawl, in both directions. Requests without a body are answered."},
	{late, false, "Answers after 8 seconds", "It is slow but healthy: every answer is right."},
	{answers503, false, "Answers 503 to everything", "It is overloaded, or its load balancer has no healthy server behind it."},
	{noName, false, "Its name does not resolve", "The resolver says that the name does not exist."},
	{resolverHangs, true, "The resolver does not answer", "Queries for its name get no answer."},
}

// needs says what an operation needs from the upstream, which determines how soon it is answered.
type needs string

const (
	nothing      needs = "nothing"    // answered locally
	staleServes  needs = "validation" // stale, if necessary
	shortRead    needs = "answer"     // request_deadline_secs
	storedBody   needs = "write"      // write_deadline_secs
	longDeadline needs = "long"       // long_deadline_secs
)

// operation is a row of docs/outages.md.
type operation struct {
	name  string
	needs needs
	// afterRestart replaces needs if the gateway was restarted since its last answer.
	afterRestart needs
	prepare      func(r *outageRun, phase string)
	ask          func(r *outageRun, phase string, n int) outcome
	// queues says that the operation waits for the flush of other writes, which may take too long.
	queues bool
	// good are the allowed statuses, besides 503 if the operation needs the upstream.
	good []string
}

// outcome is the result of one request.
type outcome struct {
	status string
	took   time.Duration
	body   []byte
	header http.Header
}

// The two times at which each operation is tried during an outage: just after its beginning, and
// after the gateway had time to notice.
var phases = []string{"first", "later"}

var operations = []operation{
	{name: "PUT, write-through", needs: storedBody, good: []string{"200"}, ask: func(r *outageRun, phase string, n int) outcome {
		return r.ask(storedBody, "PUT", "/through/put-"+phase, "", nil, body1000)
	}},
	{name: "PUT, write-back", needs: nothing, good: []string{"200"}, ask: func(r *outageRun, phase string, n int) outcome {
		return r.put(fmt.Sprintf("put-%s-%d", phase, n), nothing)
	}},
	{name: "DELETE, write-back", needs: nothing, good: []string{"204"}, prepare: func(r *outageRun, phase string) {
		for n := range r.reps {
			r.seed("back", fmt.Sprintf("delete-%s-%d", phase, n))
		}
	}, ask: func(r *outageRun, phase string, n int) outcome {
		name := fmt.Sprintf("delete-%s-%d", phase, n)
		o := r.ask(nothing, "DELETE", "/back/"+name, "", nil, nil)
		r.acknowledged(name, "", o)
		return o
	}},
	{name: "multipart upload, write-back", needs: nothing, good: []string{"200"}, ask: (*outageRun).multipartBack},
	{name: "DELETE, write-through", needs: shortRead, good: []string{"204"}, prepare: func(r *outageRun, phase string) { r.seed("through", "delete-"+phase) }, ask: func(r *outageRun, phase string, n int) outcome {
		return r.ask(shortRead, "DELETE", "/through/delete-"+phase, "", nil, nil)
	}},
	hit("GET", "strict", shortRead, ""), hit("HEAD", "strict", shortRead, ""),
	hit("GET", "ttl", staleServes, ""), hit("HEAD", "ttl", staleServes, ""),
	hit("GET", "events", nothing, shortRead), hit("HEAD", "events", nothing, shortRead),
	hit("GET", "immutable", nothing, ""), hit("HEAD", "immutable", nothing, ""),
	hit("GET", "exclusive", nothing, ""), hit("HEAD", "exclusive", nothing, ""),
	{name: "GET of a pending object", needs: nothing, good: []string{"200"}, ask: func(r *outageRun, phase string, n int) outcome {
		name := fmt.Sprintf("pending-%s-%d", phase, n)
		if o := r.put(name, nothing); o.status != "200" {
			return o
		}
		return r.ask(nothing, "GET", "/back/"+name, "", nil, nil)
	}},
	miss("GET"), miss("HEAD"),
	{name: "GET miss of 1 MiB", needs: longDeadline, good: []string{"200", "cut off"}, prepare: func(r *outageRun, phase string) {
		r.upstreamPut("through", "large-"+phase, testkit.Bytes(7, 1<<20))
	}, ask: func(r *outageRun, phase string, n int) outcome {
		return r.ask(longDeadline, "GET", "/through/large-"+phase, "", nil, nil)
	}},
	{name: "LIST", needs: shortRead, good: []string{"200"}, ask: func(r *outageRun, phase string, n int) outcome {
		return r.ask(shortRead, "GET", "/through", "list-type=2&max-keys=20", nil, nil)
	}},
	{name: "COPY of a pending object", needs: nothing, good: []string{"200"}, ask: func(r *outageRun, phase string, n int) outcome {
		name := fmt.Sprintf("source-%s-%d", phase, n)
		if o := r.put(name, nothing); o.status != "200" {
			return o
		}
		o := r.ask(nothing, "PUT", "/back/copy-of-"+name, "", http.Header{"X-Amz-Copy-Source": {"/back/" + name}}, nil)
		r.acknowledged("copy-of-"+name, tag1000, o)
		return o
	}},
	{name: "COPY of another object", needs: longDeadline, good: []string{"200", "200 with an error"}, prepare: func(r *outageRun, phase string) { r.seed("through", "origin-"+phase) }, ask: func(r *outageRun, phase string, n int) outcome {
		return r.ask(longDeadline, "PUT", "/through/copy-"+phase, "", http.Header{"X-Amz-Copy-Source": {"/through/origin-" + phase}}, nil)
	}},
	{name: "UploadPart, write-through", needs: storedBody, good: []string{"200"}, prepare: func(r *outageRun, phase string) { r.beginUpload("part-" + phase) }, ask: func(r *outageRun, phase string, n int) outcome {
		return r.ask(storedBody, "PUT", "/through/part-"+phase, "partNumber=2&uploadId="+r.uploads["part-"+phase], nil, body1000)
	}},
	{name: "CompleteMultipartUpload, write-through", needs: longDeadline, good: []string{"200", "200 with an error"}, prepare: func(r *outageRun, phase string) { r.beginUpload("complete-" + phase) }, ask: func(r *outageRun, phase string, n int) outcome {
		return r.ask(longDeadline, "POST", "/through/complete-"+phase, "uploadId="+r.uploads["complete-"+phase], nil, completion(tag1000))
	}},
	{name: "GetBucketTagging, forwarded", needs: longDeadline, good: []string{"200"}, ask: func(r *outageRun, phase string, n int) outcome {
		return r.ask(longDeadline, "GET", "/through", "tagging=", nil, nil)
	}},
	{name: "PUT with tags, of a key with a pending write", needs: storedBody, queues: true, good: []string{"200"}, ask: func(r *outageRun, phase string, n int) outcome {
		if o := r.put("tagged-"+phase, nothing); o.status != "200" {
			return o
		}
		r.forget("tagged-" + phase) // it is unknown which of the two the key holds later
		return r.ask(storedBody, "PUT", "/back/tagged-"+phase, "", http.Header{"X-Amz-Tagging": {"a=b"}}, body1000)
	}},
	{name: "a malformed UploadPartCopy of an upload in the journal", needs: nothing, good: []string{"400"}, ask: func(r *outageRun, phase string, n int) outcome {
		o := r.ask(nothing, "POST", fmt.Sprintf("/back/malformed-%s-%d", phase, n), "uploads=", nil, nil)
		id := uploadID.FindSubmatch(o.body)
		if id == nil {
			return o
		}
		header := http.Header{"X-Amz-Copy-Source": {"/through/origin-" + phase}, "X-Amz-Copy-Source-Range": {"bytes=9-"}}
		return r.ask(nothing, "PUT", fmt.Sprintf("/back/malformed-%s-%d", phase, n), "partNumber=1&uploadId="+string(id[1]), header, nil)
	}},
}

// hit reads a cached object. Each phase has its own objects, because a response may change what is
// known about one.
func hit(method, freshness string, needs, afterRestart needs) operation {
	bucket := freshness
	if freshness == "strict" {
		bucket = "through"
	}
	name := func(phase string) string { return strings.ToLower(method) + "-hit-" + phase }
	good := []string{"200"}
	if needs == staleServes {
		good = append(good, "200 stale")
	}
	return operation{name: method + " hit, " + freshness, needs: needs, afterRestart: afterRestart, good: good,
		prepare: func(r *outageRun, phase string) { r.warm(bucket, name(phase)) },
		ask: func(r *outageRun, phase string, n int) outcome {
			return r.ask(needs, method, "/"+bucket+"/"+name(phase), "", nil, nil)
		}}
}

// miss reads an object that is not cached.
func miss(method string) operation {
	name := func(phase string) string { return strings.ToLower(method) + "-miss-" + phase }
	return operation{name: method + " miss", needs: shortRead, good: []string{"200"},
		prepare: func(r *outageRun, phase string) { r.upstreamPut("through", name(phase), body1000) },
		ask: func(r *outageRun, phase string, n int) outcome {
			return r.ask(shortRead, method, "/through/"+name(phase), "", nil, nil)
		}}
}

// outageRun is one outage: a gateway, its upstream, and the results.
type outageRun struct {
	outageTimes
	t         *testing.T
	ill       ailment
	suspected bool // the gateway has to notice that the upstream does not respond
	restarted bool // the gateway is restarted during the outage
	raced     bool // the gateway has the race detector, which makes it slow
	g         *gateway
	up        *outageUpstream
	client    *s3client.Client
	direct    *http.Client      // to the upstream itself
	uploads   map[string]string // ids of write-through uploads, by key

	mu    sync.Mutex
	acked map[string]string // ETags of what the journal acknowledged, "" for deletions; guarded by mu
	cells []outageCell      // guarded by mu
}

// outageCell is a cell of docs/outages.md.
type outageCell struct {
	Operation string  `json:"operation"`
	Phase     string  `json:"phase"`
	Needs     needs   `json:"needs,omitempty"`
	Status    string  `json:"status"`
	Millis    float64 `json:"ms"` // p99, or the only value
	Time      string  `json:"time"`
	Wrong     string  `json:"wrong,omitempty"`
}

var (
	body1000 = testkit.Bytes(1000, 1000)
	tag1000  = etagOf(body1000)
)

func etagOf(body []byte) string { return fmt.Sprintf("\"%x\"", md5.Sum(body)) }

// completion is the CompleteMultipartUpload document for one part.
func completion(tag string) []byte {
	return []byte("<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + tag + "</ETag></Part></CompleteMultipartUpload>")
}

// bound returns how soon an operation has to be answered.
func (r *outageRun) bound(n needs, phase string) time.Duration {
	suspect := r.refusing(phase)
	switch {
	case n == nothing:
		return r.local
	case suspect && n == staleServes:
		return r.stale
	case suspect:
		return r.refusal
	case n == storedBody:
		return r.write + r.slack
	case n == longDeadline:
		return r.long + r.slack
	}
	return r.request + r.slack
}

// ask sends a request. It gives up some time after the latest acceptable response.
func (r *outageRun) ask(n needs, method, path, query string, header http.Header, body []byte) outcome {
	limit := r.bound(n, "first") + time.Second
	if n == nothing {
		limit = r.bound(shortRead, "first") + time.Second
	}
	request, err := r.client.Request(method, path, query, header, body)
	if err != nil {
		return outcome{status: err.Error()}
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	began := time.Now()
	resp, err := r.client.HTTP.Do(request.WithContext(ctx))
	if err != nil {
		status := "no answer"
		if !errors.Is(err, context.DeadlineExceeded) {
			status = "connection closed"
		}
		return outcome{status: status, took: time.Since(began)}
	}
	defer resp.Body.Close()
	o := outcome{status: strconv.Itoa(resp.StatusCode), header: resp.Header}
	o.body, err = io.ReadAll(resp.Body)
	o.took = time.Since(began)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		o.status = "no end"
	case err != nil:
		o.status = "cut off"
	case resp.StatusCode == http.StatusOK && method != http.MethodGet && bytes.Contains(o.body, []byte("<Error>")):
		o.status = "200 with an error"
	case resp.StatusCode == http.StatusOK && resp.Header.Get("X-Akigw-Cache") == "stale":
		o.status = "200 stale"
	}
	return o
}

// put writes back body1000.
func (r *outageRun) put(name string, n needs) outcome {
	o := r.ask(n, "PUT", "/back/"+name, "", nil, body1000)
	if o.status == "200" && o.header.Get("X-Akigw-Commit") != "journal" {
		o.status = "200 from the upstream"
	}
	r.acknowledged(name, tag1000, o)
	return o
}

// acknowledged records what the journal promised.
func (r *outageRun) acknowledged(name, tag string, o outcome) {
	if o.status == "200" || o.status == "204" {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.acked[name] = tag
	}
}

func (r *outageRun) forget(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.acked, name)
}

// multipartBack uploads an object in one part. It returns the slowest of the three responses.
func (r *outageRun) multipartBack(phase string, n int) outcome {
	path := fmt.Sprintf("/back/multipart-%s-%d", phase, n)
	begun := r.ask(nothing, "POST", path, "uploads=", nil, nil)
	id := uploadID.FindSubmatch(begun.body)
	if id == nil {
		return begun
	}
	part := r.ask(nothing, "PUT", path, "partNumber=1&uploadId="+string(id[1]), nil, body1000)
	if part.status != "200" {
		return part
	}
	done := r.ask(nothing, "POST", path, "uploadId="+string(id[1]), nil, completion(tag1000))
	done.took = max(begun.took, part.took, done.took)
	sum := md5.Sum(body1000)
	r.acknowledged(strings.TrimPrefix(path, "/back/"), fmt.Sprintf("\"%x-1\"", md5.Sum(sum[:])), done)
	return done
}

// must sends a request while the upstream is healthy.
func (r *outageRun) must(method, path, query string, body []byte) outcome {
	r.t.Helper()
	o := r.ask(storedBody, method, path, query, nil, body)
	if !strings.HasPrefix(o.status, "20") {
		r.t.Fatalf("%s %s?%s of a healthy upstream: %s %s", method, path, query, o.status, o.body)
	}
	return o
}

// seed creates an object.
func (r *outageRun) seed(bucket, name string) { r.upstreamPut(bucket, name, body1000) }

// warm creates an object and caches it.
func (r *outageRun) warm(bucket, name string) {
	r.t.Helper()
	r.upstreamPut(bucket, name, body1000)
	for range 2 {
		r.must("GET", "/"+bucket+"/"+name, "", nil)
	}
}

// upstreamPut puts an object upstream, past the gateway.
func (r *outageRun) upstreamPut(bucket, name string, body []byte) {
	r.t.Helper()
	request, err := http.NewRequest("PUT", "https://"+r.up.address+"/"+bucket+"/"+name, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := r.direct.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		r.t.Fatalf("PUT %s upstream: %s", name, resp.Status)
	}
}

// beginUpload begins a write-through upload and puts its first part.
func (r *outageRun) beginUpload(name string) {
	r.t.Helper()
	id := uploadID.FindSubmatch(r.must("POST", "/through/"+name, "uploads=", nil).body)
	if id == nil {
		r.t.Fatal("no upload id")
	}
	r.uploads[name] = string(id[1])
	r.must("PUT", "/through/"+name, "partNumber=1&uploadId="+string(id[1]), body1000)
}

// recoveryKeys is how many objects can be requested until the upstream is back.
const recoveryKeys = 400

// prepare creates everything that is requested during the outage, and makes the gateway know its
// buckets.
func (r *outageRun) prepare() {
	r.t.Helper()
	for _, phase := range phases {
		for _, o := range operations {
			if o.prepare != nil {
				o.prepare(r, phase)
			}
		}
	}
	r.up.tell(fmt.Sprintf("fill through recovery- %d", recoveryKeys))
	for _, phase := range phases { // the journal knows a bucket after its first write
		r.put("known-"+phase, nothing)
	}
	r.must("PUT", "/through/known", "", body1000)
	waitDrained(r.t, r.g, 10*time.Second)
	time.Sleep(1100 * time.Millisecond) // until ttl_secs have passed and idle connections are closed
}

// phase tries all operations concurrently. It returns when those with short deadlines have ended;
// the others end with long.
func (r *outageRun) phase(phase string, long *sync.WaitGroup) {
	var short sync.WaitGroup
	for _, o := range operations {
		group := &short
		if o.needs == longDeadline {
			group = long
		}
		group.Go(func() { r.cell(phase, o) })
	}
	short.Wait()
}

// cell tries one operation.
func (r *outageRun) cell(phase string, o operation) {
	n := o.needs
	if r.restarted && o.afterRestart != "" {
		n = o.afterRestart
	}
	reps := 1
	if n == nothing {
		reps = r.reps
	}
	statuses, all, unsaid := map[string]bool{}, make([]time.Duration, 0, reps), false
	for i := range reps {
		got := o.ask(r, phase, i)
		statuses[got.status] = true
		all = append(all, got.took)
		unsaid = unsaid || got.status == "503" && got.header.Get("Retry-After") == ""
		if n == nothing && !slices.Contains(o.good, got.status) {
			break // every repetition may take long
		}
		if n == nothing {
			time.Sleep(10 * time.Millisecond) // this measures single requests, not load
		}
	}
	slices.Sort(all)
	took := all[(len(all)*99+99)/100-1]
	c := outageCell{Operation: o.name, Phase: phase, Needs: n, Status: strings.Join(slices.Sorted(maps.Keys(statuses)), " or "), Millis: float64(took.Microseconds()) / 1000, Time: r.timeClass(took)}
	wrong := r.wrongStatuses(n, phase, o, statuses)
	if bound := r.bound(n, phase); took > bound {
		wrong = append(wrong, fmt.Sprintf("answered %s after %s, bound %s", c.Status, took.Round(time.Millisecond), bound))
	}
	if unsaid && r.refusing(phase) {
		wrong = append(wrong, "503 without Retry-After")
	}
	c.Wrong = strings.Join(wrong, ", ")
	r.keep(c)
}

// refusing reports whether the gateway has to refuse what it cannot answer alone.
func (r *outageRun) refusing(phase string) bool { return r.suspected && phase == "later" }

// wrongStatuses returns the statuses that an operation should not have had.
func (r *outageRun) wrongStatuses(n needs, phase string, o operation, got map[string]bool) (wrong []string) {
	for status := range got {
		allowed := slices.Contains(o.good, status)
		switch {
		case status == "503": // a slow upstream responds in time
			allowed = n != nothing && (r.ill != late || o.queues)
		case status == "200 stale":
			allowed = allowed && r.ill != late
		case r.refusing(phase) && n == staleServes:
			allowed = false
		}
		if !allowed {
			wrong = append(wrong, "answered "+status)
		}
	}
	return wrong
}

// keep records a cell, and fails the test if it is wrong.
func (r *outageRun) keep(c outageCell) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cells = append(r.cells, c)
	if c.Wrong != "" {
		r.t.Errorf("%s, %s: %s", c.Operation, c.Phase, c.Wrong)
	}
}

// timeClass is the class of a time in docs/outages.md, because exact times vary.
func (r *outageRun) timeClass(took time.Duration) string {
	for _, class := range []struct {
		most time.Duration
		name string
	}{
		{r.refusal, "at once"}, {r.stale, "1 s"}, {r.suspect + 2*r.probe, "5 s"}, {r.pace.Slow + r.slack, "8 s"},
		{r.request + r.slack, "deadline"}, {r.write + r.slack, "write deadline"}, {r.long + r.slack, "long deadline"},
	} {
		if took <= class.most {
			return class.name
		}
	}
	return "too late"
}

// restart restarts the gateway as an operator does.
func (r *outageRun) restart() {
	r.t.Helper()
	r.g.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan error, 1)
	go func() { done <- r.g.cmd.Wait() }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 75) {
			r.t.Fatalf("the gateway ended with %v: %s", err, r.g.stderr)
		}
	case <-time.After(time.Minute):
		r.t.Error("the gateway did not stop within a minute")
		r.g.cmd.Process.Kill()
		<-done
	}
	began := time.Now()
	r.g.start()
	c := outageCell{Operation: "start of the gateway", Phase: "first", Status: "ready", Millis: float64(time.Since(began).Milliseconds()), Time: r.timeClass(time.Since(began))}
	if took := time.Since(began); took > r.outageTimes.start {
		c.Wrong = fmt.Sprintf("took %s, bound %s", took, r.outageTimes.start)
	}
	r.keep(c)
}

// recover waits until everything is as before: a miss is answered, nothing is pending, and the
// journal has kept its promises.
func (r *outageRun) recover() {
	r.t.Helper()
	began := time.Now()
	miss, drained := time.Duration(0), time.Duration(0)
	var last outcome
	for n := 0; miss == 0 || drained == 0; n++ {
		if miss == 0 {
			if last = r.ask(shortRead, "GET", fmt.Sprintf("/through/recovery-%d", n%recoveryKeys), "", nil, nil); last.status == "200" {
				miss = time.Since(began)
			}
		}
		if drained == 0 && r.g.status().Pending == 0 {
			drained = time.Since(began)
		}
		if time.Since(began) > r.recovery+20*time.Second {
			r.t.Errorf("no recovery after %s: the last miss got %s, status %+v", time.Since(began), last.status, r.g.status())
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	c := outageCell{Operation: "recovery", Phase: "later", Status: "200", Millis: float64(max(miss, drained).Milliseconds()), Time: r.timeClass(max(miss, drained))}
	if max(miss, drained) > r.recovery {
		c.Wrong = fmt.Sprintf("the first miss was answered after %s, nothing was pending after %s, bound %s", miss, drained, r.recovery)
	}
	r.keep(c)
	r.verifyUpstream()
	if len(r.acked) < 4*r.reps {
		r.t.Errorf("%d writes were acknowledged: the path was not exercised", len(r.acked))
	}
}

// verifyUpstream checks that the upstream has what the journal acknowledged.
func (r *outageRun) verifyUpstream() {
	r.t.Helper()
	there := r.up.objects("back")
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, tag := range r.acked {
		if there[name] != tag {
			r.t.Errorf("LOST: %s is %q upstream, was acknowledged as %q", name, there[name], tag)
		}
	}
}

// grown waits until the gateway uses no more resources than before, and reports those that it still
// does.
func (r *outageRun) grown(before use) {
	r.t.Helper()
	wrong := ""
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		r.client.HTTP.CloseIdleConnections()
		now := r.g.use()
		wrong = ""
		for _, each := range []struct {
			name               string
			before, now, slack float64
		}{{"goroutines", before.goroutines, now.goroutines, 10}, {"open files", before.files, now.files, 10}, {"memory in bytes", before.memory, now.memory, 64 << 20}} {
			if each.now > each.before+each.slack {
				wrong += fmt.Sprintf(" %s: %.0f before, %.0f now", each.name, each.before, each.now)
			}
		}
		if wrong == "" || time.Now().After(deadline) {
			break
		}
	}
	if wrong != "" {
		r.t.Errorf("grown:%s", wrong)
	}
}

// open starts a healthy upstream and a gateway in front of it.
func (r *outageRun) open() {
	t := r.t
	t.Helper()
	r.up = startOutageUpstream(t, r.ill, r.pace)
	r.g = startGateway(t, options{plain: !r.raced, upstream: upstream{"outage", r.up.endpoint}, config: r.config(), under: r.up.under, env: append(r.up.env, "AKIGW_CACHE_WARM_BYTES=256MiB")})
	transport, direct := &http.Transport{MaxIdleConnsPerHost: 64}, &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(transport.CloseIdleConnections)
	t.Cleanup(direct.CloseIdleConnections)
	r.client = &s3client.Client{Endpoint: r.g.endpoint, HTTP: &http.Client{Transport: transport}}
	r.direct = &http.Client{Transport: direct}
	r.acked, r.uploads = map[string]string{}, map[string]string{}
}

// run runs one outage from beginning to end.
func (r *outageRun) run() {
	r.open()
	r.prepare()
	r.client.HTTP.CloseIdleConnections()
	before := r.g.use()
	began := time.Now()
	r.up.falls(r.ill)
	if r.restarted {
		r.restart()
		began = time.Now()
	}
	var long sync.WaitGroup
	r.phase(phases[0], &long)
	time.Sleep(time.Until(began.Add(r.untilSuspect())))
	r.phase(phases[1], &long)
	long.Wait()
	r.up.recovers(r.ill)
	r.recover()
	r.grown(before)
}

// untilSuspect is how long an upstream without responses may go unnoticed while requests wait for
// it, plus a second.
func (o outageTimes) untilSuspect() time.Duration { return o.suspect + 2*o.probe + time.Second }

// outageFigures are the results of a run for one state of the upstream, by whether the gateway was
// restarted.
type outageFigures struct {
	Running   []outageCell `json:"running"`
	Restarted []outageCell `json:"restarted"`
}

// TestOutages tries every operation in every kind of outage; the results are in docs/outages.md. It
// fails if a response comes later than allowed, if the gateway uses more resources afterwards than
// before, or if it does not recover at once.
func TestOutages(t *testing.T) {
	p := testkit.Prove(t, "Outages")
	p.NotSmall()
	times, atOnce := outageTimesOf(p), 24
	if p.Long() {
		atOnce = 3 // immediate responses are measured, so other tests must not interfere
	}
	build(t, plain)
	figures := map[ailment]*outageFigures{}
	var mu sync.Mutex
	var all sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, a := range ailments {
		figures[a.is] = &outageFigures{}
		for _, restarted := range []bool{false, true} {
			all.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				name := string(a.is)
				if restarted {
					name += ", restarted"
				}
				t.Run(name, func(t *testing.T) {
					r := &outageRun{outageTimes: times, t: t, ill: a.is, suspected: a.suspect, restarted: restarted}
					r.run()
					mu.Lock()
					defer mu.Unlock()
					if restarted {
						figures[a.is].Restarted = r.cells
					} else {
						figures[a.is].Running = r.cells
					}
				})
			})
		}
	}
	all.Wait()
	for is, f := range figures {
		p.Figure(string(is), f)
	}
}
