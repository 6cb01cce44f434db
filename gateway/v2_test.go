package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw/access/policy"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers/cold"
)

// acceptV2 replaces the gateway of a bench by one that accepts signature version 2.
func (b *bench) acceptV2(accepted sigv4.V2, change func(*Options)) {
	b.reconfigure(func(o *Options) {
		o.Verifier = &sigv4.Verifier{Region: o.Verifier.Region, Keys: o.Verifier.Keys, V2: accepted}
		if change != nil {
			change(o)
		}
	})
}

// v2Request makes a request that is signed with version 2.
func v2Request(s s3client.SigningV2, method, path, query string, header http.Header) *http.Request {
	r := &http.Request{Method: method, URL: &url.URL{Path: path, RawQuery: query}, Host: "s3.example.com", Header: header.Clone(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "127.0.0.1:1"}
	if r.Header == nil {
		r.Header = http.Header{}
	}
	s.Sign(r)
	return r
}

// v2Cell is one request of the matrix of version 2.
type v2Cell struct {
	row     *Route
	signing s3client.SigningV2
	r       *http.Request
}

// v2Defect spoils a cell, before it is signed or after. Codes are what may be answered.
type v2Defect struct {
	name   string
	before func(*v2Cell)
	after  func(*v2Cell)
	codes  []string
	only   func(*v2Cell) bool // nil: for all
}

func v2Header(c *v2Cell) bool    { return !c.signing.Presign }
func v2Presigned(c *v2Cell) bool { return c.signing.Presign }

// v2Signature changes the signature of a request, wherever that is.
func v2Signature(change func(string) string) func(*v2Cell) {
	return func(c *v2Cell) {
		if !c.signing.Presign {
			head, sum, _ := strings.Cut(c.r.Header.Get("Authorization"), ":")
			c.r.Header.Set("Authorization", head+":"+change(sum))
			return
		}
		setV2(c, "Signature", change(c.r.URL.Query().Get("Signature")))
	}
}

func setV2(c *v2Cell, name, value string) {
	q := c.r.URL.Query()
	q.Set(name, value)
	c.r.URL.RawQuery = q.Encode()
}

func addHeader(name, value string) func(*v2Cell) {
	return func(c *v2Cell) { c.r.Header.Set(name, value) }
}

var v2Defects = []v2Defect{
	{name: "wrong secret", before: func(c *v2Cell) { c.signing.Secret = "another-secret" }, codes: []string{mismatch}},
	{name: "unknown key", before: func(c *v2Cell) { c.signing.AccessKey = "nobody" }, codes: []string{mismatch}},
	{name: "a key without rights", before: func(c *v2Cell) { c.signing.AccessKey = "powerless" }, codes: []string{denied}},
	{name: "a key with rights elsewhere", before: func(c *v2Cell) { c.signing.AccessKey = "neighbour" }, codes: []string{denied}},
	{name: "a letter of the signature", after: v2Signature(func(s string) string {
		return map[bool]string{true: "A", false: "B"}[s[0] != 'A'] + s[1:]
	}), codes: []string{mismatch}},
	{name: "half a signature", after: v2Signature(func(s string) string { return s[:14] }), codes: []string{mismatch}},
	{name: "a signature without its padding", after: v2Signature(func(s string) string { return strings.TrimSuffix(s, "=") }), codes: []string{mismatch}},
	{name: "a signature of version 4", after: v2Signature(func(string) string { return strings.Repeat("0", 64) }), codes: []string{mismatch}},
	{name: "an empty signature", after: v2Signature(func(string) string { return "" }), codes: []string{denied, "InvalidArgument"}},
	{name: "an empty access key", before: func(c *v2Cell) { c.signing.AccessKey = "" }, codes: []string{denied, "InvalidArgument"}},
	{name: "another path", after: func(c *v2Cell) { c.r.URL.Path += "x" }, only: func(c *v2Cell) bool { return c.row.Level != ServiceLevel }, codes: []string{mismatch}},
	{name: "another method", after: func(c *v2Cell) {
		c.r.Method = map[bool]string{true: http.MethodDelete, false: http.MethodPut}[c.r.Method != http.MethodDelete]
	}, codes: []string{mismatch, denied}}, // the page of a listing, with a method that does not list
	{name: "S13 an unknown parameter", after: func(c *v2Cell) { setV2(c, "more", "1") }, codes: []string{denied}},
	{name: "S13 an unknown parameter that was there when it was signed", before: func(c *v2Cell) { setV2(c, "retention", "") }, codes: []string{denied}},
	{name: "S13 a signed parameter more", after: func(c *v2Cell) { setV2(c, "versionId", "v") }, codes: []string{mismatch}},
	{name: "S13 a parameter twice", after: func(c *v2Cell) { c.r.URL.RawQuery += "&versionId=1&versionId=2" }, codes: []string{"InvalidArgument"}},
	{name: "S11 an x-amz-acl more", after: addHeader("X-Amz-Acl", "public-read"), codes: []string{mismatch}},
	{name: "S11 an x-amz-acl more, in the query", after: func(c *v2Cell) { setV2(c, "x-amz-acl", "public-read") }, codes: []string{mismatch, denied}},
	{name: "S11 another x-amz-copy-source", after: addHeader(copySourceHeader, "/bucket/secret"), codes: []string{mismatch}},
	{name: "S11 a Content-MD5 more", after: addHeader("Content-Md5", "AAAAAAAAAAAAAAAAAAAAAA=="), codes: []string{mismatch}},
	{name: "S11 a Content-Type more", after: addHeader("Content-Type", "text/html"), codes: []string{mismatch}},
	{name: "S11 an x-amz-date more", after: func(c *v2Cell) { c.r.Header.Set("X-Amz-Date", time.Now().UTC().Format(http.TimeFormat)) }, codes: []string{mismatch}},
	{name: "S11 an unsigned Cache-Control", before: func(c *v2Cell) { c.r.Header.Set("Cache-Control", "max-age=1") },
		only: func(c *v2Cell) bool { return v2Presigned(c) && c.row.Method == http.MethodPut }, codes: []string{denied}},
	{name: "S4 a second mechanism", after: func(c *v2Cell) {
		if c.signing.Presign {
			c.r.Header.Set("Authorization", "AWS root:AAAA")
		} else {
			setV2(c, "Signature", "x")
		}
	}, codes: []string{"InvalidArgument"}},
	{name: "S4 version 4 as well", after: func(c *v2Cell) { setV2(c, "X-Amz-Signature", "x") }, codes: []string{"InvalidArgument"}},
	{name: "S5 a credential twice", after: func(c *v2Cell) {
		if c.signing.Presign {
			c.r.URL.RawQuery += "&AWSAccessKeyId=x"
		} else {
			c.r.Header.Add("Authorization", "x")
		}
	}, codes: []string{"InvalidArgument"}},
	{name: "S5 a signed header twice", after: func(c *v2Cell) { c.r.Header["X-Amz-Acl"] = []string{"a", "b"} }, codes: []string{"InvalidArgument"}},
	{name: "S10 expired", before: func(c *v2Cell) { c.signing.Expires = fmt.Sprint(time.Now().Unix() - 1) }, only: v2Presigned, codes: []string{denied}},
	{name: "S10 expires after 8 days", before: func(c *v2Cell) { c.signing.Expires = fmt.Sprint(time.Now().Unix() + 8*24*3600) }, only: v2Presigned, codes: []string{denied}},
	{name: "S10 no expiry", after: func(c *v2Cell) { setV2(c, "Expires", "") }, only: v2Presigned, codes: []string{denied}},
	{name: "S10 another expiry", after: func(c *v2Cell) { setV2(c, "Expires", fmt.Sprint(time.Now().Unix()+3600)) }, only: v2Presigned, codes: []string{mismatch}},
	{name: "S10 an overflowing expiry", before: func(c *v2Cell) { c.signing.Expires = "9223372036854775808" }, only: v2Presigned, codes: []string{denied}},
	{name: "S10 an expiry that is none", before: func(c *v2Cell) { c.signing.Expires = "1e9" }, only: v2Presigned, codes: []string{denied}},
	{name: "S9 an hour old", before: func(c *v2Cell) { c.signing.Time = time.Now().Add(-time.Hour) }, only: v2Header, codes: []string{"RequestTimeTooSkewed"}},
	{name: "S9 an hour ahead", before: func(c *v2Cell) { c.signing.Time = time.Now().Add(time.Hour) }, only: v2Header, codes: []string{"RequestTimeTooSkewed"}},
	{name: "S9 a date that is none", before: func(c *v2Cell) { c.signing.Date = "Bad Date" }, only: v2Header, codes: []string{denied}},
	{name: "S9 no date", after: func(c *v2Cell) { c.r.Header.Del("Date") }, only: v2Header, codes: []string{denied}},
	{name: "S9 another date", after: func(c *v2Cell) {
		c.r.Header.Set("Date", time.Now().Add(time.Minute).UTC().Format(http.TimeFormat))
	}, only: v2Header, codes: []string{mismatch}},
	{name: "S17 a chunked body", before: func(c *v2Cell) {
		c.r.Header.Set("X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
		c.r.Header.Set("X-Amz-Decoded-Content-Length", "1")
	}, codes: []string{"InvalidRequest"}},
	{name: "S19 a token for a lasting key", before: func(c *v2Cell) { c.signing.Token = "token" }, codes: []string{"InvalidToken"}},
	{name: "S19 a temporary key without its token", before: func(c *v2Cell) { c.signing.AccessKey = "temporary" }, codes: []string{"InvalidToken"}},
	{name: "S19 a temporary key with another's token", before: func(c *v2Cell) { c.signing.AccessKey, c.signing.Token = "temporary", "other" }, codes: []string{"InvalidToken"}},
	{name: "S19 an expired key", before: func(c *v2Cell) { c.signing.AccessKey, c.signing.Token = "expired", "token" }, codes: []string{"ExpiredToken"}},
}

// v2Presignable are the operations that a URL can be presigned for with version 2.
var v2Presignable = []string{"GetObject", "HeadObject", "CopyObject", "PutObject", "DeleteObject", "UploadPartCopy", "UploadPart", "AbortMultipartUpload", "ListParts",
	"GetObjectTagging", "PutObjectTagging", "DeleteObjectTagging", "GetObjectAcl", "PutObjectAcl", "GetObjectTorrent"}

// v2Signable reports whether version 2 signs all parameters of an operation, or they select a page.
func v2Signable(row *Route) bool {
	for _, name := range row.Query {
		if !slices.Contains([]string{"acl", "accelerate", "cors", "delete", "inventory", "lifecycle", "list-type", "location", "logging", "metrics", "notification", "object-lock",
			"partNumber", "policy", "replication", "requestPayment", "restore", "select", "select-type", "tagging", "torrent", "uploadId", "uploads", "versioning", "versions", "website", "analytics"}, name) {
			return false
		}
	}
	return !row.Any && row.Class != Refused
}

// TestVersion2Matrix walks operation x place x defect for signature version 2, as TestT7_S15_AuthMatrix
// does for version 4.
//
// Scenarios: S6.
func TestVersion2Matrix(t *testing.T) {
	const secret = "secret-of-everybody"
	everybody := people{
		"root":      {sigv4.Credential{Secret: secret}, policy.Everything},
		"powerless": {sigv4.Credential{Secret: secret}, mustPolicy(t, `{"Effect":"Deny","Action":"*","Resource":"*"}`)},
		"neighbour": {sigv4.Credential{Secret: secret}, mustPolicy(t, allow("s3:*", "bucket2/*"))},
		"temporary": {sigv4.Credential{Secret: secret, Token: "token", Expires: time.Now().Add(time.Hour)}, policy.Everything},
		"expired":   {sigv4.Credential{Secret: secret, Token: "token", Expires: time.Now().Add(-time.Hour)}, policy.Everything},
	}
	b := newBench(t, everybody, everybody)
	b.up.Put(keyOf("bucket", "key"), []byte("cached"))
	sign := func(row *Route, presign bool, d *v2Defect) *v2Cell {
		c := &v2Cell{row: row, signing: s3client.SigningV2{AccessKey: "root", Secret: secret, Presign: presign}}
		c.r, c.signing.Body = requestFor(row)
		if d != nil && d.before != nil {
			d.before(c)
		}
		c.signing.Sign(c.r)
		if d != nil && d.after != nil {
			d.after(c)
		}
		return c
	}
	reached := func() (n int) {
		for _, kind := range []string{"GET", "HEAD", "PUT", "POST", "DELETE"} {
			n += b.up.Count(kind)
		}
		return n
	}
	refuses := func(row *Route, presign bool, name string, c *v2Cell, codes ...string) {
		t.Helper()
		w := b.answer(c.r)
		if w.Code != 400 && w.Code != 403 || c.r.Method != http.MethodHead && !slices.Contains(codes, codeOf(w)) {
			t.Errorf("%s, presigned %t, with %s: %d %s, want one of %v", row.Op, presign, name, w.Code, codeOf(w), codes)
		}
	}
	cells, accepted := 0, 0
	for i := range allRoutes {
		row := &allRoutes[i]
		if row.Body == Form { // authenticated by its fields, not by its header or URL: TestFormMatrix
			continue
		}
		for _, presign := range []bool{true, false} {
			allowed := v2Signable(row) && (!presign || slices.Contains(v2Presignable, row.Op))
			b.up.Reset()
			b.acceptV2(sigv4.V2None, nil)
			refuses(row, presign, "version 2 off", sign(row, presign, nil), "InvalidRequest")
			b.acceptV2(sigv4.V2Presigned, nil)
			if !presign {
				refuses(row, presign, "the header off", sign(row, presign, nil), "InvalidRequest")
			}
			b.acceptV2(sigv4.V2All, nil)
			for d := range v2Defects {
				d := &v2Defects[d]
				c := sign(row, presign, d)
				if !allowed || d.only != nil && !d.only(c) || row.Op == "DeleteObjects" && strings.HasPrefix(d.name, "a key with") {
					continue
				}
				cells++
				refuses(row, presign, d.name, c, d.codes...)
			}
			if !allowed && row.Class != Refused { // a refused operation gives everyone the same answer
				refuses(row, presign, "no defect, but unsigned parameters or nothing to presign", sign(row, presign, nil), "InvalidRequest", denied)
			}
			if n := reached(); n != 0 {
				t.Errorf("%s, presigned %t: %d requests reached the upstream", row.Op, presign, n)
			}
			if !allowed {
				continue
			}
			accepted++
			b.up.Put(keyOf("bucket", "key"), []byte("cached"))
			if w := b.answer(sign(row, presign, nil).r); reached() == 0 && sentHeader(w, "x-akigw-cache") == "" {
				t.Errorf("%s, presigned %t, did not get through: %d %s", row.Op, presign, w.Code, w.Body)
			}
		}
	}
	t.Logf("%d cells, %d operations accepted", cells, accepted)
	if cells < 1500 || accepted < len(v2Presignable)+30 || len(v2Defects) < 40 {
		t.Errorf("the matrix is not what it should be: %d cells, %d defects, %d accepted", cells, len(v2Defects), accepted)
	}
}

// TestVersion2IsServed: a URL that is presigned with version 2 stores what it says and reads from the cache,
// also on the fast path, and nothing of the signature reaches the upstream.
//
// Scenarios: S6.
func TestVersion2IsServed(t *testing.T) {
	b := newBench(t, rootAlone, rootAlone)
	var log nothing
	b.acceptV2(sigv4.V2Presigned, func(o *Options) { o.AccessLog, o.Domains = &AccessLog{&log}, []string{"s3.example.com"} })
	b.up.Before = func(r *cold.Request) (*http.Response, error) {
		for name := range r.Query {
			if authenticatesV2(name) || movedV2(name) {
				t.Errorf("the parameter %s reached the upstream", name)
			}
		}
		return nil, nil
	}
	ask := func(method, query string, header http.Header, moved bool, body string) *httptest.ResponseRecorder {
		return b.answer(v2Request(s3client.SigningV2{AccessKey: "root", Secret: tenantSecret, Presign: true, Moved: moved, Body: []byte(body)}, method, "/bucket/a b+ü", query, header))
	}
	for _, moved := range []bool{false, true} {
		w := ask("PUT", "", http.Header{"Content-Type": {"text/x-test"}, "X-Amz-Meta-Color": {"blue"}, "Content-Md5": {"hBotaJrYa9FhFEdFPCLG/A=="}}, moved, "body")
		if w.Code != 200 {
			t.Fatalf("PUT, moved %t: %d %s", moved, w.Code, w.Body)
		}
		for range 2 {
			w = ask("GET", "response-cache-control=no-store", nil, false, "")
			if w.Code != 200 || w.Body.String() != "body" || sentHeader(w, "Content-Type") != "text/x-test" || sentHeader(w, "x-amz-meta-color") != "blue" || sentHeader(w, "Cache-Control") != "no-store" {
				t.Errorf("GET, moved %t: %d %v %s", moved, w.Code, w.Header(), w.Body)
			}
		}
		if sentHeader(w, "x-akigw-cache") != "hot" {
			t.Errorf("GET came from %s", sentHeader(w, "x-akigw-cache"))
		}
	}
	if w := ask("PUT", "", http.Header{"Content-Md5": {"AAAAAAAAAAAAAAAAAAAAAA=="}}, true, "body"); codeOf(w) != "BadDigest" {
		t.Errorf("another body than signed: %d %s", w.Code, w.Body)
	}
	hosted := v2Request(s3client.SigningV2{AccessKey: "root", Secret: tenantSecret, Presign: true}, "GET", "/bucket/a b+ü", "", nil)
	hosted.Host, hosted.URL.Path = "bucket.s3.example.com", "/a b+ü"
	for name, r := range map[string]*http.Request{
		"by path":      v2Request(s3client.SigningV2{AccessKey: "root", Secret: tenantSecret, Presign: true}, "GET", "/bucket/a b+ü", "", nil),
		"by host name": hosted,
	} {
		w := httptest.NewRecorder()
		if !b.g.ServeLocal(w, r) || w.Code != 200 || w.Body.String() != "body" || sentHeader(w, "x-akigw-cache") != "hot" {
			t.Errorf("%s, on the fast path: %d %s", name, w.Code, w.Body)
		}
	}
	if w := ask("DELETE", "", nil, false, ""); w.Code != 204 || b.up.Len() != 0 {
		t.Errorf("DELETE: %d %s", w.Code, w.Body)
	}
	if lines := log.String(); !strings.Contains(lines, " SigV2 - QueryString ") || strings.Contains(lines, "SigV4") || strings.Contains(lines, "AuthHeader") {
		t.Errorf("the access log does not say how the requests were signed: %s", lines)
	}
}

// TestVersion2IsThrottled: wrong signatures of version 2 count as those of version 4 do.
//
// Scenarios: S40.
func TestVersion2IsThrottled(t *testing.T) {
	b := newBench(t, rootAlone, rootAlone)
	b.acceptV2(sigv4.V2Presigned, func(o *Options) { o.FailuresPerMinute = 1000 })
	codes := map[string]int{}
	for range 1100 {
		r := v2Request(s3client.SigningV2{AccessKey: "root", Secret: "another-secret", Presign: true}, "GET", "/bucket/k", "", nil)
		r.RemoteAddr = "192.0.2.1:1"
		codes[codeOf(b.answer(r))]++
	}
	if codes[mismatch] < 1000 || codes["SlowDown"] == 0 || codes[mismatch]+codes["SlowDown"] != 1100 {
		t.Errorf("%v", codes)
	}
}

// TestExpectationsAreIgnored: a gateway on a connection answers requests with an unknown or empty Expect
// header as if it was not there, and sends 100 where it is asked for.
func TestExpectationsAreIgnored(t *testing.T) {
	g := newRig(t, rules.Strict)
	body := testkit.Bytes(1, 1000)
	for _, expect := range []string{"", "200-ok", "200", "100-continue"} {
		if a := g.Must(t, "PUT", "/bucket/k", "", http.Header{"Expect": {expect}}, body); a.Status != 200 {
			t.Errorf("PUT with Expect: %q: %d %s", expect, a.Status, a.Body)
		}
		if a := g.Must(t, "GET", "/bucket/k", "", http.Header{"Expect": {expect}}, nil); a.Status != 200 || len(a.Body) != len(body) {
			t.Errorf("GET with Expect: %q: %d %s", expect, a.Status, a.Body)
		}
	}
}
