package embedded

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// s3Headers are the request headers of S3's API beyond those of any HTTP client, and one that
// no service has. The walk below tries each on each operation.
var s3Headers = []string{
	"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range", "Content-Md5",
	"X-Amz-Acl", "X-Amz-Grant-Full-Control", "X-Amz-Grant-Read", "X-Amz-Grant-Read-Acp", "X-Amz-Grant-Write", "X-Amz-Grant-Write-Acp",
	"X-Amz-Tagging", "X-Amz-Tagging-Directive", "X-Amz-Metadata-Directive", "X-Amz-Object-Annotation-Directive", "X-Amz-Meta-Note", "X-Amz-Storage-Class", "X-Amz-Website-Redirect-Location",
	"X-Amz-Object-Lock-Mode", "X-Amz-Object-Lock-Retain-Until-Date", "X-Amz-Object-Lock-Legal-Hold", "X-Amz-Bypass-Governance-Retention", "X-Amz-Bucket-Object-Lock-Enabled",
	"X-Amz-Bucket-Object-Lock-Token", "X-Amz-Object-Ownership", "X-Amz-Expected-Bucket-Owner", "X-Amz-Source-Expected-Bucket-Owner", "X-Amz-Mfa", "X-Amz-Bucket-Namespace",
	"X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", "X-Amz-Server-Side-Encryption-Bucket-Key-Enabled", "X-Amz-Server-Side-Encryption-Context",
	"X-Amz-Server-Side-Encryption-Customer-Algorithm", "X-Amz-Server-Side-Encryption-Customer-Key", "X-Amz-Server-Side-Encryption-Customer-Key-Md5",
	"X-Amz-Copy-Source-Server-Side-Encryption-Customer-Algorithm", "X-Amz-Copy-Source-Server-Side-Encryption-Customer-Key", "X-Amz-Copy-Source-Server-Side-Encryption-Customer-Key-Md5",
	"X-Amz-Copy-Source-If-Match", "X-Amz-Copy-Source-If-None-Match", "X-Amz-Copy-Source-If-Modified-Since", "X-Amz-Copy-Source-If-Unmodified-Since", "X-Amz-Copy-Source-Range",
	"X-Amz-If-Match-Initiated-Time", "X-Amz-If-Match-Last-Modified-Time", "X-Amz-If-Match-Size", "X-Amz-Object-If-Match", "X-Amz-Write-Offset-Bytes", "X-Amz-Mp-Object-Size",
	"X-Amz-Object-Attributes", "X-Amz-Optional-Object-Attributes", "X-Amz-Max-Parts", "X-Amz-Part-Number-Marker", "X-Amz-Client-Token", "X-Amz-Restore-Output-Path",
	"X-Amz-Checksum-Mode", "X-Amz-Checksum-Algorithm", "X-Amz-Checksum-Type", "X-Amz-Sdk-Checksum-Algorithm", "X-Amz-Trailer",
	"X-Amz-Checksum-Crc32", "X-Amz-Checksum-Crc32c", "X-Amz-Checksum-Crc64nvme", "X-Amz-Checksum-Md5", "X-Amz-Checksum-Sha1", "X-Amz-Checksum-Sha256", "X-Amz-Checksum-Sha512",
	"X-Amz-Checksum-Xxhash3", "X-Amz-Checksum-Xxhash64", "X-Amz-Checksum-Xxhash128",
	"X-Amz-Skip-Destination-Validation", "X-Amz-Transition-Default-Minimum-Object-Size", "X-Amz-Confirm-Remove-Self-Bucket-Access", "X-Amz-Colour",
}

// s3Params are the query parameters of S3's API, sub-resources included, and one that no service has.
var s3Params = []string{
	"abac", "accelerate", "acl", "analytics", "annotation", "attributes", "cors", "delete", "encryption", "intelligent-tiering", "inventory", "legal-hold", "lifecycle", "location", "logging",
	"metadataConfiguration", "metadataTable", "metrics", "notification", "object-lock", "ownershipControls", "policy", "policyStatus", "publicAccessBlock", "renameObject", "replication",
	"requestPayment", "restore", "retention", "select", "select-type", "session", "tagging", "torrent", "uploads", "versioning", "versions", "website", "annotationName", "id",
	"bucket-region", "continuation-token", "delimiter", "encoding-type", "fetch-owner", "key-marker", "list-type", "marker", "max-buckets", "max-keys", "max-parts", "max-uploads", "partNumber",
	"part-number-marker", "prefix", "response-cache-control", "response-content-disposition", "response-content-encoding", "response-content-language", "response-content-type", "response-expires",
	"start-after", "uploadId", "upload-id-marker", "versionId", "version-id-marker", "colour",
}

// example returns a request of an operation that succeeds, with its own object and upload.
type example struct {
	header http.Header
	body   string
}

var examples = map[string]example{
	"CopyObject":              {header: http.Header{"X-Amz-Copy-Source": {"/bucket/source"}}},
	"UploadPartCopy":          {header: http.Header{"X-Amz-Copy-Source": {"/bucket/source"}}},
	"GetObjectAttributes":     {header: http.Header{"X-Amz-Object-Attributes": {"ETag"}}},
	"DeleteObjects":           {body: "<Delete><Object><Key>other</Key></Object></Delete>"},
	"CompleteMultipartUpload": {body: "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>UPLOADED</ETag></Part></CompleteMultipartUpload>"},
	"PutObject":               {body: "new"},
	"UploadPart":              {body: "new"},
}

// walk is the environment in which operations are tried.
type walk struct {
	t         *testing.T
	server    *Server
	do        func(method, target string, header http.Header, body []byte) *httptest.ResponseRecorder
	op        operation
	upload    string
	partsETag string
}

func newWalk(t *testing.T, op operation) *walk {
	s, do := open(t, testkit.MemoryDir(t))
	t.Cleanup(func() { s.Close() })
	w := &walk{t: t, server: s, do: do, op: op}
	for _, key := range []string{"", "/source", "/k", "/other"} {
		w.must(do("PUT", "/bucket"+key, nil, []byte(strings.TrimPrefix(key, "/"))))
	}
	w.upload = between(w.must(do("POST", "/bucket/k?uploads", nil, nil)).Body.String(), "<UploadId>", "</UploadId>")
	w.partsETag = w.must(do("PUT", "/bucket/k?partNumber=1&uploadId="+w.upload, nil, []byte("part"))).Header().Get("Etag")
	return w
}

func (w *walk) must(r *httptest.ResponseRecorder) *httptest.ResponseRecorder {
	w.t.Helper()
	if r.Code >= 300 {
		w.t.Fatal(r.Code, r.Body)
	}
	return r
}

func between(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return s
}

// send sends the example of the operation with one more parameter and header.
func (w *walk) send(param, value string, header http.Header) *httptest.ResponseRecorder {
	e := examples[w.op.name]
	query := url.Values{}
	for _, name := range w.op.selects {
		query.Set(name, map[string]string{"uploadId": w.upload, "partNumber": "1", "list-type": "2"}[name])
	}
	if param != "" {
		query.Set(param, value)
	}
	h := http.Header{}
	maps.Copy(h, e.header)
	maps.Copy(h, header)
	target := map[level]string{serviceLevel: "/", bucketLevel: "/bucket", objectLevel: "/bucket/k"}[w.op.level]
	if w.op.name == "CreateBucket" {
		target = "/new-bucket"
	}
	return w.do(w.op.method, target+"?"+query.Encode(), h, []byte(strings.ReplaceAll(e.body, "UPLOADED", strings.Trim(w.partsETag, `"`))))
}

// state describes the content of the upstream, to detect changes.
func (w *walk) state() string {
	return w.do("GET", "/bucket", nil, nil).Body.String() + w.do("GET", "/bucket/k?uploadId="+w.upload, nil, nil).Body.String() + w.do("GET", "/", nil, nil).Body.String()
}

// TestEveryHeaderAndParameter walks the table of operations. Each operation refuses every header and
// query parameter of S3's API that its row does not list, and then changes nothing. It accepts those
// that are listed.
func TestEveryHeaderAndParameter(t *testing.T) {
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) {
			w := newWalk(t, op)
			before := w.state()
			refused := 0
			for _, name := range s3Headers {
				if op.honours(name) {
					continue
				}
				refused++
				w.refuses(w.send("", "", http.Header{name: {"x"}}), "header "+name)
			}
			for _, name := range s3Params {
				if slices.Contains(op.selects, name) || slices.Contains(op.params, name) || w.other(name) {
					continue
				}
				refused++
				w.refuses(w.send(name, "", nil), "parameter "+name)
			}
			if got := w.state(); got != before {
				t.Errorf("what was refused changed\n%s\nto\n%s", before, got)
			}
			if refused < 50 {
				t.Errorf("only %d headers and parameters were refused", refused)
			}
			if r := w.send("", "", nil); r.Code >= 300 && op.name != "DeleteBucket" {
				t.Errorf("the plain request: %d %s", r.Code, r.Body)
			}
		})
	}
}

// other reports whether a parameter turns the request into another operation.
func (w *walk) other(param string) bool {
	return slices.ContainsFunc(operations, func(op operation) bool {
		missing := slices.DeleteFunc(slices.Clone(op.selects), func(s string) bool { return s == param || slices.Contains(w.op.selects, s) })
		return op.method == w.op.method && op.level == w.op.level && len(missing) == 0 && slices.Contains(op.selects, param) && (!op.copies || w.op.copies)
	})
}

func (w *walk) refuses(r *httptest.ResponseRecorder, what string) {
	w.t.Helper()
	if r.Code != http.StatusNotImplemented || w.op.method != "HEAD" && !strings.Contains(r.Body.String(), "<Code>NotImplemented</Code>") {
		w.t.Errorf("%s with %s: %d %s", w.op.name, what, r.Code, r.Body)
	}
}

// TestTheTableNamesWhatItHonours: each header and parameter in a row is accepted with a supported value.
// If only some values are supported, others are refused.
func TestTheTableNamesWhatItHonours(t *testing.T) {
	good := map[string]string{
		"X-Amz-Object-Attributes": "ETag", "X-Amz-Max-Parts": "1", "X-Amz-Part-Number-Marker": "0", "X-Amz-Mp-Object-Size": "4",
		"If-Match": `"8ce4b16b22b58894aa86c421e8759df3"`, "If-None-Match": "", "If-Modified-Since": "Mon, 01 Jan 2001 00:00:00 GMT", "If-Unmodified-Since": "Fri, 01 Jan 2100 00:00:00 GMT",
		"If-Range": `"x"`, "Range": "bytes=0-0", "X-Amz-Copy-Source-If-Match": "*", "X-Amz-Copy-Source-If-None-Match": `"x"`,
		"X-Amz-Copy-Source-If-Modified-Since": "Mon, 01 Jan 2001 00:00:00 GMT", "X-Amz-Copy-Source-If-Unmodified-Since": "Fri, 01 Jan 2100 00:00:00 GMT", "X-Amz-Copy-Source-Range": "bytes=0-1",
		"X-Amz-Meta-*": "", "X-Amz-Website-Redirect-Location": "/elsewhere", "X-Amz-Checksum-Algorithm": "SHA256", "X-Amz-Trailer": "x-amz-checksum-crc32",
		"max-buckets": "1", "max-keys": "1", "max-uploads": "1", "max-parts": "1", "part-number-marker": "0", "partNumber": "1", "continuation-token": token("a"), "fetch-owner": "true",
	}
	for _, op := range operations {
		for _, name := range slices.Concat(op.headers, op.params) {
			if slices.Contains(digests(), name) && name != "X-Amz-Trailer" || name == checksumType { // they depend on the body: TestDigests
				continue
			}
			value, ok := good[name]
			if only := accepted[name].values; len(only) > 0 {
				value, ok = only[0], true
			}
			if ok && value == "" {
				continue
			}
			w := newWalk(t, op)
			try := func(value string) *httptest.ResponseRecorder {
				if slices.Contains(op.headers, name) {
					return w.send("", "", http.Header{name: {value}})
				}
				return w.send(name, value, nil)
			}
			if len(accepted[name].values) > 0 {
				if r := try("strange"); r.Code < 400 || r.Code == 500 {
					t.Errorf("%s with %s: strange: %d %s", op.name, name, r.Code, r.Body)
				}
			}
			if r := try(value); r.Code >= 300 {
				t.Errorf("%s with %s: %s: %d %s", op.name, name, value, r.Code, r.Body)
			}
		}
	}
}

// TestUnknownRequests: a document with an element that would be ignored is refused, and so is a request
// that matches no row of the table.
func TestUnknownRequests(t *testing.T) {
	s, do := open(t, testkit.MemoryDir(t))
	defer s.Close()
	do("PUT", "/bucket", nil, nil)
	do("PUT", "/bucket/k", nil, []byte("k"))
	for _, c := range []struct {
		name, method, target, body, says string
		status                           int
	}{
		{"bucket tags", "PUT", "/other", "<CreateBucketConfiguration><Tags/></CreateBucketConfiguration>", "NotImplemented", 501},
		{"a document of something else", "PUT", "/other", "<Other/>", "MalformedXML", 400},
		{"a directory bucket's condition", "POST", "/bucket?delete", "<Delete><Object><Key>k</Key><Size>1</Size></Object></Delete>", "<Code>NotImplemented", 200},
		{"a version", "POST", "/bucket?delete", "<Delete><Object><Key>k</Key><VersionId>v1</VersionId></Object></Delete>", "<Code>NotImplemented", 200},
		{"a condition that does not hold", "POST", "/bucket?delete", `<Delete><Object><Key>k</Key><ETag>"x"</ETag></Object></Delete>`, "<Code>PreconditionFailed", 200},
		{"no key", "POST", "/bucket?delete", "<Delete></Delete>", "MalformedXML", 400},
		{"too many keys", "POST", "/bucket?delete", "<Delete>" + strings.Repeat("<Object><Key>k</Key></Object>", 1001) + "</Delete>", "MalformedXML", 400},
		{"a form", "POST", "/bucket", "form", "NotImplemented", 501},
		{"a restore", "POST", "/bucket/k?restore", "<RestoreRequest/>", "NotImplemented", 501},
		{"a select", "POST", "/bucket/k?select&select-type=2", "<x/>", "NotImplemented", 501},
		{"a write of the service", "PUT", "/", "", "NotImplemented", 501},
		{"a parameter twice", "GET", "/bucket?prefix=a&prefix=b", "", "InvalidArgument", 400},
		{"a preflight", "OPTIONS", "/bucket/k", "", "MethodNotAllowed", 405},
		{"unknown in Complete", "POST", "/bucket/k?uploadId=x", "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag><Colour/></Part></CompleteMultipartUpload>", "NotImplemented", 501},
	} {
		if w := do(c.method, c.target, nil, []byte(c.body)); w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
	}
	if w := do("GET", "/bucket/k", nil, nil); w.Body.String() != "k" {
		t.Errorf("the object is %d %q now", w.Code, w.Body)
	}
	if w := do("HEAD", "/other", nil, nil); w.Code != 404 {
		t.Errorf("a refused bucket is there: %d", w.Code)
	}
}
