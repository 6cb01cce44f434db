package embedded

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/akidb/akigw/internal/s3err"
)

func open(t *testing.T, dir string) (*Server, func(method, target string, header http.Header, body []byte) *httptest.ResponseRecorder) {
	t.Helper()
	s, err := Open(dir, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s, func(method, target string, header http.Header, body []byte) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, target, bytes.NewReader(body))
		for name, values := range header {
			r.Header[name] = values
		}
		r.Header.Set("Content-Length", fmt.Sprint(len(body)))
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
}

// TestListing pages through odd keys with every page size, with and without a
// delimiter: each key or common prefix once, in byte order.
//
// Scenarios: E14.
func TestListing(t *testing.T) {
	s, do := open(t, t.TempDir())
	defer s.Close()
	keys := []string{"a", "a/", "a//b", "a/b/c", "a/b/d", "a/c", "aa", "b+ c", "b/1", "b/2", "b/3", "ü/x", "z\x01"}
	do("PUT", "/bucket", nil, nil)
	for _, k := range keys {
		if w := do("PUT", "/bucket/"+strings.ReplaceAll(url.PathEscape(k), "%2F", "/"), nil, []byte(k)); w.Code != 200 {
			t.Fatal(k, w.Code, w.Body)
		}
	}
	for _, c := range []struct {
		prefix, delimiter string
		want              []string
	}{
		{"", "", keys},
		{"a", "", keys[:7]},
		{"", "/", []string{"a", "a/", "aa", "b+ c", "b/", "z\x01", "ü/"}},
		{"a/", "/", []string{"a/", "a//", "a/b/", "a/c"}},
		{"b", "/", []string{"b+ c", "b/"}},
		{"none", "/", nil},
	} {
		want := slices.Sorted(slices.Values(c.want))
		for _, size := range []int{1, 2, 3, 1000} {
			for _, version := range []string{"1", "2"} {
				got := listAll(t, do, c.prefix, c.delimiter, version, size)
				if !slices.Equal(slices.Sorted(slices.Values(got)), want) {
					t.Errorf("prefix %q delimiter %q version %s page %d: %q, want %q", c.prefix, c.delimiter, version, size, got, want)
				}
			}
		}
	}
}

func listAll(t *testing.T, do func(string, string, http.Header, []byte) *httptest.ResponseRecorder, prefix, delimiter, version string, size int) (all []string) {
	t.Helper()
	q := url.Values{"prefix": {prefix}, "delimiter": {delimiter}, "max-keys": {fmt.Sprint(size)}, "encoding-type": {"url"}}
	if version == "2" {
		q.Set("list-type", "2")
	}
	for range 100 {
		w := do("GET", "/bucket?"+q.Encode(), nil, nil)
		var page struct {
			Contents              []struct{ Key string }
			CommonPrefixes        []struct{ Prefix string }
			IsTruncated           bool
			NextMarker            string
			NextContinuationToken string
		}
		if err := xml.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != 200 {
			t.Fatal(err, w.Code, w.Body)
		}
		count, last := 0, ""
		for _, o := range page.Contents {
			k, _ := url.PathUnescape(o.Key)
			all, last = append(all, k), max(last, k)
			count++
		}
		for _, p := range page.CommonPrefixes {
			k, _ := url.PathUnescape(p.Prefix)
			all, last = append(all, k), max(last, k)
			count++
		}
		if count > size {
			t.Fatalf("a page of %d has %d", size, count)
		}
		if !page.IsTruncated {
			return all
		}
		if version == "2" {
			q.Set("continuation-token", page.NextContinuationToken)
		} else {
			q.Set("marker", last)
		}
	}
	t.Fatal("the listing does not end")
	return nil
}

func TestObjectsSurviveARestartAndOrphansDoNot(t *testing.T) {
	dir := t.TempDir()
	s, do := open(t, dir)
	do("PUT", "/bucket", nil, nil)
	meta := http.Header{"Content-Type": {"text/x"}, "Cache-Control": {"max-age=1"}, "X-Amz-Meta-A": {"b"}}
	if w := do("PUT", "/bucket/k", meta, []byte("hello")); w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	orphan := filepath.Join(dir, "blobs", "OR", "ORPHAN")
	if err := os.MkdirAll(filepath.Dir(orphan), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(orphan, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, do = open(t, dir)
	defer s.Close()
	w := do("GET", "/bucket/k", nil, nil)
	if w.Body.String() != "hello" || w.Header().Get("Content-Type") != "text/x" || w.Header().Get("Cache-Control") != "max-age=1" || w.Header().Get("X-Amz-Meta-A") != "b" {
		t.Errorf("%q %v", w.Body, w.Header())
	}
	if _, err := os.Stat(orphan); !os.IsNotExist(err) {
		t.Errorf("a file without an owner is left: %v", err)
	}
}

func TestMultipart(t *testing.T) {
	s, do := open(t, t.TempDir())
	defer s.Close()
	do("PUT", "/bucket", nil, nil)
	start := func() string {
		var r struct{ UploadId string }
		if err := xml.Unmarshal(do("POST", "/bucket/k?uploads", nil, nil).Body.Bytes(), &r); err != nil || r.UploadId == "" {
			t.Fatal(err)
		}
		return r.UploadId
	}
	a, b := bytes.Repeat([]byte("a"), minPart), []byte("bb")
	put := func(id string, n int, body []byte) string {
		w := do("PUT", fmt.Sprintf("/bucket/k?uploadId=%s&partNumber=%d", id, n), nil, body)
		if w.Code != 200 {
			t.Fatal(w.Code, w.Body)
		}
		return w.Header().Get("Etag")
	}
	complete := func(id string, etags ...string) *httptest.ResponseRecorder {
		var doc strings.Builder
		for i, e := range etags {
			fmt.Fprintf(&doc, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", i+1, e)
		}
		return do("POST", "/bucket/k?uploadId="+id, nil, []byte("<CompleteMultipartUpload>"+doc.String()+"</CompleteMultipartUpload>"))
	}
	id := start()
	etags := []string{put(id, 1, a), put(id, 2, []byte("old")), put(id, 3, []byte("unused"))}
	etags[1] = put(id, 2, b)
	if w := complete(id, etags[0], `"x"`); w.Code != 400 || !strings.Contains(w.Body.String(), "InvalidPart") {
		t.Error(w.Code, w.Body)
	}
	if w := complete(id, etags[:2]...); w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
	w := do("GET", "/bucket/k", nil, nil)
	if !bytes.Equal(w.Body.Bytes(), append(bytes.Clone(a), b...)) || !strings.HasSuffix(w.Header().Get("Etag"), `-2"`) {
		t.Errorf("%d bytes, ETag %s", w.Body.Len(), w.Header().Get("Etag"))
	}
	if w := do("GET", "/bucket/k?partNumber=2", nil, nil); w.Body.String() != "bb" || w.Code != 206 || w.Header().Get("X-Amz-Mp-Parts-Count") != "2" {
		t.Error(w.Code, w.Body, w.Header())
	}
	if w := complete(id, etags[:2]...); w.Code != 404 || !strings.Contains(w.Body.String(), "NoSuchUpload") {
		t.Error(w.Code, w.Body)
	}
	id = start()
	if w := complete(id, put(id, 1, b), put(id, 2, b)); w.Code != 400 || !strings.Contains(w.Body.String(), "EntityTooSmall") {
		t.Error(w.Code, w.Body)
	}
	if w := do("DELETE", "/bucket/k?uploadId="+id, nil, nil); w.Code != 204 {
		t.Error(w.Code, w.Body)
	}
	files := 0
	filepath.WalkDir(s.backend.blobs, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files++
		}
		return err
	})
	if files != 2 {
		t.Errorf("%d files are left, want the object's two parts", files)
	}
	if w := do("DELETE", "/bucket", nil, nil); w.Code != 409 || !strings.Contains(w.Body.String(), "BucketNotEmpty") {
		t.Error(w.Code, w.Body)
	}
}

// TestConcurrentComplete: one of several concurrent Completes of an upload succeeds, the others get
// an error, and the object is complete.
//
// Scenarios: D16.
func TestConcurrentComplete(t *testing.T) {
	s, do := open(t, t.TempDir())
	defer s.Close()
	do("PUT", "/bucket", nil, nil)
	for range 20 {
		id, err := s.backend.createUpload("bucket", "k", upload{})
		if err != nil {
			t.Fatal(err)
		}
		f, etag, err := s.backend.write(strings.NewReader("hello"), 5)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.backend.storePart("bucket", "k", id, 1, part{Blob: f, MD5: etag}); err != nil {
			t.Fatal(err)
		}
		want := completion{parts: []completedPart{{PartNumber: 1, ETag: etag}}, size: -1}
		var wait sync.WaitGroup
		var won atomic.Int32
		for range 8 {
			wait.Go(func() {
				switch _, err := s.backend.completeUpload("bucket", "k", id, want); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, s3err.NoSuchUpload):
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d Completes of one upload succeeded", won.Load())
		}
		if o, err := s.backend.object("bucket", "k"); err != nil {
			t.Fatal(err)
		} else if body, err := io.ReadAll(s.backend.reader(o, 0, o.Size)); err != nil || string(body) != "hello" {
			t.Fatalf("the object reads %q, %v", body, err)
		}
	}
}
