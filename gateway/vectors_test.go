package gateway

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/gateway/limits"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/vectors"
)

// echo answers each request with what it was asked.
type echo struct{ asked []string }

func (e *echo) ServeVectors(w http.ResponseWriter, r *http.Request, id sigv4.Identity, body []byte) (string, error) {
	line := r.Method + " " + r.URL.EscapedPath() + " " + id.AccessKey() + " " + string(body)
	e.asked = append(e.asked, line)
	switch r.URL.Path {
	case "/Conflict":
		return "CreateIndex", vectors.Errorf(vectors.Conflict, "It is there.")
	case "/Panic":
		panic("on purpose")
	}
	_, err := io.WriteString(w, line)
	return "QueryVectors", err
}

// vectorsBench is a bench that serves S3 Vectors.
func vectorsBench(t *testing.T, change func(*Options)) (*bench, *echo) {
	t.Helper()
	b := memoryBench(t, tiers.Config{HotBytes: 16 << 20}, rules.Settings{Freshness: rules.Exclusive}, nil)
	t.Cleanup(func() { b.store.Close() })
	e := &echo{}
	b.reconfigure(func(o *Options) {
		o.Vectors = e
		if change != nil {
			change(o)
		}
	})
	return b, e
}

// vectorsRequest returns a signed request of S3 Vectors to a path as it is sent.
func vectorsRequest(t *testing.T, method, path, body string, signing s3client.Signing) *http.Request {
	t.Helper()
	u, err := url.ParseRequestURI(path)
	if err != nil {
		t.Fatal(err)
	}
	r := &http.Request{Method: method, URL: &url.URL{Path: u.EscapedPath(), RawQuery: u.RawQuery}, Host: "s3.example.com", Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "192.0.2.1:1"}
	if signing.AccessKey == "" {
		signing.AccessKey = "alice"
	}
	if signing.Secret == "" {
		signing.Secret = tenantSecret
	}
	if signing.Service == "" {
		signing.Service = "s3vectors"
	}
	signing.Body = []byte(body)
	signing.Sign(r) // it encodes the path, which is encoded already
	r.URL.Path, r.URL.RawPath = u.Path, u.RawPath
	return r
}

// errorOf returns the name of the error in a response of S3 Vectors, and its message.
func errorOf(t *testing.T, w *httptest.ResponseRecorder) (code, message string) {
	t.Helper()
	var body struct{ Message string }
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Errorf("%d %q: %v", w.Code, w.Body, err)
	}
	return sentHeader(w, "x-amzn-errortype"), body.Message
}

// TestVectorsAreDispatched: a request whose scope names s3vectors goes to Options.Vectors with its body, and
// every other one to S3.
func TestVectorsAreDispatched(t *testing.T) {
	b, e := vectorsBench(t, nil)
	b.up.Put(keyOf("alice-bucket", "k"), []byte("content"))
	const tags = "/tags/arn%3Aaws%3As3vectors%3Aus-east-1%3A000000000000%3Abucket%2Fb-1"
	for _, c := range []struct{ method, path, body string }{{"POST", "/QueryVectors", `{"a":1}`}, {"GET", tags, ""}, {"DELETE", tags + "?tagKeys=a&tagKeys=b", ""}, {"POST", "/alice-bucket/k", "x"}} {
		w := b.answer(vectorsRequest(t, c.method, c.path, c.body, s3client.Signing{}))
		path, _, _ := strings.Cut(c.path, "?")
		if want := c.method + " " + path + " alice " + c.body; w.Code != 200 || w.Body.String() != want {
			t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, w.Body)
		}
		if sentHeader(w, "x-amzn-requestid") == "" || sentHeader(w, "x-amzn-requestid") != sentHeader(w, "x-amz-request-id") {
			t.Errorf("request IDs: %v", w.Header())
		}
	}
	e.asked = nil
	if w := b.ask("alice", "GET", "/alice-bucket/k", "", nil, ""); w.Code != 200 || w.Body.String() != "content" || sentHeader(w, "x-amzn-requestid") != "" {
		t.Errorf("S3: %d %v %s", w.Code, w.Header(), w.Body)
	}
	r := vectorsRequest(t, "GET", "/alice-bucket/k", "", s3client.Signing{})
	if b.g.ServeLocal(httptest.NewRecorder(), r) {
		t.Error("the fast path answered a request of S3 Vectors")
	}
	if len(e.asked) != 0 {
		t.Errorf("asked %q", e.asked)
	}
}

// TestVectorsRefused: each refusal has the form of the service, and reaches nobody.
func TestVectorsRefused(t *testing.T) {
	b, e := vectorsBench(t, nil)
	request := func(change func(*s3client.Signing), after func(*http.Request)) *http.Request {
		var s s3client.Signing
		if change != nil {
			change(&s)
		}
		r := vectorsRequest(t, "POST", "/QueryVectors", "{}", s)
		if after != nil {
			after(r)
		}
		return r
	}
	for _, c := range []struct {
		name   string
		r      *http.Request
		status int
		code   string
	}{
		{"a wrong secret", request(func(s *s3client.Signing) { s.Secret = "wrong" }, nil), 403, "InvalidSignatureException"},
		{"an unknown key", request(func(s *s3client.Signing) { s.AccessKey = "mallory" }, nil), 403, "InvalidSignatureException"},
		{"another region", request(func(s *s3client.Signing) { s.Region = "eu-west-1" }, nil), 403, "InvalidSignatureException"},
		{"an old date", request(func(s *s3client.Signing) { s.Time = time.Now().Add(-time.Hour) }, nil), 403, "InvalidSignatureException"},
		{"a session token of a lasting key", request(func(s *s3client.Signing) { s.Token = "t" }, nil), 403, "UnrecognizedClientException"},
		{"an unsigned body", request(func(s *s3client.Signing) { s.Payload = "UNSIGNED-PAYLOAD" }, nil), 400, "ValidationException"},
		{"another body", request(nil, func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("[]")) }), 400, "ValidationException"},
		{"a presigned URL", request(func(s *s3client.Signing) { s.Presign = true }, nil), 403, "AccessDeniedException"},
		{"a body of more than 20 MiB", request(nil, func(r *http.Request) { r.ContentLength = MaxVectorsBody + 1 }), 400, "ValidationException"},
		{"a header that is not signed", request(nil, func(r *http.Request) { r.Header.Set("X-Amz-Meta-A", "b") }), 403, "AccessDeniedException"},
		{"a malformed query", request(nil, func(r *http.Request) { r.URL.RawQuery = "%zz" }), 400, "ValidationException"},
		{"too many parameters", request(nil, func(r *http.Request) { r.URL.RawQuery = strings.Repeat("a=b&", maxParameters) }), 400, "ValidationException"},
	} {
		w := b.answer(c.r)
		if code, message := errorOf(t, w); w.Code != c.status || code != c.code || message == "" {
			t.Errorf("%s: %d %s %q", c.name, w.Code, code, message)
		}
	}
	if len(e.asked) != 0 {
		t.Errorf("asked %q", e.asked)
	}
	for path, want := range map[string]struct {
		status int
		code   string
	}{"/Conflict": {409, "ConflictException"}, "/Panic": {500, "InternalServerException"}} {
		w := b.answer(vectorsRequest(t, "POST", path, "{}", s3client.Signing{}))
		if code, _ := errorOf(t, w); w.Code != want.status || code != want.code {
			t.Errorf("%s: %d %s", path, w.Code, code)
		}
	}
	b.reconfigure(func(o *Options) { o.Vectors = nil })
	w := b.answer(request(nil, nil))
	if code, message := errorOf(t, w); w.Code != 403 || code != "AccessDeniedException" || !strings.Contains(message, "[vectors] bucket") {
		t.Errorf("without vector collections: %d %s %q", w.Code, code, message)
	}
	w = b.answer(vectorsRequest(t, "GET", "/alice-bucket/k", "", s3client.Signing{Service: "dynamodb"}))
	if w.Code != 400 || s3err.CodeOf(w.Body.Bytes()) != "AuthorizationHeaderMalformed" {
		t.Errorf("a third service: %d %s", w.Code, w.Body)
	}
}

// TestVectorsListener: the listener of S3 Vectors alone takes every request for one of the service, and refuses
// those that are not signed for it.
func TestVectorsListener(t *testing.T) {
	b, e := vectorsBench(t, nil)
	h := b.g.VectorsHandler()
	ask := func(r *http.Request) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	if w := ask(vectorsRequest(t, "POST", "/QueryVectors", "{}", s3client.Signing{})); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	e.asked = nil
	for name, r := range map[string]*http.Request{
		"the service s3":  vectorsRequest(t, "POST", "/QueryVectors", "{}", s3client.Signing{Service: "s3"}),
		"no signature":    httptest.NewRequest("GET", "/alice-bucket/k", nil),
		"a preflight":     httptest.NewRequest("OPTIONS", "/alice-bucket/k", nil),
		"a presigned URL": vectorsRequest(t, "GET", "/alice-bucket/k", "", s3client.Signing{Service: "s3", Presign: true}),
	} {
		w := ask(r)
		if code, message := errorOf(t, w); w.Code != 403 || code == "" || message == "" {
			t.Errorf("%s: %d %s %q", name, w.Code, code, message)
		}
	}
	if len(e.asked) != 0 {
		t.Errorf("asked %q", e.asked)
	}
}

// TestVectorsAreRecorded: requests of S3 Vectors are counted, logged and limited as those of S3 are.
func TestVectorsAreRecorded(t *testing.T) {
	log := filepath.Join(t.TempDir(), "access.log")
	set := metrics.NewSet()
	accessLog := OpenAccessLog(AccessLogConfig{File: log, MaxMiB: 1, Keep: 1})
	defer accessLog.Close()
	qos, err := limits.NewQoS([]limits.QoSConfig{{Name: limits.DefaultClass, IdentityRequests: 3, Weight: 1}}, rules.NewSet(nil, rules.Settings{}), set)
	if err != nil {
		t.Fatal(err)
	}
	var lines bytes.Buffer
	b, _ := vectorsBench(t, func(o *Options) {
		o.AccessLog, o.Metrics, o.QoS, o.FailuresPerMinute = accessLog, set, qos, 2
		o.Log = slog.New(slog.NewJSONHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	statuses := map[int]int{}
	for range 6 {
		statuses[b.answer(vectorsRequest(t, "POST", "/QueryVectors", "{}", s3client.Signing{})).Code]++
	}
	if statuses[200] < 3 || statuses[429] < 1 {
		t.Errorf("statuses under a limit of 3 requests per second: %v", statuses)
	}
	throttled := 0
	for range 4 {
		if code, _ := errorOf(t, b.answer(vectorsRequest(t, "POST", "/QueryVectors", "{}", s3client.Signing{Secret: "wrong"}))); code == "TooManyRequestsException" {
			throttled++
		}
	}
	if throttled != 2 {
		t.Errorf("%d of 4 wrong signatures were throttled, want 2", throttled)
	}
	var text bytes.Buffer
	set.WritePrometheus(&text)
	if !strings.Contains(text.String(), `akigw_gateway_requests_total{op="QueryVectors",status="200"}`) || !strings.Contains(text.String(), `akigw_gateway_requests_total{op="none",status="403"}`) {
		t.Error("requests are not counted")
	}
	written, err := os.ReadFile(log)
	if err != nil || !strings.Contains(string(written), " alice ") || !strings.Contains(string(written), " S3VECTORS.QueryVectors ") || !strings.Contains(string(written), " InvalidSignatureException ") {
		t.Errorf("%v: %s", err, written)
	}
	if !strings.Contains(lines.String(), `"op":"QueryVectors"`) {
		t.Error("requests are not in the log")
	}
}

// TestBindVectors: the listener of S3 Vectors alone is bound by the rules of the S3 listener.
func TestBindVectors(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for _, c := range []struct {
		name, address string
		config        Config
		want          string // in the error, "" for none
	}{
		{"loopback", "127.0.0.1:0", Config{}, ""},
		{"beyond loopback", "0.0.0.0:0", Config{AccessKey: "key"}, "there is no TLS"},
		{"with trial keys", "0.0.0.0:0", Config{AllowPlaintext: true}, "trial pair"},
		{"no certificate", "127.0.0.1:0", Config{TLSCert: "none", TLSKey: "none"}, "tls_cert"},
	} {
		l, err := BindVectors(&c.config, c.address, nil, log)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "vectors.listen")) {
			t.Errorf("%s: %v", c.name, err)
		}
		if l != nil {
			l.Close()
		}
	}
}

// TestVectorsOnTheWire: the path of a request about tags passes the strict listener as it was sent, and the
// fast path leaves it alone.
func TestVectorsOnTheWire(t *testing.T) {
	b, e := vectorsBench(t, nil)
	l, err := Bind(&Config{Listen: "127.0.0.1:0"}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server := Server(b.g, nil, slog.New(slog.DiscardHandler))
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-served
	}()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	const path = "/tags/arn%3Aaws%3As3vectors%3Aus-east-1%3A000000000000%3Abucket%2Fb-1"
	for _, method := range []string{"GET", "DELETE"} {
		r := vectorsRequest(t, method, path, "", s3client.Signing{})
		r.URL.Scheme, r.URL.Host = "http", l.Addr().String()
		a, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(a.Body)
		a.Body.Close()
		if err != nil || a.StatusCode != 200 || string(body) != method+" "+path+" alice " {
			t.Errorf("%d %q %v", a.StatusCode, body, err)
		}
	}
	if len(e.asked) != 2 {
		t.Errorf("asked %q", e.asked)
	}
}
