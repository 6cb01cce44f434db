package gateway

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/access/policy"
	"github.com/akidb/akigw/gateway/httpguard"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/sigv4"
)

// shown is an answer without what differs from one to the next.
func shown(resp *http.Response, body []byte) string {
	var lines []string
	for name, values := range resp.Header {
		switch name {
		case "Date", "X-Amz-Request-Id", "Age":
			values = []string{"some"}
		}
		lines = append(lines, fmt.Sprintf("%s: %q", name, values))
	}
	sort.Strings(lines)
	text := string(body)
	if from, to := strings.Index(text, "<RequestId>"), strings.Index(text, "</RequestId>"); from >= 0 && to > from {
		text = text[:from] + text[to:]
	}
	return fmt.Sprintf("%s %s %d\n%s\n%s", resp.Proto, resp.Status, resp.ContentLength, strings.Join(lines, "\n"), text)
}

// noted counts answers that begin.
type noted struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (w *noted) WriteHeader(status int) {
	w.n.Add(1)
	w.ResponseWriter.WriteHeader(status)
}

func (w *noted) Flush() { w.ResponseWriter.(http.Flusher).Flush() }

func (w *noted) HoldAtMost(n int64) { w.ResponseWriter.(interface{ HoldAtMost(int64) }).HoldAtMost(n) }

// TestQuickAnswersAreTheSame: who is answered quickly sees what everybody sees, and who
// may not be is not.
func TestQuickAnswersAreTheSame(t *testing.T) {
	g := newRig(t, rules.Exclusive)
	log := slog.New(slog.DiscardHandler)
	front := New(Options{Verifier: verifier(), Policies: rootOnly{}, Store: g.store, Upstream: g.up, Log: log})
	front.pipeline.hostID, front.pipeline.errors.hostID = []string{"host"}, "host"
	var answered, offered atomic.Int64
	quick := answered.Load
	clients := map[string]*s3client.Client{}
	for name, answer := range map[string]httpguard.FastPath{"net/http": nil, "quick": func(w http.ResponseWriter, r *http.Request) bool {
		offered.Add(1)
		return front.ServeLocal(&noted{w, &answered}, r)
	}} {
		server := httptest.NewUnstartedServer(nil)
		server.Config = Server(front, nil, log)
		server.Config.ConnContext = httpguard.WithFastPath(answer, idleTimeout)
		server.Listener = httpguard.Strict(server.Listener, httpguard.Limits{HeadBytes: headerBytes, HeadTime: headerTimeout, Rate: 1 << 10, Window: rateWindow})
		server.Start()
		t.Cleanup(server.Close)
		clients[name] = &s3client.Client{Endpoint: server.URL, HTTP: &http.Client{Transport: &http.Transport{DisableCompression: true}}}
		t.Cleanup(clients[name].HTTP.CloseIdleConnections)
	}
	bodies := map[string][]byte{"small": testkit.Bytes(1, 100), "empty": {}, "blocks": testkit.Bytes(2, 300_000), "large": testkit.Bytes(3, 3<<20), "a b+%2F/ü": testkit.Bytes(4, 5000)}
	for name, body := range bodies {
		g.up.PutStored(akigw.Key{Bucket: "bucket", Name: name}, s3mem.Stored{Body: body, ETag: plainTag(string(body)), Modified: time.Unix(1_600_000_000, 0), Header: http.Header{"X-Amz-Meta-Color": {"blue"}, "Cache-Control": {"max-age=5"}}})
	}
	ask := func(client string, method, path, query string, header http.Header, spoil bool) string {
		t.Helper()
		r, err := clients[client].Request(method, path, query, header, nil)
		if err != nil {
			t.Fatal(err)
		}
		if spoil {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "Signature=", "Signature=0", 1))
		}
		resp, err := clients[client].HTTP.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return shown(resp, body)
	}
	type request struct {
		method, path, query string
		header              http.Header
		spoil, quick        bool
	}
	var requests []request
	for name, body := range bodies {
		path := "/bucket/" + name
		tag := plainTag(string(body))
		requests = append(requests,
			request{"GET", path, "", nil, false, true},
			request{"GET", path, "", http.Header{"If-Match": {tag}, "X-Amz-Checksum-Mode": {"ENABLED"}}, false, true},
			request{"GET", path, "response-content-type=a%2Fb&response-content-disposition=x", nil, false, true},
			request{"GET", path, "", nil, true, false},
			request{"GET", path, "", http.Header{"If-None-Match": {tag}}, false, false},
			request{"GET", path, "", http.Header{"If-Match": {`"x"`}}, false, false},
			request{"GET", path, "", http.Header{"Cache-Control": {"no-cache"}}, false, false},
			request{"GET", path, "", http.Header{"Range": {"bytes=9999999-"}}, false, false},
			request{"GET", path, "partNumber=1", nil, false, false},
			request{"GET", path, "tagging=", nil, false, false},
			request{"GET", path, "nonsense=1&response-expires=x", nil, false, false},
			request{"HEAD", path, "", nil, false, false})
		if len(body) > 0 {
			requests = append(requests, request{"GET", path, "", http.Header{"Range": {"bytes=7-70000"}}, false, true}, request{"GET", path, "", http.Header{"Range": {"bytes=-3"}}, false, true})
		}
	}
	requests = append(requests, request{"GET", "/bucket/absent", "", nil, false, false}, request{"GET", "/bucket", "list-type=2", nil, false, false}, request{"GET", "/", "", nil, false, false})
	for range 2 { // so that all is in memory
		for name := range bodies {
			ask("net/http", "GET", "/bucket/"+name, "", nil, false)
		}
	}
	for _, r := range requests {
		done := false
		for range 30 { // a new connection, and one that was unlucky for long, is offered seldom
			before := quick()
			got, want := ask("quick", r.method, r.path, r.query, r.header, r.spoil), ask("net/http", r.method, r.path, r.query, r.header, r.spoil)
			if got != want {
				t.Errorf("%s %s?%s %v:\n%.600s\nand by net/http\n%.600s", r.method, r.path, r.query, r.header, got, want)
			}
			if done = done || quick() > before; done == r.quick {
				break
			}
		}
		if done != r.quick {
			t.Errorf("%s %s?%s %v spoilt %t: answered quickly %t", r.method, r.path, r.query, r.header, r.spoil, done)
		}
	}
	if err := front.Finish(); err != nil || offered.Load() <= quick() {
		t.Error(err, offered.Load(), quick())
	}
}

// panicky panics when it is asked for a policy.
type panicky struct{ rootOnly }

func (panicky) PolicyOf(sigv4.Identity) *policy.Policy { panic("a bug") }

// TestQuickPanicIsIsolated: a panic is a 500 of that request alone, logged and
// counted, wherever it is answered.
//
// Scenarios: E33.
func TestQuickPanicIsIsolated(t *testing.T) {
	g := newRig(t, rules.Exclusive)
	front := New(Options{Verifier: verifier(), Policies: panicky{}, Store: g.store, Upstream: g.up, Log: slog.New(slog.DiscardHandler)})
	r, err := g.Request("GET", "/bucket/k", "", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.URL, err = url.ParseRequestURI(r.URL.RequestURI())
	if err != nil {
		t.Fatal(err)
	}
	before := front.pipeline.errors.panics.Get()
	w := httptest.NewRecorder()
	if !front.ServeLocal(w, r) || w.Code != 500 || !strings.Contains(w.Body.String(), "InternalError") || front.pipeline.errors.panics.Get() != before+1 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestMemoryThatIsUsedAgain: blocks from disk lie in memory that the next reader gets, and
// each reader sees its own bytes all the same, fast or slow, whole or a part.
func TestMemoryThatIsUsedAgain(t *testing.T) {
	g := newRigOf(t, rules.Exclusive, 0)
	random := testkit.Random(t)
	bodies := [][]byte{testkit.Bytes(1, 70_000), testkit.Bytes(2, 300_000), testkit.Bytes(3, 3<<20), testkit.Bytes(4, 1<<20), testkit.Bytes(5, 64<<10)}
	for i, body := range bodies {
		g.Must(t, "PUT", fmt.Sprintf("/bucket/%d", i), "", nil, body)
		g.Must(t, "GET", fmt.Sprintf("/bucket/%d", i), "", nil, nil)
	}
	var readers sync.WaitGroup
	var warm atomic.Int64
	for range 8 {
		own := rand.New(rand.NewPCG(random.Uint64(), 0))
		readers.Go(func() {
			for range 60 {
				i := own.IntN(len(bodies))
				from := own.IntN(len(bodies[i]))
				to := from + own.IntN(len(bodies[i])-from)
				r, err := g.Request("GET", fmt.Sprintf("/bucket/%d", i), "", http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", from, to)}}, nil)
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := g.HTTP.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				if own.IntN(4) == 0 {
					time.Sleep(time.Duration(own.IntN(20)) * time.Millisecond)
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || !bytes.Equal(got, bodies[i][from:to+1]) {
					t.Errorf("object %d, %d to %d: %d bytes, %v", i, from, to, len(got), err)
				}
				if resp.Header.Get("X-Akigw-Cache") == "warm" {
					warm.Add(1)
				}
			}
		})
	}
	readers.Wait()
	if warm.Load() < 400 {
		t.Errorf("%d reads came from disk", warm.Load())
	}
}
