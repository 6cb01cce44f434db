package sigv4

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// verifyAt verifies a request as a gateway does that has host names for buckets.
func verifyAt(v *Verifier, bucket string, r *http.Request) (Identity, *Payload, error) {
	query, err := ParseQuery(r.URL.RawQuery)
	if err != nil {
		return Identity{}, nil, err
	}
	return v.VerifyWithin(nil, r, bucket, r.URL.Path, query)
}

// v2Verifier accepts version 2 at the time of the examples.
func v2Verifier(accepted V2, at time.Time) *Verifier {
	v := exampleVerifier()
	v.V2, v.Now = accepted, func() time.Time { return at }
	return v
}

// TestV2PublishedVectors are the examples of the S3 user guide ("Signing and authenticating REST requests").
//
// Scenarios: S6.
func TestV2PublishedVectors(t *testing.T) {
	const host = "johnsmith.s3.amazonaws.com"
	for _, c := range []struct {
		name, method, target, date string
		header                     http.Header
		signature                  string
	}{
		{"object GET", "GET", "/photos/puppy.jpg", "Tue, 27 Mar 2007 19:36:42 +0000", nil, "bWq2s1WEIj+Ydj0vQ697zp+IXMU="},
		{"object PUT", "PUT", "/photos/puppy.jpg", "Tue, 27 Mar 2007 21:15:45 +0000", http.Header{"Content-Type": {"image/jpeg"}}, "MyyxeRY7whkBe+bq8fHCL/2kKUg="},
		{"list", "GET", "/?prefix=photos&max-keys=50&marker=puppy", "Tue, 27 Mar 2007 19:42:41 +0000", nil, "htDYFYduRNen8P9ZfE/s9SuKy0U="},
		{"fetch", "GET", "/?acl", "Tue, 27 Mar 2007 19:44:46 +0000", nil, "c2WLPFtWHVgbEmeEG93a4cG37dM="},
	} {
		at, err := time.Parse(time.RFC1123Z, c.date)
		if err != nil {
			t.Fatal(err)
		}
		r := request(t, c.method, c.target, host, c.header, nil)
		r.Header.Set("Date", c.date)
		r.Header.Set("Authorization", "AWS "+exampleKey+":"+c.signature)
		if id, _, err := verifyAt(v2Verifier(V2All, at), "johnsmith", r); err != nil || id.AccessKey() != exampleKey || id.Place() != Header || id.Version() != 2 {
			t.Errorf("%s: %+v, %v", c.name, id, err)
		}
	}
	r := request(t, "GET", "/photos/puppy.jpg?AWSAccessKeyId="+exampleKey+"&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620", host, nil, nil)
	if id, _, err := verifyAt(v2Verifier(V2Presigned, time.Unix(1175139000, 0)), "johnsmith", r); err != nil || id.Place() != Query || id.Version() != 2 {
		t.Errorf("query string: %+v, %v", id, err)
	}
}

// botocoreURLs are what botocore 1.43.11 (HmacV1QueryAuth) makes of generate_presigned_url at 2013-05-24
// 00:00:00 UTC, with the key pair of the examples, endpoint http://s3.example.com:9000, bucket "bucket",
// key "a b/ü+k~", and no settings besides.
var botocoreURLs = []struct{ name, method, query string }{
	{"get_object", "GET", "AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=6UGGt6Ylc7Ea1rOfM71yfH3TE4M%3D&Expires=1369357200"},
	{"head_object", "HEAD", "AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=CJ%2B%2FD7%2FuqqPDO0bl1hZWBT5v7%2Fs%3D&Expires=1369357200"},
	{"put_object", "PUT", "AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=lVeGtaxHtLv%2FosXK7HWEbsIBtdo%3D&Expires=1369357200"},
	{"delete_object", "DELETE", "AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=nuEzEnz74%2F6EIy5mXNv36wTFqWw%3D&Expires=1369357200"},
	{"get_object, VersionId, ResponseContentType and ResponseContentDisposition", "GET", "versionId=v%2B1&response-content-type=text%2Fplain%3B%20charset%3Dutf-8&response-content-disposition=attachment%3B%20filename%3D%22a%26b.txt%22&AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=anL3C7PbA5a6Zz0CAscG3OaXzRg%3D&Expires=1369357200"},
	{"put_object, ContentType", "PUT", "AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=V2bSEoksl7%2BDCoHe9BqERcMuoNE%3D&content-type=image%2Fpng&Expires=1369357200"},
	{"put_object, ContentMD5, ACL, Metadata, Tagging and StorageClass", "PUT", "AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=Y%2FCRBwTCJJKBSvO%2Fw3b4iMqGeyk%3D&content-type=text%2Fplain&content-md5=1B2M2Y8AsgTpgAmY7PhCfg%3D%3D&x-amz-acl=private&x-amz-meta-b=b%20%20c&x-amz-meta-a=1&x-amz-tagging=a%3Db&x-amz-storage-class=STANDARD&Expires=1369357200"},
	{"upload_part", "PUT", "uploadId=u%2F1&partNumber=7&AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=h5WfDOkZKTBNJdizGI91gkz8rI0%3D&Expires=1369357200"},
	{"abort_multipart_upload", "DELETE", "uploadId=u%2F1&AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=31vbd%2BmY0%2BWH6MA%2FCDkEMvL%2BThw%3D&Expires=1369357200"},
	{"get_object_acl", "GET", "acl&AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=hQUzdMN8vYfvfnerQS7MWQdkYXs%3D&Expires=1369357200"},
	{"get_object_tagging", "GET", "tagging&AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=WpTKMmWU3AYDud0TRrejDyFuWi0%3D&Expires=1369357200"},
	{"copy_object", "PUT", "AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=lKmnMb53HYK0K3CPMo%2BTdcrRgF8%3D&x-amz-copy-source=bucket%2Fother&Expires=1369357200"},
}

const botocoreTarget = "/bucket/a%20b/%C3%BC%2Bk~?"

// TestV2Botocore: what botocore presigns is accepted, by path and by host name, with the headers that it
// moved into the query sent again or not, and with none changed, added or removed.
//
// Scenarios: S6.
func TestV2Botocore(t *testing.T) {
	v := v2Verifier(V2Presigned, exampleTime)
	for _, c := range botocoreURLs {
		make := func() *http.Request {
			return request(t, c.method, botocoreTarget+c.query, "s3.example.com:9000", nil, nil)
		}
		if id, _, err := verify(v, make()); err != nil || id.AccessKey() != exampleKey || id.Place() != Query || id.Version() != 2 {
			t.Errorf("%s: %+v, %v", c.name, id, err)
		}
		hosted := request(t, c.method, strings.TrimPrefix(botocoreTarget, "/bucket")+c.query, "bucket.s3.example.com:9000", nil, nil)
		if _, _, err := verifyAt(v, "bucket", hosted); err != nil {
			t.Errorf("%s, by host name: %v", c.name, err)
		}
		if _, _, err := verifyAt(v, "other", hosted); !errors.Is(err, s3err.SignatureDoesNotMatch) {
			t.Errorf("%s, for another bucket: %v", c.name, err)
		}
		query := make().URL.Query()
		for name := range query {
			if movedV2(name) {
				r := make()
				r.Header.Set(name, query.Get(name))
				if _, _, err := verify(v, r); err != nil {
					t.Errorf("%s with %s as a header, too: %v", c.name, name, err)
				}
				r.Header.Set(name, "other")
				if _, _, err := verify(v, r); !errors.Is(err, s3err.SignatureDoesNotMatch) {
					t.Errorf("%s with another %s as a header: %v", c.name, name, err)
				}
			}
			for _, change := range []func(url.Values){
				func(q url.Values) { q.Del(name) },
				func(q url.Values) { q.Set(name, q.Get(name)+"1") },
			} {
				changed := make().URL.Query()
				change(changed)
				r := make()
				r.URL.RawQuery = changed.Encode()
				if _, _, err := verify(v, r); err == nil {
					t.Errorf("%s was accepted with %s instead of %q", c.name, changed, query)
				}
			}
		}
		for name, values := range map[string][]string{"X-Amz-Acl": {"public-read"}, "X-Amz-Meta-New": {"1"}, "X-Amz-Copy-Source": {"bucket/secret"}, "Content-Type": {"text/html"}, "Content-Md5": {"x"}} {
			r := make()
			r.Header[name] = values
			if _, _, err := verify(v, r); err == nil {
				t.Errorf("%s was accepted with the header %s", c.name, name)
			}
		}
		for _, other := range []string{"GET", "HEAD", "PUT", "DELETE", "POST"} {
			r := make()
			r.Method = other
			if _, _, err := verify(v, r); (err == nil) != (other == c.method) {
				t.Errorf("%s, sent as %s: %v", c.name, other, err)
			}
		}
	}
}

// TestV2Differential: what minio-go signs is accepted, whatever the key, and no part of it can be changed.
//
// Scenarios: S6.
func TestV2Differential(t *testing.T) {
	random := testkit.Random(t)
	v := &Verifier{Region: "us-east-1", Keys: StaticKeys{"key": "secretsecret"}, V2: V2All}
	for range 2000 {
		key := "/bucket/k" + testkit.Text(random, 20)
		r := signed(t, testkit.Pick(random, "GET", "PUT", "DELETE", "HEAD"), key, testkit.Pick(random, "", "versionId=1", "uploadId=a%2Fb&partNumber=2", "acl"), nil, nil, unsignedPayload)
		r.Header = http.Header{}
		if random.IntN(2) == 0 {
			r.Header.Set("Content-Type", "text/plain")
			r.Header.Set("X-Amz-Meta-B", "1")
			r.Header.Set("X-Amz-Meta-A", testkit.Pick(random, "a", "b,c", "d  e"))
		}
		if random.IntN(2) == 0 {
			r = signer.SignV2(*r, "key", "secretsecret", false)
		} else {
			r = signer.PreSignV2(*r, "key", "secretsecret", 60, false)
			r.Header.Del("Expires") // it signs by this header, and moves it into the query
		}
		id, _, err := verify(v, r)
		if err != nil || id.Version() != 2 {
			t.Fatalf("%s %s %v: %v", r.Method, r.URL, r.Header, err)
		}
		r.URL.Path, r.URL.RawPath = r.URL.Path+"x", ""
		if _, _, err := verify(v, r); !errors.Is(err, s3err.SignatureDoesNotMatch) {
			t.Fatalf("%s %s %v: %v", r.Method, r.URL, r.Header, err)
		}
	}
}

// v2Signed returns a request for /bucket/key that is signed with version 2.
func v2Signed(s s3client.SigningV2, method, query string, header http.Header) *http.Request {
	if header == nil {
		header = http.Header{}
	}
	r := &http.Request{Method: method, URL: &url.URL{Path: "/bucket/key", RawQuery: query}, Host: "h", Header: header}
	s.AccessKey, s.Secret = exampleKey, exampleSecret
	if s.Time.IsZero() {
		s.Time = exampleTime
	}
	s.Sign(r)
	return r
}

// TestV2Places: each setting accepts what it says, and the zero value nothing.
//
// Scenarios: S6.
func TestV2Places(t *testing.T) {
	for _, c := range []struct {
		accepted          V2
		presigned, header bool
	}{{"", false, false}, {V2None, false, false}, {V2Presigned, true, false}, {V2All, true, true}} {
		if c.accepted.Presigned() != c.presigned || c.accepted.Forms() != c.presigned || c.accepted.Header() != c.header {
			t.Errorf("%q: %t %t %t", c.accepted, c.accepted.Presigned(), c.accepted.Forms(), c.accepted.Header())
		}
		for _, presign := range []bool{true, false} {
			want := c.header
			if presign {
				want = c.presigned
			}
			_, _, err := verify(v2Verifier(c.accepted, exampleTime), v2Signed(s3client.SigningV2{Presign: presign}, "GET", "", nil))
			if want && err != nil || !want && !errors.Is(err, s3err.InvalidRequest) {
				t.Errorf("%q, presigned %t: %v", c.accepted, presign, err)
			}
		}
	}
}

// TestV2Refused: whatever version 2 does not sign and would change the request is refused, although the
// signature is right.
//
// Scenarios: S6.
func TestV2Refused(t *testing.T) {
	for _, c := range []struct {
		name, method, query string
		header              http.Header
		presigned, inHeader s3err.Code // what each place is answered with, "" if it is accepted
	}{
		{"a plain request", "GET", "", nil, "", ""},
		{"a range and conditions", "GET", "", http.Header{"Range": {"bytes=0-1"}, "If-Match": {"x"}, "If-None-Match": {"y"}, "Cache-Control": {"no-cache"}, "Origin": {"http://h"}}, "", ""},
		{"conditions of a write", "PUT", "", http.Header{"If-Match": {"x"}, "If-None-Match": {"*"}, "Expect": {"100-continue"}}, "", ""},
		{"a part", "PUT", "uploadId=1&partNumber=2", nil, "", ""},
		{"an unknown parameter", "GET", "more=1", nil, s3err.AccessDenied, s3err.AccessDenied},
		{"an unknown parameter without a value", "DELETE", "more", nil, s3err.AccessDenied, s3err.AccessDenied},
		{"a parameter that version 2 does not know", "PUT", "retention", nil, s3err.AccessDenied, s3err.AccessDenied},
		{"a parameter in other letters", "GET", "versionID=1", nil, s3err.AccessDenied, s3err.AccessDenied},
		{"a signed parameter that hides another", "GET", "response-content-type=text%2Fplain%26versionId=1", nil, s3err.AccessDenied, s3err.AccessDenied},
		{"the same in the middle", "GET", "response-content-type=a%26versionId%26b", nil, s3err.AccessDenied, s3err.AccessDenied},
		{"an ampersand that hides none", "GET", "response-content-disposition=attachment%3B filename=a%26b.txt", nil, "", ""},
		{"a control character", "GET", "versionId=1%0A", nil, s3err.AccessDenied, s3err.AccessDenied},
		{"a page of a listing", "GET", "uploadId=1&max-parts=2", nil, s3err.AccessDenied, ""},
		{"the same in a change", "DELETE", "uploadId=1&max-parts=2", nil, s3err.AccessDenied, s3err.AccessDenied},
		{"POST", "POST", "uploads", nil, s3err.InvalidRequest, ""},
		{"Cache-Control", "PUT", "", http.Header{"Cache-Control": {"max-age=1"}}, s3err.AccessDenied, ""},
		{"Content-Disposition", "PUT", "", http.Header{"Content-Disposition": {"inline"}}, s3err.AccessDenied, ""},
		{"Content-Encoding", "PUT", "", http.Header{"Content-Encoding": {"gzip"}}, s3err.AccessDenied, ""},
		{"Content-Language", "PUT", "", http.Header{"Content-Language": {"en"}}, s3err.AccessDenied, ""},
		{"Expires", "PUT", "", http.Header{"Expires": {"0"}}, s3err.AccessDenied, ""},
		{"aws-chunked", "PUT", "", http.Header{"X-Amz-Content-Sha256": {unsignedTrailer}, "X-Amz-Decoded-Content-Length": {"0"}}, s3err.InvalidRequest, s3err.InvalidRequest},
		{"a trailer", "PUT", "", http.Header{"X-Amz-Trailer": {"x-amz-checksum-crc32"}}, s3err.InvalidRequest, s3err.InvalidRequest},
		{"a value with a blank at its ends", "PUT", "", http.Header{"X-Amz-Meta-A": {" b "}}, "", ""},
	} {
		for _, presign := range []bool{true, false} {
			want := c.inHeader
			if presign {
				want = c.presigned
			}
			id, _, err := verify(v2Verifier(V2All, exampleTime), v2Signed(s3client.SigningV2{Presign: presign}, c.method, c.query, c.header.Clone()))
			if want == "" && (err != nil || !id.Verified()) || want != "" && !errors.Is(err, want) {
				t.Errorf("%s, presigned %t: %v, want %s", c.name, presign, err, want)
			}
		}
	}
	for _, path := range []string{"", "/", "/bucket", "/bucket/"} {
		r := v2Signed(s3client.SigningV2{Presign: true}, "GET", "", nil)
		r.URL.Path = path
		if _, _, err := verify(v2Verifier(V2All, exampleTime), r); !errors.Is(err, s3err.InvalidRequest) {
			t.Errorf("presigned for %q: %v", path, err)
		}
	}
}

// TestV2Messages: defects of a signature give S3's messages.
//
// Scenarios: S6.
func TestV2Messages(t *testing.T) {
	const needs = "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters"
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) {
			q := r.URL.Query()
			q.Set(name, value)
			r.URL.RawQuery = q.Encode()
		}
	}
	at := exampleTime.Unix()
	for _, c := range []struct {
		name          string
		presign       bool
		spoil         func(*http.Request)
		code, message string
	}{
		{"no expiry", true, set("Expires", ""), "AccessDenied", needs},
		{"no signature", true, set("Signature", ""), "AccessDenied", needs},
		{"no access key", true, set("AWSAccessKeyId", ""), "AccessDenied", needs},
		{"an expiry that is none", true, set("Expires", "tomorrow"), "AccessDenied", "Invalid date (should be seconds since epoch): tomorrow"},
		{"a negative expiry", true, set("Expires", "-1"), "AccessDenied", "Invalid date (should be seconds since epoch): -1"},
		{"an expiry beyond 64 bits", true, set("Expires", "9223372036854775808"), "AccessDenied", "Invalid date (should be seconds since epoch): 9223372036854775808"},
		{"the largest expiry", true, set("Expires", "9223372036854775807"), "AccessDenied", "Expires must be at most a week from now; that is, 604800 seconds"},
		{"a week, the skew and a second", true, set("Expires", itoa(at+604800+900+1)), "AccessDenied", "Expires must be at most a week from now; that is, 604800 seconds"},
		{"a week and the skew", true, set("Expires", itoa(at+604800+900)), "SignatureDoesNotMatch", s3err.SignatureDoesNotMatch.Err().Message},
		{"now", true, set("Expires", itoa(at)), "AccessDenied", "Request has expired"},
		{"a second too late", true, set("Expires", itoa(at-1)), "AccessDenied", "Request has expired"},
		{"the beginning of time", true, set("Expires", "0"), "AccessDenied", "Request has expired"},
		{"an unknown key", true, set("AWSAccessKeyId", "nobody"), "SignatureDoesNotMatch", s3err.SignatureDoesNotMatch.Err().Message},
		{"no colon", false, auth("AWS HAHAHA"), "InvalidArgument", "AWS authorization header is invalid.  Expected AwsAccessKeyId:signature"},
		{"no signature in the header", false, auth("AWS key:"), "InvalidArgument", "AWS authorization header is invalid.  Expected AwsAccessKeyId:signature"},
		{"no key in the header", false, auth("AWS :AAAA"), "InvalidArgument", "AWS authorization header is invalid.  Expected AwsAccessKeyId:signature"},
		{"a wrong signature", false, auth("AWS " + exampleKey + ":AAAAAAAAAAAAAAAAAAAAAAAAAAA="), "SignatureDoesNotMatch", s3err.SignatureDoesNotMatch.Err().Message},
		{"no date", false, func(r *http.Request) { r.Header.Del("Date") }, "AccessDenied", noDate},
		{"a date that is none", false, func(r *http.Request) { r.Header.Set("X-Amz-Date", "Bad Date") }, "AccessDenied", noDate},
		{"an empty date", false, func(r *http.Request) { r.Header.Set("X-Amz-Date", "") }, "AccessDenied", noDate},
		{"a date before 1970", false, func(r *http.Request) { r.Header.Set("X-Amz-Date", "Tue, 07 Jul 1950 21:53:04 GMT") }, "AccessDenied", noDate},
		{"a date in the past", false, func(r *http.Request) { r.Header.Set("X-Amz-Date", "Tue, 07 Jul 2010 21:53:04 GMT") }, "RequestTimeTooSkewed", s3err.RequestTimeTooSkewed.Err().Message},
		{"a date in the future", false, func(r *http.Request) { r.Header.Set("Date", "Tue, 07 Jul 9999 21:53:04 GMT") }, "RequestTimeTooSkewed", s3err.RequestTimeTooSkewed.Err().Message},
		{"two content types", false, func(r *http.Request) { r.Header["Content-Type"] = []string{"a", "b"} }, "InvalidArgument", "The header content-type was sent more than once."},
		{"two ACLs", true, func(r *http.Request) { r.Header["X-Amz-Acl"] = []string{"a", "b"} }, "InvalidArgument", "The header x-amz-acl was sent more than once."},
		{"a signature twice", true, func(r *http.Request) { r.URL.RawQuery += "&Signature=x" }, "InvalidArgument", "The query parameter Signature was sent more than once."},
		{"version 4 as well", true, func(r *http.Request) { r.URL.RawQuery += "&X-Amz-Signature=x" }, "InvalidArgument",
			"Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified"},
		{"a header that is none", true, func(r *http.Request) { r.URL.RawQuery += "&x-amz-meta-a%3Ab=1" }, "InvalidArgument", `The query parameter "x-amz-meta-a:b" is not a header.`},
		{"a header with a line feed", true, func(r *http.Request) { r.URL.RawQuery += "&x-amz-meta-a=1%0Ax-amz-acl:private" }, "InvalidArgument", `The query parameter "x-amz-meta-a" is not a header.`},
		{"one header in two spellings", true, func(r *http.Request) { r.URL.RawQuery += "&x-amz-meta-a=1&X-Amz-Meta-A=2" }, "SignatureDoesNotMatch", s3err.SignatureDoesNotMatch.Err().Message},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := v2Signed(s3client.SigningV2{Presign: c.presign}, "GET", "", nil)
			c.spoil(r)
			_, _, err := verify(v2Verifier(V2All, exampleTime), r)
			expectMessage(t, err, c.code, c.message)
		})
	}
}

func auth(value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", value) }
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// TestV2SessionTokens: temporary keys are checked as with version 4.
//
// Scenarios: S19.
func TestV2SessionTokens(t *testing.T) {
	keys := credentials{
		"lasting":   {Secret: exampleSecret},
		"temporary": {Secret: exampleSecret, Token: "token", Expires: exampleTime.Add(time.Hour)},
		"expired":   {Secret: exampleSecret, Token: "token", Expires: exampleTime},
	}
	for _, c := range []struct {
		key, token string
		want       s3err.Code
	}{
		{"lasting", "", ""}, {"lasting", "token", s3err.InvalidToken},
		{"temporary", "token", ""}, {"temporary", "", s3err.InvalidToken}, {"temporary", "other", s3err.InvalidToken},
		{"expired", "token", s3err.ExpiredToken}, {"expired", "other", s3err.InvalidToken},
	} {
		for _, presign := range []bool{true, false} {
			r := &http.Request{Method: "GET", URL: &url.URL{Path: "/bucket/key"}, Host: "h", Header: http.Header{}}
			s3client.SigningV2{AccessKey: c.key, Secret: exampleSecret, Token: c.token, Time: exampleTime, Presign: presign}.Sign(r)
			v := v2Verifier(V2All, exampleTime)
			v.Keys = keys
			if _, _, err := verify(v, r); c.want == "" && err != nil || c.want != "" && !errors.Is(err, c.want) {
				t.Errorf("%s with token %q, presigned %t: %v, want %s", c.key, c.token, presign, err, c.want)
			}
		}
	}
}

// TestV2Payload: a body is taken as it comes, and compared with a digest if there is one.
//
// Scenarios: S16.
func TestV2Payload(t *testing.T) {
	for declared, want := range map[string]error{"": nil, unsignedPayload: nil, hexSHA256([]byte("body")): nil, emptySHA256: s3err.ContentSHA256Mismatch} {
		h := http.Header{}
		if declared != "" {
			h.Set("X-Amz-Content-Sha256", declared)
		}
		r := v2Signed(s3client.SigningV2{Presign: true}, "PUT", "", h)
		s3client.SetBody(r, []byte("body"))
		_, p, err := verify(v2Verifier(V2Presigned, exampleTime), r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(p); !errors.Is(err, want) || want == nil && string(got) != "body" {
			t.Errorf("declared %q: %q %v", declared, got, err)
		}
	}
}

// FuzzPresignV2: a query is accepted only if its parameters are those that were signed.
func FuzzPresignV2(f *testing.F) {
	good := botocoreURLs[4]
	r := &http.Request{Method: good.method, URL: &url.URL{RawQuery: good.query}}
	want := r.URL.Query().Encode()
	for _, c := range botocoreURLs {
		f.Add(c.query)
	}
	f.Add(strings.Replace(good.query, "versionId=v%2B1&", "", 1))
	f.Add(good.query + "&x-amz-acl=private")
	f.Fuzz(func(t *testing.T, rawQuery string) {
		query, err := ParseQuery(rawQuery)
		if err != nil {
			return
		}
		u, err := url.ParseRequestURI(botocoreTarget)
		if err != nil {
			t.Fatal(err)
		}
		u.RawQuery = rawQuery
		changed := &http.Request{Method: good.method, URL: u, Host: "h", Header: http.Header{}}
		id, _, err := v2Verifier(V2Presigned, exampleTime).Verify(changed, u.Path, query)
		switch {
		case err == nil && id.Anonymous():
			if query.Has("Signature") || query.Has("AWSAccessKeyId") {
				t.Fatalf("%q taken for anonymous", rawQuery)
			}
		case err == nil && meaning(query) != want && !slices.ContainsFunc(botocoreURLs, func(c struct{ name, method, query string }) bool {
			other, _ := url.ParseQuery(c.query)
			return c.method == good.method && other.Encode() == meaning(query)
		}):
			t.Fatalf("verified %q", rawQuery)
		}
	})
}

// meaning returns a query without empty headers, which are signed like absent ones.
func meaning(query url.Values) string {
	for name, values := range query {
		if movedV2(strings.ToLower(name)) && !strings.HasPrefix(name, "x-amz-") && strings.Trim(values[0], " \t") == "" {
			query.Del(name)
		}
	}
	return query.Encode()
}

// FuzzStringToSignV2: the string to sign says what the request does, and nothing else: it can be taken
// apart into the method, the headers, the path and the parameters that the gateway goes on to use. So one
// signature is never good for two requests.
func FuzzStringToSignV2(f *testing.F) {
	f.Add("GET", "/b/k?versionId=1&acl&response-content-type=a%26b", "x-amz-meta-a", "1", "text/plain", false)
	f.Add("PUT", "/b/k%0A?x-amz-acl=private&content-type=a%2Fb&Content-MD5=x", "x-amz-meta-b", " c ", "", true)
	f.Add("DELETE", "/b/k?response-content-type=a%26versionId", "x-amz-copy-source", "/b/k", "\t", true)
	f.Fuzz(func(t *testing.T, method, target, name, value, contentType string, presign bool) {
		u, err := url.ParseRequestURI(target)
		if err != nil || !strings.HasPrefix(target, "/") || !token(method) || !lowerToken(name) || !strings.HasPrefix(name, "x-amz-") || hasControl(value) || hasControl(contentType) {
			return // none of it gets past the wire
		}
		query, err := ParseQuery(u.RawQuery)
		if err != nil {
			return
		}
		r := &http.Request{Method: method, URL: u, Host: "h", Header: http.Header{http.CanonicalHeaderKey(name): {value}, "Content-Type": {contentType}}}
		c := &credential{place: Header}
		if presign {
			c.place = Query
		}
		if c.checkParametersV2(method, query) != nil {
			return
		}
		headers, err := c.collectV2(r, query)
		if err != nil {
			return
		}
		checkTaken(t, headers.text(r, "", query, "1"), r, query, presign)
	})
}

// checkTaken takes a string to sign apart, and compares it with the request.
func checkTaken(t *testing.T, text string, r *http.Request, query url.Values, presign bool) {
	t.Helper()
	lines := strings.SplitN(text, "\n", 5)
	if len(lines) != 5 || lines[0] != r.Method || lines[3] != "1" {
		t.Fatalf("%q", text)
	}
	want := map[string]string{}
	for name, values := range r.Header {
		want[strings.ToLower(name)] = strings.Trim(values[0], " \t")
	}
	for name, values := range query {
		if lower := strings.ToLower(name); presign && movedV2(lower) {
			want[lower] = strings.Trim(values[0], " \t")
		}
	}
	if lines[1] != want["content-md5"] || lines[2] != want["content-type"] {
		t.Fatalf("%q, want %v", text, want)
	}
	delete(want, "content-md5")
	delete(want, "content-type")
	rest := lines[4]
	for strings.HasPrefix(rest, "x-amz-") {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		name, value, _ := strings.Cut(line, ":")
		if got, ok := want[name]; !ok || got != value {
			t.Fatalf("%q has %s=%q, want %v", text, name, value, want)
		}
		delete(want, name)
	}
	path, parameters, _ := strings.Cut(rest, "?")
	if decoded, err := url.PathUnescape(path); len(want) > 0 || err != nil || decoded != r.URL.Path {
		t.Fatalf("%q has the path %q (%v), and not %v", text, path, err, want)
	}
	signed := map[string]string{}
	last := ""
	for part := range strings.SplitSeq(parameters, "&") {
		if name, value, _ := strings.Cut(part, "="); signedByV2(name) {
			signed[name], last = value, name
		} else if last != "" {
			signed[last] += "&" + part
		}
	}
	for name, values := range query {
		if got, ok := signed[name]; signedByV2(name) && (!ok || got != values[0]) {
			t.Fatalf("%q has %s=%q, want %q", text, name, got, values[0])
		}
		delete(signed, name)
	}
	if len(signed) > 0 {
		t.Fatalf("%q has also %v", text, signed)
	}
}

// token reports whether s can be a method.
func token(s string) bool { return lowerToken(strings.ToLower(s)) }

func BenchmarkVerifyV2(b *testing.B) {
	r := v2Signed(s3client.SigningV2{Presign: true}, "GET", "", nil)
	query := r.URL.Query()
	v := v2Verifier(V2Presigned, exampleTime)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := v.Verify(r, r.URL.Path, query); err != nil {
			b.Fatal(err)
		}
	}
}
