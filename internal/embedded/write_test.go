package embedded

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/testing/testkit"
)

type doer func(method, target string, header http.Header, body []byte) *httptest.ResponseRecorder

// ok fails the test unless the response is a success.
func ok(t *testing.T, w *httptest.ResponseRecorder) *httptest.ResponseRecorder {
	t.Helper()
	if w.Code >= 300 {
		t.Fatal(w.Code, w.Body)
	}
	return w
}

func sumOf(a checksum.Algorithm, body []byte) string {
	h := a.New()
	h.Write(body)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

func etagOf(body []byte) string { return fmt.Sprintf(`"%x"`, md5.Sum(body)) }

// TestDigests: the digests of a request are compared with its body, and checksums are stored.
func TestDigests(t *testing.T) {
	s, do := open(t, testkit.MemoryDir(t))
	defer s.Close()
	ok(t, do("PUT", "/bucket", nil, nil))
	body := []byte("hello")
	sum := md5.Sum(body)
	for _, a := range checksum.Algorithms {
		good := sumOf(a, body)
		w := ok(t, do("PUT", "/bucket/"+a.Name, http.Header{a.Header: {good}}, body))
		if got := w.Header().Get(a.Header); got != good || w.Header().Get(checksumType) != "FULL_OBJECT" {
			t.Errorf("%s: the answer to the PUT says %q of type %q, want %q", a.Name, got, w.Header().Get(checksumType), good)
		}
		for _, method := range []string{"GET", "HEAD"} {
			w = ok(t, do(method, "/bucket/"+a.Name, http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}, nil))
			if got := w.Header().Get(a.Header); got != good || w.Header().Get(checksumType) != "FULL_OBJECT" {
				t.Errorf("%s: %s says %q of type %q, want %q", a.Name, method, got, w.Header().Get(checksumType), good)
			}
			if w = ok(t, do(method, "/bucket/"+a.Name, nil, nil)); w.Header().Get(a.Header) != "" || w.Header().Get(checksumType) != "" {
				t.Errorf("%s: %s says a checksum that nobody asked for", a.Name, method)
			}
		}
		if w := ok(t, do("GET", "/bucket/"+a.Name+"?attributes", http.Header{"X-Amz-Object-Attributes": {"Checksum,ObjectSize"}}, nil)); !strings.Contains(w.Body.String(), "<Checksum"+a.Name+">"+good) {
			t.Errorf("%s: GetObjectAttributes: %s", a.Name, w.Body)
		}
	}
	crc := checksum.Algorithms[2] // CRC32
	bad := sumOf(crc, []byte("other"))
	for _, c := range []struct {
		name   string
		header http.Header
		code   string // "" for success
	}{
		{"MD5", http.Header{"Content-Md5": {base64.StdEncoding.EncodeToString(sum[:])}}, ""},
		{"wrong MD5", http.Header{"Content-Md5": {base64.StdEncoding.EncodeToString(make([]byte, 16))}}, "BadDigest"},
		{"no MD5", http.Header{"Content-Md5": {""}}, "InvalidDigest"},
		{"malformed MD5", http.Header{"Content-Md5": {"x"}}, "InvalidDigest"},
		{"wrong checksum", http.Header{crc.Header: {bad}}, "BadDigest"},
		{"malformed checksum", http.Header{crc.Header: {"x"}}, "InvalidRequest"},
		{"two checksums", http.Header{crc.Header: {sumOf(crc, body)}, checksum.Algorithms[1].Header: {sumOf(checksum.Algorithms[1], body)}}, "InvalidRequest"},
		{"the SDK names the algorithm", http.Header{crc.Header: {sumOf(crc, body)}, "X-Amz-Sdk-Checksum-Algorithm": {"CRC32"}}, ""},
		{"the SDK names another algorithm", http.Header{crc.Header: {sumOf(crc, body)}, "X-Amz-Sdk-Checksum-Algorithm": {"SHA1"}}, "InvalidRequest"},
		{"the SDK names an algorithm, and there is no checksum", http.Header{"X-Amz-Sdk-Checksum-Algorithm": {"SHA1"}}, "InvalidRequest"},
		{"asked for", http.Header{"X-Amz-Checksum-Algorithm": {"SHA1"}}, ""},
		{"asked for, unknown", http.Header{"X-Amz-Checksum-Algorithm": {"SHA0"}}, "InvalidRequest"},
		{"asked for, another one", http.Header{"X-Amz-Checksum-Algorithm": {"SHA1"}, crc.Header: {sumOf(crc, body)}}, "InvalidRequest"},
		{"composite", http.Header{crc.Header: {sumOf(crc, body)}, checksumType: {"COMPOSITE"}}, "InvalidRequest"},
		{"full object", http.Header{crc.Header: {sumOf(crc, body)}, checksumType: {"FULL_OBJECT"}}, ""},
		{"framing that nobody took off", http.Header{"X-Amz-Content-Sha256": {"STREAMING-UNSIGNED-PAYLOAD-TRAILER"}}, "NotImplemented"},
		{"a trailer that is no checksum", http.Header{"X-Amz-Trailer": {"x-amz-colour"}}, "InvalidRequest"},
	} {
		w := do("PUT", "/bucket/"+strings.ReplaceAll(c.name, " ", "-"), c.header, body)
		if c.code == "" && w.Code != 200 || c.code != "" && !strings.Contains(w.Body.String(), "<Code>"+c.code+"</Code>") {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
		stored := do("GET", "/bucket/"+strings.ReplaceAll(c.name, " ", "-"), nil, nil)
		if c.code == "" && stored.Body.String() != "hello" || c.code != "" && stored.Code != 404 {
			t.Errorf("%s: what is stored: %d %q", c.name, stored.Code, stored.Body)
		}
	}
}

// trailed is a body with a trailer, as an authenticator returns it.
type trailed struct {
	io.Reader
	trailer http.Header
}

func (trailed) Close() error           { return nil }
func (b trailed) Trailer() http.Header { return b.trailer }

// TestTrailingChecksum: a checksum in a trailer is verified and stored like one in a header.
func TestTrailingChecksum(t *testing.T) {
	crc := checksum.Algorithms[2]
	body := bytes.Repeat([]byte("x"), 3<<20)
	var value string
	s, err := Open(testkit.MemoryDir(t), func(r *http.Request) error {
		r.Body = trailed{r.Body, http.Header{crc.Header: {value}}}
		return nil
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	do := func(method, target string, header http.Header, body []byte) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, target, bytes.NewReader(body))
		r.Header = header
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	ok(t, do("PUT", "/bucket", http.Header{}, nil))
	trailer := http.Header{"X-Amz-Trailer": {strings.ToLower(crc.Header)}, "X-Amz-Sdk-Checksum-Algorithm": {"CRC32"}}
	for _, c := range []struct {
		name, value string
		status      int
	}{{"right", sumOf(crc, body), 200}, {"wrong", sumOf(crc, nil), 400}, {"missing", "", 400}} {
		value = c.value
		w := do("PUT", "/bucket/"+c.name, trailer.Clone(), body)
		if w.Code != c.status || c.status == 200 && w.Header().Get(crc.Header) != c.value {
			t.Errorf("%s: %d %s %v", c.name, w.Code, w.Body, w.Header())
		}
		w = do("HEAD", "/bucket/"+c.name, http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}, nil)
		if c.status == 200 && w.Header().Get(crc.Header) != c.value || c.status != 200 && w.Code != 404 {
			t.Errorf("%s: HEAD: %d %v", c.name, w.Code, w.Header())
		}
	}
}

// multi is a multipart upload.
type multi struct {
	t      *testing.T
	do     doer
	id     string
	bodies [][]byte
	etags  []string
	sums   []string
}

func begin(t *testing.T, do doer, header http.Header) *multi {
	t.Helper()
	w := ok(t, do("POST", "/bucket/k?uploads", header, nil))
	return &multi{t: t, do: do, id: between(w.Body.String(), "<UploadId>", "</UploadId>")}
}

func (m *multi) put(body []byte, header http.Header, algorithm string) {
	m.t.Helper()
	w := ok(m.t, m.do("PUT", fmt.Sprintf("/bucket/k?uploadId=%s&partNumber=%d", m.id, len(m.etags)+1), header, body))
	m.bodies, m.etags = append(m.bodies, body), append(m.etags, w.Header().Get("Etag"))
	m.sums = append(m.sums, w.Header().Get("X-Amz-Checksum-"+algorithm))
}

// complete completes the upload; with algorithm, each part has its checksum.
func (m *multi) complete(algorithm string, header http.Header) *httptest.ResponseRecorder {
	var b strings.Builder
	for i, etag := range m.etags {
		fmt.Fprintf(&b, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag>", i+1, etag)
		if algorithm != "" {
			fmt.Fprintf(&b, "<Checksum%[1]s>%[2]s</Checksum%[1]s>", algorithm, m.sums[i])
		}
		b.WriteString("</Part>")
	}
	return m.do("POST", "/bucket/k?uploadId="+m.id, header, []byte("<CompleteMultipartUpload>"+b.String()+"</CompleteMultipartUpload>"))
}

// TestMultipartChecksums: an object of a multipart upload has a checksum of the type that the upload was
// created with, in all responses in which S3 returns it.
func TestMultipartChecksums(t *testing.T) {
	s, do := open(t, testkit.MemoryDir(t))
	defer s.Close()
	ok(t, do("PUT", "/bucket", nil, nil))
	first, last := bytes.Repeat([]byte("a"), minPart), []byte("tail")
	for _, a := range checksum.Algorithms {
		for _, how := range append(a.Types(), "") {
			if len(a.Types()) == 0 {
				if w := do("POST", "/bucket/k?uploads", http.Header{"X-Amz-Checksum-Algorithm": {a.Name}}, nil); w.Code != 501 {
					t.Errorf("%s: %d %s", a.Name, w.Code, w.Body)
				}
				continue
			}
			name := a.Name + " " + how
			header := http.Header{"X-Amz-Checksum-Algorithm": {a.Name}}
			if how != "" {
				header[checksumType] = []string{how}
			} else {
				how = a.Types()[0]
			}
			m := begin(t, do, header)
			m.put(first, http.Header{a.Header: {sumOf(a, first)}}, a.Name)
			m.put(last, nil, a.Name) // computed by the upstream if the client sends none
			if m.sums[0] != sumOf(a, first) || m.sums[1] != sumOf(a, last) {
				t.Fatalf("%s: parts %v", name, m.sums)
			}
			listed := ok(t, do("GET", "/bucket/k?uploadId="+m.id, nil, nil)).Body.String()
			if !strings.Contains(listed, "<ChecksumAlgorithm>"+a.Name) || !strings.Contains(listed, "<ChecksumType>"+how) || strings.Count(listed, "<Checksum"+a.Name+">") != 2 {
				t.Errorf("%s: ListParts: %s", name, listed)
			}
			want, err := a.OfParts(how, []checksum.Part{{Value: m.sums[0], Size: minPart}, {Value: m.sums[1], Size: 4}})
			if err != nil {
				t.Fatal(err)
			}
			if how == checksum.FullObject && want != sumOf(a, append(bytes.Clone(first), last...)) {
				t.Fatalf("%s: the expectation is not of the whole body", name)
			}
			done := ok(t, m.complete(a.Name, http.Header{checksumType: {how}, a.Header: {want}})).Body.String()
			if !strings.Contains(done, "<Checksum"+a.Name+">"+want+"<") || !strings.Contains(done, "<ChecksumType>"+how) {
				t.Errorf("%s: Complete: %s", name, done)
			}
			head := ok(t, do("HEAD", "/bucket/k", http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}, nil)).Header()
			if head.Get(a.Header) != want || head.Get(checksumType) != how {
				t.Errorf("%s: HEAD: %v", name, head)
			}
			attributes := ok(t, do("GET", "/bucket/k?attributes", http.Header{"X-Amz-Object-Attributes": {"Checksum,ObjectParts"}, "X-Amz-Max-Parts": {"1"}}, nil)).Body.String()
			if !strings.Contains(attributes, "<Checksum"+a.Name+">"+want) || !strings.Contains(attributes, "<PartsCount>2<") || !strings.Contains(attributes, "<IsTruncated>true<") || !strings.Contains(attributes, "<Size>5242880</Size><Checksum"+a.Name+">"+m.sums[0]) {
				t.Errorf("%s: GetObjectAttributes: %s", name, attributes)
			}
			if page := ok(t, do("GET", "/bucket", nil, nil)).Body.String(); !strings.Contains(page, "<ChecksumType>"+how) {
				t.Errorf("%s: ListObjects: %s", name, page)
			}
		}
	}
}

// TestRefusedCompletes: a CompleteMultipartUpload that is refused, because of a condition or a mismatch,
// leaves the object and the upload as they were.
func TestRefusedCompletes(t *testing.T) {
	s, do := open(t, testkit.MemoryDir(t))
	defer s.Close()
	ok(t, do("PUT", "/bucket", nil, nil))
	crc, sha := checksum.Algorithms[2], checksum.Algorithms[3]
	there := []byte("there")
	body := []byte("in one part")
	for _, c := range []struct {
		name      string
		algorithm string // of the upload
		header    http.Header
		parts     string // algorithm of the parts in the document
		absent    bool   // no object exists before
		status    int
		code      string
	}{
		{"only if there is none", "", http.Header{"If-None-Match": {"*"}}, "", false, 412, "PreconditionFailed"},
		{"only if there is none, of one ETag", "", http.Header{"If-None-Match": {`"x"`}}, "", false, 501, "NotImplemented"},
		{"only if it is another one", "", http.Header{"If-Match": {`"x"`}}, "", false, 412, "PreconditionFailed"},
		{"only if it is one, and there is none", "", http.Header{"If-Match": {`"x"`}}, "", true, 404, "NoSuchKey"},
		{"another size", "", http.Header{"X-Amz-Mp-Object-Size": {"3"}}, "", false, 400, "InvalidRequest"},
		{"no size", "", http.Header{"X-Amz-Mp-Object-Size": {"-1"}}, "", false, 400, "InvalidRequest"},
		{"another type", "CRC32", http.Header{checksumType: {"FULL_OBJECT"}}, "CRC32", false, 400, "InvalidRequest"},
		{"a type of an upload without a checksum", "", http.Header{checksumType: {"FULL_OBJECT"}}, "", false, 400, "InvalidRequest"},
		{"no checksums of parts", "CRC32", nil, "", false, 400, "InvalidRequest"},
		{"checksums of another algorithm", "CRC32", nil, "SHA1", false, 400, "InvalidPart"},
		{"another checksum of the object", "CRC32", http.Header{crc.Header: {sumOf(crc, []byte("x"))}}, "CRC32", false, 400, "BadDigest"},
		{"a checksum of another algorithm", "CRC32", http.Header{sha.Header: {sumOf(sha, body)}}, "CRC32", false, 400, "InvalidRequest"},
		{"a checksum, and the upload has none", "", http.Header{crc.Header: {sumOf(crc, body)}}, "", false, 400, "InvalidRequest"},
		{"a wrong digest of the document", "", http.Header{"Content-Md5": {base64.StdEncoding.EncodeToString(make([]byte, 16))}}, "", false, 400, "BadDigest"},
	} {
		if c.absent {
			ok(t, do("DELETE", "/bucket/k", nil, nil))
		} else {
			ok(t, do("PUT", "/bucket/k", nil, there))
		}
		create := http.Header{}
		if c.algorithm != "" {
			create["X-Amz-Checksum-Algorithm"] = []string{c.algorithm}
		}
		m := begin(t, do, create)
		m.put(body, nil, c.algorithm)
		if w := m.complete(c.parts, c.header); w.Code != c.status || !strings.Contains(w.Body.String(), "<Code>"+c.code+"</Code>") {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
		if w := do("GET", "/bucket/k", nil, nil); !c.absent && w.Body.String() != "there" || c.absent && w.Code != 404 {
			t.Errorf("%s: the object is %d %q now", c.name, w.Code, w.Body)
		}
		parts := ""
		if c.algorithm != "" {
			parts = c.algorithm
		}
		held := http.Header{"X-Amz-Mp-Object-Size": {fmt.Sprint(len(body))}}
		if !c.absent {
			held["If-Match"] = []string{etagOf(there)}
		} else {
			held["If-None-Match"] = []string{"*"}
		}
		if w := m.complete(parts, held); w.Code != 200 {
			t.Errorf("%s: the upload is lost: %d %s", c.name, w.Code, w.Body)
		}
		if w := do("GET", "/bucket/k", nil, nil); w.Body.String() != string(body) {
			t.Errorf("%s: after the second Complete: %d %q", c.name, w.Code, w.Body)
		}
	}
}

// TestCopies: ranges, conditions and directives of copies, and copies onto themselves.
func TestCopies(t *testing.T) {
	s, do := open(t, testkit.MemoryDir(t))
	defer s.Close()
	ok(t, do("PUT", "/bucket", nil, nil))
	crc := checksum.Algorithms[2]
	put := func() {
		ok(t, do("PUT", "/bucket/source", http.Header{"X-Amz-Meta-A": {"1"}, "Cache-Control": {"max-age=1"}, redirectHeader: {"/x"}, crc.Header: {sumOf(crc, []byte("0123456789"))}}, []byte("0123456789")))
	}
	put()
	m := begin(t, do, http.Header{"X-Amz-Checksum-Algorithm": {"CRC32"}})
	for _, c := range []struct {
		name, rng, code, want string
	}{
		{"all", "", "", "0123456789"},
		{"some", "bytes=2-4", "", "234"},
		{"to the last byte", "bytes=2-9", "", "23456789"},
		{"behind the end", "bytes=2-10", "InvalidArgument", ""},
		{"far behind the end", "bytes=0-99999999999999999999999", "InvalidArgument", ""},
		{"begins behind the end", "bytes=10-10", "InvalidArgument", ""},
		{"open", "bytes=2-", "InvalidArgument", ""},
		{"suffix", "bytes=-2", "InvalidArgument", ""},
		{"reversed", "bytes=4-2", "InvalidArgument", ""},
		{"two", "bytes=0-1,3-4", "InvalidArgument", ""},
		{"other unit", "lines=0-1", "InvalidArgument", ""},
		{"no unit", "0-1", "InvalidArgument", ""},
		{"nothing", "bytes=", "InvalidArgument", ""},
	} {
		header := http.Header{"X-Amz-Copy-Source": {"bucket/source"}}
		if c.rng != "" {
			header["X-Amz-Copy-Source-Range"] = []string{c.rng}
		}
		w := do("PUT", "/bucket/k?partNumber=1&uploadId="+m.id, header, nil)
		if c.code != "" {
			if w.Code != 400 || !strings.Contains(w.Body.String(), "<Code>"+c.code+"<") {
				t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
			}
			continue
		}
		if w.Code != 200 || !strings.Contains(w.Body.String(), "<ChecksumCRC32>"+sumOf(crc, []byte(c.want))) || between(w.Body.String(), "<ETag>", "</ETag>") != strings.ReplaceAll(etagOf([]byte(c.want)), `"`, "&#34;") {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
	}
	const past, future = "Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
	for _, c := range []struct {
		name, target, source string
		header               http.Header
		code                 string
		meta, redirect       string // of the copy
	}{
		{"plain", "copy", "/bucket/source", nil, "", "1", ""},
		{"with another redirect", "copy", "bucket/source", http.Header{redirectHeader: {"/y"}}, "", "1", "/y"},
		{"with other metadata", "copy", "bucket/source?versionId=null", http.Header{"X-Amz-Metadata-Directive": {"REPLACE"}, "X-Amz-Meta-A": {"2"}}, "", "2", ""},
		{"an encoded source", "copy", "bucket%2Fso%75rce", nil, "", "1", ""},
		{"of a version", "copy", "bucket/source?versionId=v1", nil, "NotImplemented", "", ""},
		{"with another subresource", "copy", "bucket/source?acl", nil, "InvalidArgument", "", ""},
		{"of no key", "copy", "bucket", nil, "InvalidArgument", "", ""},
		{"badly encoded", "copy", "bucket/%zz", nil, "InvalidArgument", "", ""},
		{"of nothing", "copy", "bucket/none", nil, "NoSuchKey", "", ""},
		{"of no bucket", "copy", "none/source", nil, "NoSuchBucket", "", ""},
		{"onto itself", "source", "/bucket/source", nil, "InvalidRequest", "", ""},
		{"onto itself, without a slash", "source", "bucket/source", nil, "InvalidRequest", "", ""},
		{"onto itself, encoded", "source", "bucket/s%6furce", http.Header{"X-Amz-Metadata-Directive": {"COPY"}}, "InvalidRequest", "", ""},
		{"onto itself with other metadata", "source", "bucket/source", http.Header{"X-Amz-Metadata-Directive": {"REPLACE"}, "X-Amz-Meta-A": {"3"}}, "", "3", ""},
		{"onto itself with a storage class", "source", "bucket/source", http.Header{"X-Amz-Storage-Class": {"STANDARD"}}, "", "1", ""},
		{"unknown directive", "copy", "bucket/source", http.Header{"X-Amz-Metadata-Directive": {"MERGE"}}, "InvalidArgument", "", ""},
		{"source unchanged", "copy", "bucket/source", http.Header{"X-Amz-Copy-Source-If-Match": {etagOf([]byte("0123456789"))}, "X-Amz-Copy-Source-If-Unmodified-Since": {past}}, "", "1", ""},
		{"source changed", "copy", "bucket/source", http.Header{"X-Amz-Copy-Source-If-Match": {`"x"`}}, "PreconditionFailed", "", ""},
		{"source is known", "copy", "bucket/source", http.Header{"X-Amz-Copy-Source-If-None-Match": {etagOf([]byte("0123456789"))}}, "PreconditionFailed", "", ""},
		{"source modified", "copy", "bucket/source", http.Header{"X-Amz-Copy-Source-If-Unmodified-Since": {past}}, "PreconditionFailed", "", ""},
		{"source not modified", "copy", "bucket/source", http.Header{"X-Amz-Copy-Source-If-Modified-Since": {future}}, "PreconditionFailed", "", ""},
		{"only if there is none", "there", "bucket/source", http.Header{"If-None-Match": {"*"}}, "PreconditionFailed", "", ""},
		{"only over another one", "there", "bucket/source", http.Header{"If-Match": {`"x"`}}, "PreconditionFailed", "", ""},
	} {
		put()
		ok(t, do("PUT", "/bucket/there", nil, []byte("there")))
		header := http.Header{"X-Amz-Copy-Source": {c.source}}
		for name, values := range c.header {
			header[name] = values
		}
		w := do("PUT", "/bucket/"+c.target, header, nil)
		if c.code != "" {
			if w.Code < 400 || !strings.Contains(w.Body.String(), "<Code>"+c.code+"<") {
				t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
			}
			continue
		}
		got := do("GET", "/bucket/"+c.target, http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}, nil)
		if w.Code != 200 || got.Body.String() != "0123456789" || got.Header().Get("X-Amz-Meta-A") != c.meta || got.Header().Get(redirectHeader) != c.redirect || got.Header().Get(crc.Header) == "" {
			t.Errorf("%s: %d %s, the copy is %q %v", c.name, w.Code, w.Body, got.Body, got.Header())
		}
	}
	sha := checksum.Algorithms[3]
	w := ok(t, do("PUT", "/bucket/copy", http.Header{"X-Amz-Copy-Source": {"bucket/source"}, "X-Amz-Checksum-Algorithm": {"SHA256"}}, nil))
	got := ok(t, do("HEAD", "/bucket/copy", http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}, nil)).Header()
	if want := sumOf(sha, []byte("0123456789")); !strings.Contains(w.Body.String(), want) || got.Get(sha.Header) != want || got.Get(crc.Header) != "" {
		t.Errorf("another checksum: %s, %v", w.Body, got)
	}
}

// TestConditions tests the conditions of PUT and DELETE.
func TestConditions(t *testing.T) {
	s, do := open(t, testkit.MemoryDir(t))
	defer s.Close()
	ok(t, do("PUT", "/bucket", nil, nil))
	tag := etagOf([]byte("old"))
	for _, c := range []struct {
		name, method string
		there        bool
		header       http.Header
		status       int
	}{
		{"put if none, none", "PUT", false, http.Header{"If-None-Match": {"*"}}, 200},
		{"put if none, one", "PUT", true, http.Header{"If-None-Match": {"*"}}, 412},
		{"put if match", "PUT", true, http.Header{"If-Match": {tag}}, 200},
		{"put if match without quotes", "PUT", true, http.Header{"If-Match": {strings.Trim(tag, `"`)}}, 200},
		{"put if match, other", "PUT", true, http.Header{"If-Match": {`"x"`}}, 412},
		{"put if match, none", "PUT", false, http.Header{"If-Match": {tag}}, 404},
		{"put if modified", "PUT", true, http.Header{"If-Modified-Since": {"Mon, 01 Jan 2001 00:00:00 GMT"}}, 501},
		{"delete if match", "DELETE", true, http.Header{"If-Match": {tag}}, 204},
		{"delete if any", "DELETE", true, http.Header{"If-Match": {"*"}}, 204},
		{"delete if match, other", "DELETE", true, http.Header{"If-Match": {`"x"`}}, 412},
		{"delete if any, none", "DELETE", false, http.Header{"If-Match": {"*"}}, 412},
		{"delete none", "DELETE", false, nil, 204},
	} {
		if c.there {
			ok(t, do("PUT", "/bucket/k", nil, []byte("old")))
		} else {
			ok(t, do("DELETE", "/bucket/k", nil, nil))
		}
		if w := do(c.method, "/bucket/k", c.header, []byte("new")); w.Code != c.status {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
		want := map[string]string{"PUT": "new", "DELETE": ""}[c.method]
		if c.status >= 300 && c.there {
			want = "old"
		} else if c.status >= 300 {
			want = ""
		}
		if w := do("GET", "/bucket/k", nil, nil); w.Code == 200 && w.Body.String() != want || w.Code != 200 && want != "" {
			t.Errorf("%s: the object is %d %q now", c.name, w.Code, w.Body)
		}
	}
}

// TestKeys: every valid S3 key is stored unchanged, and no key leads out of the directory.
func TestKeys(t *testing.T) {
	dir := t.TempDir()
	s, do := open(t, filepath.Join(dir, "inside"))
	ok(t, do("PUT", "/bucket", nil, nil))
	keys := []string{"a", "a/", "a/b", "a//b", "//", ".", "..", "./a", "a/../b", "../../../../escaped", `a\b`, "ctl\x01\x1f\x7fkey", "é ü+%2F&<>", strings.Repeat("x", 1024), strings.Repeat("y", 300) + "/" + strings.Repeat("z", 300), "NUL.txt ", "\uFFFE"}
	put := func(key string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("PUT", "/", strings.NewReader(key))
		r.URL.Path = "/bucket/" + key
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	for _, key := range keys {
		if w := put(key); w.Code != 200 {
			t.Errorf("%q: %d %s", key, w.Code, w.Body)
		}
	}
	for key, code := range map[string]string{strings.Repeat("x", 1025): "KeyTooLongError", "a\x00b": "InvalidURI", "\xff": "InvalidURI"} {
		if w := put(key); w.Code != 400 || !strings.Contains(w.Body.String(), code) {
			t.Errorf("%.20q: %d %s", key, w.Code, w.Body)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = open(t, filepath.Join(dir, "inside")) // what is on disk
	defer s.Close()
	for _, key := range keys {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path = "/bucket/" + key
		w := httptest.NewRecorder()
		if s.ServeHTTP(w, r); w.Code != 200 || w.Body.String() != key {
			t.Errorf("%q after a restart: %d %.100q", key, w.Code, w.Body)
		}
	}
	if found, err := s.backend.list("bucket", "", "", "", maxPage); err != nil || len(found.contents) != len(keys) {
		t.Errorf("%d keys are listed, want %d, %v", len(found.contents), len(keys), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("outside of the directory there are %v, %v", entries, err)
	}
}

// TestBodiesThatEndEarly: a truncated body is not stored and leaves no file.
func TestBodiesThatEndEarly(t *testing.T) {
	s, do := open(t, testkit.MemoryDir(t))
	defer s.Close()
	ok(t, do("PUT", "/bucket", nil, nil))
	m := begin(t, do, nil)
	for _, target := range []string{"/bucket/k", "/bucket/k?partNumber=1&uploadId=" + m.id} {
		for name, body := range map[string]io.Reader{"short": strings.NewReader("half"), "broken": io.MultiReader(strings.NewReader("half"), broken{})} {
			r := httptest.NewRequest("PUT", target, body)
			r.ContentLength = 8
			w := httptest.NewRecorder()
			if s.ServeHTTP(w, r); w.Code != 400 || !strings.Contains(w.Body.String(), "IncompleteBody") {
				t.Errorf("%s, %s: %d %s", target, name, w.Code, w.Body)
			}
		}
	}
	if w := do("GET", "/bucket/k", nil, nil); w.Code != 404 {
		t.Errorf("a half object: %d %q", w.Code, w.Body)
	}
	if w := ok(t, do("GET", "/bucket/k?uploadId="+m.id, nil, nil)); strings.Contains(w.Body.String(), "<Part>") {
		t.Errorf("a half part: %s", w.Body)
	}
	if n := len(files(t, s)); n != 0 {
		t.Errorf("%d files are left", n)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func files(t *testing.T, s *Server) (all []string) {
	t.Helper()
	err := filepath.WalkDir(s.backend.blobs, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestDeletedBuckets: deleting a bucket also deletes its uploads, and a write fails if its bucket is
// deleted while the body is received.
func TestDeletedBuckets(t *testing.T) {
	s, do := open(t, testkit.MemoryDir(t))
	defer s.Close()
	ok(t, do("PUT", "/bucket", nil, nil))
	m := begin(t, do, nil)
	m.put([]byte("part"), nil, "")
	ok(t, do("DELETE", "/bucket", nil, nil))
	if n := len(files(t, s)); n != 0 {
		t.Errorf("%d files are left", n)
	}
	ok(t, do("PUT", "/bucket", nil, nil))
	if w := m.complete("", nil); w.Code != 404 {
		t.Errorf("an upload of the bucket that was there before: %d %s", w.Code, w.Body)
	}
	r := httptest.NewRequest("PUT", "/bucket/k", io.MultiReader(strings.NewReader("body"), readerFunc(func([]byte) (int, error) {
		ok(t, do("DELETE", "/bucket", nil, nil))
		return 0, io.EOF
	})))
	r.ContentLength = 4
	w := httptest.NewRecorder()
	if s.ServeHTTP(w, r); w.Code != 404 || !strings.Contains(w.Body.String(), "NoSuchBucket") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if n := len(files(t, s)); n != 0 {
		t.Errorf("%d files are left", n)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestRecordsOfEarlierReleases: objects and uploads of the release that stored no checksums of parts are
// still readable.
func TestRecordsOfEarlierReleases(t *testing.T) {
	s, do := open(t, testkit.MemoryDir(t))
	defer s.Close()
	ok(t, do("PUT", "/bucket", nil, nil))
	f, etag, err := s.backend.write(strings.NewReader("hello"), 5)
	if err != nil {
		t.Fatal(err)
	}
	crc := checksum.Algorithms[2]
	put := func(key []byte, document string) {
		if !json.Valid([]byte(document)) {
			t.Fatal(document)
		}
		if err := s.backend.index.Update(func(txn *badger.Txn) error { return txn.Set(key, []byte(document)) }); err != nil {
			t.Fatal(err)
		}
	}
	file := fmt.Sprintf(`{"ID":%q,"Size":5}`, f.ID)
	put(objectKey("bucket", "k"), fmt.Sprintf(`{"Blobs":[%s],"Size":5,"ETag":%q,"Modified":"2026-01-02T03:04:05Z","Parts":false,"Meta":{"Content-Type":"text/x","X-Amz-Meta-A":"b","X-Amz-Date":"20260102T030405Z","X-Amz-Checksum-Crc32":%q,"Last-Modified":"x"}}`, file, etag, sumOf(crc, []byte("hello"))))
	w := ok(t, do("GET", "/bucket/k", http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}, nil))
	if h := w.Header(); w.Body.String() != "hello" || h.Get("X-Amz-Meta-A") != "b" || h.Get("Content-Type") != "text/x" || h.Get(crc.Header) == "" || h.Get(checksumType) != "FULL_OBJECT" || h.Get("X-Amz-Date") != "" {
		t.Errorf("%q %v", w.Body, h)
	}
	// This is what the gateway's journal sends to continue such an upload: COMPOSITE lists the checksum
	// of each part, FULL_OBJECT has the checksum of the object.
	whole := sumOf(crc, []byte("hello"))
	composite, err := crc.OfParts(checksum.Composite, []checksum.Part{{Value: whole, Size: 5}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		meta, part string
		header     http.Header
		sum, how   string
	}{
		{`"X-Amz-Checksum-Algorithm":"CRC32"`, "<ChecksumCRC32>" + whole + "</ChecksumCRC32>", nil, composite, "COMPOSITE"},
		{`"X-Amz-Checksum-Algorithm":"CRC32","X-Amz-Checksum-Type":"FULL_OBJECT"`, "", http.Header{checksumType: {"FULL_OBJECT"}, crc.Header: {whole}}, whole, "FULL_OBJECT"},
		{`"X-Amz-Meta-B":"c"`, "", nil, "", ""},
	} {
		put(uploadKey("bucket", "m", "OLD"), `{"Started":"2026-01-02T03:04:05Z","Meta":{"X-Amz-Meta-A":"b",`+c.meta+`}}`)
		own, etag, err := s.backend.write(strings.NewReader("hello"), 5)
		if err != nil {
			t.Fatal(err)
		}
		put(partKey("OLD", 1), fmt.Sprintf(`{"Blob":{"ID":%q,"Size":5},"MD5":%q,"Modified":"2026-01-02T03:04:05Z"}`, own.ID, etag))
		ok(t, do("POST", "/bucket/m?uploadId=OLD", c.header, []byte("<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"+etag+"</ETag>"+c.part+"</Part></CompleteMultipartUpload>")))
		w = ok(t, do("GET", "/bucket/m", http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}, nil))
		if w.Body.String() != "hello" || w.Header().Get("X-Amz-Meta-A") != "b" || w.Header().Get(crc.Header) != c.sum || w.Header().Get(checksumType) != c.how {
			t.Errorf("%s: %q %v", c.meta, w.Body, w.Header())
		}
	}
}

// TestMissingFiles: an object whose file is missing can be deleted and replaced.
func TestMissingFiles(t *testing.T) {
	s, do := open(t, testkit.MemoryDir(t))
	defer s.Close()
	ok(t, do("PUT", "/bucket", nil, nil))
	for name, method := range map[string]string{"deleted": "DELETE", "replaced": "PUT"} {
		ok(t, do("PUT", "/bucket/k", nil, []byte("k")))
		for _, path := range files(t, s) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		if w := do(method, "/bucket/k", nil, []byte("new")); w.Code >= 300 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}
