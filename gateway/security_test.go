package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/access/policy"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

var rootAlone = people{"root": {sigv4.Credential{Secret: tenantSecret}, policy.Everything}}

// TestConstantTime: nothing in the packages that verify compares a signature,
// a token or a password with == or !=.
//
// Scenarios: S14.
func TestConstantTime(t *testing.T) {
	secretive := regexp.MustCompile(`(?i)^(signature|sig|token|password|mac)$`)
	name := func(e ast.Expr) string {
		switch e := e.(type) {
		case *ast.Ident:
			return e.Name
		case *ast.SelectorExpr:
			return e.Sel.Name
		}
		return ""
	}
	comparisons := 0
	for _, dir := range []string{"../sigv4", "../admin"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			set := token.NewFileSet()
			parsed, err := parser.ParseFile(set, file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				b, ok := n.(*ast.BinaryExpr)
				if !ok || b.Op != token.EQL && b.Op != token.NEQ {
					return true
				}
				comparisons++
				for _, pair := range [][2]ast.Expr{{b.X, b.Y}, {b.Y, b.X}} {
					if other, ok := pair[1].(*ast.BasicLit); ok && other.Value == `""` {
						return true // is there one at all
					}
					if id, ok := pair[1].(*ast.Ident); ok && id.Name == "nil" {
						return true
					}
					if text := name(pair[0]); secretive.MatchString(text) {
						t.Errorf("%s compares %s with %s", set.Position(b.Pos()), text, b.Op)
					}
				}
				return true
			})
		}
	}
	if comparisons < 20 {
		t.Errorf("only %d comparisons were looked at", comparisons)
	}
}

// TestUpstreamRequests sends 10,000 requests with headers and parameters
// of all kinds, and parses strictly what goes to the upstream.
//
// Scenarios: S32.
func TestUpstreamRequests(t *testing.T) {
	random := testkit.Random(t)
	pick := func(from ...string) string { return testkit.Pick(random, from...) }
	text := func(n int) string { return testkit.Text(random, n) }
	var captured []*http.Request
	upstream, err := cold.NewUpstreams(cold.Config{URL: "http://upstream.example.com", AccessKey: "upstream-key", SecretKey: "upstream-secret", Region: "eu-north-1"}, nil,
		cold.PoolConfig{PoolSize: 1, IdleTimeoutSecs: 1}, func(http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				var wire bytes.Buffer
				if err := r.Write(&wire); err != nil {
					return nil, err
				}
				parsed, err := http.ReadRequest(bufio.NewReader(&wire))
				if err != nil {
					t.Errorf("not a request: %v", err)
				}
				captured = append(captured, parsed)
				return s3mem.Response(http.StatusOK, http.Header{"Etag": {`"e"`}}, nil), nil
			})
		})
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, rootAlone, rootAlone)
	b.reconfigure(func(o *Options) { o.Upstream = upstream })
	own := &sigv4.Verifier{Region: "eu-north-1", Keys: sigv4.StaticKeys{"upstream-key": "upstream-secret"}}
	names := []string{"X-Forwarded-For", "X-Forwarded-Host", "Connection", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Upgrade", "Cookie",
		"Forwarded", "X-Real-Ip", "X-Http-Method-Override", "X-Original-Url", "Referer", "Origin", "User-Agent", "Accept", "Accept-Encoding", "Content-Type", "Content-Md5",
		"Range", "If-Match", "If-Range", "Cache-Control", "Expires", "X-Amz-Meta-A", "X-Amz-Acl", "X-Amz-Tagging", "X-Amz-User-Agent", "X-Amz-Expected-Bucket-Owner",
		"X-Amz-Request-Payer", "X-Minio-Source", "X-Seaweedfs-Identity", "X-Amz-Security-Token", "X-Amz-Copy-Source", "X-Amz-Nonsense"}
	sent := 0
	for i := range 10_000 {
		h := http.Header{}
		for range random.IntN(6) {
			h.Set(pick(names...), strings.Map(func(c rune) rune { return max(c, ' ') }, text(20))) // others do not get past the wire
		}
		query := url.Values{}
		for range random.IntN(3) {
			query.Set(pick("acl", "tagging", "uploads", "uploadId", "partNumber", "versionId", "response-content-type", "list-type", "prefix", "delete", "x", "x-amz-acl", "X-Amz-Meta-B"), text(8))
		}
		path := pick("/", "/bucket", "/bucket/"+text(20))
		captured = nil
		b.ask("root", pick("GET", "PUT", "POST", "DELETE", "HEAD"), path, query.Encode(), h, pick("", "body"))
		for _, r := range captured {
			sent++
			if err := strictly(own, r); err != nil {
				t.Errorf("request %d: %s %s with %v: %v", i, r.Method, r.RequestURI, r.Header, err)
			}
		}
	}
	if sent < 1000 {
		t.Errorf("only %d requests went upstream", sent)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// strictly checks a request as an upstream would that trusts nobody.
func strictly(own *sigv4.Verifier, r *http.Request) error {
	if r.Host != "upstream.example.com" {
		return fmt.Errorf("host %q", r.Host)
	}
	for name := range r.Header {
		known := isSent(name) || strings.HasPrefix(name, metadataPrefix) || slices.Contains([]string{"User-Agent", "Accept-Encoding", "Authorization", "Content-Length", "Content-Encoding"}, name)
		if _, amz := amzHeaders[name]; !known && !amz {
			return fmt.Errorf("header %s", name)
		}
	}
	if r.Header.Get("User-Agent") != "akigw" || r.Header.Get("X-Amz-Security-Token") != "" {
		return fmt.Errorf("headers of the client's connection")
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	for name := range query {
		if bookkeeping(name) {
			return fmt.Errorf("parameter %s", name)
		}
	}
	id, _, err := own.Verify(r, r.URL.Path, query)
	if err == nil && id.AccessKey() != "upstream-key" {
		err = fmt.Errorf("signed by %q", id.AccessKey())
	}
	return err
}

// TestUpstreamAnswers: of an upstream's headers only those pass that S3
// gives a meaning to.
//
// Scenarios: S33.
func TestUpstreamAnswers(t *testing.T) {
	b := newBench(t, rootAlone, rootAlone)
	b.up.Before = func(*cold.Request) (*http.Response, error) {
		return s3mem.Response(200, http.Header{"Etag": {`"e"`}, "X-Amz-Meta-A": {"1"}, "Set-Cookie": {"a=b"}, "Server": {"evil"}, "Connection": {"x-evil"},
			"X-Evil": {"1"}, "Location": {"http://elsewhere"}, "Strict-Transport-Security": {"1"}, "X-Amz-Request-Id": {"theirs"}}, []byte("x")), nil
	}
	for _, query := range []string{"", "partNumber=1"} { // from the cache, forwarded
		w := b.ask("root", "GET", "/bucket/key", query, nil, "")
		for name := range w.Header() {
			switch strings.ToLower(name) {
			case "set-cookie", "server", "connection", "x-evil", "strict-transport-security":
				t.Errorf("?%s: %s was passed on", query, name)
			}
		}
		if w.Header()["x-amz-request-id"][0] == "theirs" || w.Header()["x-amz-meta-a"] == nil {
			t.Errorf("?%s: %v", query, w.Header())
		}
	}
}

// TestErrors is an error as a client gets it: escaped, not to be sniffed,
// and with nothing about anybody else's signature.
//
// Scenarios: S34.
func TestErrors(t *testing.T) {
	b := newBench(t, rootAlone, rootAlone)
	path := "/bucket/<script>alert('&')</script>"
	w := b.ask("", "GET", path, "", nil, "")
	requestID, hostID := w.Header()["x-amz-request-id"][0], w.Header()["x-amz-id-2"][0]
	want := `<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>AccessDenied</Code><Message>Access Denied</Message><Resource>/bucket/%3Cscript%3Ealert%28%27&amp;%27%29%3C/script%3E</Resource><RequestId>` + requestID + `</RequestId><HostId>` + hostID + `</HostId></Error>`
	if w.Code != 403 || w.Body.String() != want || w.Header().Get("Content-Type") != "application/xml" || w.Header()["x-content-type-options"][0] != "nosniff" {
		t.Errorf("%d %v\n%s\nwant\n%s", w.Code, w.Header(), w.Body, want)
	}
	r, _ := requestFor(&allRoutes[0])
	s3client.Signing{AccessKey: "root", Secret: "wrong-secret"}.Sign(r)
	w = b.answer(r)
	if w.Code != 403 || strings.Contains(w.Body.String(), "StringToSign") || strings.Contains(w.Body.String(), "CanonicalRequest") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	r, _ = requestFor(&allRoutes[1])
	if w := b.answer(r); w.Code != 403 || w.Body.Len() != 0 { // HEAD
		t.Errorf("HEAD: %d with %d bytes", w.Code, w.Body.Len())
	}
}

// TestFileNames: no key, not even a part of one, names a file.
//
// Scenarios: S36.
func TestFileNames(t *testing.T) {
	dir := t.TempDir()
	up := s3mem.New()
	store, err := newStore(tiers.Config{HotBytes: 1 << 20, WarmBytes: 64 << 20, BlockBytes: 64 << 10, SmallBytes: 4 << 10, Freshness: rules.Exclusive}, filepath.Join(dir, "warm"), up, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{g: New(Options{Verifier: &sigv4.Verifier{Region: "us-east-1", Keys: rootAlone}, Policies: rootAlone, Store: store, Upstream: up, Log: slog.New(slog.DiscardHandler)}), up: up, store: store}
	for i, name := range append(oddKeys, "CANARY", "../CANARY", "/CANARY/CANARY") {
		if w := b.ask("root", "PUT", "/canary-bucket/"+name, "", nil, strings.Repeat("x", i*3000)); w.Code != 200 {
			t.Fatalf("%q: %d %s", name, w.Code, w.Body)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	files := 0
	plain := regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	err = filepath.WalkDir(filepath.Dir(dir), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files++
			if strings.Contains(strings.ToUpper(path), "CANARY") || !plain.MatchString(d.Name()) || !strings.HasPrefix(path, dir) {
				t.Errorf("%s", path)
			}
		}
		return err
	})
	if err != nil || files < 3 {
		t.Errorf("%d files, %v", files, err)
	}
}

// TestNothingIsUnpacked: what says that it is compressed is bytes like any
// other.
//
// Scenarios: S39.
func TestNothingIsUnpacked(t *testing.T) {
	b := newBench(t, rootAlone, rootAlone)
	bomb := "\x1f\x8b\x08\x00not really gzip"
	if w := b.ask("root", "PUT", "/bucket/k", "", http.Header{"Content-Encoding": {"gzip"}}, bomb); w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
	for range 2 {
		if w := b.ask("root", "GET", "/bucket/k", "", http.Header{"Accept-Encoding": {"gzip"}}, ""); w.Body.String() != bomb {
			t.Errorf("%q", w.Body)
		}
	}
}

// TestNumbers: parameters are few, and numbers are in their bounds.
//
// Scenarios: S41.
func TestNumbers(t *testing.T) {
	b := newBench(t, rootAlone, rootAlone)
	many := strings.Repeat("a=1&", 101) + "b=1"
	for query, code := range map[string]string{
		many: "InvalidURI", "prefix=a&prefix=b": "InvalidArgument", "list-type=2&max-keys=-1": "InvalidArgument", "list-type=2&max-keys=99999999999": "InvalidArgument",
		"uploads&max-uploads=x": "InvalidArgument",
	} {
		if w := b.ask("root", "GET", "/bucket", query, nil, ""); w.Code != 400 || codeOf(w) != code {
			t.Errorf("?%.40s: %d %s, want %s", query, w.Code, codeOf(w), code)
		}
	}
}

// TestLogs: whatever is in a key, a request is one line of JSON, and it has
// no query.
//
// Scenarios: S46.
func TestLogs(t *testing.T) {
	var lines bytes.Buffer
	b := newBench(t, rootAlone, rootAlone)
	b.reconfigure(func(o *Options) {
		o.Log = slog.New(slog.NewJSONHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	names := append(oddKeys, "\n{\"level\":\"ERROR\"}", strings.Repeat("\r\n", 500))
	for _, name := range names {
		b.ask("root", "GET", "/bucket/"+name, "response-content-type=canary", nil, "")
	}
	n := 0
	for line := range strings.Lines(lines.String()) {
		n++
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry["msg"] != "request" && entry["msg"] != "aborted a response that could not be completed" || len(line) > 2000 {
			t.Errorf("%.200q: %v", line, err)
		}
	}
	if n < len(names) || strings.Contains(lines.String(), "canary") {
		t.Errorf("%d lines for %d requests", n, len(names))
	}
}

// TestRequestMemory: bodies draw on a budget; what does not fit is told to
// come later, what is read from the cache is not touched, and all is given
// back.
//
// Scenarios: E7.
func TestRequestMemory(t *testing.T) {
	b := newBench(t, rootAlone, rootAlone)
	memory := NewMemory(1<<20, nil)
	b.reconfigure(func(o *Options) { o.Memory = memory })
	if !memory.Acquire(1<<20 - 1000) {
		t.Fatal("the budget is smaller than said")
	}
	if w := b.ask("root", "PUT", "/bucket/k", "", nil, strings.Repeat("x", 2000)); w.Code != 503 || codeOf(w) != "SlowDown" || w.Header().Get("Retry-After") == "" {
		t.Errorf("PUT over the budget: %d %s", w.Code, codeOf(w))
	}
	if w := b.ask("root", "PUT", "/bucket/k", "", nil, strings.Repeat("x", 900)); w.Code != 200 {
		t.Errorf("PUT within the budget: %d", w.Code)
	}
	if w := b.ask("root", "GET", "/bucket/k", "", nil, ""); w.Code != 200 {
		t.Errorf("GET: %d", w.Code)
	}
	if used := memory.Used(); used != 1<<20-1000 {
		t.Errorf("%d bytes are not given back", used-(1<<20-1000))
	}
	memory.Release(1<<20 - 1000)
	r, _ := requestFor(&allRoutes[3]) // PutObject
	s3client.Signing{AccessKey: "root", Secret: tenantSecret, Payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", Body: make([]byte, 2<<20)}.Sign(r)
	if w := b.answer(r); w.Code != 503 {
		t.Errorf("a signed chunk over the budget: %d %s", w.Code, codeOf(w))
	}
	if used := memory.Used(); used != 0 {
		t.Errorf("%d bytes are not given back", used)
	}
}

// TestVirtualHosts: a bucket can be named by the host, for our own domains and
// no others, and the key keeps its bytes.
func TestVirtualHosts(t *testing.T) {
	b := newBench(t, rootAlone, rootAlone)
	b.reconfigure(func(o *Options) { o.Domains = []string{"s3.example.com", "localhost"} })
	for _, c := range []struct {
		host, path string
		key        akigw.Key
	}{
		{"bucket.s3.example.com", "/a/b", akigw.Key{Bucket: "bucket", Name: "a/b"}},
		{"bucket.s3.example.com:9000", "//a", akigw.Key{Bucket: "bucket", Name: "/a"}},
		{"BUCKET.S3.Example.com", "/a", akigw.Key{Bucket: "bucket", Name: "a"}},
		{"dotted.bucket.s3.example.com", "/a", akigw.Key{Bucket: "dotted.bucket", Name: "a"}},
		{"bucket.localhost:9000", "/a", akigw.Key{Bucket: "bucket", Name: "a"}},
		{"s3.example.com", "/bucket/a", akigw.Key{Bucket: "bucket", Name: "a"}},
		{"127.0.0.1:9000", "/bucket/a", akigw.Key{Bucket: "bucket", Name: "a"}},
		{"[::1]:9000", "/bucket/a", akigw.Key{Bucket: "bucket", Name: "a"}},
		{"bucket.evil.com", "/bucket/a", akigw.Key{Bucket: "bucket", Name: "a"}},
		{"buckets3.example.com", "/bucket/a", akigw.Key{Bucket: "bucket", Name: "a"}},
	} {
		r := &http.Request{Method: "PUT", URL: &url.URL{Path: c.path}, Host: c.host, Header: http.Header{}, RemoteAddr: "127.0.0.1:1"}
		s3client.Signing{AccessKey: "root", Secret: tenantSecret, Body: []byte(c.host)}.Sign(r)
		if w := b.answer(r); w.Code != 200 {
			t.Errorf("%s %s: %d %s", c.host, c.path, w.Code, w.Body)
		}
		if o, ok := b.up.Get(c.key); !ok || string(o.Body) != c.host {
			t.Errorf("%s %s is not %v", c.host, c.path, c.key)
		}
	}
	r := &http.Request{Method: "GET", URL: &url.URL{Path: "/k"}, Host: "Bad_Bucket.s3.example.com", Header: http.Header{}, RemoteAddr: "127.0.0.1:1"}
	s3client.Signing{AccessKey: "root", Secret: tenantSecret}.Sign(r)
	if w := b.answer(r); codeOf(w) != "InvalidBucketName" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestPresigned: a URL does what it was signed for, and nothing else.
func TestPresigned(t *testing.T) {
	b := newBench(t, rootAlone, rootAlone)
	url := func(method, query, body string) *http.Request {
		r := &http.Request{Method: method, URL: &url.URL{Path: "/bucket/k", RawQuery: query}, Host: "h", Header: http.Header{}, RemoteAddr: "127.0.0.1:1"}
		s3client.Signing{AccessKey: "root", Secret: tenantSecret, Presign: true, Body: []byte(body)}.Sign(r)
		return r
	}
	for _, c := range []struct {
		method, query, body string
		status              int
		want                string
	}{
		{"PUT", "", "hello", 200, ""},
		{"GET", "", "", 200, "hello"},
		{"GET", "response-content-disposition=attachment", "", 200, "hello"},
		{"HEAD", "", "", 200, ""},
		{"PUT", "x-amz-checksum-crc32=" + "NhCmhg%3D%3D&x-amz-sdk-checksum-algorithm=CRC32&x-id=PutObject", "hello", 200, ""},
		{"PUT", "x-amz-checksum-crc32=" + "AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32", "hello", 400, ""},
		{"DELETE", "", "", 204, ""},
		{"GET", "", "", 404, ""},
	} {
		w := b.answer(url(c.method, c.query, c.body))
		if w.Code != c.status || c.want != "" && w.Body.String() != c.want {
			t.Errorf("%s ?%s: %d %q", c.method, c.query, w.Code, w.Body)
		}
	}
}

// TestUpstreamIsNotNamed: an upstream that is away is a 503, and says nothing of the upstream.
//
// Scenarios: S31.
func TestUpstreamIsNotNamed(t *testing.T) {
	b := newBench(t, rootAlone, rootAlone)
	b.up.Before = func(*cold.Request) (*http.Response, error) {
		return nil, fmt.Errorf("%w: dial tcp 10.1.2.3:443: %w", akigw.ErrUpstreamUnavailable, context.DeadlineExceeded)
	}
	for _, query := range []string{"", "partNumber=1", "acl"} {
		if w := b.ask("root", "GET", "/bucket/k", query, nil, ""); w.Code != 503 || strings.Contains(w.Body.String(), "10.1.2.3") {
			t.Errorf("?%s: %d %s", query, w.Code, w.Body)
		}
	}
}
