package gateway

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// uploading is a client that uploads /bucket/k in parts, through the gateway to the upstream.
type uploading struct {
	t    *testing.T
	g    *rig
	id   string
	tags map[int]string
}

func (g *rig) uploading(t *testing.T, header http.Header) *uploading {
	t.Helper()
	a := g.Must(t, "POST", "/bucket/k", "uploads=", header, nil)
	var answer struct {
		UploadID string `xml:"UploadId"`
	}
	if err := xml.Unmarshal(a.Body, &answer); a.Status != 200 || err != nil {
		t.Fatalf("CreateMultipartUpload: %d %s", a.Status, a.Body)
	}
	return &uploading{t, g, answer.UploadID, map[int]string{}}
}

func (u *uploading) ask(method, query string, header http.Header, body []byte) *s3client.Answer {
	u.t.Helper()
	return u.g.Must(u.t, method, "/bucket/k", query+"uploadId="+url.QueryEscape(u.id), header, body)
}

func (u *uploading) part(number int, body []byte, header http.Header) {
	u.t.Helper()
	a := u.ask("PUT", fmt.Sprintf("partNumber=%d&", number), header, body)
	if a.Status != 200 {
		u.t.Fatalf("part %d: %d %s", number, a.Status, a.Body)
	}
	u.tags[number] = a.Header.Get("Etag")
}

func (u *uploading) complete(numbers ...int) *s3client.Answer {
	u.t.Helper()
	var b strings.Builder
	for _, n := range numbers {
		fmt.Fprintf(&b, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", n, u.tags[n])
	}
	return u.ask("POST", "", nil, []byte("<CompleteMultipartUpload>"+b.String()+"</CompleteMultipartUpload>"))
}

// TestUploadIsCached: an object that went through the gateway in parts is read without being fetched,
// whole and by ranges, unless something was different about it.
func TestUploadIsCached(t *testing.T) {
	one, two := testkit.Bytes(1, 192<<10), testkit.Bytes(2, 100_000)
	customerKey := http.Header{"X-Amz-Server-Side-Encryption-Customer-Algorithm": {"AES256"}, "X-Amz-Server-Side-Encryption-Customer-Key": {"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}, "X-Amz-Server-Side-Encryption-Customer-Key-Md5": {"K09pYVIJH1BSSsxGWvNyLw=="}}
	chunked := http.Header{"X-Amz-Content-Sha256": {"UNSIGNED-PAYLOAD"}}
	for _, c := range []struct {
		name   string
		header http.Header // of CreateMultipartUpload
		upload func(u *uploading)
		cached bool
	}{
		{"two parts", nil, func(u *uploading) { u.part(1, one, nil); u.part(2, two, chunked) }, true},
		{"small parts", nil, func(u *uploading) { u.part(1, one[:64<<10], nil); u.part(2, two[:1000], nil) }, true},
		{"with metadata", http.Header{"X-Amz-Meta-A": {"b"}, "X-Amz-Tagging": {"a=b"}}, func(u *uploading) { u.part(1, one, nil); u.part(2, two, nil) }, true},
		{"completed at the second attempt", nil, func(u *uploading) {
			u.part(1, one, nil)
			u.part(2, two, nil)
			u.tags[3] = `"00000000000000000000000000000000"`
			if a := u.complete(1, 2, 3); a.Status != 400 {
				u.t.Errorf("a part that does not exist: %d %s", a.Status, a.Body)
			}
		}, true},
		{"a part that did not arrive", nil, func(u *uploading) {
			u.part(1, one, nil)
			if a := u.ask("PUT", "partNumber=2&", http.Header{"Content-Md5": {"AAAAAAAAAAAAAAAAAAAAAA=="}}, one); a.Status != 400 {
				u.t.Errorf("a part with a wrong digest: %d %s", a.Status, a.Body)
			}
			u.part(2, two, nil)
		}, false},
		{"the same after a part that did not arrive", nil, func(u *uploading) {
			u.part(1, one, nil)
			if a := u.ask("PUT", "partNumber=2&", http.Header{"Content-Md5": {"AAAAAAAAAAAAAAAAAAAAAA=="}}, two); a.Status != 400 {
				u.t.Errorf("a part with a wrong digest: %d %s", a.Status, a.Body)
			}
			u.part(2, two, nil)
		}, true},
		{"a customer's key", customerKey, func(u *uploading) { u.part(1, one, customerKey); u.part(2, two, customerKey) }, false},
		{"a customer's key for a part", nil, func(u *uploading) { u.part(1, one, customerKey); u.part(2, two, nil) }, false},
		{"a part past the gateway", nil, func(u *uploading) {
			u.part(1, one, nil)
			resp, err := u.g.up.Do(u.t.Context(), &cold.Request{Op: "UploadPart", Method: "PUT", Key: akigw.Key{Bucket: "bucket", Name: "k"}, Query: url.Values{"uploadId": {u.id}, "partNumber": {"2"}}, Body: bytes.NewReader(two), Length: int64(len(two))})
			if err != nil {
				u.t.Fatal(err)
			}
			u.tags[2] = resp.Header.Get("Etag")
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t, rules.Exclusive)
			u := g.uploading(t, c.header)
			c.upload(u)
			a := u.complete(1, 2)
			o, ok := g.up.Get(akigw.Key{Bucket: "bucket", Name: "k"})
			if a.Status != 200 || !ok {
				t.Fatalf("CompleteMultipartUpload: %d %s", a.Status, a.Body)
			}
			g.up.Reset()
			for range 2 {
				if a := g.Must(t, "GET", "/bucket/k", "", nil, nil); a.Status != 200 || !bytes.Equal(a.Body, o.Body) || a.Header.Get("Etag") != o.ETag || a.Header.Get("X-Amz-Meta-A") != o.Header.Get("X-Amz-Meta-A") {
					t.Fatalf("GET: %d, %d bytes, %v", a.Status, len(a.Body), a.Header)
				}
				if a := g.Must(t, "GET", "/bucket/k", "", http.Header{"Range": {"bytes=60000-70000"}}, nil); a.Status != 206 && len(o.Body) > 60000 || !bytes.Equal(a.Body, o.Body[60000:min(70001, len(o.Body))]) {
					t.Fatalf("range: %d, %d bytes", a.Status, len(a.Body))
				}
			}
			if n := g.up.Count("GET"); n == 0 != c.cached {
				t.Errorf("%d GETs, %d HEADs", n, g.up.Count("HEAD"))
			}
		})
	}
}

// TestErrorInsteadOfAnUpload: an error document in a 200, or one that says something else, leaves nothing
// in the cache, nor does the upload when it is completed after it.
func TestErrorInsteadOfAnUpload(t *testing.T) {
	tag := regexp.MustCompile(`<ETag>.*</ETag>`)
	for name, c := range map[string]struct {
		answer func(document string) string
		again  bool // the upstream has not completed it
	}{
		"an error":     {func(string) string { return "<Error><Code>InternalError</Code><Message>m</Message></Error>" }, true},
		"another ETag": {func(d string) string { return tag.ReplaceAllString(d, `<ETag>"x-1"</ETag>`) }, false},
		"no ETag":      {func(d string) string { return tag.ReplaceAllString(d, ``) }, false},
		"no document":  {func(string) string { return "" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, rules.Exclusive)
			u := g.uploading(t, nil)
			body := testkit.Bytes(1, 192<<10)
			u.part(1, body, nil)
			done := false
			g.up.Before = func(r *cold.Request) (*http.Response, error) {
				if r.Op == "CompleteMultipartUpload" && c.again && !done {
					done = true
					return s3mem.Response(200, nil, []byte(c.answer(""))), nil
				}
				return nil, nil
			}
			g.up.After = func(r *cold.Request, resp *http.Response) {
				if r.Op == "CompleteMultipartUpload" && !c.again {
					document := new(bytes.Buffer)
					document.ReadFrom(resp.Body)
					*resp = *s3mem.Response(200, nil, []byte(c.answer(document.String())))
				}
			}
			u.complete(1)
			if c.again {
				if a := g.Must(t, "GET", "/bucket/k", "", nil, nil); a.Status != 404 {
					t.Errorf("GET after an error: %d", a.Status)
				}
				u.complete(1)
			}
			g.up.Reset()
			if a := g.Must(t, "GET", "/bucket/k", "", nil, nil); a.Status != 200 || !bytes.Equal(a.Body, body) {
				t.Errorf("GET: %d, %d bytes", a.Status, len(a.Body))
			}
			if n := g.up.Count("GET"); n == 0 {
				t.Error("the object was cached")
			}
		})
	}
}

// TestRepeatedComplete: the upstream completes an upload, but its answer does not say so. The key is
// overwritten. When the client asks again, the upstream confirms (S3 does so for a while), but the key holds
// the later object.
func TestRepeatedComplete(t *testing.T) {
	for name, answer := range map[string]func() *http.Response{
		"an error": func() *http.Response { return s3mem.Response(500, nil, nil) },
		"an error in a 200": func() *http.Response {
			return s3mem.Response(200, nil, []byte("<Error><Code>InternalError</Code></Error>"))
		},
		"the upload is gone, after a repetition": func() *http.Response { return s3mem.Response(404, nil, nil) },
		"none, but it has no length":             nil,
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, rules.Exclusive)
			u := g.uploading(t, nil)
			u.part(1, testkit.Bytes(1, 192<<10), nil)
			var document []byte
			g.up.After = func(r *cold.Request, resp *http.Response) {
				if r.Op != "CompleteMultipartUpload" {
					return
				}
				document, _ = io.ReadAll(resp.Body)
				if answer != nil {
					*resp = *answer()
					return
				}
				*resp = *s3mem.Response(200, nil, document)
				resp.ContentLength = -1
			}
			u.complete(1)
			g.up.After = nil
			later := testkit.Bytes(2, 100_000)
			if a := g.Must(t, "PUT", "/bucket/k", "", nil, later); a.Status != 200 {
				t.Fatalf("PUT: %d", a.Status)
			}
			g.up.Before = func(r *cold.Request) (*http.Response, error) {
				if r.Op == "CompleteMultipartUpload" {
					return s3mem.Response(200, nil, document), nil
				}
				return nil, nil
			}
			if a := u.complete(1); a.Status != 200 {
				t.Fatalf("the second CompleteMultipartUpload: %d %s", a.Status, a.Body)
			}
			g.up.Reset()
			if a := g.Must(t, "GET", "/bucket/k", "", nil, nil); !bytes.Equal(a.Body, later) {
				t.Errorf("GET: %d, %d bytes, want the %d of the later object", a.Status, len(a.Body), len(later))
			}
			if n := g.up.Count("HEAD"); n > 0 {
				t.Error("the earlier object was in the cache until a HEAD found another one")
			}
		})
	}
}

// TestAbortedUpload: nothing of an aborted upload is kept, nor of one that gets a copy as a part.
func TestAbortedUpload(t *testing.T) {
	for name, end := range map[string]func(u *uploading) *s3client.Answer{
		"aborted": func(u *uploading) *s3client.Answer { return u.ask("DELETE", "", nil, nil) },
		"a copy as a part": func(u *uploading) *s3client.Answer {
			return u.ask("PUT", "partNumber=2&", http.Header{"X-Amz-Copy-Source": {"bucket/source"}}, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, rules.Exclusive)
			u := g.uploading(t, nil)
			u.part(1, testkit.Bytes(1, 192<<10), nil)
			if a := end(u); a.Status >= 300 && name == "aborted" {
				t.Fatalf("%d %s", a.Status, a.Body)
			}
			key := akigw.Key{Bucket: "bucket", Name: "k"}
			if part := g.store.BeginPart(key, u.id, 3, 1); part != nil {
				part.End()
				t.Error("the upload is still known")
			}
		})
	}
}
