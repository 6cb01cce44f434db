package gateway

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/tiers/cold"
)

// TestForwardedErrorsHaveTheIDsOfTheResponse: an error document of the upstream names the ids of the response
// that it is in. The upstream's are in headers of their own, and nothing else of a document changes.
//
// Scenarios: S33.
func TestForwardedErrorsHaveTheIDsOfTheResponse(t *testing.T) {
	const theirs = `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<Error><Code>%s</Code><Message>m &amp; m</Message><RequestId>THEIRS</RequestId><HostId>THEIRHOST</HostId></Error>`
	long := "<Error><RequestId>THEIRS</RequestId><Message>" + strings.Repeat("x", maxErrorDocument) + "</Message></Error>"
	complete := "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>"
	for _, c := range []struct {
		name, method, query, body string
		header                    http.Header
		status                    int
		document                  string
		length                    int64 // of the upstream's response, if not that of the document
		untouched                 bool
	}{
		{name: "GetObject, by the cache", method: "GET", status: 404, document: fmt.Sprintf(theirs, "NoSuchKey")},
		{name: "GetObject, past the cache", method: "GET", header: http.Header{"X-Amz-Request-Payer": {"requester"}}, status: 403, document: fmt.Sprintf(theirs, "AccessDenied")},
		{name: "GetObject, of unknown length", method: "GET", header: http.Header{"X-Amz-Request-Payer": {"requester"}}, status: 403, document: fmt.Sprintf(theirs, "AccessDenied"), length: -1},
		{name: "GetObjectTagging", method: "GET", query: "tagging", status: 404, document: fmt.Sprintf(theirs, "NoSuchTagSet")},
		{name: "GetObjectTagging, of unknown length", method: "GET", query: "tagging", status: 404, document: fmt.Sprintf(theirs, "NoSuchTagSet"), length: -1},
		{name: "PutObject", method: "PUT", body: "body", status: 501, document: fmt.Sprintf(theirs, "NotImplemented")},
		{name: "PutObjectAcl", method: "PUT", query: "acl", status: 501, document: fmt.Sprintf(theirs, "NotImplemented")},
		{name: "DeleteObject", method: "DELETE", status: 403, document: fmt.Sprintf(theirs, "AccessDenied")},
		{name: "CompleteMultipartUpload, an error in a 200", method: "POST", query: "uploadId=u", body: complete, status: 200, document: fmt.Sprintf(theirs, "InternalError")},
		{name: "with a namespace", method: "GET", query: "tagging", status: 404, document: `<Error xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><RequestId/><RequestId>THEIRS</RequestId><HostId></HostId></Error>`},
		{name: "without ids", method: "GET", query: "tagging", status: 404, document: "<Error><Code>NoSuchTagSet</Code></Error>", untouched: true},
		{name: "an element without an end", method: "GET", query: "tagging", status: 404, document: "<Error><RequestId>", untouched: true},
		{name: "not XML", method: "GET", query: "tagging", status: 502, document: "THEIRS: bad gateway <RequestId>THEIRS</RequestId>", untouched: true},
		{name: "another document", method: "GET", query: "tagging", status: 200, document: "<Tagging><RequestId>THEIRS</RequestId></Tagging>", untouched: true},
		{name: "too long", method: "GET", query: "tagging", status: 400, document: long, untouched: true},
		{name: "too long, of unknown length", method: "GET", query: "tagging", status: 400, document: long, length: -1, untouched: true},
		{name: "empty", method: "GET", query: "tagging", status: 404, untouched: true},
		{name: "HEAD", method: "HEAD", status: 404, document: "", length: 243, untouched: true},
		{name: "304", method: "GET", header: http.Header{"X-Amz-Request-Payer": {"requester"}, "If-None-Match": {"e"}}, status: 304, untouched: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, rootAlone, rootAlone)
			b.up.Before = func(r *cold.Request) (*http.Response, error) {
				if r.Body != nil {
					_, _ = io.Copy(io.Discard, r.Body)
				}
				resp := s3mem.Response(c.status, http.Header{"X-Amz-Request-Id": {"THEIRS"}, "X-Amz-Id-2": {"THEIRHOST"}, "Content-Type": {"application/xml"}}, []byte(c.document))
				if c.length != 0 {
					resp.ContentLength = c.length
				}
				return resp, nil
			}
			w := b.ask("root", c.method, "/bucket/k", c.query, c.header, c.body)
			want := c.document
			if !c.untouched {
				want = strings.Replace(want, ">THEIRS<", ">"+sentHeader(w, "x-amz-request-id")+"<", 1)
				want = strings.Replace(want, "<HostId>THEIRHOST<", "<HostId>"+sentHeader(w, "x-amz-id-2")+"<", 1)
				want = strings.Replace(want, "<HostId><", "<HostId>"+sentHeader(w, "x-amz-id-2")+"<", 1)
			}
			if w.Code != c.status || w.Body.String() != want {
				t.Errorf("%d %s\nwant %d %s", w.Code, w.Body, c.status, want)
			}
			if got := sentHeader(w, "Content-Length"); c.method != "HEAD" && got != "" && got != fmt.Sprint(len(want)) {
				t.Errorf("Content-Length %s of %d", got, len(want))
			}
			if id := sentHeader(w, "x-amz-request-id"); id == "" || id == "THEIRS" || sentHeader(w, "x-amz-id-2") == "THEIRHOST" {
				t.Errorf("%v", w.Header())
			}
			if sentHeader(w, "x-akigw-upstream-request-id") != "THEIRS" || sentHeader(w, "x-akigw-upstream-id-2") != "THEIRHOST" {
				t.Errorf("the upstream's ids are lost: %v", w.Header())
			}
		})
	}
}

// TestACLsAreTheUpstreams: what the upstream answers to requests for ACLs is what the client gets, of an object
// in the cache and of a pending one, and a canned ACL of a write is decided by the upstream.
func TestACLsAreTheUpstreams(t *testing.T) {
	const document = `<AccessControlPolicy xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>o</ID><DisplayName></DisplayName></Owner><AccessControlList><Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"><ID>o</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant></AccessControlList></AccessControlPolicy>`
	const refusal = `<Error><Code>AccessControlListNotSupported</Code><Message>The bucket does not allow ACLs</Message></Error>`
	for _, pending := range []bool{false, true} {
		b, path := newBench(t, rootAlone, rootAlone), "/bucket/k"
		if pending {
			b, path = backBench(t), "/back/k"
			b.runPool(t)
		}
		var asked *cold.Request // only of calls that this test makes
		var status int
		var body, got string
		b.up.Before = func(r *cold.Request) (*http.Response, error) {
			if r.Op != "GetObjectAcl" && r.Op != "PutObjectAcl" && (r.Op != "PutObject" || r.Header.Get("X-Amz-Acl") == "") {
				return nil, nil
			}
			asked, got = r, ""
			if r.Body != nil {
				sent, _ := io.ReadAll(r.Body)
				got = string(sent)
			}
			return s3mem.Response(status, http.Header{"Content-Type": {"text/xml"}}, []byte(body)), nil
		}
		if w := b.ask("root", "PUT", path, "", nil, "body"); w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		check := func(name string, w *httptest.ResponseRecorder, status int, body string) {
			t.Helper()
			if asked == nil || w.Code != status || w.Body.String() != body || sentHeader(w, "Content-Type") != "text/xml" {
				t.Errorf("pending %t, %s: %d %v %s, want %d %s", pending, name, w.Code, w.Header(), w.Body, status, body)
			}
		}
		for _, c := range []struct {
			status int
			body   string
		}{{200, document}, {200, ""}, {400, refusal}, {501, refusal}, {404, "<Error><Code>NoSuchKey</Code></Error>"}} {
			status, body = c.status, c.body
			asked = nil
			check("GET ?acl", b.ask("root", "GET", path, "acl", nil, ""), c.status, c.body)
			asked = nil
			check("PUT ?acl, canned", b.ask("root", "PUT", path, "acl", http.Header{"X-Amz-Acl": {"public-read"}}, ""), c.status, c.body)
			if asked != nil && (asked.Header.Get("X-Amz-Acl") != "public-read" || got != "") {
				t.Errorf("the upstream got %v and %q", asked.Header, got)
			}
			asked = nil
			check("PUT ?acl, a document", b.ask("root", "PUT", path, "acl", nil, document), c.status, c.body)
			if got != document {
				t.Errorf("the upstream got %q", got)
			}
			if c.status == 200 {
				continue
			}
			asked = nil
			check("PUT with a canned ACL", b.ask("root", "PUT", path, "", http.Header{"X-Amz-Acl": {"public-read"}}, "other"), c.status, c.body)
		}
		if w := b.ask("root", "GET", path, "", nil, ""); w.Body.String() != "body" {
			t.Errorf("pending %t: afterwards the object is %q", pending, w.Body)
		}
	}
}
