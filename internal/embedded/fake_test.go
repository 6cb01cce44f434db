package embedded

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestWhatGofakes3Answers: gofakes3 handles exactly the operations that are marked in the table.
func TestWhatGofakes3Answers(t *testing.T) {
	for _, op := range operations {
		w := newWalk(t, op)
		asked := 0
		w.server.newFake = func(b gofakes3.Backend) http.Handler {
			asked++
			return newFake(b)
		}
		if w.send("", "", nil); asked > 0 != op.fake {
			t.Errorf("%s asked gofakes3 %d times, and the table says %t", op.name, asked, op.fake)
		}
	}
}

// TestAnswersOfGofakes3: errors have S3's documents and details, and headers that S3 does not send are
// removed.
func TestAnswersOfGofakes3(t *testing.T) {
	s, do := open(t, testkit.MemoryDir(t))
	defer s.Close()
	ok(t, do("PUT", "/bucket", nil, nil))
	ok(t, do("PUT", "/bucket/k", nil, []byte("k")))
	id := between(ok(t, do("POST", "/bucket/k?uploads", nil, nil)).Body.String(), "<UploadId>", "</UploadId>")
	for _, c := range []struct {
		name, method, target string
		header               http.Header
		body                 string
		status               int
		says                 string
	}{
		{"a bucket of short labels", "PUT", "/a.b.c", nil, "", 200, ""},
		{"an object of no bucket", "PUT", "/none/k", nil, "x", 404, "<BucketName>none</BucketName>"},
		{"a delete in no bucket", "DELETE", "/none/k", nil, "", 404, "<BucketName>none</BucketName>"},
		{"a bucket that is not empty", "DELETE", "/bucket", nil, "", 409, "<BucketName>bucket</BucketName>"},
		{"no bucket to delete by force", "DELETE", "/bucket", http.Header{"X-Minio-Force-Delete": {"true"}}, "", 409, "BucketNotEmpty"},
		{"a condition", "PUT", "/bucket/k", http.Header{"If-None-Match": {"*"}}, "x", 412, "<Condition>If-None-Match</Condition>"},
		{"no id to abort", "DELETE", "/bucket/k?uploadId=", nil, "", 404, "NoSuchUpload"},
		{"an unknown id", "DELETE", "/bucket/k?uploadId=x", nil, "", 404, "<UploadId>x</UploadId>"},
		{"no id of a part", "PUT", "/bucket/k?partNumber=1&uploadId=", nil, "x", 404, "NoSuchUpload"},
		{"an empty part", "PUT", "/bucket/k?partNumber=1&uploadId=" + id, nil, "", 200, ""},
		{"a semicolon", "PUT", "/bucket/k?partNumber=2&uploadId=" + id + "&X-Amz-Signature=a;b", nil, "x", 200, ""},
	} {
		w := do(c.method, c.target, c.header, []byte(c.body))
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
		h := w.Header()
		if h.Get("Access-Control-Allow-Origin") != "" || h.Get("Server") != "" || h.Get("X-Amz-Delete-Marker") != "" || h.Get("X-Amz-Id-2") != "akigw-embedded" {
			t.Errorf("%s: %v", c.name, h)
		}
	}
	if w := do("GET", "/bucket/k", nil, nil); w.Body.String() != "k" {
		t.Errorf("the object is %d %q now", w.Code, w.Body)
	}
	if w := do("HEAD", "/a.b.c", nil, nil); w.Code != 200 {
		t.Errorf("the bucket of short labels: %d", w.Code)
	}
}

// TestChangedLength: an authenticator may shorten a body, and the connection stays usable after a
// response that did not read the body.
func TestChangedLength(t *testing.T) {
	s, err := Open(testkit.MemoryDir(t), func(r *http.Request) error {
		r.ContentLength = 0
		return nil
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	front := httptest.NewUnstartedServer(s)
	front.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	front.Start()
	defer front.Close()
	for i := range 5 {
		r, err := http.NewRequest("PUT", front.URL+"/none/k", io.NopCloser(strings.NewReader("framing"))) // cannot be sent twice
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = 7
		reused := false
		r = r.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused = c.Reused }}))
		resp, err := front.Client().Do(r)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		io.Copy(io.Discard, resp.Body)
		if resp.Body.Close(); resp.StatusCode != 404 || reused != (i > 0) {
			t.Fatalf("request %d: %d, on a connection that was there: %t", i, resp.StatusCode, reused)
		}
	}
}

// TestConditionsOfConcurrentPuts: exactly one of several concurrent PUTs with If-None-Match: * succeeds.
func TestConditionsOfConcurrentPuts(t *testing.T) {
	s, do := open(t, testkit.MemoryDir(t))
	defer s.Close()
	ok(t, do("PUT", "/bucket", nil, nil))
	codes := make(chan int)
	for i := range 8 {
		go func() {
			codes <- do("PUT", "/bucket/k", http.Header{"If-None-Match": {"*"}}, fmt.Append(nil, i)).Code
		}()
	}
	count := map[int]int{}
	for range 8 {
		count[<-codes]++
	}
	if count[200] != 1 || count[412] != 7 {
		t.Errorf("the answers are %v", count)
	}
}
