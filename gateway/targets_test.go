package gateway

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw/gateway/httpguard"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// targetRig is a gateway that is sent request lines that no client library makes.
type targetRig struct {
	*rig
	addr  string
	quick atomic.Int64 // answers of the fast path
}

func newTargetRig(t *testing.T) *targetRig {
	r := &targetRig{rig: newRig(t, rules.Exclusive)}
	log := slog.New(slog.DiscardHandler)
	front := New(Options{Verifier: verifier(), Policies: rootOnly{}, Store: r.store, Upstream: r.up, Log: log})
	server := httptest.NewUnstartedServer(nil)
	server.Config = Server(front, nil, log)
	server.Config.ConnContext = httpguard.WithFastPath(func(w http.ResponseWriter, q *http.Request) bool {
		return front.ServeLocal(&noted{w, &r.quick}, q)
	}, idleTimeout)
	server.Listener = httpguard.Strict(server.Listener, httpguard.Limits{HeadBytes: headerBytes, HeadTime: headerTimeout, Rate: 1 << 10, Window: rateWindow})
	server.Start()
	t.Cleanup(server.Close)
	r.addr = server.Listener.Addr().String()
	return r
}

// head is a signed GET. target makes the target that is sent of the signed one, which begins
// with a slash. No semicolon of its query is encoded.
func (r *targetRig) head(path, query string, presigned bool, header http.Header, target func(string) string) string {
	q := &http.Request{Method: "GET", URL: &url.URL{Path: path, RawQuery: strings.ReplaceAll(query, ";", "%3B")}, Host: r.addr, Header: header.Clone()}
	if q.Header == nil {
		q.Header = http.Header{}
	}
	signing := s3client.Signing{AccessKey: s3client.AccessKey, Secret: s3client.SecretKey, Presign: presigned}
	if presigned && len(header) > 0 {
		signing.SignedHeaders = []string{"host", "range"}
	}
	signing.Sign(q)
	line := q.URL.EscapedPath()
	if q.URL.RawQuery != "" {
		line += "?" + strings.ReplaceAll(q.URL.RawQuery, "%3B", ";")
	}
	text := "GET " + target(line) + " HTTP/1.1\r\nHost: " + r.addr + "\r\n"
	for name, values := range q.Header {
		text += name + ": " + values[0] + "\r\n"
	}
	return text + "\r\n"
}

// ask sends a head three times over one connection, whose first request is never answered
// quickly, and returns the answers.
func (r *targetRig) ask(t *testing.T, head string) (answers []*s3client.Answer) {
	t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(c)
	for range 3 {
		if _, err := io.WriteString(c, head); err != nil {
			break // refused, and closed
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			break
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		answers = append(answers, &s3client.Answer{Status: resp.StatusCode, Header: resp.Header, Body: body})
		if resp.Close {
			break
		}
	}
	if len(answers) == 0 {
		t.Fatalf("%.200q: no answer", head)
	}
	return answers
}

func asSigned(line string) string { return line }

// asked asks until the fast path has given one of the answers: which requests it is offered
// depends on when they arrive.
func (r *targetRig) asked(t *testing.T, head string) (answers []*s3client.Answer) {
	t.Helper()
	before := r.quick.Load()
	for range 100 {
		if answers = append(answers, r.ask(t, head)...); r.quick.Load() > before {
			return answers
		}
	}
	t.Errorf("%.200q: the fast path answers it never", head)
	return answers
}

// TestSemicolons: a bare semicolon in a query is data, in header authentication and in presigned
// URLs, in net/http's part of the server and in the fast path.
func TestSemicolons(t *testing.T) {
	r := newTargetRig(t)
	r.up.Put(keyOf("bucket", "k;1"), []byte("hello"))
	for _, presigned := range []bool{false, true} {
		for _, header := range []http.Header{nil, {"Range": {"bytes=1-3"}}} {
			head := r.head("/bucket/k;1", "response-content-disposition=attachment;%20filename=a;b", presigned, header, asSigned)
			if !strings.Contains(head, "attachment;") {
				t.Fatalf("no semicolon in %q", head)
			}
			for i, a := range r.asked(t, head) {
				want := map[bool]string{true: "hello", false: "ell"}[header == nil]
				if string(a.Body) != want || a.Header.Get("Content-Disposition") != "attachment; filename=a;b" {
					t.Errorf("presigned %t, answer %d: %d %q %v", presigned, i, a.Status, a.Body, a.Header)
				}
			}
			spoiled := strings.Replace(head, "a;b", "a;c", 1)
			if a := r.ask(t, spoiled)[0]; a.Status != 403 {
				t.Errorf("presigned %t: what was not signed is answered with %d", presigned, a.Status)
			}
		}
	}
}

// TestSemicolonsSeparateNothing: what follows a semicolon is no parameter, and goes upstream as
// part of the value that it is in.
func TestSemicolonsSeparateNothing(t *testing.T) {
	r := newTargetRig(t)
	var sent atomic.Pointer[cold.Request]
	r.up.Before = func(q *cold.Request) (*http.Response, error) {
		sent.Store(q)
		return s3mem.Response(200, nil, []byte("<ListBucketResult></ListBucketResult>")), nil
	}
	for _, presigned := range []bool{false, true} {
		a := r.ask(t, r.head("/bucket", "list-type=2&prefix=a;versions;max-keys=1", presigned, nil, asSigned))[0]
		if q := sent.Load(); a.Status != 200 || q.Op != "ListObjectsV2" || q.Query.Encode() != "list-type=2&prefix=a%3Bversions%3Bmax-keys%3D1" {
			t.Errorf("presigned %t: %d, sent upstream as %s %v", presigned, a.Status, q.Op, q.Query)
		}
	}
	c, err := parse(&http.Request{URL: &url.URL{Path: "/bucket/k", RawQuery: "a;b=1;c=2&d=;&;"}}, nil)
	if want := (url.Values{"a;b": {"1;c=2"}, "d": {";"}, ";": {""}}); err != nil || fmt.Sprint(c.query) != fmt.Sprint(want) {
		t.Errorf("%v: %v, want %v", err, c.query, want)
	}
}

// TestAbsoluteTargets: a target in absolute form (RFC 9112 §3.2.2) is answered as the same target
// in origin form, and only for the host of the Host header.
func TestAbsoluteTargets(t *testing.T) {
	r := newTargetRig(t)
	r.up.Put(keyOf("bucket", "a//k;1"), []byte("hello"))
	prefixed := func(prefix string) func(string) string { return func(line string) string { return prefix + line } }
	for _, presigned := range []bool{false, true} {
		for _, c := range []struct {
			name   string
			target func(string) string
			status int
		}{
			{"origin form", asSigned, 200},
			{"absolute form", prefixed("http://" + r.addr), 200},
			{"a scheme in capitals", prefixed("HTTP://" + r.addr), 200},
			{"https, ended in front of the gateway", prefixed("https://" + r.addr), 200},
			{"another host", prefixed("http://evil"), 400},
			{"another port", prefixed("http://127.0.0.1:1"), 400},
			{"no port", prefixed("http://127.0.0.1"), 400},
			{"user information", prefixed("http://a@" + r.addr), 400},
			{"no host", prefixed("http://"), 400},
			{"another scheme", prefixed("ftp://" + r.addr), 400},
			{"no authority", prefixed("http:"), 400},
			{"a network path", prefixed("//" + r.addr), 400},
			{"asterisk form", func(string) string { return "*" }, 400},
			{"authority form", func(string) string { return r.addr }, 400},
		} {
			head, ask, before := r.head("/bucket/a//k;1", "response-content-type=a;b", presigned, nil, c.target), r.asked, r.quick.Load()
			if c.status != 200 {
				ask = r.ask
			}
			for i, a := range ask(t, head) {
				if a.Status != c.status || a.Status == 200 && (string(a.Body) != "hello" || a.Header.Get("Content-Type") != "a;b") || a.Status != 200 && !strings.Contains(string(a.Body), "<Error><Code>Invalid") {
					t.Errorf("%s, presigned %t, answer %d: %d %q", c.name, presigned, i, a.Status, a.Body)
				}
			}
			if n := r.quick.Load() - before; c.status != 200 && n > 0 {
				t.Errorf("%s, presigned %t: %d quick answers", c.name, presigned, n)
			}
		}
		// A target without a path stands for "/" (RFC 9110 §4.2.3).
		list := r.ask(t, r.head("/", "", presigned, nil, func(line string) string { return "http://" + r.addr + strings.TrimPrefix(line, "/") }))
		if a := list[0]; a.Status == 400 || a.Status == 403 {
			t.Errorf("presigned %t, without a path: %d %s", presigned, a.Status, a.Body)
		}
	}
}

// TestChunkedPreflightIsTheLast: nobody has looked at what follows a chunked body, so that its
// connection ends with the answer, whatever the request was.
func TestChunkedPreflightIsTheLast(t *testing.T) {
	r := newTargetRig(t)
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	const body, hidden = "0\r\n\r\n", "GET /bucket/k HTTP/1.1\nHost: other\n\n" // which is refused where it is seen
	if _, err := io.WriteString(c, "OPTIONS /bucket/k HTTP/1.1\r\nHost: "+r.addr+"\r\nOrigin: http://page\r\nTransfer-Encoding: chunked\r\n\r\n"+body+hidden); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != 400 || !resp.Close {
		t.Errorf("%d, the connection ends: %t", resp.StatusCode, resp.Close)
	}
	if next, err := http.ReadResponse(in, nil); err == nil {
		t.Errorf("what follows was answered: %d", next.StatusCode)
	}
}
