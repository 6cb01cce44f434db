package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/tiers/cold"
)

// service is an S3 service in memory. It lets fault respond first, and answers ListBuckets itself.
type service struct {
	*s3mem.Memory
	fault func(r *cold.Request) (*http.Response, error) // nil, nil: no fault
	skew  time.Duration
	mute  bool // its responses have no Date
}

func newService(fault func(r *cold.Request) (*http.Response, error)) *service {
	return &service{Memory: s3mem.New(), fault: fault}
}

// Do implements Client.
func (s *service) Do(ctx context.Context, r *cold.Request) (resp *http.Response, err error) {
	if s.fault != nil {
		resp, err = s.fault(r)
	}
	if resp == nil && err == nil {
		if r.Op == "ListBuckets" {
			resp = s3mem.Response(http.StatusOK, nil, []byte("<ListAllMyBucketsResult/>"))
		} else {
			resp, err = s.Memory.Do(ctx, r)
		}
	}
	if err != nil {
		return nil, err
	}
	if resp.Header.Set("Date", time.Now().Add(s.skew).UTC().Format(http.TimeFormat)); s.mute {
		resp.Header.Del("Date")
	}
	return resp, nil
}

// on returns a fault for the requests of one operation.
func on(op string, status int, code string) func(*cold.Request) (*http.Response, error) {
	return func(r *cold.Request) (*http.Response, error) {
		if r.Op != op {
			return nil, nil
		}
		return s3Error(status, code), nil
	}
}

func s3Error(status int, code string) *http.Response {
	return s3mem.Response(status, http.Header{"Content-Type": {"application/xml"}}, []byte("<Error><Code>"+code+"</Code></Error>"))
}

// failing returns a fault that fails all requests.
func failing(err error) func(*cold.Request) (*http.Response, error) {
	return func(*cold.Request) (*http.Response, error) { return nil, err }
}

// saying returns a fault with one response to all requests.
func saying(status int, contentType, body string) func(*cold.Request) (*http.Response, error) {
	return func(*cold.Request) (*http.Response, error) {
		return s3mem.Response(status, http.Header{"Content-Type": {contentType}}, []byte(body)), nil
	}
}

// examine checks a service.
func examine(t *testing.T, s *service, change func(u *Upstream)) *Report {
	t.Helper()
	u := &Upstream{Client: s, Config: cold.Config{URL: "https://s3.example.com:9000", Region: "us-east-1", AccessKey: "key"}, Name: "upstream", Bucket: "bucket", MD5ETags: true, Trailing: true}
	if change != nil {
		change(u)
	}
	r := &Report{}
	u.Check(t.Context(), r)
	return r
}

// TestUpstream: for a healthy service every check passes, and no object is left there.
func TestUpstream(t *testing.T) {
	s := newService(nil)
	r := examine(t, s, nil)
	seen := map[string]bool{}
	for _, f := range r.Findings {
		if seen[f.Check] = true; f.Level != OK || f.Remedy != "" {
			t.Errorf("%+v", f)
		}
	}
	for _, check := range []string{"clock", "upstream", "bucket", "versioning", "conditions", "checksums", "permissions"} {
		if !seen[check] {
			t.Errorf("%s was not checked: %+v", check, r.Findings)
		}
	}
	if s.Len() != 0 {
		t.Errorf("left behind: %q", s.KeysOf("bucket"))
	}
}

// TestUpstream_NoBucket: without a bucket nothing is written, and the report says what was not checked.
func TestUpstream_NoBucket(t *testing.T) {
	s := newService(func(r *cold.Request) (*http.Response, error) {
		if r.Op != "ListBuckets" {
			t.Errorf("%s", r.Op)
		}
		return nil, nil
	})
	judge(t, examine(t, s, func(u *Upstream) { u.Bucket = "" }), wants{"permissions", Note, "not checked without a bucket", "--bucket"})
}

// TestUpstream_Unreachable: the report gives the reason why there is no response and what to do.
func TestUpstream_Unreachable(t *testing.T) {
	for name, test := range map[string]struct {
		err          error
		check        string
		text, remedy string
	}{
		"HTTP":              {errors.New("http: server gave HTTP response to HTTPS client"), "upstream", "speaks plain HTTP", `upstream.url = "http://s3.example.com:9000"`},
		"no host":           {&net.DNSError{Err: "no such host"}, "upstream", `"s3.example.com" does not exist`, "getent hosts"},
		"unknown authority": {x509.UnknownAuthorityError{}, "upstream", "does not know", "update-ca-certificates"},
		"other names":       {x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"other"}}, Host: "s3.example.com"}, "upstream", "for other names", "a name of the certificate"},
		"expired":           {x509.CertificateInvalidError{Reason: x509.Expired}, "upstream", "is not valid", "renew"},
		"refused":           {syscall.ECONNREFUSED, "upstream", "nothing listens on s3.example.com:9000", "is it running"},
		"no route":          {syscall.EHOSTUNREACH, "upstream", "no route to", "firewalls"},
		"silent":            {context.DeadlineExceeded, "upstream", "does not respond", "curl"},
		"no credentials":    {errors.New("no credentials were found"), "credentials", "no credentials", "upstream.credentials"},
		"something else":    {errors.New("the cable is cut"), "upstream", "the cable is cut", "curl"},
	} {
		t.Run(name, func(t *testing.T) {
			r := examine(t, newService(failing(fmt.Errorf("get: %w", test.err))), nil)
			judge(t, r, wants{test.check, Problem, test.text, test.remedy})
			if len(r.Findings) != 1 {
				t.Errorf("%+v", r.Findings)
			}
		})
	}
}

// TestUpstream_Clock: a difference of clocks that S3 refuses is a problem, a smaller one a warning.
func TestUpstream_Clock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // at a whole second, as dates are
		for _, test := range []struct {
			skew time.Duration
			wants
		}{
			{0, wants{"clock", OK, "agrees", ""}},
			{20 * time.Second, wants{"clock", OK, "agrees", ""}},
			{-2 * time.Minute, wants{"clock", Warning, "by -2m0s", "timedatectl"}},
			{2 * time.Minute, wants{"clock", Warning, "by 2m0s", "timedatectl"}},
			{20 * time.Minute, wants{"clock", Problem, "by 20m0s", "timedatectl"}},
			{-20 * time.Minute, wants{"clock", Problem, "signatures are refused", "timedatectl"}},
		} {
			s := newService(nil)
			s.skew = test.skew
			judge(t, examine(t, s, nil), test.wants)
		}
		s := newService(nil)
		s.mute = true
		judge(t, examine(t, s, nil), wants{"clock", Note, "have no Date", ""})
	})
}

// TestUpstream_Faults: each fault of a service is found, at its level and with a remedy, and nothing
// else is. No object remains unless it cannot be deleted.
func TestUpstream_Faults(t *testing.T) {
	trailing := func(answer func(r *cold.Request) *http.Response) func(*cold.Request) (*http.Response, error) {
		return func(r *cold.Request) (*http.Response, error) {
			if r.Op == "PutObject" && len(r.Trailer) > 0 {
				return answer(r), nil
			}
			return nil, nil
		}
	}
	for _, test := range []struct {
		name   string
		fault  func(*cold.Request) (*http.Response, error)
		change func(u *Upstream)
		left   int
		wants
	}{
		{"HTTPS", saying(400, "text/plain", "Client sent an HTTP request to an HTTPS server."), func(u *Upstream) { u.Config.URL = "http://s3.example.com" }, 0, wants{"upstream", Problem, "speaks HTTPS", `upstream.url = "https://s3.example.com"`}},
		{"a web page", saying(200, "text/html", "<!DOCTYPE html>"), nil, 0, wants{"upstream", Problem, "web page", "console has another port"}},
		{"a web page that does not say so", saying(200, "", "<HTML>"), nil, 0, wants{"upstream", Problem, "web page", "console has another port"}},
		{"another service", saying(200, "application/json", "{}"), nil, 0, wants{"upstream", Problem, "200 to ListBuckets", "S3 service"}},
		{"unknown key", on("ListBuckets", 403, "InvalidAccessKeyId"), nil, 0, wants{"credentials", Problem, `"key"`, "upstream.access_key"}},
		{"wrong secret", on("ListBuckets", 403, "SignatureDoesNotMatch"), nil, 0, wants{"credentials", Problem, "the secret is wrong", "upstream.secret_key"}},
		{"credentials are over", on("ListBuckets", 400, "ExpiredToken"), nil, 0, wants{"credentials", Problem, "ExpiredToken", "upstream.credentials"}},
		{"another endpoint", on("ListBuckets", 301, "PermanentRedirect"), nil, 0, wants{"upstream", Problem, "another endpoint", "upstream.url"}},
		{"buckets cannot be listed", on("ListBuckets", 403, "AccessDenied"), nil, 0, wants{"upstream", Note, "may not list buckets", "s3:ListAllMyBuckets"}},
		{"another region", saying(400, "application/xml", "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>"), nil, 0, wants{"region", Problem, `"us-east-1"`, `upstream.region = "eu-west-3"`}},
		{"a bucket of another region", func(r *cold.Request) (*http.Response, error) {
			if r.Op != "ListObjectsV2" {
				return nil, nil
			}
			return s3mem.Response(301, http.Header{"X-Amz-Bucket-Region": {"eu-west-3"}}, nil), nil
		}, nil, 0, wants{"region", Problem, `"us-east-1"`, `upstream.region = "eu-west-3"`}},
		{"no bucket", on("ListObjectsV2", 404, "NoSuchBucket"), nil, 0, wants{"bucket", Problem, `the bucket "bucket" does not exist`, "aws s3 mb s3://bucket"}},
		{"a bucket that answers nonsense", on("ListObjectsV2", 500, "InternalError"), nil, 0, wants{"bucket", Problem, "500 InternalError", ""}},
		{"a bucket that cannot be listed", on("ListObjectsV2", 403, "AccessDenied"), nil, 0, wants{"permissions", Problem, "may not list", "s3:ListBucket"}},
		{"old versions are kept", func(r *cold.Request) (*http.Response, error) {
			return versioning(r, "Enabled"), nil
		}, nil, 0, wants{"versioning", Note, "keeps old versions", "lifecycle"}},
		{"old versions were kept", func(r *cold.Request) (*http.Response, error) {
			return versioning(r, "Suspended"), nil
		}, nil, 0, wants{"versioning", Note, "suspended", ""}},
		{"no writing", on("PutObject", 403, "AccessDenied"), nil, 0, wants{"permissions", Problem, "write objects", "s3:PutObject"}},
		{"no reading", on("GetObject", 403, "AccessDenied"), nil, 0, wants{"permissions", Problem, "read objects", "s3:GetObject"}},
		{"no deleting", on("DeleteObject", 403, "AccessDenied"), nil, 1, wants{"permissions", Problem, "remains", "s3:DeleteObject"}},
		{"no uploads", on("CreateMultipartUpload", 403, "AccessDenied"), nil, 0, wants{"permissions", Problem, "begin multipart uploads", "s3:PutObject"}},
		{"no aborting", on("AbortMultipartUpload", 403, "AccessDenied"), nil, 0, wants{"permissions", Problem, "abort multipart uploads", "s3:AbortMultipartUpload"}},
		{"other bytes", func(r *cold.Request) (*http.Response, error) {
			if r.Op != "GetObject" {
				return nil, nil
			}
			return s3mem.Response(200, nil, []byte("other bytes")), nil
		}, func(u *Upstream) { u.Trailing = false }, 0, wants{"reads", Problem, "differs from the content written", ""}},
		{"no conditions", without("If-Match", "If-None-Match"), nil, 0, wants{"conditions", Problem, "ignores If-None-Match, If-Match:", "another service"}},
		{"no ranges", without("Range"), nil, 0, wants{"conditions", Problem, "ignores Range:", "another service"}},
		{"no trailing checksums", trailing(func(*cold.Request) *http.Response { return s3Error(501, "NotImplemented") }), nil, 0, wants{"checksums", Problem, "rejects trailing checksums", "upstream.trailing_checksums = false"}},
		{"trailing checksums that are not asked for", trailing(func(*cold.Request) *http.Response { return s3Error(501, "NotImplemented") }), func(u *Upstream) { u.Trailing = false }, 0, wants{"permissions", OK, "can be written", ""}},
		{"ETags that are digests after all", nil, func(u *Upstream) { u.MD5ETags = false }, 0, wants{"ETags", Note, "are MD5 digests", "cache.md5_etags = true"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newService(test.fault)
			judge(t, examine(t, s, test.change), test.wants)
			if s.Len() != test.left {
				t.Errorf("left behind: %q", s.KeysOf("bucket"))
			}
		})
	}
}

// versioning returns a response to GetBucketVersioning.
func versioning(r *cold.Request, status string) *http.Response {
	if r.Op != "GetBucketVersioning" {
		return nil
	}
	return s3mem.Response(http.StatusOK, nil, []byte("<VersioningConfiguration><Status>"+status+"</Status></VersioningConfiguration>"))
}

// without returns a fault that removes headers of requests.
func without(names ...string) func(*cold.Request) (*http.Response, error) {
	return func(r *cold.Request) (*http.Response, error) {
		for _, name := range names {
			r.Header.Del(name)
		}
		return nil, nil
	}
}

// TestUpstream_ETags: ETags that are not digests are a problem if the configuration says that they are.
func TestUpstream_ETags(t *testing.T) {
	s := newService(nil)
	s.After = func(r *cold.Request, resp *http.Response) {
		if r.Op == "PutObject" {
			resp.Header.Set("Etag", `"0123456789abcdef0123456789abcdef"`)
		}
	}
	r := examine(t, s, nil)
	found := false
	for _, f := range r.Findings {
		found = found || f.Check == "ETags" && f.Level == Problem && strings.Contains(f.Remedy, "cache.md5_etags = false")
	}
	if !found {
		t.Errorf("%+v", r.Findings)
	}
}

// TestUpstream_Frames: a service that stores the frame of a trailing checksum as data is a problem.
func TestUpstream_Frames(t *testing.T) {
	s := newService(nil)
	s.After = func(r *cold.Request, _ *http.Response) {
		if r.Op == "PutObject" && len(r.Trailer) > 0 {
			s.Put(r.Key, []byte("38\r\nakigw doctor\r\n0\r\n"))
		}
	}
	judge(t, examine(t, s, nil), wants{"checksums", Problem, "as if it were data", "upstream.trailing_checksums = false"})
}
