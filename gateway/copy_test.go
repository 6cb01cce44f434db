package gateway

import (
	"crypto/md5"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/tiers/cold"
)

// copyOf copies a source, and returns the ETag and the time that the answer says.
func (b *bench) copyOf(t *testing.T, path, source string, header http.Header) (etag string, modified time.Time) {
	t.Helper()
	h := header.Clone()
	if h == nil {
		h = http.Header{}
	}
	h.Set("X-Amz-Copy-Source", source)
	w := b.ask("root", "PUT", path, "", h, "")
	var answer struct {
		XMLName      xml.Name
		ETag         string
		LastModified time.Time
	}
	if err := xml.Unmarshal(w.Body.Bytes(), &answer); w.Code != 200 || err != nil || answer.XMLName.Local != "CopyObjectResult" || sentHeader(w, "x-akigw-commit") != "journal" {
		t.Fatalf("%d %s %v", w.Code, w.Body, w.Header())
	}
	return answer.ETag, answer.LastModified
}

func plainTag(body string) string { return fmt.Sprintf("\"%x\"", md5.Sum([]byte(body))) }

// TestCopyOfAPendingSource: it is acknowledged while the upstream is away, has
// bytes of its own, and comes to the upstream whatever becomes of the source.
//
// Scenarios: B12.
func TestCopyOfAPendingSource(t *testing.T) {
	for _, n := range []int{0, 100, 300_000} {
		b := backBench(t)
		body := strings.Repeat("x", n)
		b.ask("root", "PUT", "/back/warm up", "", nil, "") // the bucket is known by now
		b.up.Before = func(*cold.Request) (*http.Response, error) { return nil, akigw.ErrUpstreamUnavailable }
		put := b.ask("root", "PUT", "/back/a source", "", http.Header{"Content-Type": {"a/b"}, "X-Amz-Meta-M": {"v"}, "Cache-Control": {"no-cache"}}, body)
		if put.Code != 200 {
			t.Fatalf("PUT: %d %s", put.Code, put.Body)
		}
		etag, modified := b.copyOf(t, "/back/copy", "/back/a%20source", http.Header{"X-Amz-Meta-Ignored": {"x"}, "Content-Type": {"ignored/too"}})
		if etag != plainTag(body) {
			t.Errorf("ETag %s", etag)
		}
		b.copyOf(t, "/back/replaced", "back/a%20source", http.Header{"X-Amz-Metadata-Directive": {"REPLACE"}, "X-Amz-Meta-M": {"new"}, "Content-Type": {"c/d"}})
		b.copyOf(t, "/back/a source", "back/a%20source", http.Header{"X-Amz-Metadata-Directive": {"REPLACE"}, "X-Amz-Meta-M": {"self"}})
		if w := b.ask("root", "HEAD", "/back/a source", "", nil, ""); sentHeader(w, "x-amz-meta-m") != "self" || w.Header().Get("Content-Length") != fmt.Sprint(n) {
			t.Errorf("a copy onto itself: %d %v", w.Code, w.Header())
		}
		if w := b.ask("root", "DELETE", "/back/a source", "", nil, ""); w.Code != 204 {
			t.Errorf("DELETE: %d", w.Code)
		}
		check := func(when string) {
			t.Helper()
			w := b.ask("root", "GET", "/back/copy", "", nil, "")
			if w.Code != 200 || w.Body.String() != body || tagOf(w) != etag || sentHeader(w, "x-amz-meta-m") != "v" || sentHeader(w, "x-amz-meta-ignored") != "" ||
				w.Header().Get("Content-Type") != "a/b" || w.Header().Get("Cache-Control") != "no-cache" {
				t.Errorf("%s: %d, %d bytes, %v", when, w.Code, w.Body.Len(), w.Header())
			}
			if at, err := http.ParseTime(w.Header().Get("Last-Modified")); when == "pending" && (err != nil || !at.Equal(modified)) {
				t.Errorf("modified at %s, and the answer said %s", at, modified)
			}
			w = b.ask("root", "GET", "/back/replaced", "", nil, "")
			if w.Code != 200 || w.Body.String() != body || sentHeader(w, "x-amz-meta-m") != "new" || w.Header().Get("Content-Type") != "c/d" || w.Header().Get("Cache-Control") != "" {
				t.Errorf("%s, replaced: %d, %d bytes, %v", when, w.Code, w.Body.Len(), w.Header())
			}
		}
		check("pending")
		b.up.Before = nil
		b.drain(t)
		check("upstream")
		if o, ok := b.up.Get(backKey("copy")); !ok || string(o.Body) != body || o.ETag != etag {
			t.Errorf("upstream: %t, %d bytes, %s", ok, len(o.Body), o.ETag)
		}
		if _, ok := b.up.Get(backKey("a source")); ok {
			t.Error("the deleted source is upstream")
		}
	}
}

// TestCopyOfPendingParts: it has no parts, and only a checksum that is one of the
// whole body.
func TestCopyOfPendingParts(t *testing.T) {
	for how, kept := range map[string]bool{"FULL_OBJECT": true, "COMPOSITE": false} {
		b := backBench(t)
		u := b.upload(t, "/back/source", http.Header{"X-Amz-Checksum-Algorithm": {"CRC32"}, "X-Amz-Checksum-Type": {how}, "X-Amz-Meta-M": {"v"}})
		for i, body := range partBodies {
			u.mustPart(i+1, body, nil)
		}
		if w := u.complete(nil); w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		whole := strings.Join(partBodies, "")
		etag, _ := b.copyOf(t, "/back/copy", "back/source", nil)
		w := b.ask("root", "GET", "/back/copy", "", http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}, "")
		if etag != plainTag(whole) || tagOf(w) != etag || w.Body.String() != whole || sentHeader(w, "x-amz-meta-m") != "v" || (sentHeader(w, "x-amz-checksum-crc32") != "") != kept {
			t.Errorf("%s: %s, %d, %d bytes, %v", how, etag, w.Code, w.Body.Len(), w.Header())
		}
		b.drain(t)
		if o, ok := b.up.Get(backKey("copy")); !ok || o.ETag != etag {
			t.Errorf("%s: upstream it is %t %s", how, ok, o.ETag)
		}
	}
}

// TestCopyThatOnlyTheUpstreamCanMake: what is not pending, what has conditions or
// wants more than the bytes. And a source that was deleted is none.
func TestCopyThatOnlyTheUpstreamCanMake(t *testing.T) {
	b := backBench(t)
	b.runPool(t)
	b.up.Put(backKey("there"), []byte("there"))
	copied := func(header http.Header) *httptest.ResponseRecorder {
		b.ask("root", "PUT", "/back/source", "", nil, "source")
		return b.ask("root", "PUT", "/back/copy", "", header, "")
	}
	for name, h := range map[string]http.Header{
		"not pending": {"X-Amz-Copy-Source": {"back/there"}},
		"condition":   {"X-Amz-Copy-Source": {"back/source"}, "X-Amz-Copy-Source-If-Match": {plainTag("source")}},
		"tags":        {"X-Amz-Copy-Source": {"back/source"}, "X-Amz-Tagging-Directive": {"REPLACE"}, "X-Amz-Tagging": {"a=b"}},
		"checksum":    {"X-Amz-Copy-Source": {"back/source"}, "X-Amz-Checksum-Algorithm": {"SHA256"}},
		"lock":        {"X-Amz-Copy-Source": {"back/source"}, "X-Amz-Object-Lock-Mode": {"GOVERNANCE"}},
	} {
		if w := copied(h); w.Code != 200 || sentHeader(w, "x-akigw-commit") != "upstream" {
			t.Errorf("%s: %d %s %v", name, w.Code, w.Body, w.Header())
		}
	}
	b = backBench(t) // whose pool does not run
	b.ask("root", "PUT", "/back/source", "", nil, "source")
	b.ask("root", "DELETE", "/back/source", "", nil, "")
	if w := b.ask("root", "PUT", "/back/copy", "", http.Header{"X-Amz-Copy-Source": {"back/source"}}, ""); w.Code != 404 || !strings.Contains(w.Body.String(), "NoSuchKey") || !strings.Contains(w.Body.String(), "<Key>source</Key>") {
		t.Errorf("a deleted source: %d %s", w.Code, w.Body)
	}
}

// TestUploadPartCopyOfAPendingSource: the upload stays in the journal.
func TestUploadPartCopyOfAPendingSource(t *testing.T) {
	b := backBench(t)
	b.ask("root", "PUT", "/back/source", "", nil, "0123456789abcdef")
	u := b.upload(t, "/back/k", http.Header{"X-Amz-Checksum-Algorithm": {"CRC32"}})
	for i, c := range []struct{ span, body string }{{"bytes=2-13", "23456789abcd"}, {"", "0123456789abcdef"}} {
		h := http.Header{"X-Amz-Copy-Source": {"back/source"}}
		if c.span != "" {
			h.Set("X-Amz-Copy-Source-Range", c.span)
		}
		w := u.ask("PUT", fmt.Sprintf("partNumber=%d&", i+1), h, "")
		var answer struct {
			XMLName             xml.Name
			ETag, ChecksumCRC32 string
		}
		if err := xml.Unmarshal(w.Body.Bytes(), &answer); w.Code != 200 || err != nil || answer.XMLName.Local != "CopyPartResult" || answer.ETag != plainTag(c.body) || answer.ChecksumCRC32 == "" || sentHeader(w, "x-akigw-commit") != "journal" {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		u.tags = append(u.tags, fmt.Sprintf("<Part><PartNumber>%d</PartNumber><ETag>%s</ETag><ChecksumCRC32>%s</ChecksumCRC32></Part>", i+1, answer.ETag, answer.ChecksumCRC32))
	}
	if w := u.complete(nil); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if b.up.Len()+b.up.Uploads() > 0 {
		t.Error("something is upstream")
	}
	b.drain(t)
	if o, _ := b.up.Get(backKey("k")); string(o.Body) != "23456789abcd0123456789abcdef" {
		t.Errorf("%q upstream", o.Body)
	}
	b = backBench(t) // whose pool does not run
	for bad, code := range map[string]string{"bytes=0-99": "InvalidRange", "bytes=16-16": "InvalidRange", "bytes=5-": "InvalidArgument", "bytes=-5": "InvalidArgument", "bytes=6-5": "InvalidArgument", "5-6": "InvalidArgument"} {
		b.ask("root", "PUT", "/back/source", "", nil, "0123456789abcdef")
		u := b.upload(t, "/back/other", nil)
		uploads := b.up.Uploads()
		w := u.ask("PUT", "partNumber=1&", http.Header{"X-Amz-Copy-Source": {"back/source"}, "X-Amz-Copy-Source-Range": {bad}}, "")
		if !strings.Contains(w.Body.String(), "<Code>"+code+"</Code>") || b.up.Uploads() != uploads {
			t.Errorf("%s: %d %s", bad, w.Code, w.Body)
		} else if st := b.writes.Status(); st.Uploads == 0 {
			t.Errorf("%s: the upload has left the journal", bad)
		}
	}
}

// TestCopyWithErrorBody: a 200 of a copy can carry an error. The client is told what
// the upstream said, and nothing that was cached of the key before is served after it.
//
// Scenarios: A6.
func TestCopyWithErrorBody(t *testing.T) {
	b := newBench(t, tenants(t), tenants(t))
	b.up.Put(keyOf("bucket", "source"), []byte("new"))
	b.up.Put(keyOf("bucket", "k"), []byte("old"))
	const failure = "<Error><Code>InternalError</Code></Error>"
	for _, query := range []string{"", "partNumber=1&uploadId=u"} {
		b.ask("root", "GET", "/bucket/k", "", nil, "") // cached by now
		b.up.Before = func(r *cold.Request) (*http.Response, error) {
			if r.Method != http.MethodPut {
				return nil, nil
			}
			if r.Op == "CopyObject" { // and it was done after all
				b.up.Before = nil
				b.up.Put(keyOf("bucket", "k"), []byte("new"))
			}
			return s3mem.Response(http.StatusOK, http.Header{"Content-Type": {"application/xml"}}, []byte(failure)), nil
		}
		w := b.ask("root", "PUT", "/bucket/k", query, http.Header{"X-Amz-Copy-Source": {"/bucket/source"}}, "")
		if w.Body.String() != failure {
			t.Errorf("%q: %d %q", query, w.Code, w.Body)
		}
	}
	b.up.Before = nil
	if w := b.ask("root", "GET", "/bucket/k", "", nil, ""); w.Body.String() != "new" {
		t.Errorf("%q is served after the copy", w.Body)
	}
}

// TestSourceEncoding: in x-amz-copy-source a plus sign is a space, as in a query, and %2B a plus sign. What
// the upstream gets is unambiguous.
func TestSourceEncoding(t *testing.T) {
	for value, want := range map[string]string{
		"bucket/a+b":           "a b",
		"bucket/a%20b":         "a b",
		"bucket/a%2Bb":         "a+b",
		"/bucket/a%2bb":        "a+b",
		"bucket%2Fa%2Fb+c":     "a/b c",
		"bucket/a%252Bb":       "a%2Bb",
		"bucket/k?versionId=1": "k",
	} {
		s, err := parseSource(value)
		if err != nil || s.key.Bucket != "bucket" || s.key.Name != want {
			t.Errorf("%s: %+v, %v; want the key %q", value, s, err, want)
			continue
		}
		if strings.ContainsAny(s.encoded(), "+ ") {
			t.Errorf("%s goes to the upstream as %s", value, s.encoded())
		}
	}
}
