package server

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/akidb/akigw/internal/testing/s3client"
)

// TestTraces: with a collector, each request is a span with its operation in the client's trace, and
// each upstream request is a child span. Without a collector there are no spans.
func TestTraces(t *testing.T) {
	var mu sync.Mutex
	var got bytes.Buffer
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			zip, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = zip
		}
		raw, err := io.ReadAll(body)
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL, err)
		}
		mu.Lock()
		defer mu.Unlock()
		got.Write(raw)
	}))
	defer collector.Close()
	const trace = "0af7651916cd43dd8448eb211c80319c"
	r := run(t, t.TempDir(), "AKIGW_ACCESS_KEY="+s3client.AccessKey, "AKIGW_SECRET_KEY="+s3client.SecretKey, "AKIGW_TRACING_ENDPOINT="+collector.URL)
	client := &s3client.Client{Endpoint: r.endpoint}
	client.Must(t, "PUT", "/traced", "", nil, nil)
	for _, body := range [][]byte{[]byte("body"), nil} {
		method := map[bool]string{true: "PUT", false: "GET"}[body != nil]
		if a := client.Must(t, method, "/traced/some-key", "", http.Header{"Traceparent": {"00-" + trace + "-b7ad6b7169203331-01"}}, body); a.Status != 200 {
			t.Fatalf("%s: %d %s", method, a.Status, a.Body)
		}
	}
	r.end(t)
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"PutObject", "GetObject", "upstream PUT", "some-key", "akigw.outcome", "akigw"} {
		if !bytes.Contains(got.Bytes(), []byte(want)) {
			t.Errorf("%q is in no span", want)
		}
	}
	if id := []byte("\x0a\xf7\x65\x19\x16\xcd\x43\xdd\x84\x48\xeb\x21\x1c\x80\x31\x9c"); bytes.Count(got.Bytes(), id) < 3 {
		t.Errorf("%d spans are of the client's trace", bytes.Count(got.Bytes(), id))
	}
	if _, err := Load("", []string{"AKIGW_TRACING_ENDPOINT=collector:4318", "AKIGW_TRACING_SHARE=2"}, nil); err == nil || !strings.Contains(err.Error(), "tracing.endpoint: must be http://") || !strings.Contains(err.Error(), "tracing.share") {
		t.Error(err)
	}
}
