package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/minio/minio-go/v7/pkg/signer"
)

var updateDocs = flag.Bool("update", false, "rewrite docs/differences.md")

// step is one request of the comparison. {bucket} and {upload} are filled in.
type step struct {
	name, method, path, query string
	header                    http.Header
	body                      string
}

func steps() []step {
	big := string(pattern(5, 5<<20))
	return []step{
		{"CreateBucket", "PUT", "/{bucket}", "", nil, ""},
		{"HeadBucket", "HEAD", "/{bucket}", "", nil, ""},
		{"GetBucketLocation", "GET", "/{bucket}", "location", nil, ""},
		{"PutObject", "PUT", "/{bucket}/a/key", "", http.Header{"Content-Type": {"text/x"}, "X-Amz-Meta-Color": {"blue"}, "Cache-Control": {"max-age=9"}}, "hello, world"},
		{"GetObject", "GET", "/{bucket}/a/key", "", nil, ""},
		{"GetObject again", "GET", "/{bucket}/a/key", "", nil, ""},
		{"HeadObject", "HEAD", "/{bucket}/a/key", "", nil, ""},
		{"GetObject, range", "GET", "/{bucket}/a/key", "", http.Header{"Range": {"bytes=1-4"}}, ""},
		{"GetObject, suffix range", "GET", "/{bucket}/a/key", "", http.Header{"Range": {"bytes=-4"}}, ""},
		{"GetObject, unsatisfiable range", "GET", "/{bucket}/a/key", "", http.Header{"Range": {"bytes=100-"}}, ""},
		{"GetObject, If-None-Match", "GET", "/{bucket}/a/key", "", http.Header{"If-None-Match": {`"e4d7f1b4ed2e42d15898f4b27b019da4"`}}, ""},
		{"GetObject, If-Match", "GET", "/{bucket}/a/key", "", http.Header{"If-Match": {`"other"`}}, ""},
		{"GetObject, response override", "GET", "/{bucket}/a/key", "response-content-type=image%2Fpng", nil, ""},
		{"GetObject, absent key", "GET", "/{bucket}/none", "", nil, ""},
		{"HeadObject, absent key", "HEAD", "/{bucket}/none", "", nil, ""},
		{"GetObject, absent bucket", "GET", "/absent-bucket/none", "", nil, ""},
		{"PutObjectTagging", "PUT", "/{bucket}/a/key", "tagging", nil, "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>"},
		{"GetObjectTagging", "GET", "/{bucket}/a/key", "tagging", nil, ""},
		{"GetObject, tagged", "GET", "/{bucket}/a/key", "", nil, ""},
		{"CopyObject", "PUT", "/{bucket}/copy", "", http.Header{"X-Amz-Copy-Source": {"/{bucket}/a/key"}}, ""},
		{"GetObject, copy", "GET", "/{bucket}/copy", "", nil, ""},
		{"ListObjectsV2", "GET", "/{bucket}", "list-type=2&delimiter=%2F", nil, ""},
		{"ListObjects", "GET", "/{bucket}", "prefix=a", nil, ""},
		{"ListBuckets", "GET", "/", "", nil, ""},
		{"CreateMultipartUpload", "POST", "/{bucket}/multi", "uploads", nil, ""},
		{"UploadPart", "PUT", "/{bucket}/multi", "uploadId={upload}&partNumber=1", nil, big},
		{"ListParts", "GET", "/{bucket}/multi", "uploadId={upload}", nil, ""},
		{"CompleteMultipartUpload", "POST", "/{bucket}/multi", "uploadId={upload}", nil, "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"},
		{"HeadObject, multipart", "HEAD", "/{bucket}/multi", "", nil, ""},
		{"GetObject, partNumber", "GET", "/{bucket}/multi", "partNumber=1", nil, ""},
		{"PutObject, wrong Content-MD5", "PUT", "/{bucket}/bad", "", http.Header{"Content-Md5": {"AAAAAAAAAAAAAAAAAAAAAA=="}}, "x"},
		{"PutObject, If-None-Match", "PUT", "/{bucket}/a/key", "", http.Header{"If-None-Match": {"*"}}, "x"},
		{"GetBucketPolicy", "GET", "/{bucket}", "policy", nil, ""},
		{"GetBucketVersioning", "GET", "/{bucket}", "versioning", nil, ""},
		{"DeleteObjects", "POST", "/{bucket}", "delete", http.Header{"Content-Md5": {"D8rHNTSPgn7GgffiA72IyQ=="}}, "<Delete><Object><Key>a/key</Key></Object><Object><Key>none</Key></Object></Delete>"},
		{"DeleteObject", "DELETE", "/{bucket}/copy", "", nil, ""},
		{"DeleteObject, absent key", "DELETE", "/{bucket}/copy", "", nil, ""},
		{"DeleteBucket, not empty", "DELETE", "/{bucket}", "", nil, ""},
	}
}

// reasons explain every difference that may remain: what, on which header or
// part of the answer, and why.
var reasons = map[string]string{
	"X-Amz-Request-Id":            "each hop has its own; the upstream's is in x-akigw-upstream-request-id where the request was forwarded",
	"X-Amz-Id-2":                  "the gateway names itself",
	"X-Akigw-Cache":               "added: where the bytes came from",
	"X-Akigw-Commit":              "added: where an acknowledged write is",
	"X-Akigw-Upstream-Request-Id": "added: the upstream's request id",
	"Age":                         "added: seconds since the upstream confirmed the object (RFC 9111 §5.1)",
	"X-Content-Type-Options":      "added to the gateway's own error documents",
	"Server":                      "names the software; the gateway does not pass another's name on",
	"Date":                        "each hop dates its own answer",
	"Vary":                        "added by the upstream for browsers; cached answers do not depend on request headers",
	"Connection":                  "belongs to one hop (RFC 9110 §7.6.1)",
	"Content-Length":              "only of errors: of documents that the gateway writes itself, and of HEAD, which has no body",
	"Content-Range":               "a 416 says the size (RFC 9110 §15.5.17)",
	"Etag":                        "a 304 has the headers of the 200 that it stands for (RFC 9110 §15.4.5), as S3 does; this upstream leaves them out",
	"Last-Modified":               "the same",
	"Cache-Control":               "the same",
	"Content-Type":                "only of error documents that the gateway writes itself, and of a 304, which has no content",
	"body":                        "error documents that the gateway writes itself have S3's text, resource and host id",
}

// TestDifferences compares answers of the upstream with answers through the
// gateway, header by header, and keeps docs/differences.md true.
func TestDifferences(t *testing.T) {
	up := versity(t)
	g := startGateway(t, options{upstream: up})
	direct := endpointOf{up.endpoint, upstreamAccessKey, upstreamSecretKey, "direct-bucket", map[string]string{}}
	through := endpointOf{g.endpoint, accessKey, secretKey, "gateway-bucket", map[string]string{}}
	var page strings.Builder
	page.WriteString("# Differences\n\nWhat a client sees through the gateway and not from the upstream itself, or the other way round, for " +
		fmt.Sprint(len(steps())) + " requests in a row\n(upstream: versitygw with its posix backend). Dates, ids and bucket names are normalised. Statuses are always equal. This page\nis written and checked by a test of `e2e/`.\n\n| request | status | differs in |\n|---|---|---|\n")
	used := map[string]bool{}
	for _, s := range steps() {
		a, b := direct.do(t, s), through.do(t, s)
		if a.StatusCode != b.StatusCode {
			t.Errorf("%s: %d directly, %d through the gateway: %s %s", s.name, a.StatusCode, b.StatusCode, a.body, b.body)
		}
		differs := compare(a, b)
		if strings.HasPrefix(s.name, "ListBuckets") { // they see both buckets
			differs = slices.DeleteFunc(differs, func(d string) bool { return d == "body" || d == "Content-Length" })
		}
		for _, d := range differs {
			own := a.StatusCode >= 300 && (d == "body" || d == "Content-Length" || d == "Content-Type")
			if reasons[d] == "" || !own && (d == "body" || d == "Content-Length" || d == "Content-Type") {
				t.Errorf("%s: unexplained difference in %s: directly %q, through the gateway %q", s.name, d, a.of(d), b.of(d))
			}
			used[d] = true
		}
		fmt.Fprintf(&page, "| %s | %d | %s |\n", s.name, a.StatusCode, strings.ToLower(strings.Join(differs, ", ")))
	}
	page.WriteString("\n## Reasons\n\n| what | why |\n|---|---|\n")
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range used {
			if !yield(name) {
				return
			}
		}
	}) {
		fmt.Fprintf(&page, "| %s | %s |\n", strings.ToLower(name), reasons[name])
	}
	const path = "../docs/differences.md"
	if *updateDocs {
		if err := os.WriteFile(path, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got, err := os.ReadFile(path); err != nil || string(got) != page.String() {
		t.Errorf("docs/differences.md is not what was measured; run go test -run TestDifferences -update in e2e\n%s", &page)
	}
}

type endpointOf struct {
	url, access, secret, bucket string
	vars                        map[string]string
}

type answerOf struct {
	*http.Response
	body string
}

func (a answerOf) of(what string) string {
	if what == "body" {
		return a.body
	}
	return strings.Join(a.Header[what], " | ")
}

var (
	uploadID = regexp.MustCompile(`<UploadId>([^<]*)</UploadId>`)
	times    = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z|[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [0-9:]+ GMT`)
	ids      = regexp.MustCompile(`<(RequestId|HostId|UploadId)>[^<]*<`)
	location = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
)

// do sends a step and normalises the answer.
func (e endpointOf) do(t *testing.T, s step) answerOf {
	t.Helper()
	fill := func(text string) string {
		text = strings.ReplaceAll(text, "{bucket}", e.bucket)
		text = strings.ReplaceAll(text, "{upload}", e.vars["upload"])
		return strings.ReplaceAll(text, "{etag}", e.vars["etag"])
	}
	u, err := url.Parse(e.url)
	if err != nil {
		t.Fatal(err)
	}
	u.Path, u.RawQuery = fill(s.path), fill(s.query)
	u.RawPath = s3utils.EncodePath(u.Path)
	r := &http.Request{Method: s.method, URL: u, Host: u.Host, Header: http.Header{}}
	for name, values := range s.header {
		r.Header.Set(name, fill(values[0]))
	}
	body := fill(s.body)
	if body != "" {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	r.Header.Set("X-Amz-Content-Sha256", hexSHA256(body))
	resp, err := http.DefaultTransport.RoundTrip(signer.SignV4(*r, e.access, e.secret, "", region))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if m := uploadID.FindSubmatch(raw); m != nil {
		e.vars["upload"] = string(m[1])
	}
	if s.name == "UploadPart" {
		e.vars["etag"] = resp.Header.Get("Etag")
	}
	text := string(bytes.ReplaceAll(raw, []byte(e.bucket), []byte("BUCKET")))
	text = ids.ReplaceAllString(times.ReplaceAllString(text, "TIME"), "<$1>ID<")
	text = location.ReplaceAllString(text, "ENDPOINT")
	for name, values := range resp.Header {
		for i, v := range values {
			values[i] = times.ReplaceAllString(strings.ReplaceAll(v, e.bucket, "BUCKET"), "TIME")
		}
		if name == "Content-Length" && strings.Contains(string(raw), e.bucket) { // the names differ in length
			values[0] = fmt.Sprint(len(text))
		}
	}
	return answerOf{resp, text}
}

// compare names the headers, and "body", in which two answers differ.
func compare(a, b answerOf) (differs []string) {
	names := map[string]bool{}
	for _, h := range []http.Header{a.Header, b.Header} {
		for name := range h {
			names[name] = true
		}
	}
	for name := range names {
		if a.of(name) != b.of(name) {
			differs = append(differs, name)
		}
	}
	if a.body != b.body {
		differs = append(differs, "body")
	}
	slices.Sort(differs)
	return differs
}
