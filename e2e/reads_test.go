package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// first records when the first byte was written to it.
type first struct {
	io.Writer
	at time.Time
}

func (f *first) Write(p []byte) (int, error) {
	if f.at.IsZero() && len(p) > 0 {
		f.at = time.Now()
	}
	return f.Writer.Write(p)
}

// TestHerd: a thousand clients request one cold object at once. The upstream sends each byte once,
// and every client has the first byte before the last one is fetched.
func TestHerd(t *testing.T) { herd(t, 8<<20) }

// TestLongHerd is the same with 64 MiB: the clients receive 63 GiB.
func TestLongHerd(t *testing.T) {
	long(t)
	herd(t, 64<<20)
}

func herd(t *testing.T, size int64) {
	const clients = 1000
	s := &slow{size: size, block: testkit.Bytes(7, 1<<20), rate: size / 8}
	g := startGateway(t, options{upstream: s.start(t), plain: true})
	var ended atomic.Int64
	go func() {
		for s.sent.Load() < size {
			time.Sleep(time.Millisecond)
		}
		ended.Store(time.Now().UnixNano())
	}()
	peak := g.watchMemory()
	firsts := make([]first, clients)
	var wait sync.WaitGroup
	for i := range clients {
		wait.Go(func() {
			check := &comparing{block: s.block}
			firsts[i].Writer = check
			if status := g.do(t, "GET", "/coldbucket/herd", nil, 0, &firsts[i]); status != 200 || int64(check.n) != size || check.wrong {
				t.Errorf("client %d: %d, %d bytes, wrong %t", i, status, check.n, check.wrong)
			}
		})
	}
	wait.Wait()
	late := 0
	for i := range firsts {
		if firsts[i].at.UnixNano() >= ended.Load() {
			late++
		}
	}
	t.Logf("%d clients, %d MiB: the upstream sent %.3f times the object, %d first bytes after the fill, peak anonymous memory %d MiB", clients, size>>20, float64(s.sent.Load())/float64(size), late, peak()>>20)
	if s.sent.Load() != size || late > 0 {
		t.Errorf("the upstream sent %d bytes of %d; %d clients waited for the whole object", s.sent.Load(), size, late)
	}
}

// TestUpstreamKilled: the upstream is killed during fills and validations. No client gets a short
// body that looks complete, and none hangs.
func TestUpstreamKilled(t *testing.T) {
	t.Parallel()
	const size, clients = 32 << 20, 60
	s := &slow{size: size, block: testkit.Bytes(7, 1<<20), rate: 4 << 20}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var dead atomic.Bool
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead { // a validation waits for a response that does not come
			for !dead.Load() {
				time.Sleep(10 * time.Millisecond)
			}
			panic(http.ErrAbortHandler)
		}
		s.ServeHTTP(w, r)
	})}
	go server.Serve(l)
	defer server.Close()
	g := startGateway(t, options{plain: true, upstream: upstream{"killed", "http://" + l.Addr().String()}})
	var whole, cut, refused atomic.Int64
	var wait sync.WaitGroup
	started := time.Now()
	for i := range clients {
		wait.Go(func() {
			client := &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
			r, err := g.signed("GET", fmt.Sprintf("/coldbucket/%d", i%6))
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := client.Do(r)
			if err != nil {
				cut.Add(1)
				return
			}
			defer resp.Body.Close()
			check := &comparing{block: s.block}
			_, err = io.Copy(check, resp.Body)
			switch {
			case resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "":
				refused.Add(1)
			case resp.StatusCode == http.StatusOK && err == nil && check.n == size && !check.wrong:
				whole.Add(1)
			case resp.StatusCode == http.StatusOK && err != nil && !check.wrong:
				cut.Add(1)
			default:
				t.Errorf("client %d: %d, %d bytes, wrong %t, %v", i, resp.StatusCode, check.n, check.wrong, err)
			}
		})
	}
	time.Sleep(2 * time.Second)
	dead.Store(true)
	server.Close()
	wait.Wait()
	took := time.Since(started)
	t.Logf("%d complete, %d cut off, %d refused, all within %v", whole.Load(), cut.Load(), refused.Load(), took.Round(time.Second))
	if cut.Load()+refused.Load() == 0 {
		t.Error("nothing was in progress when the upstream died: the path was not exercised")
	}
	if took > 50*time.Second {
		t.Errorf("a client waited %v", took)
	}
	if status := g.do(t, "GET", "/coldbucket/new", nil, 0, nil); status != http.StatusServiceUnavailable {
		t.Errorf("with no upstream: %d", status)
	}
}

// eventful is an S3 service that reports changes as MinIO does: a proxy in front of another
// service.
type eventful struct {
	proxy *httputil.ReverseProxy

	mu        sync.Mutex
	listeners map[chan string]string // and their buckets; guarded by mu
}

func startEventful(t *testing.T, behind upstream) (*eventful, upstream) {
	target, err := url.Parse(behind.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	e := &eventful{listeners: map[chan string]string{}}
	e.proxy = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = target.Scheme, target.Host, r.In.Host // which is signed
	}, ModifyResponse: e.tell}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: e}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return e, upstream{"eventful", "http://" + l.Addr().String()}
}

func (e *eventful) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !r.URL.Query().Has("events") {
		e.proxy.ServeHTTP(w, r)
		return
	}
	lines := make(chan string, 100)
	e.mu.Lock()
	e.listeners[lines] = strings.Trim(r.URL.Path, "/")
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.listeners, lines)
	}()
	w.(http.Flusher).Flush()
	for {
		select {
		case line, more := <-lines:
			if !more {
				return
			}
			fmt.Fprintln(w, line)
		case <-time.After(10 * time.Second):
			fmt.Fprintln(w, `{"Records":null}`)
		case <-r.Context().Done():
			return
		}
		w.(http.Flusher).Flush()
	}
}

// tell sends an event for a successful change.
func (e *eventful) tell(resp *http.Response) error {
	r := resp.Request
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	name := map[string]string{"PUT": "s3:ObjectCreated:Put", "DELETE": "s3:ObjectRemoved:Delete"}[r.Method]
	if name == "" || key == "" || resp.StatusCode >= 300 {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for lines, of := range e.listeners {
		if of == bucket {
			lines <- fmt.Sprintf(`{"Records":[{"eventName":%q,"s3":{"bucket":{"name":%q},"object":{"key":%q,"eTag":%q}}}]}`, name, bucket, url.QueryEscape(key), strings.Trim(resp.Header.Get("Etag"), `"`))
		}
	}
	return nil
}

// TestEvents: in mode events, a change behind the gateway is visible in less than a second although
// hits need no validation. In strict mode it is visible at once.
func TestEvents(t *testing.T) {
	t.Parallel()
	e, up := startEventful(t, versity(t))
	g := startGateway(t, options{upstream: up, env: []string{"AKIGW_CACHE_FRESHNESS=events", "AKIGW_CACHE_TTL_SECS=3600"}})
	strict := startGateway(t, options{upstream: up})
	behind := (&gateway{t: t, endpoint: up.endpoint}).sdk(pair{AccessKeyId: upstreamAccessKey, SecretAccessKey: upstreamSecretKey})
	if _, err := behind.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("events")}); err != nil {
		t.Fatal(err)
	}
	put := func(body string) {
		t.Helper()
		if _, err := behind.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("events"), Key: aws.String("a b/ü"), Body: strings.NewReader(body)}); err != nil {
			t.Fatal(err)
		}
	}
	get := func(g *gateway) string {
		t.Helper()
		var body bytes.Buffer
		if status := g.do(t, "GET", "/events/a%20b/%C3%BC", nil, 0, &body); status != 200 {
			t.Fatalf("%d %s", status, &body)
		}
		return body.String()
	}
	put("0")
	validations := func() int { return int(g.metric("akigw_cold_requests_total", `op="HeadObject"`)) }
	silent := func() {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			before := validations()
			get(g)
			get(g)
			if validations() == before {
				return
			}
		}
		t.Fatal("hits are still validated: the stream did not open")
	}
	silent()
	for n := 1; n <= 20; n++ {
		want := fmt.Sprint(n)
		put(want)
		if got := get(strict); got != want {
			t.Fatalf("strict mode shows %s after %s", got, want)
		}
		for start := time.Now(); get(g) != want; time.Sleep(time.Millisecond) {
			if time.Since(start) > time.Second {
				t.Fatalf("change %d was not seen within a second", n)
			}
		}
	}
	silent()
	e.mu.Lock()
	for lines := range e.listeners { // the stream breaks, and a change is not reported
		delete(e.listeners, lines)
		close(lines)
	}
	e.mu.Unlock()
	for start := time.Now(); g.metric("akigw_tiers_event_gaps_total") == 0; time.Sleep(time.Millisecond) {
		if time.Since(start) > time.Second {
			t.Fatal("the gap was not noticed within a second")
		}
	}
	put("in the gap")
	if got := get(g); got != "in the gap" {
		t.Errorf("in a gap of the stream, a read returned %q", got)
	}
	silent()
}
