package gateway

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/tiers/cold"
)

// client uploads in parts.
type client struct {
	t    *testing.T
	b    *bench
	path string
	id   string
	tags []string // of the parts, in order
	sums []string
}

// upload begins a multipart upload.
func (b *bench) upload(t *testing.T, path string, header http.Header) *client {
	t.Helper()
	b.g.handlers.uploads.minPart = 10
	w := b.ask("root", "POST", path, "uploads=", header, "")
	var answer struct {
		UploadID string `xml:"UploadId"`
	}
	if err := xml.Unmarshal(w.Body.Bytes(), &answer); w.Code != 200 || err != nil || answer.UploadID == "" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return &client{t: t, b: b, path: path, id: answer.UploadID}
}

func (c *client) ask(method, query string, header http.Header, body string) *httptest.ResponseRecorder {
	c.t.Helper()
	return c.b.ask("root", method, c.path, query+"uploadId="+url.QueryEscape(c.id), header, body)
}

func (c *client) part(n int, body string, header http.Header) *httptest.ResponseRecorder {
	c.t.Helper()
	return c.ask("PUT", fmt.Sprintf("partNumber=%d&", n), header, body)
}

func (c *client) mustPart(n int, body string, header http.Header) {
	c.t.Helper()
	w := c.part(n, body, header)
	if want := fmt.Sprintf("\"%x\"", md5.Sum([]byte(body))); w.Code != 200 || tagOf(w) != want {
		c.t.Fatalf("part %d: %d %s %s", n, w.Code, tagOf(w), w.Body)
	}
	sum, element := sentHeader(w, "x-amz-checksum-crc32"), ""
	if sum != "" {
		element = "<ChecksumCRC32>" + sum + "</ChecksumCRC32>"
	}
	c.tags = append(c.tags, fmt.Sprintf("<Part><PartNumber>%d</PartNumber><ETag>%s</ETag>%s</Part>", n, tagOf(w), element))
	c.sums = append(c.sums, sum)
}

func (c *client) complete(header http.Header) *httptest.ResponseRecorder {
	c.t.Helper()
	return c.ask("POST", "", header, "<CompleteMultipartUpload>"+strings.Join(c.tags, "")+"</CompleteMultipartUpload>")
}

func multipartTag(bodies ...string) string {
	all := md5.New()
	for _, body := range bodies {
		sum := md5.Sum([]byte(body))
		all.Write(sum[:])
	}
	return fmt.Sprintf("\"%x-%d\"", all.Sum(nil), len(bodies))
}

var partBodies = []string{strings.Repeat("a", 70_000), strings.Repeat("b", 40), "the end"}

// drain runs the pool until nothing is pending.
func (b *bench) drain(t *testing.T) {
	t.Helper()
	b.runPool(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	b.writes.DrainAll(ctx)
	if st := b.writes.Status(); st.Pending > 0 {
		t.Fatalf("not drained: %+v", st)
	}
}

// TestUploadInWriteBack: an upload is the journal's from beginning to end,
// its object is there at once, and is the same when it is upstream.
//
// Scenarios: B13, B14, B15.
func TestUploadInWriteBack(t *testing.T) {
	b := backBench(t)
	u := b.upload(t, "/back/k", http.Header{"Content-Type": {"a/b"}, "X-Amz-Meta-M": {"v"}})
	for i, body := range partBodies {
		u.mustPart(2*i+1, body, nil)
	}
	w := u.ask("GET", "max-parts=2&", nil, "")
	if text := w.Body.String(); w.Code != 200 || strings.Count(text, "<Part>") != 2 || !strings.Contains(text, "<NextPartNumberMarker>3</NextPartNumberMarker>") || !strings.Contains(text, "<IsTruncated>true</IsTruncated>") || !strings.Contains(text, "<Size>70000</Size>") {
		t.Errorf("ListParts: %d %s", w.Code, text)
	}
	if w = u.ask("GET", "part-number-marker=3&", nil, ""); strings.Count(w.Body.String(), "<Part>") != 1 || !strings.Contains(w.Body.String(), "<IsTruncated>false</IsTruncated>") {
		t.Errorf("ListParts behind 3: %s", w.Body)
	}
	if w = b.ask("root", "GET", "/back/k", "", nil, ""); w.Code != 404 || w.Header().Get("x-akigw-cache") == "overlay" {
		t.Errorf("before it is completed: %d", w.Code)
	}
	w = u.complete(nil)
	want, etag := strings.Join(partBodies, ""), multipartTag(partBodies...)
	if w.Code != 200 || !strings.Contains(w.Body.String(), "<Location>http://s3.example.com/back/k</Location>") || !strings.Contains(w.Body.String(), strings.Trim(etag, `"`)) || sentHeader(w, "x-akigw-commit") != "journal" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if b.up.Count("PUT")+b.up.Count("POST") > 0 || b.up.Len() != 0 {
		t.Error("something went upstream")
	}
	if again := u.complete(nil); again.Code != 200 || again.Body.String() != w.Body.String() {
		t.Errorf("completed once more: %d %s", again.Code, again.Body)
	}
	read := func(outcome string) {
		t.Helper()
		w := b.ask("root", "GET", "/back/k", "", nil, "")
		if w.Code != 200 || w.Body.String() != want || tagOf(w) != etag || w.Header().Get("Content-Type") != "a/b" || sentHeader(w, "x-amz-meta-m") != "v" || sentHeader(w, "x-akigw-cache") != outcome {
			t.Errorf("GET: %d, %d bytes, %v", w.Code, w.Body.Len(), w.Header())
		}
		w = b.ask("root", "GET", "/back/k", "", http.Header{"Range": {"bytes=69990-70050"}}, "")
		if w.Code != 206 || w.Body.String() != want[69990:70047] {
			t.Errorf("range: %d %q", w.Code, w.Body)
		}
	}
	read("overlay")
	w = b.ask("root", "GET", "/back/k", "partNumber=3", nil, "")
	if w.Code != 206 || w.Body.String() != partBodies[1] || sentHeader(w, "x-amz-mp-parts-count") != "3" || w.Header().Get("Content-Range") != "bytes 70000-70039/70047" {
		t.Errorf("part 3: %d %q %v", w.Code, w.Body, w.Header())
	}
	if w = b.ask("root", "GET", "/back", "list-type=2", nil, ""); !strings.Contains(w.Body.String(), "<Size>70047</Size>") || !strings.Contains(w.Body.String(), "-3&#34;") {
		t.Errorf("LIST: %s", w.Body)
	}
	b.drain(t)
	o, ok := b.up.Get(backKey("k"))
	if !ok || string(o.Body) != want || o.ETag != etag || o.Header.Get("X-Amz-Meta-M") != "v" || b.up.Uploads() != 0 {
		t.Fatalf("upstream: %t, %d bytes, %s, %d uploads", ok, len(o.Body), o.ETag, b.up.Uploads())
	}
	read("hot")
	if again := u.complete(nil); again.Code != 200 {
		t.Errorf("completed once more when it is upstream: %d %s", again.Code, again.Body)
	}
	for what, w := range map[string]*httptest.ResponseRecorder{"part": u.part(1, "x", nil), "list": u.ask("GET", "", nil, ""), "abort": u.ask("DELETE", "", nil, "")} {
		if w.Code != 404 || !strings.Contains(w.Body.String(), "NoSuchUpload") {
			t.Errorf("%s: %d %s", what, w.Code, w.Body)
		}
	}
}

// TestCompleteRefused: a completion that S3 would refuse changes nothing.
func TestCompleteRefused(t *testing.T) {
	b := backBench(t)
	u := b.upload(t, "/back/k", nil)
	u.mustPart(1, "too small", nil)
	u.mustPart(2, partBodies[1], nil)
	u.mustPart(3, partBodies[2], nil)
	good := u.tags
	for _, c := range []struct {
		code   string
		header http.Header
		parts  []string
	}{
		{"EntityTooSmall", nil, good},
		{"InvalidPart", nil, []string{strings.Replace(good[1], "2", "4", 1)}},
		{"InvalidPart", nil, []string{`<Part><PartNumber>2</PartNumber><ETag>"00000000000000000000000000000000"</ETag></Part>`}},
		{"InvalidPartOrder", nil, []string{good[2], good[1]}},
		{"MalformedXML", nil, nil},
		{"InvalidRequest", http.Header{"X-Amz-Mp-Object-Size": {"5"}}, good[1:]},
	} {
		u.tags = c.parts
		if w := u.complete(c.header); w.Code != 400 || !strings.Contains(w.Body.String(), "<Code>"+c.code+"</Code>") {
			t.Errorf("%s: %d %s", c.code, w.Code, w.Body)
		}
	}
	for _, n := range []string{"0", "10001", "x"} {
		if w := u.ask("PUT", "partNumber="+n+"&", nil, "x"); w.Code != 400 {
			t.Errorf("part number %s: %d", n, w.Code)
		}
	}
	if w := b.ask("root", "PUT", "/back/other", "partNumber=1&uploadId="+u.id, nil, "x"); w.Code != 404 {
		t.Errorf("a part of another key: %d", w.Code)
	}
	u.tags = []string{strings.ReplaceAll(good[1], `"`, ""), good[2]} // ETags without quotes are S3's too
	if w := u.complete(http.Header{"X-Amz-Mp-Object-Size": {"47"}}); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := b.ask("root", "GET", "/back/k", "", nil, ""); w.Body.String() != partBodies[1]+partBodies[2] {
		t.Errorf("%q", w.Body)
	}
}

// TestUploadChecksums: those of parts are verified or made, that of the object is
// made of them, and told like S3 does.
func TestUploadChecksums(t *testing.T) {
	for how, header := range map[string]http.Header{"COMPOSITE": {"X-Amz-Checksum-Algorithm": {"CRC32"}}, "FULL_OBJECT": {"X-Amz-Checksum-Algorithm": {"crc32"}, "X-Amz-Checksum-Type": {"FULL_OBJECT"}}} {
		b := backBench(t)
		u := b.upload(t, "/back/k", header)
		u.mustPart(1, partBodies[0], http.Header{"X-Amz-Checksum-Crc32": {crc32Of(partBodies[0])}})
		u.mustPart(2, partBodies[1], nil)
		if u.sums[0] != crc32Of(partBodies[0]) || u.sums[1] != crc32Of(partBodies[1]) {
			t.Errorf("%q", u.sums)
		}
		if w := u.part(3, "x", http.Header{"X-Amz-Checksum-Crc32": {crc32Of("y")}}); w.Code != 400 || !strings.Contains(w.Body.String(), "BadDigest") {
			t.Errorf("a wrong checksum: %d %s", w.Code, w.Body)
		}
		if w := u.part(3, "x", http.Header{"X-Amz-Checksum-Crc32c": {"AAAAAA=="}}); w.Code != 400 {
			t.Errorf("another algorithm: %d", w.Code)
		}
		whole := crc32Of(partBodies[0] + partBodies[1])
		if how == "COMPOSITE" {
			var raw []byte
			for _, s := range u.sums {
				sum, _ := base64.StdEncoding.DecodeString(s)
				raw = append(raw, sum...)
			}
			whole = crc32Of(string(raw)) + "-2"
		} else if w := u.complete(http.Header{"X-Amz-Checksum-Crc32": {crc32Of("other")}, "X-Amz-Checksum-Type": {"FULL_OBJECT"}}); w.Code != 400 {
			t.Errorf("a wrong checksum of the object: %d", w.Code)
		}
		good := u.tags
		for code, wrong := range map[string][]string{
			"InvalidRequest":  {"<ChecksumCRC32>" + u.sums[1] + "</ChecksumCRC32>", ""},
			"InvalidPart":     {u.sums[1], u.sums[0]},
			"InvalidArgument": {u.sums[1], "x"},
			"BadDigest":       {"<ChecksumCRC32>" + u.sums[1] + "</ChecksumCRC32>", "<ChecksumCRC32C>" + u.sums[1] + "</ChecksumCRC32C>"},
		} {
			u.tags = []string{good[0], strings.Replace(good[1], wrong[0], wrong[1], 1)}
			if w := u.complete(nil); (w.Code != 400 || !strings.Contains(w.Body.String(), "<Code>"+code+"</Code>")) && (code != "InvalidRequest" || how == "COMPOSITE") {
				t.Errorf("%s %s: %d %s", how, code, w.Code, w.Body)
			}
			if code == "InvalidRequest" && how != "COMPOSITE" { // it need not be there: begin again
				u = b.upload(t, "/back/k", header)
				u.mustPart(1, partBodies[0], nil)
				u.mustPart(2, partBodies[1], nil)
			}
		}
		u.tags = good
		for _, h := range []http.Header{{"X-Amz-Checksum-Crc32": {"x"}}, {"X-Amz-Checksum-Crc32": {"AAAAAA==-x"}}, {"X-Amz-Checksum-Crc32": {"AAAAAA=="}}, {"X-Amz-Checksum-Crc32": {whole}, "X-Amz-Checksum-Crc32c": {"AAAAAA=="}}, {"X-Amz-Checksum-Type": {"x"}}} {
			if w := u.complete(h); w.Code != 400 {
				t.Errorf("%v: %d %s", h, w.Code, w.Body)
			}
		}
		w := u.complete(http.Header{"X-Amz-Checksum-Crc32": {whole}, "X-Amz-Checksum-Type": {how}})
		if w.Code != 200 || !strings.Contains(w.Body.String(), "<ChecksumCRC32>"+whole+"</ChecksumCRC32><ChecksumType>"+how+"</ChecksumType>") {
			t.Errorf("%d %s, want %s", w.Code, w.Body, whole)
		}
		w = b.ask("root", "HEAD", "/back/k", "", http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}, "")
		if sentHeader(w, "x-amz-checksum-crc32") != whole || sentHeader(w, "x-amz-checksum-type") != how || sentHeader(w, "x-amz-checksum-algorithm") != "" {
			t.Errorf("%v", w.Header())
		}
	}
}

// TestAbortInWriteBack: an aborted upload is gone, with its bytes.
//
// Scenarios: B16.
func TestAbortInWriteBack(t *testing.T) {
	b := backBench(t)
	u := b.upload(t, "/back/k", nil)
	u.mustPart(1, partBodies[0], nil)
	if st := b.writes.Status(); st.Uploads != 1 || st.Bytes != 70_000 {
		t.Errorf("%+v", st.Stats)
	}
	if w := u.ask("DELETE", "", http.Header{"X-Amz-If-Match-Initiated-Time": {"Mon, 02 Jan 2006 15:04:05 GMT"}}, ""); w.Code != 412 {
		t.Errorf("of another time: %d %s", w.Code, w.Body)
	}
	if w := u.ask("DELETE", "", nil, ""); w.Code != 204 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for what, w := range map[string]*httptest.ResponseRecorder{"part": u.part(1, "x", nil), "complete": u.complete(nil), "abort": u.ask("DELETE", "", nil, "")} {
		if w.Code != 404 || !strings.Contains(w.Body.String(), "NoSuchUpload") {
			t.Errorf("%s: %d %s", what, w.Code, w.Body)
		}
	}
	if st := b.writes.Status(); st.Uploads != 0 || st.Bytes != 0 || b.up.Uploads() != 0 {
		t.Errorf("%+v", st.Stats)
	}
}

// TestConcurrentComplete: whoever asks gets the same answer.
//
// Scenarios: D16.
func TestConcurrentComplete(t *testing.T) {
	b := backBench(t)
	u := b.upload(t, "/back/k", nil)
	u.mustPart(1, partBodies[0], nil)
	answers := make([]string, 8)
	var wait sync.WaitGroup
	for i := range answers {
		wait.Go(func() {
			w := u.complete(nil)
			answers[i] = fmt.Sprint(w.Code, w.Body)
		})
	}
	wait.Wait()
	for _, a := range answers {
		if a != answers[0] || !strings.HasPrefix(a, "200") {
			t.Errorf("%s", a)
		}
	}
}

// TestUploadOutgrowsTheJournal: parts that the journal has no room for go to the
// upstream, those that it has follow when the upload is completed.
//
// Scenarios: E22.
func TestUploadOutgrowsTheJournal(t *testing.T) {
	config := testBack
	config.MaxPendingBytes = 1 << 20
	b := backBenchWith(t, config)
	var bodies []string
	for i := range 5 {
		bodies = append(bodies, strings.Repeat(string(rune('a'+i)), 400_000))
	}
	u := b.upload(t, "/back/k", http.Header{"X-Amz-Meta-M": {"v"}})
	for i, body := range bodies {
		u.mustPart(i+1, body, nil)
	}
	if st := b.writes.Status(); st.Bytes != 800_000 || b.up.Uploads() != 1 || b.up.Count("PUT") != 3 {
		t.Fatalf("%d bytes in the journal, %d uploads upstream with %d parts", st.Bytes, b.up.Uploads(), b.up.Count("PUT"))
	}
	if w := u.ask("GET", "", nil, ""); strings.Count(w.Body.String(), "<Part>") != 5 || !strings.Contains(w.Body.String(), "<UploadId>"+u.id+"<") {
		t.Errorf("ListParts: %s", w.Body)
	}
	w := u.complete(nil)
	if w.Code != 200 || sentHeader(w, "x-akigw-commit") != "upstream" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	o, ok := b.up.Get(backKey("k"))
	if !ok || o.ETag != multipartTag(bodies...) || string(o.Body) != strings.Join(bodies, "") || o.Header.Get("X-Amz-Meta-M") != "v" {
		t.Errorf("upstream: %t %s", ok, o.ETag)
	}
	b.drain(t)
	if st := b.writes.Status(); st.Uploads != 0 || st.Bytes != 0 || b.up.Uploads() != 0 {
		t.Errorf("%+v, %d uploads upstream", st.Stats, b.up.Uploads())
	}
}

// TestConditionalComplete: the upstream judges the condition, with all that was
// acknowledged before upstream.
func TestConditionalComplete(t *testing.T) {
	b := backBench(t)
	b.ask("root", "PUT", "/back/k", "", nil, "there")
	u := b.upload(t, "/back/k", nil)
	u.mustPart(1, partBodies[0], nil)
	had := -1
	b.up.Before = func(r *cold.Request) (*http.Response, error) {
		if r.Op == "CompleteMultipartUpload" && r.Header.Get("If-None-Match") == "*" {
			had = b.up.Len()
			return s3mem.Response(412, nil, []byte("<Error><Code>PreconditionFailed</Code></Error>")), nil
		}
		return nil, nil
	}
	b.runPool(t)
	if w := u.complete(http.Header{"If-None-Match": {"*"}}); w.Code != 412 || had != 1 {
		t.Errorf("%d %s, %d objects were upstream", w.Code, w.Body, had)
	}
	if w := u.ask("DELETE", "", nil, ""); w.Code != 204 {
		t.Errorf("abort: %d", w.Code)
	}
}

// TestUploadsAreListed: those in the journal and those upstream, in pages, each
// once.
//
// Scenarios: E16.
func TestUploadsAreListed(t *testing.T) {
	b := backBench(t)
	want := map[string]bool{}
	for i := range 12 {
		u := b.upload(t, fmt.Sprintf("/back/%c", 'a'+i/2), nil)
		want[u.id] = true
		resp, err := b.up.Do(t.Context(), &cold.Request{Method: "POST", Key: backKey(string(rune('a' + i/3))), Query: url.Values{"uploads": {""}}})
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			UploadID string `xml:"UploadId"`
		}
		if err := xml.NewDecoder(resp.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		want[answer.UploadID] = true
	}
	for _, size := range []int{1, 2, 3, 5, 100} {
		query, last := fmt.Sprintf("uploads=&max-uploads=%d", size), ""
		seen := map[string]bool{}
		for range 40 {
			w := b.ask("root", "GET", "/back", query, nil, "")
			var page struct {
				IsTruncated                       bool
				NextKeyMarker, NextUploadIdMarker string
				Upload                            []struct{ Key, UploadId string }
			}
			if err := xml.Unmarshal(w.Body.Bytes(), &page); w.Code != 200 || err != nil {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			for _, u := range page.Upload {
				if seen[u.UploadId] || u.Key < last {
					t.Errorf("pages of %d: %s of %s comes again, or behind %s", size, u.UploadId, u.Key, last)
				}
				seen[u.UploadId], last = true, u.Key
			}
			if !page.IsTruncated {
				break
			}
			query = fmt.Sprintf("uploads=&max-uploads=%d&key-marker=%s&upload-id-marker=%s", size, page.NextKeyMarker, page.NextUploadIdMarker)
		}
		if len(seen) != len(want) {
			t.Errorf("pages of %d: %d of %d uploads", size, len(seen), len(want))
		}
	}
	if w := b.ask("root", "GET", "/back", "uploads=&prefix=b", nil, ""); strings.Count(w.Body.String(), "<Upload>") != 5 {
		t.Errorf("with a prefix: %s", w.Body)
	}
}

// TestUploadsExpire: one that nobody goes on with is aborted; one with a fresh part
// stays.
func TestUploadsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := testBack
		config.MaxUploadSecs = 1
		b := backBenchWith(t, config)
		old, fresh := b.upload(t, "/back/old", nil), b.upload(t, "/back/fresh", nil)
		old.mustPart(1, partBodies[0], nil)
		time.Sleep(1500 * time.Millisecond)
		fresh.mustPart(1, partBodies[0], nil)
		b.runPool(t)
		for end := time.Now().Add(5 * time.Second); b.writes.Status().Uploads != 1 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
		if w := old.part(2, "x", nil); w.Code != 404 {
			t.Errorf("the old one: %d", w.Code)
		}
		if w := fresh.complete(nil); w.Code != 200 {
			t.Errorf("the fresh one: %d %s", w.Code, w.Body)
		}
	})
}

// TestUploadPartCopyInWriteBack: the upstream copies what is there, and the rest of
// the upload goes there too.
func TestUploadPartCopyInWriteBack(t *testing.T) {
	b := backBench(t)
	b.up.Put(backKey("source"), []byte(partBodies[1]))
	u := b.upload(t, "/back/k", nil)
	u.mustPart(1, partBodies[0], nil)
	var source bool
	b.up.Before = func(r *cold.Request) (*http.Response, error) {
		if r.Op == "UploadPartCopy" {
			_, source = b.up.Get(backKey("source"))
			r.Header.Del("X-Amz-Copy-Source")
			r.Body, r.Length = bytes.NewReader([]byte(partBodies[1])), int64(len(partBodies[1]))
		}
		return nil, nil
	}
	b.runPool(t)
	if w := u.ask("PUT", "partNumber=2&", http.Header{"X-Amz-Copy-Source": {"back/source"}}, ""); w.Code != 200 || !source {
		t.Fatalf("%d %s, the source was upstream: %t", w.Code, w.Body, source)
	}
	u.tags = append(u.tags, fmt.Sprintf("<Part><PartNumber>2</PartNumber><ETag>\"%x\"</ETag></Part>", md5.Sum([]byte(partBodies[1]))))
	u.mustPart(3, partBodies[2], nil)
	if w := u.complete(nil); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if o, _ := b.up.Get(backKey("k")); string(o.Body) != strings.Join(partBodies, "") {
		t.Errorf("%d bytes upstream", len(o.Body))
	}
}

// TestUploadsOfADeletedBucket: they go with it.
func TestUploadsOfADeletedBucket(t *testing.T) {
	b := backBench(t)
	u := b.upload(t, "/back/k", nil)
	u.mustPart(1, "x", nil)
	if w := b.ask("root", "DELETE", "/back", "", nil, ""); w.Code != 204 {
		t.Fatalf("%d", w.Code)
	}
	if st := b.writes.Status(); st.Uploads != 0 || st.Bytes != 0 {
		t.Errorf("%+v", st.Stats)
	}
}
