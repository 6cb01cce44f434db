package gateway

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/access/policy"
	"github.com/akidb/akigw/gateway/limits"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers/cold"
)

// post sends a form to a path with more headers; change, if not nil, changes the request.
func (b *bench) post(u s3client.Upload, path string, header http.Header, change func(*http.Request)) *httptest.ResponseRecorder {
	r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: path}, Host: "s3.example.com", Header: http.Header{"Content-Type": {s3client.ContentType}},
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "127.0.0.1:1"}
	for name, values := range header {
		r.Header[name] = values
	}
	s3client.SetBody(r, u.Body())
	if change != nil {
		change(r)
	}
	return b.answer(r)
}

// formBench is a bench with a key of each kind, which takes forms of both versions.
func formBench(t testing.TB) *bench {
	t.Helper()
	lasting := sigv4.Credential{Secret: tenantSecret}
	who := people{
		"root":      {lasting, policy.Everything},
		"powerless": {lasting, mustPolicy(t, `{"Effect":"Deny","Action":"*","Resource":"*"}`)},
		"neighbour": {lasting, mustPolicy(t, allow("s3:*", "bucket2"), allow("s3:*", "bucket2/*"), allow("s3:*", "bucket/kez*"), allow("s3:*", "bucket"))},
		"writer":    {lasting, mustPolicy(t, allow("s3:PutObject", "bucket/*"))},
		"temporary": {sigv4.Credential{Secret: tenantSecret, Token: "token", Expires: time.Now().Add(time.Hour)}, policy.Everything},
		"expired":   {sigv4.Credential{Secret: tenantSecret, Token: "token", Expires: time.Now().Add(-time.Hour)}, policy.Everything},
	}
	b := newBench(t, who, who)
	b.reconfigure(func(o *Options) {
		o.Verifier = &sigv4.Verifier{Region: "us-east-1", Keys: who, V2: sigv4.V2Presigned}
		o.Domains = []string{"s3.example.com"}
	})
	return b
}

// with returns a form with one more field.
func with(name, value string) func(*s3client.Upload) {
	return func(u *s3client.Upload) { u.Fields = append(u.Fields, [2]string{name, value}) }
}

// after returns a form whose fields are changed after they were signed.
func after(change func([][2]string) [][2]string) func(*s3client.Upload) {
	return func(u *s3client.Upload) { u.Change = change }
}

// setField gives a field another value after the form was signed.
func setField(name string, change func(string) string) func(*s3client.Upload) {
	return after(func(fields [][2]string) [][2]string {
		for i := range fields {
			if fields[i][0] == name {
				fields[i][1] = change(fields[i][1])
			}
		}
		return fields
	})
}

func dropField(name string) func(*s3client.Upload) {
	return after(func(fields [][2]string) [][2]string {
		return slices.DeleteFunc(fields, func(f [2]string) bool { return f[0] == name })
	})
}

func addFields(more ...[2]string) func(*s3client.Upload) {
	return after(func(fields [][2]string) [][2]string { return append(fields, more...) })
}

// demand gives the policy one more condition.
func demand(condition ...any) func(*s3client.Upload) {
	return func(u *s3client.Upload) {
		u.Conditions = []any{map[string]string{"bucket": u.Bucket}, []string{"starts-with", "$key", ""}, condition}
	}
}

func policyText(text string) func(*s3client.Upload) {
	return func(u *s3client.Upload) { u.Policy = text }
}

// formDefects are the mistakes of a form: each is answered with its status and code.
var formDefects = []struct {
	name    string
	form    func(*s3client.Upload)
	request func(*http.Request)
	status  int
	code    string
	only    int // the version of the signature, 0 for both
}{
	{name: "no credentials", form: after(func(fields [][2]string) [][2]string { return fields[len(fields)-1:] }), status: 403, code: denied},
	{name: "wrong secret", form: func(u *s3client.Upload) { u.Secret = "another-secret" }, status: 403, code: mismatch},
	{name: "unknown key", form: func(u *s3client.Upload) { u.AccessKey = "nobody" }, status: 403, code: mismatch},
	{name: "a key without rights", form: func(u *s3client.Upload) { u.AccessKey = "powerless" }, status: 403, code: denied},
	{name: "a key with rights elsewhere", form: func(u *s3client.Upload) { u.AccessKey = "neighbour" }, status: 403, code: denied},
	{name: "an ACL without the right to it", form: func(u *s3client.Upload) { u.AccessKey = "writer"; with("acl", "public-read")(u) }, status: 403, code: denied},
	{name: "tags without the right to them", form: func(u *s3client.Upload) {
		u.AccessKey = "writer"
		with("tagging", "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>")(u)
	}, status: 403, code: denied},
	{name: "a lock without the right to it", form: func(u *s3client.Upload) { u.AccessKey = "writer"; with("x-amz-object-lock-mode", "GOVERNANCE")(u) }, status: 403, code: denied},
	{name: "a token for a lasting key", form: func(u *s3client.Upload) { u.Token = "token" }, status: 400, code: "InvalidToken"},
	{name: "a temporary key without its token", form: func(u *s3client.Upload) { u.AccessKey = "temporary" }, status: 400, code: "InvalidToken"},
	{name: "a temporary key with another token", form: func(u *s3client.Upload) { u.AccessKey, u.Token = "temporary", "other" }, status: 400, code: "InvalidToken"},
	{name: "an expired key", form: func(u *s3client.Upload) { u.AccessKey, u.Token = "expired", "token" }, status: 400, code: "ExpiredToken"},
	{name: "another region", form: func(u *s3client.Upload) { u.Region = "eu-west-1" }, status: 400, code: "InvalidArgument", only: 4},
	{name: "another algorithm", form: setField("x-amz-algorithm", func(string) string { return "AWS4-ECDSA-P256-SHA256" }), status: 400, code: "InvalidArgument", only: 4},
	{name: "a date that is none", form: setField("x-amz-date", func(string) string { return "20261341T000000Z" }), status: 400, code: "InvalidArgument", only: 4},
	{name: "another day than the scope's", form: setField("x-amz-date", func(string) string { return "20200101T000000Z" }), status: 400, code: "InvalidArgument", only: 4},
	{name: "a scope that is none", form: setField("x-amz-credential", func(string) string { return "root" }), status: 400, code: "InvalidArgument", only: 4},
	{name: "an hour ahead", form: func(u *s3client.Upload) { u.Time = time.Now().Add(time.Hour) }, status: 403, code: denied, only: 4},
	{name: "a digit of the signature", form: setField("x-amz-signature", func(s string) string { return s[:63] + map[bool]string{true: "0", false: "1"}[s[63] != '0'] }), status: 403, code: mismatch, only: 4},
	{name: "a signature in capitals", form: setField("x-amz-signature", func(s string) string { return strings.ToUpper(s) + "G" }), status: 403, code: mismatch, only: 4},
	{name: "a letter of the signature", form: setField("signature", func(s string) string { return map[bool]string{true: "A", false: "B"}[s[0] != 'A'] + s[1:] }), status: 403, code: mismatch, only: 2},
	{name: "an empty signature of version 2", form: setField("signature", func(string) string { return "" }), status: 403, code: mismatch, only: 2},
	{name: "another policy", form: setField("policy", func(s string) string { return s[:len(s)-4] + "AAAA" }), status: 403, code: mismatch},
	{name: "no policy", form: dropField("policy"), status: 400, code: "InvalidArgument"},
	{name: "no algorithm", form: dropField("x-amz-algorithm"), status: 400, code: "InvalidArgument", only: 4},
	{name: "no scope", form: dropField("x-amz-credential"), status: 400, code: "InvalidArgument", only: 4},
	{name: "no date", form: dropField("x-amz-date"), status: 400, code: "InvalidArgument", only: 4},
	{name: "no signature", form: dropField("x-amz-signature"), status: 400, code: "InvalidArgument", only: 4},
	{name: "no signature of version 2", form: dropField("signature"), status: 400, code: "InvalidArgument", only: 2},
	{name: "no key of version 2", form: dropField("AWSAccessKeyId"), status: 400, code: "InvalidArgument", only: 2},
	{name: "both versions", form: addFields([2]string{"signature", "x"}, [2]string{"x-amz-signature", "x"}), status: 400, code: "InvalidArgument"},
	{name: "S4 an Authorization header as well", request: func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x") }, status: 400, code: "InvalidArgument"},
	{name: "S11 an x-amz-acl header", request: func(r *http.Request) { r.Header.Set("X-Amz-Acl", "public-read") }, status: 403, code: denied},
	{name: "S11 a header of metadata", request: func(r *http.Request) { r.Header.Set("X-Amz-Meta-A", "b") }, status: 403, code: denied},
	{name: "an expired policy", form: func(u *s3client.Upload) { u.Expires = time.Now().Add(-time.Second) }, status: 403, code: denied},
	{name: "no base64", form: setField("policy", func(string) string { return "%" }), status: 403, code: mismatch},
	{name: "no JSON", form: policyText("nonsense"), status: 400, code: "InvalidPolicyDocument"},
	{name: "no conditions", form: policyText(`{"expiration": "2144-11-08T04:19:33Z"}`), status: 400, code: "InvalidPolicyDocument"},
	{name: "no expiration", form: policyText(`{"conditions": []}`), status: 400, code: "InvalidPolicyDocument"},
	{name: "an unknown member", form: policyText(`{"expiration": "2144-11-08T04:19:33Z", "conditions": [], "more": 1}`), status: 400, code: "InvalidPolicyDocument"},
	{name: "an unknown operator", form: demand("matches", "$key", "k"), status: 400, code: "InvalidPolicyDocument"},
	{name: "an operator with one argument", form: demand("eq", "$key"), status: 400, code: "InvalidPolicyDocument"},
	{name: "a range with words", form: demand("content-length-range", "a", "b"), status: 400, code: "InvalidPolicyDocument"},
	{name: "a condition that fails", form: demand("eq", "$key", "other"), status: 403, code: denied},
	{name: "a prefix that fails", form: demand("starts-with", "$key", "user/"), status: 403, code: denied},
	{name: "a field of a condition is missing", form: demand("starts-with", "$x-amz-meta-a", ""), status: 403, code: denied},
	{name: "too small", form: demand("content-length-range", 1000, 2000), status: 400, code: "EntityTooSmall"},
	{name: "too large", form: demand("content-length-range", 0, 3), status: 400, code: "EntityTooLarge"},
	{name: "a field without a condition", form: addFields([2]string{"x-amz-meta-a", "b"}), status: 403, code: denied},
	{name: "an ACL without a condition", form: addFields([2]string{"acl", "public-read"}), status: 403, code: denied},
	{name: "a redirect without a condition", form: addFields([2]string{"success_action_redirect", "http://evil.example.com/"}), status: 403, code: denied},
	{name: "no condition for the bucket", form: func(u *s3client.Upload) { u.Conditions = []any{[]string{"starts-with", "$key", ""}} }, status: 403, code: denied},
	{name: "a policy for another bucket", form: func(u *s3client.Upload) { u.Bucket = "bucket2" }, status: 403, code: denied},
	{name: "a policy for another bucket, and a field with it", form: func(u *s3client.Upload) { u.Bucket = "bucket2"; with("bucket", "bucket2")(u) }, status: 403, code: denied},
	{name: "a file name that the policy does not allow", form: func(u *s3client.Upload) {
		u.Fields, u.Filename = [][2]string{{"key", "${filename}"}}, "../other"
		u.Conditions = []any{map[string]string{"bucket": u.Bucket}, []string{"starts-with", "$key", "${filename}"}}
	}, status: 403, code: denied},
	{name: "no key", form: func(u *s3client.Upload) { u.Fields = nil }, status: 400, code: "InvalidArgument"},
	{name: "an empty key", form: func(u *s3client.Upload) { u.Fields = [][2]string{{"key", ""}} }, status: 400, code: "InvalidArgument"},
	{name: "a key of a file without a name", form: func(u *s3client.Upload) {
		u.Fields, u.Filename = [][2]string{{"key", "${filename}"}}, "/"
		demand("eq", "$key", "")(u)
	}, status: 400, code: "InvalidArgument"},
	{name: "a key that is too long", form: func(u *s3client.Upload) { u.Fields = [][2]string{{"key", strings.Repeat("k", 1025)}} }, status: 400, code: "KeyTooLongError"},
	{name: "a key that is no text", form: func(u *s3client.Upload) {
		u.Fields = [][2]string{{"key", "\xff"}}
		demand("starts-with", "$key", "")(u)
	}, status: 400, code: "InvalidURI"},
	{name: "a field twice", form: with("Key", "other"), status: 400, code: "InvalidArgument"},
	{name: "tags twice", form: func(u *s3client.Upload) {
		with("tagging", "<Tagging><TagSet></TagSet></Tagging>")(u)
		with("x-amz-tagging", "a=b")(u)
	}, status: 400, code: "InvalidArgument"},
	{name: "tags that are no XML", form: with("tagging", "a=b"), status: 400, code: "MalformedXML"},
	{name: "tags with a document type", form: with("tagging", "<!DOCTYPE a><Tagging><TagSet></TagSet></Tagging>"), status: 400, code: "MalformedXML"},
	{name: "a line end in a value", form: with("x-amz-meta-a", "b\r\nX-Amz-Acl: public-read"), status: 400, code: "InvalidArgument"},
	{name: "a name that is no header", form: with("x-amz-meta-a b", "c"), status: 400, code: "InvalidArgument"},
	{name: "too much metadata", form: with("x-amz-meta-a", strings.Repeat("x", 2050)), status: 400, code: "MetadataTooLarge"},
	{name: "an unknown field of Amazon's", form: with("x-amz-unheard-of", "x"), status: 501, code: "NotImplemented"},
	{name: "the source of a copy", form: with("x-amz-copy-source", "/bucket/secret"), status: 501, code: "NotImplemented"},
	{name: "an unknown checksum", form: with("x-amz-checksum-rot13", "x"), status: 400, code: "InvalidRequest"},
	{name: "another MD5", form: with("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg=="), status: 400, code: "BadDigest"},
	{name: "an MD5 that is none", form: with("Content-MD5", "x"), status: 400, code: "InvalidDigest"},
	{name: "another checksum", form: with("x-amz-checksum-crc32", "AAAAAA=="), status: 400, code: "BadDigest"},
	{name: "two checksums", form: func(u *s3client.Upload) {
		with("x-amz-checksum-crc32", "AAAAAA==")(u)
		with("x-amz-checksum-sha1", "2jmj7l5rSw0yVb/vlWAYkK/YBwk=")(u)
	}, status: 400, code: "InvalidRequest"},
	{name: "fields that are too large", form: with("x-ignore-this", strings.Repeat("x", 21<<10)), status: 400, code: "MaxPostPreDataLengthExceeded"},
	{name: "fields that become too large", form: func(u *s3client.Upload) {
		u.Filename = strings.Repeat("f", 1000)
		with("x-ignore-this", strings.Repeat("${filename}", 100))(u)
	}, status: 400, code: "MaxPostPreDataLengthExceeded"},
	{name: "no end of the form", form: func(u *s3client.Upload) { u.After = "\r\n" }, status: 400, code: "MalformedPOSTRequest"},
	{name: "no file", request: func(r *http.Request) {
		s3client.SetBody(r, []byte("--"+s3client.Boundary+"\r\nContent-Disposition: form-data; name=key\r\n\r\nkey\r\n--"+s3client.Boundary+"--\r\n"))
	}, status: 400, code: "InvalidArgument"},
	{name: "an empty body", request: func(r *http.Request) { s3client.SetBody(r, nil) }, status: 400, code: "MalformedPOSTRequest"},
	{name: "no boundary", request: func(r *http.Request) { r.Header.Set("Content-Type", "multipart/form-data") }, status: 400, code: "MalformedPOSTRequest"},
	{name: "another boundary", request: func(r *http.Request) { r.Header.Set("Content-Type", "multipart/form-data; boundary=other") }, status: 400, code: "MalformedPOSTRequest"},
	{name: "no length", request: func(r *http.Request) { r.ContentLength = -1 }, status: 411, code: "MissingContentLength"},
	{name: "another kind of body", request: func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, status: 412, code: "PreconditionFailed"},
	{name: "a path with a key", request: func(r *http.Request) { r.URL.Path += "/key" }, status: 405, code: "MethodNotAllowed"},
	{name: "no bucket", request: func(r *http.Request) { r.URL.Path = "/" }, status: 405, code: "MethodNotAllowed"},
}

// TestFormMatrix: every defect of a form is answered with its code and changes nothing anywhere, in both
// versions of the signature; without a defect the object is stored.
//
// Scenarios: S4, S11, S19, S22, S27.
func TestFormMatrix(t *testing.T) {
	b := formBench(t)
	good := func(version int) s3client.Upload {
		return s3client.Upload{AccessKey: "root", Secret: tenantSecret, V2: version == 2, Bucket: "bucket", Fields: [][2]string{{"key", "key"}}, File: []byte("content")}
	}
	cells := 0
	for _, version := range []int{4, 2} {
		for _, d := range formDefects {
			if d.only != 0 && d.only != version {
				continue
			}
			u := good(version)
			if d.form != nil {
				d.form(&u)
			}
			cells++
			w := b.post(u, "/bucket", nil, d.request)
			if code := codeOf(w); w.Code != d.status || code != d.code {
				t.Errorf("version %d with %s: %d %s, want %d %s", version, d.name, w.Code, w.Body, d.status, d.code)
			}
			if b.up.Len() != 0 || b.up.Count("PUT") != 0 || b.up.Count("POST") != 0 {
				t.Fatalf("version %d with %s: something was stored", version, d.name)
			}
		}
	}
	for _, version := range []int{4, 2} {
		if w := b.post(good(version), "/bucket", nil, nil); w.Code != 204 {
			t.Errorf("version %d without a defect: %d %s", version, w.Code, w.Body)
		}
		if o, ok := b.up.Get(keyOf("bucket", "key")); !ok || string(o.Body) != "content" {
			t.Errorf("version %d without a defect: stored %q", version, o.Body)
		}
		b.up.Delete(keyOf("bucket", "key"))
	}
	if b.reconfigure(func(o *Options) { o.Verifier.V2 = sigv4.V2None }); b.post(good(2), "/bucket", nil, nil).Code != 400 || b.up.Len() != 0 {
		t.Error("version 2 is accepted although it is switched off")
	}
	if cells < 120 {
		t.Errorf("only %d cells", cells)
	}
}

// TestFormFields: what the fields say about the object reaches the upstream as headers, and nothing else
// does.
//
// Scenarios: S22, S32.
func TestFormFields(t *testing.T) {
	b := formBench(t)
	body := []byte("the content")
	sum := md5.Sum(body)
	fields := [][2]string{
		{"KEY", "user/${filename}"}, {"acl", "private"}, {"Content-Type", "text/x-${filename}"}, {"Cache-Control", "max-age=1"}, {"Content-Disposition", "inline"},
		{"Content-Encoding", "gzip"}, {"Content-Language", "en"}, {"Expires", "Fri, 21 Mar 2026 00:00:00 GMT"}, {"x-amz-meta-Name", "cät"}, {"x-amz-meta-empty", ""},
		{"x-amz-storage-class", "STANDARD_IA"}, {"x-amz-website-redirect-location", "/elsewhere"}, {"x-amz-server-side-encryption", "AES256"},
		{"tagging", "<Tagging><TagSet>\n<Tag><Key>a b</Key><Value>1&amp;2</Value></Tag><Tag><Key>c</Key><Value></Value></Tag></TagSet></Tagging>"},
		{"Content-MD5", base64.StdEncoding.EncodeToString(sum[:])}, {"x-amz-checksum-crc32", base64.StdEncoding.EncodeToString(crc32.NewIEEE().Sum(nil))},
		{"x-ignore-me", "x"}, {"bucket", "otherbucket"}, {"Filename", "anything"}, {"success_action_status", "404"},
	}
	crc := crc32.NewIEEE()
	crc.Write(body)
	fields[15][1] = base64.StdEncoding.EncodeToString(crc.Sum(nil))
	var sent *cold.Request
	b.up.Before = func(r *cold.Request) (*http.Response, error) {
		sent = r
		return nil, nil
	}
	u := s3client.Upload{AccessKey: "temporary", Token: "token", Secret: tenantSecret, Bucket: "bucket", Fields: fields, Filename: `C:\pictures\cat 1.jpg`, File: body,
		After: "\r\n--" + s3client.Boundary + "\r\nContent-Disposition: form-data; name=\"x-amz-acl\"\r\n\r\npublic-read\r\n--" + s3client.Boundary + "--\r\n"}
	u.Conditions = []any{map[string]string{"bucket": "bucket"}, []string{"eq", "$key", "user/cat 1.jpg"}}
	for _, f := range fields[1:] {
		if !strings.HasPrefix(f[0], "x-ignore-") && f[0] != "bucket" {
			u.Conditions = append(u.Conditions, []string{"starts-with", "$" + f[0], strings.TrimSuffix(f[1], "${filename}")})
		}
	}
	w := b.post(u, "/bucket/", http.Header{"Cookie": {"a=b"}, "Expect": {"100-continue"}, "If-None-Match": {"*"}, "X-Amz-Cf-Id": {"x"}}, nil)
	if w.Code != 204 || w.Body.Len() != 0 || sentHeader(w, "x-akigw-commit") != "upstream" || w.Header().Get("Location") != "http://s3.example.com/bucket/user/cat%201.jpg" || w.Header()["ETag"][0] != fmt.Sprintf(`"%x"`, sum) {
		t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	want := http.Header{"X-Amz-Acl": {"private"}, "Content-Type": {"text/x-cat 1.jpg"}, "Cache-Control": {"max-age=1"}, "Content-Disposition": {"inline"}, "Content-Encoding": {"gzip"}, "Content-Language": {"en"},
		"Expires": {"Fri, 21 Mar 2026 00:00:00 GMT"}, "X-Amz-Meta-Name": {"cät"}, "X-Amz-Meta-Empty": {""}, "X-Amz-Storage-Class": {"STANDARD_IA"}, "X-Amz-Website-Redirect-Location": {"/elsewhere"},
		"X-Amz-Server-Side-Encryption": {"AES256"}, "X-Amz-Tagging": {"a+b=1%262&c="}, "Content-Md5": {fields[14][1]}, "X-Amz-Checksum-Crc32": {fields[15][1]}}
	if sent.Method != "PUT" || sent.Op != "PutObject" || sent.Key != keyOf("bucket", "user/cat 1.jpg") || len(sent.Query) != 0 || fmt.Sprint(sent.Header) != fmt.Sprint(want) {
		t.Errorf("the upstream got %s %s %v\n%v\nwant\n%v", sent.Op, sent.Method, sent.Key, sent.Header, want)
	}
	for _, key := range []akigw.Key{keyOf("otherbucket", "user/cat 1.jpg"), keyOf("bucket", "user/cat 1.jpg")} {
		if _, ok := b.up.Get(key); ok != (key.Bucket == "bucket") {
			t.Errorf("%v is there: %v", key, ok)
		}
	}
	if w := b.ask("root", "GET", "/bucket/user/cat 1.jpg", "", nil, ""); w.Body.String() != string(body) || sentHeader(w, "x-akigw-cache") != "hot" {
		t.Errorf("it was not cached on its way: %q %s", w.Body, sentHeader(w, "x-akigw-cache"))
	}
}

// TestFormResponses: the form says how its upload is answered, as far as the policy lets it.
//
// Scenarios: S22.
func TestFormResponses(t *testing.T) {
	b := formBench(t)
	const etag = `"9a0364b9e99bb480dd25e1f0284c8555"` // MD5 of "content"
	document := `<PostResponse><Location>http://s3.example.com/bucket/a/b%3F%26%3C</Location><Bucket>bucket</Bucket><Key>a/b?&amp;&lt;</Key><ETag>&#34;9a0364b9e99bb480dd25e1f0284c8555&#34;</ETag></PostResponse>`
	for _, c := range []struct {
		fields   [][2]string
		status   int
		location string
		body     string
	}{
		{nil, 204, "http://s3.example.com/bucket/a/b%3F%26%3C", ""},
		{[][2]string{{"success_action_status", "200"}}, 200, "http://s3.example.com/bucket/a/b%3F%26%3C", ""},
		{[][2]string{{"success_action_status", "201"}}, 201, "http://s3.example.com/bucket/a/b%3F%26%3C", document},
		{[][2]string{{"success_action_status", "204"}}, 204, "http://s3.example.com/bucket/a/b%3F%26%3C", ""},
		{[][2]string{{"success_action_status", "302"}}, 204, "http://s3.example.com/bucket/a/b%3F%26%3C", ""},
		{[][2]string{{"success_action_redirect", "https://page.example.com/done"}, {"success_action_status", "201"}}, 303, "https://page.example.com/done?bucket=bucket&key=a%2Fb%3F%26%3C&etag=%229a0364b9e99bb480dd25e1f0284c8555%22", ""},
		{[][2]string{{"redirect", "http://page.example.com/done?a=b#c"}}, 303, "http://page.example.com/done?a=b&bucket=bucket&key=a%2Fb%3F%26%3C&etag=%229a0364b9e99bb480dd25e1f0284c8555%22#c", ""},
		{[][2]string{{"success_action_redirect", "javascript:alert(1)"}}, 204, "http://s3.example.com/bucket/a/b%3F%26%3C", ""},
		{[][2]string{{"success_action_redirect", "/done"}, {"success_action_status", "200"}}, 200, "http://s3.example.com/bucket/a/b%3F%26%3C", ""},
		{[][2]string{{"success_action_redirect", "http://[bad"}}, 204, "http://s3.example.com/bucket/a/b%3F%26%3C", ""},
	} {
		u := s3client.Upload{AccessKey: "root", Secret: tenantSecret, Bucket: "bucket", Fields: append([][2]string{{"key", "a/b?&<"}}, c.fields...), File: []byte("content")}
		w := b.post(u, "/bucket", nil, nil)
		if w.Code != c.status || w.Header().Get("Location") != c.location || !strings.HasSuffix(w.Body.String(), c.body) || (c.body == "") != (w.Body.Len() == 0) || w.Header()["ETag"][0] != etag {
			t.Errorf("%v: %d %v %s, want %d %s", c.fields, w.Code, w.Header(), w.Body, c.status, c.location)
		}
	}
	if w := b.post(s3client.Upload{AccessKey: "root", Secret: tenantSecret, Bucket: "bucket", Fields: [][2]string{{"key", "k"}}}, "/", nil, func(r *http.Request) { r.Host = "bucket.s3.example.com" }); w.Code != 204 || w.Header().Get("Location") != "http://bucket.s3.example.com/k" {
		t.Errorf("virtual-hosted style: %d %v", w.Code, w.Header())
	}
	b.up.Before = func(*cold.Request) (*http.Response, error) {
		return s3mem.Response(404, http.Header{}, []byte("<Error><Code>NoSuchBucket</Code></Error>")), nil
	}
	u := s3client.Upload{AccessKey: "root", Secret: tenantSecret, Bucket: "bucket", Fields: [][2]string{{"key", "k"}, {"success_action_redirect", "http://page.example.com/"}}}
	if w := b.post(u, "/bucket", nil, nil); w.Code != 404 || codeOf(w) != "NoSuchBucket" || w.Header().Get("Location") != "" {
		t.Errorf("an error of the upstream: %d %v", w.Code, w.Header())
	}
}

// TestLargeForms: a large file is streamed, its length is computed, and nothing is stored if that was
// wrong. A small form is read to its end, so it may have fields after its file.
func TestLargeForms(t *testing.T) {
	b := formBench(t)
	large, small := testkit.Bytes(1, 9<<20), testkit.Bytes(2, 1<<20)
	closing := "\r\n--" + s3client.Boundary
	button := closing + "\r\nContent-Disposition: form-data; name=\"submit\"\r\n\r\nUpload" + closing + "--\r\n"
	crc := crc32.NewIEEE()
	crc.Write(large)
	right, wrong := [2]string{"x-amz-checksum-crc32", base64.StdEncoding.EncodeToString(crc.Sum(nil))}, [2]string{"x-amz-checksum-crc32", "AAAAAA=="}
	for _, c := range []struct {
		name   string
		file   []byte
		after  string
		fields [][2]string
		memory int64 // of all requests; 0: no limit
		code   string
	}{
		{name: "large", file: large},
		{name: "large, with a checksum", file: large, fields: [][2]string{right}},
		{name: "large, with a wrong checksum", file: large, fields: [][2]string{wrong}, code: "BadDigest"},
		{name: "large, and a button", file: large, after: button, code: "MalformedPOSTRequest"},
		{name: "large, without the last line end", file: large, after: closing + "--", code: "MalformedPOSTRequest"},
		{name: "large, with an epilogue", file: large, after: closing + "--\r\ntail", code: "MalformedPOSTRequest"},
		{name: "large, without an end", file: large, after: "\r\n", code: "MalformedPOSTRequest"},
		{name: "small, and a button", file: small, after: button},
		{name: "small, without the last line end", file: small, after: closing + "--"},
		{name: "small, with an epilogue", file: small, after: closing + "--\r\ntail"},
		{name: "small, little memory", file: small, memory: 512 << 10},
		{name: "small, a button, little memory", file: small, after: button, memory: 512 << 10, code: "MalformedPOSTRequest"},
		{name: "empty", file: nil},
	} {
		b.reconfigure(func(o *Options) {
			if o.Memory = nil; c.memory > 0 {
				o.Memory = NewMemory(c.memory, nil)
			}
		})
		u := s3client.Upload{AccessKey: "root", Secret: tenantSecret, Bucket: "bucket", Fields: append([][2]string{{"key", c.name}}, c.fields...), File: c.file, After: c.after}
		w := b.post(u, "/bucket", nil, nil)
		o, stored := b.up.Get(keyOf("bucket", c.name))
		switch {
		case c.code == "" && (w.Code != 204 || !bytes.Equal(o.Body, c.file)):
			t.Errorf("%s: %d %s, stored %d bytes", c.name, w.Code, w.Body, len(o.Body))
		case c.code != "" && (w.Code != 400 || codeOf(w) != c.code || stored):
			t.Errorf("%s: %d %s, stored: %v", c.name, w.Code, w.Body, stored)
		}
		if o := b.g.options; o.Memory != nil && o.Memory.Used() != 0 {
			t.Errorf("%s: %d bytes of memory are still reserved", c.name, o.Memory.Used())
		}
	}
}

// TestBrokenForm: a client that disconnects in the middle leaves nothing behind.
func TestBrokenForm(t *testing.T) {
	for _, size := range []int{100_000, 9 << 20} {
		g := newRig(t, rules.Strict)
		body := s3client.Upload{AccessKey: s3client.AccessKey, Secret: s3client.SecretKey, Bucket: "bucket", Fields: [][2]string{{"key", "k"}}, File: testkit.Bytes(1, size)}.Body()
		ctx, cancel := context.WithCancel(t.Context())
		in, out := io.Pipe()
		r, err := http.NewRequestWithContext(ctx, "POST", g.Endpoint+"/bucket", in)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", s3client.ContentType)
		r.ContentLength = int64(len(body))
		go func() {
			_, _ = out.Write(body[:len(body)-1])
			cancel()
			out.CloseWithError(io.ErrUnexpectedEOF)
		}()
		if a, err := g.HTTP.Do(r); err == nil {
			a.Body.Close()
			t.Errorf("%d bytes: answered with %d", size, a.StatusCode)
		}
		if g.up.Len() != 0 {
			t.Errorf("%d bytes: something was stored", size)
		}
	}
}

// TestFormIsWrittenBack: where a rule says so, the journal acknowledges a form like any other write.
func TestFormIsWrittenBack(t *testing.T) {
	b := backBench(t)
	for _, size := range []int{100, 100_000, 9 << 20} {
		file := testkit.Bytes(3, size)
		u := s3client.Upload{AccessKey: "root", Secret: tenantSecret, Bucket: back, Fields: [][2]string{{"key", "k"}, {"x-amz-meta-a", "b"}, {"success_action_status", "201"}}, File: file}
		w := b.post(u, "/"+back, http.Header{"Origin": {"http://s3.example.com"}}, nil)
		if w.Code != 201 || sentHeader(w, "x-akigw-commit") != "journal" || !strings.Contains(w.Body.String(), fmt.Sprintf("%x", md5.Sum(file))) {
			t.Fatalf("%d bytes: %d %v %s", size, w.Code, w.Header(), w.Body)
		}
		if w := b.ask("root", "GET", "/"+back+"/k", "", nil, ""); !bytes.Equal(w.Body.Bytes(), file) || sentHeader(w, "x-akigw-cache") != "overlay" || w.Header()["x-amz-meta-a"][0] != "b" {
			t.Errorf("%d bytes: %d %v", size, w.Code, w.Header())
		}
		u.After = "\r\n--" + s3client.Boundary + "--\r\n\r\n"
		if w := b.post(u, "/"+back, nil, nil); (w.Code == 201) != (size <= formMemory) {
			t.Errorf("%d bytes and an epilogue: %d", size, w.Code)
		}
	}
}

// TestFormOfAnotherOrigin: the upstream's consent lets a page read the response; the upload does not
// depend on it.
func TestFormOfAnotherOrigin(t *testing.T) {
	b := formBench(t)
	asked := 0
	consent := func() (*http.Response, error) {
		return s3mem.Response(200, http.Header{"Access-Control-Allow-Origin": {"http://page"}, "Access-Control-Expose-Headers": {"ETag"}, "Vary": {"Origin"}, "Set-Cookie": {"a=b"}}, nil), nil
	}
	b.up.Before = func(r *cold.Request) (*http.Response, error) {
		if r.Method != http.MethodOptions {
			if r.Header.Get("Origin") != "" {
				t.Error("the PutObject has an origin")
			}
			return nil, nil
		}
		asked++
		if r.Key != keyOf("bucket", "") || r.Header.Get("Access-Control-Request-Method") != "POST" || r.Header.Get("Origin") != "http://page" {
			t.Errorf("asked %+v", r)
		}
		return consent()
	}
	u := s3client.Upload{AccessKey: "root", Secret: tenantSecret, Bucket: "bucket", Fields: [][2]string{{"key", "k"}}, File: []byte("content")}
	if w := b.post(u, "/bucket", http.Header{"Origin": {"http://page"}}, nil); w.Code != 204 || w.Header().Get("Access-Control-Allow-Origin") != "http://page" || w.Header().Get("Vary") != "Origin" || w.Header().Get("Set-Cookie") != "" || asked != 1 {
		t.Errorf("%d %v, asked %d times", w.Code, w.Header(), asked)
	}
	if w := b.post(u, "/bucket", http.Header{"Origin": {"http://s3.example.com"}}, nil); w.Code != 204 || asked != 1 {
		t.Errorf("the gateway's own origin: %d, asked %d times", w.Code, asked)
	}
	consent = func() (*http.Response, error) { return s3mem.Response(403, nil, nil), nil }
	if w := b.post(u, "/bucket", http.Header{"Origin": {"http://page"}}, nil); w.Code != 204 || w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("refused: %d %v", w.Code, w.Header())
	}
	consent = func() (*http.Response, error) { return nil, akigw.ErrUpstreamUnavailable }
	if w := b.post(u, "/bucket", http.Header{"Origin": {"http://page"}}, nil); w.Code != 204 || w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("no answer: %d %v", w.Code, w.Header())
	}
	u.Secret = "wrong"
	if asked = 0; b.post(u, "/bucket", http.Header{"Origin": {"http://page"}}, nil).Code != 403 || asked != 0 {
		t.Error("the upstream was asked for a form with a wrong signature")
	}
}

// TestFormsCount: throttles, limits, quotas, metrics and the access log treat a form as a write of the
// object.
func TestFormsCount(t *testing.T) {
	b := formBench(t)
	var log nothing
	qos, err := limits.NewQoS([]limits.QoSConfig{{Name: "bucket", IdentityRequests: 5, Weight: 1}}, byBucket{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.reconfigure(func(o *Options) {
		o.FailuresPerMinute, o.QoS, o.AccessLog = 3, qos, &AccessLog{&log}
		o.Quotas = []limits.QuotaConfig{{Bucket: "bucket", AccessKey: "*", MaxBytes: 10}}
	})
	b.count(t)
	u := s3client.Upload{AccessKey: "root", Secret: tenantSecret, Bucket: "bucket", Fields: [][2]string{{"key", "a b"}, {"success_action_redirect", "http://page.example.com/"}}, File: []byte("content")}
	if w := b.post(u, "/bucket", nil, nil); w.Code != 303 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if line := log.String(); !strings.Contains(line, " root ") || !strings.Contains(line, "REST.POST.OBJECT a%20b") || !strings.Contains(line, " 303 - - 7 ") || !strings.Contains(line, " SigV4 - POST ") {
		t.Errorf("the access log: %s", line)
	}
	u.Fields = [][2]string{{"key", "c"}}
	if w := b.post(u, "/bucket", nil, nil); w.Code != 403 || codeOf(w) != "QuotaExceeded" || b.up.Len() != 1 {
		t.Errorf("over the quota: %d %s", w.Code, w.Body)
	}
	u.AccessKey, u.File = "writer", nil
	limited := slices.ContainsFunc(make([]int, 1000), func(int) bool { return b.post(u, "/bucket", nil, nil).Code == 503 })
	if !limited {
		t.Error("1,000 forms at once are not over the limit of 5 a second")
	}
	u.Secret = "wrong"
	codes := []int{}
	for range 4 {
		codes = append(codes, b.post(u, "/bucket", nil, func(r *http.Request) { r.RemoteAddr = "192.0.2.1:1" }).Code)
	}
	if fmt.Sprint(codes) != "[403 403 403 503]" {
		t.Errorf("wrong signatures from one address: %v", codes)
	}
	if n := b.g.pipeline.records.counters.request("PostObject", 303).Get(); n != 1 {
		t.Errorf("counted %d times", n)
	}
}
