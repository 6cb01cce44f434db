package cold

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/akidb/akigw"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func upstream(t *testing.T, endpoint string, wrap func(http.RoundTripper) http.RoundTripper) *Upstream {
	t.Helper()
	u, err := New(Config{URL: endpoint, AccessKey: "key", SecretKey: "secretsecret", Region: "us-east-1", TrailingChecksums: true}, PoolConfig{PoolSize: 2, IdleTimeoutSecs: 5}, wrap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

// TestRequestOnTheWire looks at what an upstream receives.
func TestRequestOnTheWire(t *testing.T) {
	var got *http.Request
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
	}))
	defer server.Close()
	u := upstream(t, server.URL, nil)
	for _, c := range []struct {
		name   string
		r      *Request
		target string
		sha    string
	}{
		{"plain GET", &Request{Method: "GET", Key: akigw.Key{Bucket: "bucket", Name: "a//b/../ü +%2F"}}, "/bucket/a//b/../%C3%BC%20%2B%252F", emptySHA256},
		{"query", &Request{Method: "GET", Key: akigw.Key{Bucket: "bucket"}, Query: url.Values{"prefix": {"a b"}, "list-type": {"2"}}}, "/bucket?list-type=2&prefix=a%20b", emptySHA256},
		{"service", &Request{Method: "GET"}, "/", emptySHA256},
		{"body without a digest", &Request{Method: "PUT", Key: akigw.Key{Bucket: "bucket", Name: "k"}, Body: strings.NewReader("hello"), Length: 5}, "/bucket/k", "UNSIGNED-PAYLOAD"},
		{"body with a digest", &Request{Method: "PUT", Key: akigw.Key{Bucket: "bucket", Name: "k"}, Body: strings.NewReader("hello"), Length: 5, SHA256: sum("hello")}, "/bucket/k", sum("hello")},
		{"trailer", &Request{Method: "PUT", Key: akigw.Key{Bucket: "bucket", Name: "k"}, Body: strings.NewReader("hello"), Length: 5, Trailer: http.Header{"X-Amz-Checksum-Crc32": {"NhCmhg=="}}}, "/bucket/k", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, err := u.Do(context.Background(), c.r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got.RequestURI != c.target {
				t.Errorf("target %s, want %s", got.RequestURI, c.target)
			}
			if sha := got.Header.Get("X-Amz-Content-Sha256"); sha != c.sha {
				t.Errorf("payload %s, want %s", sha, c.sha)
			}
			if !strings.HasPrefix(got.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=key/") || got.Header.Get("Accept-Encoding") != "identity" {
				t.Errorf("header %v", got.Header)
			}
			if c.r.Length > 0 && !strings.Contains(string(body), "hello") {
				t.Errorf("body %q", body)
			}
		})
	}
}

// emptySHA256 is the digest of an empty body.
const emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

// TestTrailersAreLeftAway: an upstream that rejects trailing checksums gets the plain body, without
// aws-chunked.
//
// Scenarios: A17.
func TestTrailersAreLeftAway(t *testing.T) {
	var got *http.Request
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
	}))
	defer server.Close()
	u, err := New(Config{URL: server.URL, AccessKey: "key", SecretKey: "secretsecret", Region: "us-east-1"}, PoolConfig{PoolSize: 2, IdleTimeoutSecs: 5}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	resp, err := u.Do(t.Context(), &Request{Method: "PUT", Key: akigw.Key{Bucket: "bucket", Name: "k"}, Body: strings.NewReader("hello"), Length: 5, Trailer: http.Header{"X-Amz-Checksum-Crc32": {"NhCmhg=="}}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if string(body) != "hello" || got.ContentLength != 5 || got.Header.Get("X-Amz-Trailer") != "" || got.Header.Get("Content-Encoding") != "" || strings.HasPrefix(got.Header.Get("X-Amz-Content-Sha256"), "STREAMING") {
		t.Errorf("%q, %d bytes, %v", body, got.ContentLength, got.Header)
	}
}

// TestRedirectsAreNotFollowed: the caller gets the redirect response, and no other host sees the
// signature.
//
// Scenarios: A20.
func TestRedirectsAreNotFollowed(t *testing.T) {
	reached := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	resp, err := upstream(t, server.URL, nil).Do(context.Background(), &Request{Method: "GET", Key: akigw.Key{Bucket: "bucket"}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusTemporaryRedirect || reached {
		t.Errorf("status %d, other host reached: %t", resp.StatusCode, reached)
	}
}

// TestOnlyTheUpstreamIsDialled: no other host is dialled, whatever asks the transport.
//
// Scenarios: S31.
func TestOnlyTheUpstreamIsDialled(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u := upstream(t, server.URL, nil)
	for _, target := range []string{"http://" + l.Addr().String() + "/", "http://169.254.169.254/latest/meta-data", "http://localhost/"} {
		r, _ := http.NewRequest("GET", target, nil)
		if _, err := u.transport.RoundTrip(r); err == nil || !strings.Contains(err.Error(), "refusing to dial") {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// TestNoTransparentGzip: the caller gets the bytes that the upstream sent.
//
// Scenarios: A21.
func TestNoTransparentGzip(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		io.WriteString(w, "not really gzip")
	}))
	defer server.Close()
	resp, err := upstream(t, server.URL, nil).Do(context.Background(), &Request{Method: "GET", Key: akigw.Key{Bucket: "bucket", Name: "k"}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "not really gzip" || resp.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("%q %v %v", body, err, resp.Header)
	}
}

// transport is a round trip as a function.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// slowBody returns nothing until its request is cancelled.
type slowBody struct{ ctx context.Context }

func (b slowBody) Read([]byte) (int, error) {
	<-b.ctx.Done()
	return 0, context.Cause(b.ctx)
}
func (slowBody) Close() error { return nil }

// TestStalledUpstreams: a missing response and a stalled body end in time. A client that sends
// slowly is not the upstream's fault.
//
// Scenarios: A24.
func TestStalledUpstreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := upstream(t, "http://127.0.0.1:1", func(http.RoundTripper) http.RoundTripper {
			return transport(func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			})
		})
		start := time.Now()
		_, err := silent.Do(t.Context(), &Request{Op: "GetObject", Method: "GET", Key: akigw.Key{Bucket: "bucket", Name: "k"}})
		if !errors.Is(err, akigw.ErrUpstreamUnavailable) || time.Since(start) != defaultRead*time.Second {
			t.Errorf("no answer: %v after %v", err, time.Since(start))
		}
		stuck := upstream(t, "http://127.0.0.1:1", func(http.RoundTripper) http.RoundTripper {
			return transport(func(r *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Header: http.Header{}, Body: slowBody{r.Context()}}, nil
			})
		})
		resp, err := stuck.Do(t.Context(), &Request{Op: "GetObject", Method: "GET", Key: akigw.Key{Bucket: "bucket", Name: "k"}})
		if err != nil {
			t.Fatal(err)
		}
		start = time.Now()
		if _, err := io.ReadAll(resp.Body); err == nil || time.Since(start) != defaultWrite*time.Second {
			t.Errorf("a stalled body: %v after %v", err, time.Since(start))
		}
		resp.Body.Close()
		patient := upstream(t, "http://127.0.0.1:1", func(http.RoundTripper) http.RoundTripper {
			return transport(func(r *http.Request) (*http.Response, error) {
				if _, err := io.ReadAll(r.Body); err != nil {
					return nil, err
				}
				return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody}, nil
			})
		})
		resp, err = patient.Do(t.Context(), &Request{Method: "PUT", Key: akigw.Key{Bucket: "bucket", Name: "k"}, Body: &slowSender{left: 5, pause: time.Hour}, Length: 5})
		if err != nil {
			t.Fatalf("a client that takes an hour per byte: %v", err)
		}
		resp.Body.Close()
	})
}

// slowSender is a client that pauses before each byte.
type slowSender struct {
	left  int
	pause time.Duration
}

func (s *slowSender) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(s.pause)
	s.left--
	p[0] = 'x'
	return 1, nil
}

// TestConditionsBeforeTheBody: an upstream that refuses a request by its head is not sent the body;
// one that accepts it is.
//
// Scenarios: E31.
func TestConditionsBeforeTheBody(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		io.Copy(io.Discard, r.Body)
	}))
	defer server.Close()
	u := upstream(t, server.URL, nil)
	for condition, status := range map[string]int{"*": http.StatusPreconditionFailed, "": http.StatusOK} {
		body := &countingReader{r: strings.NewReader(strings.Repeat("x", 1<<20))}
		header := http.Header{}
		if condition != "" {
			header.Set("If-None-Match", condition)
		}
		resp, err := u.Do(context.Background(), &Request{Method: "PUT", Key: akigw.Key{Bucket: "bucket", Name: "k"}, Header: header, Body: body, Length: 1 << 20, Expect: true})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != status || (status == http.StatusOK) != (body.n.Load() == 1<<20) {
			t.Errorf("condition %q: %d, %d bytes read", condition, resp.StatusCode, body.n.Load())
		}
	}
}

type countingReader struct {
	r io.Reader
	n atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// TestAnswerBeforeTheBody: the response of an upstream that does not read the body is not lost,
// whether the upstream resets the connection or sends the response in pieces after the caller has
// stopped the body.
func TestAnswerBeforeTheBody(t *testing.T) {
	for name, pause := range map[string]time.Duration{"reset": 0, "in pieces": 5 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						c.Read(make([]byte, 4<<10))
						io.WriteString(c, "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 4\r\n\r\n")
						time.Sleep(pause)
						io.WriteString(c, "body")
						c.Close() // with bytes unread: a reset
					}()
				}
			}()
			u := upstream(t, "http://"+l.Addr().String(), nil)
			var senders sync.WaitGroup
			for range 8 {
				senders.Go(func() {
					for range 20 {
						body := &stoppable{}
						resp, err := u.Do(t.Context(), &Request{Method: "PUT", Key: akigw.Key{Bucket: "bucket", Name: "k"}, Body: body, Length: 64 << 20})
						body.stopped.Store(true)
						if err != nil {
							t.Error(err)
							return
						}
						if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "body" || resp.StatusCode != http.StatusNotFound {
							t.Errorf("%d %q %v", resp.StatusCode, text, err)
						}
						resp.Body.Close()
					}
				})
			}
			senders.Wait()
		})
	}
}

// stoppable is a body without end, until it fails.
type stoppable struct{ stopped atomic.Bool }

func (s *stoppable) Read(p []byte) (int, error) {
	if s.stopped.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	return len(p), nil
}

// BenchmarkPool compares TLS requests on pooled connections with requests that each dial: the
// difference is what a connection pool saves.
func BenchmarkPool(b *testing.B) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	for _, pooled := range []bool{true, false} {
		b.Run(map[bool]string{true: "pooled", false: "dialled"}[pooled], func(b *testing.B) {
			u, err := New(Config{URL: server.URL, AccessKey: "key", SecretKey: "secret", Region: "us-east-1", Credentials: staticKeys}, PoolConfig{PoolSize: 20, IdleTimeoutSecs: 90}, func(rt http.RoundTripper) http.RoundTripper {
				t := rt.(*connectionPool).current
				t.TLSClientConfig.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
				t.DisableKeepAlives = !pooled
				if !pooled {
					t.TLSClientConfig.ClientSessionCache = nil
				}
				return rt
			})
			if err != nil {
				b.Fatal(err)
			}
			defer u.Close()
			for b.Loop() {
				resp, err := u.Do(context.Background(), &Request{Op: "HeadObject", Method: "HEAD", Key: akigw.Key{Bucket: "bucket", Name: "k"}})
				if err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			}
		})
	}
}

// TestConnectionsAreReused: connections are reused, and the reuse is counted.
func TestConnectionsAreReused(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	u := upstream(t, server.URL, nil)
	pool, dial := u.counters.connection("pool").Get(), u.counters.connection("dial").Get()
	for range 5 {
		resp, err := u.Do(context.Background(), &Request{Op: "HeadObject", Method: "HEAD", Key: akigw.Key{Bucket: "bucket", Name: "k"}})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if p, d := u.counters.connection("pool").Get()-pool, u.counters.connection("dial").Get()-dial; p != 4 || d != 1 {
		t.Errorf("%d requests on pooled connections, %d on new ones", p, d)
	}
}
