package sigv4

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/akidb/akigw/internal/s3err"
)

// expectMessage checks the whole of an error; details as name=value.
func expectMessage(t *testing.T, err error, code, message string, details ...string) {
	t.Helper()
	var e *s3err.Error
	if !errors.As(err, &e) || e.Code != code || e.Message != message {
		t.Fatalf("got %v\nwant %s: %s", err, code, message)
	}
	for _, want := range details {
		found := false
		for _, d := range e.Detail {
			found = found || d[0]+"="+d[1] == want
		}
		if !found {
			t.Errorf("details %v, want %s", e.Detail, want)
		}
	}
}

// TestHeaderMessages: defects of the Authorization header give S3's messages.
func TestHeaderMessages(t *testing.T) {
	const malformed, prefix = "AuthorizationHeaderMalformed", "The authorization header is malformed; "
	today := time.Now().UTC().Format("20060102")
	for _, c := range []struct {
		name          string
		spoil         func(r *http.Request)
		code, message string
		detail        string
	}{
		{"no space", func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256") }, "InvalidArgument",
			"Authorization header is invalid -- one and only one ' ' (space) required.", "ArgumentValue=AWS4-HMAC-SHA256"},
		{"another kind", func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, "InvalidArgument", "Unsupported Authorization Type", "ArgumentValue=Bearer"},
		{"two fields", func(r *http.Request) {
			a := r.Header.Get("Authorization")
			r.Header.Set("Authorization", a[:strings.LastIndex(a, ",")])
		}, malformed, prefix + "the authorization header requires three components: Credential, SignedHeaders, and Signature.", ""},
		{"a field without a value", replace("Signature=", "Signature"), malformed, "", ""},
		{"no credential", replace("Credential=", "Credentials="), malformed, prefix + "missing Credential.", ""},
		{"no signed headers", replace("SignedHeaders=", "Headers="), malformed, prefix + "missing SignedHeaders.", ""},
		{"no signature", replace("Signature=", "Sig="), malformed, prefix + "missing Signature.", ""},
		{"a short credential", replace("/s3/aws4_request", "/aws4_request"), malformed,
			prefix + `the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".`, ""},
		{"terminator", replace("aws4_request", "aws5_request"), malformed, prefix + `incorrect terminal "aws5_request". This endpoint uses "aws4_request".`, ""},
		{"service", replace("/s3/", "/ec2/"), malformed, prefix + `incorrect service "ec2". This endpoint belongs to "s3".`, ""},
		{"date format", replace("/"+today+"/", "/24-11-2026/"), malformed,
			prefix + `incorrect date format "24-11-2026". This date in the credential must be in the format "yyyyMMdd".`, ""},
		{"region", replace("/us-east-1/", "/eu-west-1/"), malformed, prefix + `the region "eu-west-1" is wrong; expecting "us-east-1"`, "Region=us-east-1"},
		{"day", replace("/"+today+"/", "/20130524/"), malformed,
			prefix + `Invalid credential date "20130524". This date is not the same as X-Amz-Date: "` + today + `".`, ""},
		{"several headers added", func(r *http.Request) {
			r.Header.Set("X-Amz-Tagging", "a=b")
			r.Header.Set("X-Amz-Acl", "private")
		}, "AccessDenied", "There were headers present in the request which were not signed", "HeadersNotSigned=x-amz-acl, x-amz-tagging"},
		{"no date", func(r *http.Request) { r.Header.Del("X-Amz-Date") }, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header.", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := signed(t, "GET", "/bucket/key", "", nil, nil, emptySHA256)
			c.spoil(r)
			_, _, err := verify(verifier(), r)
			if c.message == "" { // the message quotes the signature
				if !errors.Is(err, s3err.AuthorizationHeaderMalformed) || !strings.Contains(err.Error(), "the authorization component \"Signature") {
					t.Fatal(err)
				}
				return
			}
			var details []string
			if c.detail != "" {
				details = append(details, c.detail)
			}
			expectMessage(t, err, c.code, c.message, details...)
		})
	}
}

// TestQueryMessages: defects of a presigned URL give S3's messages.
func TestQueryMessages(t *testing.T) {
	const malformed, prefix = "AuthorizationQueryParametersError", "Error parsing the X-Amz-Credential parameter; "
	today := time.Now().UTC().Format("20060102")
	for _, c := range []struct {
		name, parameter, value string // an empty value removes the parameter
		code, message          string
	}{
		{"algorithm", "X-Amz-Algorithm", "none", malformed, `X-Amz-Algorithm only supports "AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256"`},
		{"version 4A", "X-Amz-Algorithm", "AWS4-ECDSA-P256-SHA256", malformed, `X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"`},
		{"no expiry", "X-Amz-Expires", "", malformed, "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."},
		{"expiry x", "X-Amz-Expires", "x", malformed, "X-Amz-Expires should be a number"},
		{"expiry -1", "X-Amz-Expires", "-1", malformed, "X-Amz-Expires must be non-negative"},
		{"expiry a week and a second", "X-Amz-Expires", "604801", malformed, "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds"},
		{"expiry beyond 64 bits", "X-Amz-Expires", "99999999999999999999", malformed, "X-Amz-Expires should be a number"},
		{"date", "X-Amz-Date", "yesterday", malformed, `X-Amz-Date must be in the ISO8601 Long Format "yyyyMMdd'T'HHmmss'Z'"`},
		{"day", "X-Amz-Credential", "key/20130524/us-east-1/s3/aws4_request", malformed, `Invalid credential date "20130524". This date is not the same as X-Amz-Date: "` + today + `".`},
		{"a short credential", "X-Amz-Credential", "key/us-east-1", malformed, prefix + `the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".`},
		{"service", "X-Amz-Credential", "key/" + today + "/us-east-1/ec2/aws4_request", malformed, prefix + `incorrect service "ec2". This endpoint belongs to "s3".`},
		{"region", "X-Amz-Credential", "key/" + today + "/x/s3/aws4_request", malformed, prefix + `the region "x" is wrong; expecting "us-east-1"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := &url.URL{Scheme: "http", Host: "127.0.0.1:9000", Path: "/bucket/key"}
			r := signer.PreSignV4(http.Request{Method: "GET", URL: u, Host: u.Host, Header: http.Header{}}, "key", "secretsecret", "", "us-east-1", 60)
			query := r.URL.Query()
			query.Set(c.parameter, c.value)
			if c.value == "" {
				query.Del(c.parameter)
			}
			r.URL.RawQuery = query.Encode()
			_, _, err := verify(verifier(), r)
			expectMessage(t, err, c.code, c.message)
		})
	}
}

// TestRepeatedHeaders: lists and metadata may be sent in several lines, which are signed as one.
// Headers with a single value may not.
//
// Scenarios: S5.
func TestRepeatedHeaders(t *testing.T) {
	for name, fine := range map[string]bool{
		"X-Amz-Meta-Note": true, "X-Amz-Object-Attributes": true, "X-Amz-Optional-Object-Attributes": true,
		"X-Amz-Acl": false, "X-Amz-Copy-Source": false, "Content-Type": false, "Range": false, "If-Range": false, "If-Modified-Since": false,
	} {
		r := signed(t, "GET", "/bucket/key", "", http.Header{name: {"one,two"}}, nil, emptySHA256)
		r.Header[name] = []string{"one", "two"}
		if _, _, err := verify(verifier(), r); fine != (err == nil) || !fine && !errors.Is(err, s3err.InvalidArgument) {
			t.Errorf("%s in two lines: %v", name, err)
		}
		if !fine {
			continue
		}
		r.Header[name] = []string{"one", "three"}
		if _, _, err := verify(verifier(), r); !errors.Is(err, s3err.SignatureDoesNotMatch) {
			t.Errorf("%s with another second line: %v", name, err)
		}
	}
}

// TestUnsignedHeaders: an unsigned header is refused if it has a meaning in S3. The exception is
// Content-Type, which some clients do not sign; if it is signed, it is verified.
//
// Scenarios: S11.
func TestUnsignedHeaders(t *testing.T) {
	for _, name := range []string{
		"Content-Md5", "X-Amz-Acl", "X-Amz-Bypass-Governance-Retention", "X-Amz-Checksum-Crc32", "X-Amz-Copy-Source", "X-Amz-Copy-Source-Range",
		"X-Amz-Expected-Bucket-Owner", "X-Amz-Grant-Full-Control", "X-Amz-Grant-Read", "X-Amz-Meta-Note", "X-Amz-Metadata-Directive", "X-Amz-Mfa",
		"X-Amz-Object-Lock-Mode", "X-Amz-Object-Lock-Retain-Until-Date", "X-Amz-Request-Payer", "X-Amz-Sdk-Checksum-Algorithm", "X-Amz-Security-Token",
		"X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Customer-Key", "X-Amz-Storage-Class", "X-Amz-Tagging", "X-Amz-Website-Redirect-Location",
	} {
		r := signed(t, "PUT", "/bucket/key", "", nil, nil, emptySHA256)
		r.Header.Set(name, "x")
		_, _, err := verify(verifier(), r)
		expectMessage(t, err, "AccessDenied", "There were headers present in the request which were not signed", "HeadersNotSigned="+strings.ToLower(name))
	}
	r := signed(t, "PUT", "/bucket/key", "", nil, nil, emptySHA256)
	r.Header.Set("Content-Type", "text/plain")
	if _, _, err := verify(verifier(), r); err != nil {
		t.Errorf("an unsigned Content-Type: %v", err)
	}
	r = signed(t, "PUT", "/bucket/key", "", http.Header{"Content-Type": {"text/plain"}}, nil, emptySHA256)
	r.Header.Set("Content-Type", "text/html")
	if _, _, err := verify(verifier(), r); !errors.Is(err, s3err.SignatureDoesNotMatch) {
		t.Errorf("another Content-Type than signed: %v", err)
	}
}
