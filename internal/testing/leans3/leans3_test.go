package leans3

import (
	"bytes"
	"crypto/md5"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// ask sends a request, and returns the response with its body read.
func ask(t *testing.T, s *Service, method, path string, header http.Header, body []byte) (*http.Response, []byte) {
	t.Helper()
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	for name, values := range header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	resp := w.Result()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, got
}

// TestUploads: ETags are MD5 sums, whether or not a body was announced; an announced one can be read.
func TestUploads(t *testing.T) {
	s := New()
	announced, other := testkit.Bytes(1, 100_000), testkit.Bytes(2, 300_000)
	s.Know(announced)
	for path, c := range map[string]struct {
		body   []byte
		status int // of a GET
	}{"/b/known": {announced, 200}, "/b/other": {other, 501}, "/b/empty": {nil, 200}, "/b/short": {announced[:99], 501}} {
		sum := md5.Sum(c.body)
		put, _ := ask(t, s, "PUT", path, http.Header{"X-Amz-Checksum-Crc32": {"NhCmhg=="}, "X-Amz-Meta-A": {"b"}}, c.body)
		head, _ := ask(t, s, "HEAD", path, nil, nil)
		get, body := ask(t, s, "GET", path, nil, nil)
		for _, etag := range []string{put.Header.Get("Etag"), head.Header.Get("Etag"), s.ETag(path)} {
			if etag != quote(sum[:]) {
				t.Errorf("%s: ETag %s", path, etag)
			}
		}
		if put.Header.Get("X-Amz-Checksum-Crc32") != "NhCmhg==" || head.Header.Get("X-Amz-Meta-A") != "b" || head.ContentLength != int64(len(c.body)) {
			t.Errorf("%s: %v, %v", path, put.Header, head.Header)
		}
		if get.StatusCode != c.status || c.status == 200 && !bytes.Equal(body, c.body) {
			t.Errorf("%s: status %d, %d bytes", path, get.StatusCode, len(body))
		}
	}
	if s.Count("PUT") != 4 || s.Count("HEAD") != 4 {
		t.Errorf("%d PUTs, %d HEADs", s.Count("PUT"), s.Count("HEAD"))
	}
	ask(t, s, "DELETE", "/b/known", nil, nil)
	if resp, _ := ask(t, s, "HEAD", "/b/known", nil, nil); resp.StatusCode != 404 {
		t.Errorf("deleted: %d", resp.StatusCode)
	}
}

// TestFill: a filled bucket has objects under every key, whose checksum and ETag are those of their bytes.
func TestFill(t *testing.T) {
	s := New()
	block := testkit.Bytes(3, 1000)
	if err := s.Fill("cold", block, 2500, "CRC32C"); err != nil {
		t.Fatal(err)
	}
	if err := s.Fill("cold", block, 2500, "CRC"); err == nil {
		t.Error("an algorithm that does not exist was accepted")
	}
	want := append(append(bytes.Clone(block), block...), block[:500]...)
	checked := http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}
	whole, body := ask(t, s, "GET", "/cold/any", checked, nil)
	digest := checksum.OfObject(whole.Header, false)
	if whole.StatusCode != 200 || !bytes.Equal(body, want) || digest == nil {
		t.Fatalf("status %d, %d bytes, %v", whole.StatusCode, len(body), whole.Header)
	}
	if digest.Write(body); !digest.OK() || digest.Size() != crc32.Size {
		t.Error("the checksum is not that of the body")
	}
	if sum := md5.Sum(want); whole.Header.Get("Etag") != quote(sum[:]) {
		t.Error("the ETag is not the MD5 of the body")
	}
	etag := whole.Header.Get("Etag")
	part, body := ask(t, s, "GET", "/cold/any", http.Header{"Range": {"bytes=900-1099"}, "If-Match": {etag}}, nil)
	if part.StatusCode != 206 || !bytes.Equal(body, want[900:1100]) || part.Header.Get("Content-Range") != "bytes 900-1099/2500" {
		t.Errorf("a range: status %d, %d bytes, %v", part.StatusCode, len(body), part.Header)
	}
	for status, header := range map[int]http.Header{304: {"If-None-Match": {etag}}, 412: {"If-Match": {`"x"`}}, 416: {"Range": {"bytes=9999-"}}} {
		if resp, _ := ask(t, s, "GET", "/cold/any", header, nil); resp.StatusCode != status {
			t.Errorf("%v: status %d", header, resp.StatusCode)
		}
	}
}

// TestHold: held PUTs are answered, and visible, once they are released.
func TestHold(t *testing.T) {
	s := New()
	server := httptest.NewServer(s)
	defer server.Close()
	get := func(path string) {
		resp, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	get(HoldPath)
	answered := make(chan int)
	go func() {
		r, _ := http.NewRequest("PUT", server.URL+"/b/k", bytes.NewReader([]byte("x"))) // a valid URL
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	for s.Count("PUT") == 0 {
		time.Sleep(time.Millisecond)
	}
	if s.ETag("/b/k") != "" {
		t.Error("a held PUT is visible")
	}
	get(ReleasePath)
	if status := <-answered; status != 200 || s.ETag("/b/k") == "" {
		t.Errorf("status %d", status)
	}
}
