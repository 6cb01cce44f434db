package gateway

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/access/policy"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers/cold"
)

func mustPolicy(t testing.TB, statements ...string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(`{"Statement":[` + strings.Join(statements, ",") + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func allow(actions, resource string) string {
	return fmt.Sprintf(`{"Effect":"Allow","Action":["%s"],"Resource":"arn:aws:s3:::%s"}`, strings.ReplaceAll(actions, ",", `","`), resource)
}

const tenantSecret = "secret-of-a-tenant"

// tenants are alice and bob, who share a bucket by prefix, root, and whoever
// comes without credentials.
func tenants(t testing.TB) people {
	listing := func(name string) string {
		return fmt.Sprintf(`{"Effect":"Allow","Action":["s3:ListBucket","s3:ListBucketVersions","s3:ListBucketMultipartUploads"],"Resource":"arn:aws:s3:::shared","Condition":{"StringLike":{"s3:prefix":"%s/*"}}}`, name)
	}
	return people{
		"root":  {sigv4.Credential{Secret: tenantSecret}, policy.Everything},
		"alice": {sigv4.Credential{Secret: tenantSecret}, mustPolicy(t, allow("s3:*", "shared/alice/*"), allow("s3:*", "alice-bucket"), allow("s3:*", "alice-bucket/*"), listing("alice"))},
		"bob":   {sigv4.Credential{Secret: tenantSecret}, mustPolicy(t, allow("s3:*", "shared/bob/*"), allow("s3:*", "bob-bucket"), allow("s3:*", "bob-bucket/*"), listing("bob"))},
		"":      {sigv4.Credential{}, mustPolicy(t, allow("s3:GetObject", "shared/public/*"))},
	}
}

func (b *bench) ask(who, method, path, query string, header http.Header, body string) *httptest.ResponseRecorder {
	r := &http.Request{Method: method, URL: &url.URL{Path: path, RawQuery: query}, Host: "s3.example.com", Header: header.Clone(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "127.0.0.1:1"}
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if who == "" {
		s3client.SetBody(r, []byte(body))
	} else {
		s3client.Signing{AccessKey: who, Secret: tenantSecret, Body: []byte(body)}.Sign(r)
	}
	return b.answer(r)
}

// seen is everything of an answer that a client can look at, without what
// differs from request to request.
func seen(w *httptest.ResponseRecorder, path string) string {
	var lines []string
	for name, values := range w.Header() {
		switch strings.ToLower(name) {
		case "x-amz-request-id", "x-amz-id-2", "date":
		case "content-length": // the resource is named in the body
		default:
			lines = append(lines, name+": "+strings.Join(values, ","))
		}
	}
	sort.Strings(lines)
	body := w.Body.String()
	for _, element := range []string{"RequestId", "HostId"} {
		if head, rest, ok := strings.Cut(body, "<"+element+">"); ok {
			_, tail, _ := strings.Cut(rest, "</"+element+">")
			body = head + tail
		}
	}
	return fmt.Sprint(w.Code, lines, strings.ReplaceAll(body, (&url.URL{Path: path}).EscapedPath(), "PATH"))
}

// TestTwoTenants: on no path does one tenant see a difference between
// what another has in the cache, has upstream only, has deleted and never had;
// and the upstream is not even asked.
//
// Scenarios: S23, S24.
func TestTwoTenants(t *testing.T) {
	everybody := tenants(t)
	b := newBench(t, everybody, everybody)
	for _, name := range []string{"bob/hot", "bob/cold", "bob/deleted"} {
		b.up.Put(akigw.Key{Bucket: "shared", Name: name}, []byte("secret of bob"))
	}
	b.up.Put(akigw.Key{Bucket: "shared", Name: "alice/own"}, []byte("alice's"))
	for _, name := range []string{"bob/hot", "bob/deleted"} {
		if w := b.ask("bob", "GET", "/shared/"+name, "", nil, ""); w.Code != 200 {
			t.Fatal(w.Code, w.Body)
		}
	}
	b.ask("bob", "DELETE", "/shared/bob/deleted", "", nil, "")
	if w := b.ask("bob", "GET", "/shared/bob/hot", "", nil, ""); w.Header()["x-akigw-cache"][0] != "hot" {
		t.Fatal("nothing is cached: the test shows nothing")
	}
	b.up.Reset()
	asked := 0
	names := []string{"bob/hot", "bob/cold", "bob/deleted", "bob/never"}
	compare := func(what string, send func(name string) (*httptest.ResponseRecorder, string)) {
		t.Helper()
		first := ""
		for i, name := range names {
			w, path := send(name)
			asked++
			got := seen(w, path)
			if i == 0 {
				first = got
			}
			if got != first || w.Code != 403 && w.Code != 501 && w.Code != 400 && w.Code != 200 {
				t.Errorf("%s: of %s alice sees\n%s\nand of %s\n%s", what, names[0], first, name, got)
			}
			if strings.Contains(w.Body.String(), "secret of bob") {
				t.Errorf("%s: bob's bytes", what)
			}
		}
	}
	conditions := []http.Header{nil, {"If-Match": {"*"}}, {"If-None-Match": {"*"}}, {"If-Match": {`"x"`}}, {"If-Modified-Since": {time.Now().UTC().Format(http.TimeFormat)}},
		{"If-Unmodified-Since": {"Mon, 02 Jan 2006 15:04:05 GMT"}}, {"Range": {"bytes=0-0"}}, {"Range": {"bytes=99-"}}, {"X-Amz-Checksum-Mode": {"ENABLED"}},
		{"X-Amz-Server-Side-Encryption-Customer-Algorithm": {"AES256"}}, {"X-Amz-Expected-Bucket-Owner": {"1"}}}
	for i := range allRoutes {
		row := &allRoutes[i]
		if row.Level != ObjectLevel {
			continue
		}
		for _, h := range conditions {
			for _, extra := range []string{"", "&versionId=1"} {
				template, body := requestFor(row)
				compare(row.Op, func(name string) (*httptest.ResponseRecorder, string) {
					path := "/shared/" + name
					header := template.Header.Clone()
					for k, v := range h {
						header[k] = v
					}
					if row.Header != "" {
						header.Set(row.Header, "/shared/alice/own")
					}
					return b.ask("alice", template.Method, path, template.URL.RawQuery+extra, header, string(body)), path
				})
			}
		}
	}
	for _, op := range []string{"", "uploadId=u&partNumber=1"} {
		for _, h := range []http.Header{{}, {"X-Amz-Copy-Source-If-Match": {"*"}}, {"X-Amz-Copy-Source-If-None-Match": {"*"}}, {"X-Amz-Copy-Source-Range": {"bytes=0-0"}}} {
			for _, suffix := range []string{"", "?versionId=1"} {
				compare("copy from", func(name string) (*httptest.ResponseRecorder, string) {
					header := h.Clone()
					header.Set(copySourceHeader, "/shared/"+name+suffix)
					return b.ask("alice", "PUT", "/shared/alice/copy", op, header, ""), "-"
				})
			}
		}
	}
	for _, list := range []string{"list-type=2&prefix=%s", "prefix=%s", "versions&prefix=%s", "uploads&prefix=%s", "list-type=2&prefix=alice/&start-after=%s&x=y", "prefix=%s&delimiter=/"} {
		compare("list "+list, func(name string) (*httptest.ResponseRecorder, string) {
			return b.ask("alice", "GET", "/shared", fmt.Sprintf(list, url.QueryEscape(name)), nil, ""), "/shared"
		})
	}
	for _, list := range []string{"", "list-type=2", "list-type=2&prefix=", "list-type=2&prefix=alice", "versions", "uploads"} {
		if w := b.ask("alice", "GET", "/shared", list, nil, ""); w.Code != 403 {
			t.Errorf("alice lists %q: %d", list, w.Code)
		}
	}
	for _, bucket := range []string{"bob-bucket", "no-such-bucket"} {
		for i := range allRoutes {
			if row := &allRoutes[i]; row.Level == BucketLevel && row.Class != Refused && row.Body != Form && row.Op != "DeleteObjects" {
				r, body := requestFor(row)
				if w := b.ask("alice", r.Method, "/"+bucket, r.URL.RawQuery, r.Header, string(body)); w.Code != 403 {
					t.Errorf("%s of %s: %d", row.Op, bucket, w.Code)
				}
			}
		}
	}
	if w := b.ask("alice", "GET", "/", "", nil, ""); w.Code != 403 {
		t.Errorf("alice lists all buckets: %d", w.Code)
	}
	compare("delete several", func(name string) (*httptest.ResponseRecorder, string) {
		w := b.ask("alice", "POST", "/shared", "delete", nil, "<Delete><Object><Key>"+name+"</Key></Object></Delete>")
		if !strings.Contains(w.Body.String(), "<Error><Key>"+name+"</Key><Code>AccessDenied</Code>") {
			t.Errorf("delete of %s: %s", name, w.Body)
		}
		w.Body.Reset() // it names the key
		return w, "-"
	})
	for _, kind := range []string{"GET", "HEAD", "PUT", "POST", "DELETE"} {
		if n := b.up.Count(kind); n != 0 {
			t.Errorf("%d %s reached the upstream", n, kind)
		}
	}
	if w := b.ask("bob", "GET", "/shared/bob/hot", "", nil, ""); w.Header()["x-akigw-cache"][0] != "hot" || w.Body.String() != "secret of bob" {
		t.Error("alice pushed bob's object out of the cache")
	}
	if w := b.ask("alice", "GET", "/shared/alice/own", "", nil, ""); w.Code != 200 {
		t.Errorf("alice's own: %d", w.Code)
	}
	if asked < 1500 {
		t.Errorf("only %d questions", asked)
	}
}

// TestCopyNeedsBoth: a copy needs the right to read its source and to write
// its destination, however the source is spelled.
//
// Scenarios: S25.
func TestCopyNeedsBoth(t *testing.T) {
	everybody := tenants(t)
	b := newBench(t, everybody, everybody)
	for _, c := range []struct {
		path, source string
		allowed      bool
	}{
		{"/shared/alice/copy", "/shared/alice/own", true},
		{"/shared/alice/copy", "shared/alice/own", true},
		{"/shared/alice/copy", "shared%2Falice%2Fown", true},
		{"/shared/alice/copy", "alice-bucket/k?versionId=3", true},
		{"/shared/bob/copy", "/shared/alice/own", false},
		{"/shared/alice/copy", "/shared/bob/own", false},
		{"/shared/alice/copy", "shared%2Fbob%2Fown", false},
		{"/shared/alice/copy", "shared/%62ob/own", false},
		{"/shared/alice/copy", "shared/alice/../bob/own", true}, // a key of that name
		{"/shared/alice/copy", "/shared//alice/own", false},
		{"/shared/alice/copy", "bob-bucket/k?versionId=3", false},
	} {
		sent := ""
		b.up.Before = func(r *cold.Request) (*http.Response, error) {
			sent = r.Header.Get(copySourceHeader)
			return s3mem.Response(200, nil, []byte("<CopyObjectResult/>")), nil
		}
		w := b.ask("alice", "PUT", c.path, "", http.Header{copySourceHeader: {c.source}}, "")
		if (w.Code == 200) != c.allowed || (sent != "") != c.allowed || !c.allowed && w.Code != 403 {
			t.Errorf("%s from %s: %d, upstream saw %q", c.path, c.source, w.Code, sent)
		}
	}
}

// TestDeleteObjects: each key is decided by itself; those that may go, go,
// and the others are answered for.
//
// Scenarios: S26.
func TestDeleteObjects(t *testing.T) {
	everybody := tenants(t)
	b := newBench(t, everybody, everybody)
	for _, answer := range []string{
		`<?xml version="1.0"?><DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Deleted><Key>alice/1</Key></Deleted></DeleteResult>`,
		"<DeleteResult/>\n",
	} {
		var sent *cold.Request
		var body []byte
		b.up.Before = func(r *cold.Request) (*http.Response, error) {
			sent = r
			body = make([]byte, r.Length)
			r.Body.Read(body)
			return s3mem.Response(200, nil, []byte(answer)), nil
		}
		document := `<Delete><Quiet>true</Quiet><Object><Key>alice/1</Key><VersionId>v&amp;1</VersionId></Object><Object><Key>bob/&lt;2&gt;</Key></Object><Object><Key>bob/3</Key><VersionId>7</VersionId></Object></Delete>`
		sum := md5.Sum([]byte(document))
		digest := base64.StdEncoding.EncodeToString(sum[:])
		w := b.ask("alice", "POST", "/shared", "delete", http.Header{"Content-Md5": {digest}, "X-Amz-Sdk-Checksum-Algorithm": {"CRC32"}, "X-Amz-Checksum-Crc32": {crc32Of(document)}}, document)
		if w.Code != 200 || sent == nil {
			t.Fatal(w.Code, w.Body)
		}
		request, err := parseDelete(body)
		if err != nil || len(request.Objects) != 1 || request.Objects[0].name != "alice/1" || request.Objects[0].version != "v&1" || request.quiet[0] != "true" {
			t.Errorf("the upstream got %s (%v)", body, err)
		}
		if got := sent.Header.Get("Content-Md5"); got == "" || got == digest || sent.SHA256 != "" || sent.Header.Get("X-Amz-Checksum-Crc32") != "" || sent.Header.Get("X-Amz-Sdk-Checksum-Algorithm") != "" {
			t.Errorf("the new document has the headers of the old: %v", sent.Header)
		}
		for _, want := range []string{"<Error><Key>bob/&lt;2&gt;</Key><Code>AccessDenied</Code>", "<Error><Key>bob/3</Key><VersionId>7</VersionId><Code>AccessDenied</Code>", "</DeleteResult>"} {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("no %s in %s", want, w.Body)
			}
		}
		if strings.Count(w.Body.String(), "<Error>") != 2 {
			t.Errorf("%s", w.Body)
		}
	}
}

func crc32Of(s string) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(s))))
}

// TestHeadersNeedRights: what a header does besides the operation needs a
// right of its own, and a header that nobody knows is refused.
//
// Scenarios: S27.
func TestHeadersNeedRights(t *testing.T) {
	everybody := people{"writer": {sigv4.Credential{Secret: tenantSecret}, mustPolicy(t, allow("s3:PutObject,s3:DeleteObject,s3:CreateBucket", "*"))},
		"root": {sigv4.Credential{Secret: tenantSecret}, policy.Everything}}
	b := newBench(t, everybody, everybody)
	for _, c := range []struct{ method, path, header, value string }{
		{"PUT", "/bucket/k", "X-Amz-Acl", "public-read"},
		{"PUT", "/bucket/k", "X-Amz-Grant-Read", "id=1"},
		{"PUT", "/bucket/k", "X-Amz-Tagging", "a=b"},
		{"PUT", "/bucket/k", "X-Amz-Object-Lock-Mode", "COMPLIANCE"},
		{"PUT", "/bucket/k", "X-Amz-Object-Lock-Retain-Until-Date", "2030-01-01T00:00:00Z"},
		{"PUT", "/bucket/k", "X-Amz-Object-Lock-Legal-Hold", "ON"},
		{"DELETE", "/bucket/k", "X-Amz-Bypass-Governance-Retention", "true"},
		{"PUT", "/bucket", "X-Amz-Acl", "public-read"},
		{"PUT", "/bucket", "X-Amz-Bucket-Object-Lock-Enabled", "true"},
		{"PUT", "/bucket", "X-Amz-Object-Ownership", "ObjectWriter"},
	} {
		h := http.Header{c.header: {c.value}}
		if w := b.ask("writer", c.method, c.path, "", nil, "x"); w.Code >= 400 && w.Code != 501 {
			t.Errorf("%s %s without %s: %d", c.method, c.path, c.header, w.Code)
		}
		if w := b.ask("writer", c.method, c.path, "", h, "x"); w.Code != 403 {
			t.Errorf("%s %s with %s: %d, want 403", c.method, c.path, c.header, w.Code)
		}
		// As a parameter of a presigned URL it is no different.
		if w := b.ask("writer", c.method, c.path, url.Values{strings.ToLower(c.header): {c.value}}.Encode(), nil, "x"); w.Code != 403 {
			t.Errorf("%s %s with the parameter %s: %d, want 403", c.method, c.path, c.header, w.Code)
		}
		if w := b.ask("root", c.method, c.path, "", h, "x"); w.Code >= 400 && w.Code != 501 {
			t.Errorf("%s %s by root with %s: %d", c.method, c.path, c.header, w.Code)
		}
	}
	w := b.ask("root", "PUT", "/bucket/k", "", http.Header{"X-Amz-Do-Something-New": {"1"}}, "x")
	if w.Code != 501 || !strings.Contains(w.Body.String(), "<Header>x-amz-do-something-new</Header>") {
		t.Errorf("an unknown header: %d %s", w.Code, w.Body)
	}
	if w := b.ask("root", "PUT", "/bucket/k", "x-amz-meta-a=b%0d%0aX-Evil:+1", nil, "x"); w.Code != 400 {
		t.Errorf("a parameter with a line break: %d", w.Code)
	}
	if w := b.ask("root", "PUT", "/bucket/k", "x-amz-acl=private", http.Header{"X-Amz-Acl": {"public-read"}}, "x"); w.Code != 400 {
		t.Errorf("a header and a parameter: %d", w.Code)
	}
}

// TestAnonymous: without credentials, only what a rule allows, and only to
// read it.
//
// Scenarios: S29.
func TestAnonymous(t *testing.T) {
	everybody := tenants(t)
	b := newBench(t, everybody, everybody)
	for _, name := range []string{"public/k", "bob/k"} {
		b.up.Put(akigw.Key{Bucket: "shared", Name: name}, []byte("content"))
	}
	for _, c := range []struct {
		method, path, query string
		header              http.Header
		body                string
		status              int
	}{
		{"GET", "/shared/public/k", "", nil, "", 200},
		{"HEAD", "/shared/public/k", "", nil, "", 200},
		{"GET", "/shared/public/none", "", nil, "", 404},
		{"GET", "/shared/public/k", "", http.Header{"Range": {"bytes=1-2"}}, "", 206},
		{"GET", "/shared/bob/k", "", nil, "", 403},
		{"GET", "/shared/bob/none", "", nil, "", 403},
		{"GET", "/shared", "prefix=public/", nil, "", 403},
		{"GET", "/shared/public/k", "versionId=1", nil, "", 403},
		{"GET", "/shared/public/k", "response-content-type=text/html", nil, "", 400},
		{"GET", "/shared/public/k", "acl", nil, "", 403},
		{"GET", "/shared/public/k", "unheard-of", nil, "", 403},
		{"GET", "/shared/public/k", "", nil, "a body", 403},
		{"PUT", "/shared/public/k", "", nil, "x", 403},
		{"PUT", "/shared/public/k", "", nil, "", 403},
		{"DELETE", "/shared/public/k", "", nil, "", 403},
		{"POST", "/shared", "delete", nil, "<Delete><Object><Key>public/k</Key></Object></Delete>", 403},
		{"POST", "/shared", "", http.Header{"Content-Type": {"multipart/form-data; boundary=x"}}, "x", 400},
		{"GET", "/", "", nil, "", 403},
	} {
		if w := b.ask("", c.method, c.path, c.query, c.header, c.body); w.Code != c.status {
			t.Errorf("%s %s?%s: %d, want %d (%s)", c.method, c.path, c.query, w.Code, c.status, w.Body)
		}
	}
	if o, ok := b.up.Get(akigw.Key{Bucket: "shared", Name: "public/k"}); !ok || string(o.Body) != "content" {
		t.Error("it was changed")
	}
}
