package cold

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw"
)

// TestListen reads a stream as MinIO sends it: JSON lines, with empty ones as heartbeats. Listen
// returns when the stream ends, so the caller notices the gap.
func TestListen(t *testing.T) {
	var opened atomic.Int64
	lines := make(chan string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		opened.Add(1)
		if r.URL.Path != "/bucket/" || r.URL.Query()["events"] == nil || !strings.Contains(r.Header.Get("Authorization"), "Credential=key/") {
			t.Errorf("%s, signed %s", r.URL, r.Header.Get("Authorization"))
		}
		w.(http.Flusher).Flush()
		for line := range lines {
			fmt.Fprintln(w, line)
			w.(http.Flusher).Flush()
		}
	}))
	defer server.Close()
	u := upstream(t, server.URL, nil)
	var alive atomic.Int64
	changes := make(chan Change, 10)
	done := make(chan error)
	go func() {
		done <- u.listen(context.Background(), "bucket", func() { alive.Add(1) }, func(c Change) { changes <- c })
	}()
	event := func(name, key, version string) string {
		return fmt.Sprintf(`{"Records":[{"eventName":%q,"s3":{"bucket":{"name":"bucket"},"object":{"key":%q,"size":5,"eTag":"abc","versionId":%q}}}],"Err":null}`, name, url.QueryEscape(key), version)
	}
	lines <- `{"Records":null}`
	lines <- event("s3:ObjectCreated:Put", "a b/ü+", "")
	lines <- event("s3:ObjectRemoved:DeleteMarkerCreated", "k", "v1")
	for _, want := range []Change{
		{Key: akigw.Key{Bucket: "bucket", Name: "a b/ü+"}, ETag: `"abc"`, Size: 5},
		{Key: akigw.Key{Bucket: "bucket", Name: "k", Version: "v1"}, ETag: `"abc"`, Size: 5, Removed: true},
	} {
		if got := <-changes; got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if alive.Load() < 2 {
		t.Errorf("%d heartbeats", alive.Load())
	}
	close(lines)
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "events of bucket") {
			t.Errorf("%v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Listen did not return when the stream ended")
	}
	u.Close()
	if opened.Load() != 1 {
		t.Errorf("%d streams were opened", opened.Load())
	}
}

// TestListenRefused: an upstream without event streams causes an error.
func TestListenRefused(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotImplemented)
		fmt.Fprint(w, "<Error><Code>NotImplemented</Code><Message>no</Message></Error>")
	}))
	defer server.Close()
	u := upstream(t, server.URL, nil)
	err := u.listen(context.Background(), "bucket", func() { t.Error("alive") }, nil)
	if err == nil {
		t.Error("no error")
	}
}

// FuzzParseEvents: whatever is posted, parsing neither panics nor hangs, and the keys it returns
// are valid.
func FuzzParseEvents(f *testing.F) {
	for _, seed := range []string{`{"Records":[{"eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"a+b%2F","size":5,"eTag":"x","versionId":"v"}}}]}`,
		`{"Event":"s3:TestEvent"}`, `{"Records":[{}]}`, `[]`, `{"Records":[{"s3":{"bucket":{"name":"b"},"object":{"key":"%zz"}}}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		changes, err := ParseEvents(document)
		for _, c := range changes {
			if err != nil || c.Key.Bucket == "" || c.Key.Name == "" {
				t.Errorf("%+v %v", c, err)
			}
		}
	})
}
