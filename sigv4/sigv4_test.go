package sigv4

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// The key pair, time and requests of the examples in the S3 API reference.
const (
	exampleKey    = "AKIAIOSFODNN7EXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

var exampleTime = time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)

func exampleVerifier() *Verifier {
	return &Verifier{Region: "us-east-1", Keys: StaticKeys{exampleKey: exampleSecret}, Now: func() time.Time { return exampleTime }}
}

// parseRequest parses a request as a server does.
func verify(v *Verifier, r *http.Request) (Identity, *Payload, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return Identity{}, nil, err
	}
	return v.Verify(r, r.URL.Path, query)
}

func request(t testing.TB, method, target, host string, header http.Header, body []byte) *http.Request {
	t.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatal(err)
	}
	if header == nil {
		header = http.Header{}
	}
	return &http.Request{Method: method, URL: u, Host: host, Header: header, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body))}
}

func TestPublishedVectors(t *testing.T) {
	chunked := func() []byte {
		var b bytes.Buffer
		fmt.Fprintf(&b, "10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n%s\r\n", strings.Repeat("a", 65536))
		fmt.Fprintf(&b, "400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n%s\r\n", strings.Repeat("a", 1024))
		fmt.Fprintf(&b, "0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n")
		return b.Bytes()
	}()
	trailing := []byte("10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n" + strings.Repeat("a", 65536) +
		"\r\n400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n" + strings.Repeat("a", 1024) +
		"\r\n0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n" +
		"x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n")
	for _, c := range []struct {
		name string
		r    *http.Request
		body string
	}{
		{"GET object with a range", request(t, "GET", "/test.txt", "examplebucket.s3.amazonaws.com", http.Header{
			"Range": {"bytes=0-9"}, "X-Amz-Content-Sha256": {emptySHA256}, "X-Amz-Date": {"20130524T000000Z"},
			"Authorization": {"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
		}, nil), ""},
		{"PUT object", request(t, "PUT", "/test%24file.text", "examplebucket.s3.amazonaws.com", http.Header{
			"Date": {"Fri, 24 May 2013 00:00:00 GMT"}, "X-Amz-Date": {"20130524T000000Z"}, "X-Amz-Storage-Class": {"REDUCED_REDUNDANCY"},
			"X-Amz-Content-Sha256": {"44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"},
			"Authorization":        {"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class,Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
		}, []byte("Welcome to Amazon S3.")), "Welcome to Amazon S3."},
		{"GET bucket lifecycle", request(t, "GET", "/?lifecycle", "examplebucket.s3.amazonaws.com", http.Header{
			"X-Amz-Date": {"20130524T000000Z"}, "X-Amz-Content-Sha256": {emptySHA256},
			"Authorization": {"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
		}, nil), ""},
		{"GET bucket (list objects)", request(t, "GET", "/?max-keys=2&prefix=J", "examplebucket.s3.amazonaws.com", http.Header{
			"X-Amz-Date": {"20130524T000000Z"}, "X-Amz-Content-Sha256": {emptySHA256},
			"Authorization": {"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
		}, nil), ""},
		{"chunked upload with a trailer", request(t, "PUT", "/examplebucket/chunkObject.txt", "s3.amazonaws.com", http.Header{
			"X-Amz-Date": {"20130524T000000Z"}, "X-Amz-Storage-Class": {"REDUCED_REDUNDANCY"}, "X-Amz-Content-Sha256": {streamingTrailer},
			"Content-Encoding": {"aws-chunked"}, "X-Amz-Decoded-Content-Length": {"66560"}, "X-Amz-Trailer": {"x-amz-checksum-crc32c"},
			"Authorization": {"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer,Signature=106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"},
		}, trailing), strings.Repeat("a", 66560)},
		{"presigned URL", request(t, "GET", "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
			"examplebucket.s3.amazonaws.com", nil, nil), ""},
		{"chunked upload", request(t, "PUT", "/examplebucket/chunkObject.txt", "s3.amazonaws.com", http.Header{
			"X-Amz-Date": {"20130524T000000Z"}, "X-Amz-Storage-Class": {"REDUCED_REDUNDANCY"}, "X-Amz-Content-Sha256": {streamingSigned},
			"Content-Encoding": {"aws-chunked"}, "X-Amz-Decoded-Content-Length": {"66560"},
			"Authorization": {"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class,Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"},
		}, chunked), strings.Repeat("a", 66560)},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, payload, err := verify(exampleVerifier(), c.r)
			if err != nil || id.AccessKey() != exampleKey {
				t.Fatalf("identity %q, error %v", id.AccessKey(), err)
			}
			got, err := io.ReadAll(payload)
			if err != nil || string(got) != c.body {
				t.Fatalf("read %d bytes of %d, error %v", len(got), len(c.body), err)
			}
		})
	}
}

// signed returns a request for path, signed by minio-go, as the server sees it.
func signed(t testing.TB, method, path, query string, header http.Header, body []byte, mode string) *http.Request {
	t.Helper()
	u := &url.URL{Scheme: "http", Host: "127.0.0.1:9000", Path: path, RawPath: s3utils.EncodePath(path), RawQuery: query}
	if header == nil {
		header = http.Header{}
	}
	header.Set("X-Amz-Content-Sha256", mode)
	r := &http.Request{Method: method, URL: u, Host: u.Host, Header: header, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body))}
	return signer.SignV4(*r, "key", "secretsecret", "", "us-east-1")
}

func verifier() *Verifier {
	return &Verifier{Region: "us-east-1", Keys: StaticKeys{"key": "secretsecret"}}
}

// TestAgainstAnotherSigner signs random requests with minio-go.
func TestAgainstAnotherSigner(t *testing.T) {
	random := testkit.Random(t)
	text := func(n int) string { return testkit.Text(random, n) }
	v := verifier()
	for i := range 4_000 {
		query := url.Values{}
		for range random.IntN(4) {
			// Only names as S3 uses them: SDKs disagree about the order of names that sort differently before
			// and after encoding.
			query.Set([]string{"prefix", "marker", "acl", "list-type", "uploadId", "x-id"}[random.IntN(6)], text(12))
		}
		header := http.Header{}
		if random.IntN(2) == 0 {
			header.Set("Content-Type", "text/plain;  charset=utf-8")
			header.Set("X-Amz-Meta-Note", " two  spaces ")
		}
		r := signed(t, []string{"GET", "PUT", "DELETE"}[random.IntN(3)], "/bucket/"+text(20), query.Encode(), header, nil, emptySHA256)
		sent := r.URL.RequestURI()
		parsed, err := url.ParseRequestURI(sent)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		r.URL = parsed
		if _, _, err := verify(v, r); err != nil {
			t.Fatalf("request %d: %s: %v", i, sent, err)
		}
	}
}

// TestStreamingModes: the streaming modes of minio-go are decoded. If anything is changed or
// cut off, the payload does not end cleanly.
//
// Scenarios: S17, S18.
func TestStreamingModes(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 15_000)
	newRequest := func(mode string) *http.Request {
		u, _ := url.Parse("http://127.0.0.1:9000/bucket/key")
		r := &http.Request{Method: "PUT", URL: u, Host: u.Host, Header: http.Header{}, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body))}
		trailer := http.Header{"X-Amz-Checksum-Crc32": {"AAAAAA=="}}
		switch mode {
		case streamingSigned:
			return signer.StreamingSignV4(r, "key", "secretsecret", "", "us-east-1", int64(len(body)), time.Now().UTC(), s3client.NewHasher())
		case streamingTrailer:
			r.Trailer = trailer
			return signer.StreamingSignV4(r, "key", "secretsecret", "", "us-east-1", int64(len(body)), time.Now().UTC(), s3client.NewHasher())
		}
		r.Header.Set("X-Amz-Content-Sha256", unsignedTrailer)
		return signer.SignV4Trailer(*r, "key", "secretsecret", "", "us-east-1", trailer)
	}
	for _, mode := range []string{streamingSigned, streamingTrailer, unsignedTrailer} {
		r := newRequest(mode)
		wire, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		read := func(wire []byte) ([]byte, *Payload, error) {
			c := *r
			c.Header = r.Header.Clone()
			c.Body, c.ContentLength = io.NopCloser(bytes.NewReader(wire)), int64(len(wire))
			_, p, err := verify(verifier(), &c)
			if err != nil {
				return nil, nil, err
			}
			got, err := io.ReadAll(p)
			return got, p, err
		}
		got, p, err := read(wire)
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("%s: %d bytes, %v", mode, len(got), err)
		}
		if mode != streamingSigned && p.Trailer().Get("X-Amz-Checksum-Crc32") != "AAAAAA==" {
			t.Fatalf("%s: trailer %v", mode, p.Trailer())
		}
		// Cut at many places: every one must be an error.
		for cut := 0; cut < len(wire)-4; cut += 1009 {
			if _, _, err := read(wire[:cut]); err == nil {
				t.Fatalf("%s: cut at %d of %d ended cleanly", mode, cut, len(wire))
			}
		}
		if mode == unsignedTrailer {
			continue // its data is covered by the checksum, which the caller verifies
		}
		for at := 0; at < len(wire)-4; at += 1013 {
			bad := bytes.Clone(wire)
			bad[at] ^= 1
			if got, _, err := read(bad); err == nil && bytes.Equal(got, body) {
				t.Fatalf("%s: flip at %d of %d was not noticed", mode, at, len(wire))
			} else if err == nil {
				t.Fatalf("%s: flip at %d of %d changed the body", mode, at, len(wire))
			}
		}
	}
}

// TestDefects: each defect gives S3's code and status.
func TestDefects(t *testing.T) {
	now := time.Now().UTC()
	const hash = emptySHA256
	for _, c := range []struct {
		name  string
		spoil func(r *http.Request)
		want  s3err.Code
	}{
		{"S6 signature version 2", func(r *http.Request) { r.Header.Set("Authorization", "AWS key:sig") }, s3err.InvalidRequest},
		{"S6 signature version 4A", func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", 1))
		}, s3err.InvalidRequest},
		{"S7 algorithm none", func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256", "none", 1))
		}, s3err.InvalidArgument},
		{"S4 two mechanisms", func(r *http.Request) { r.URL.RawQuery = "X-Amz-Signature=abc" }, s3err.InvalidArgument},
		{"S5 two dates", func(r *http.Request) { r.Header.Add("X-Amz-Date", "20130524T000000Z") }, s3err.InvalidArgument},
		{"S5 two authorizations", func(r *http.Request) { r.Header.Add("Authorization", "x") }, s3err.InvalidArgument},
		{"S8 other service", replace("/s3/", "/s3tables/"), s3err.AuthorizationHeaderMalformed},
		{"S8 other region", replace("/us-east-1/", "/eu-west-1/"), s3err.AuthorizationHeaderMalformed},
		{"S8 other terminator", replace("aws4_request", "aws5_request"), s3err.AuthorizationHeaderMalformed},
		{"S8 other day", replace("/"+now.Format("20060102")+"/", "/20130524/"), s3err.AuthorizationHeaderMalformed},
		{"S8 three parts", replace("/us-east-1/s3/aws4_request", "/s3"), s3err.AuthorizationHeaderMalformed},
		{"S9 no date", func(r *http.Request) { r.Header.Del("X-Amz-Date") }, s3err.AccessDenied},
		{"S9 odd date", func(r *http.Request) { r.Header.Set("X-Amz-Date", "yesterday") }, s3err.AccessDenied},
		{"S11 header added", func(r *http.Request) { r.Header.Set("X-Amz-Acl", "public-read") }, s3err.AccessDenied},
		{"S11 content MD5 added", func(r *http.Request) { r.Header.Set("Content-Md5", "1B2M2Y8AsgTpgAmY7PhCfg==") }, s3err.AccessDenied},
		{"S11 host not signed", replace("SignedHeaders=host;", "SignedHeaders="), s3err.AccessDenied},
		{"S11 unsorted", replace("SignedHeaders=host;x-amz-content-sha256", "SignedHeaders=x-amz-content-sha256;host"), s3err.AuthorizationHeaderMalformed},
		{"S12 other host", func(r *http.Request) { r.Host = "evil:9000" }, s3err.SignatureDoesNotMatch},
		{"S13 query added", func(r *http.Request) { r.URL.RawQuery = "acl" }, s3err.SignatureDoesNotMatch},
		{"S14 unknown key", replace("Credential=key/", "Credential=nokey/"), s3err.SignatureDoesNotMatch},
		{"S14 wrong signature", func(r *http.Request) {
			a := r.Header.Get("Authorization")
			r.Header.Set("Authorization", a[:len(a)-1]+map[bool]string{true: "0", false: "1"}[a[len(a)-1] != '0'])
		}, s3err.SignatureDoesNotMatch},
		{"S14 empty signature", func(r *http.Request) {
			a := r.Header.Get("Authorization")
			r.Header.Set("Authorization", a[:strings.Index(a, "Signature=")+len("Signature=")])
		}, s3err.AuthorizationHeaderMalformed},
		{"S15 no payload hash", func(r *http.Request) { r.Header.Del("X-Amz-Content-Sha256") }, s3err.InvalidRequest},
		{"S15 unknown mode", func(r *http.Request) {
			r.Header.Set("X-Amz-Content-Sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD")
		}, s3err.InvalidArgument},
		{"S15 short hash", func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", hash[:62]) }, s3err.InvalidArgument},
		{"method changed", func(r *http.Request) { r.Method = "DELETE" }, s3err.SignatureDoesNotMatch},
		{"path changed", func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/bucket/other", "" }, s3err.SignatureDoesNotMatch},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := signed(t, "GET", "/bucket/key", "", nil, nil, hash)
			c.spoil(r)
			if _, _, err := verify(verifier(), r); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// credentials is a set of keys of every kind.
type credentials map[string]Credential

func (c credentials) Lookup(accessKey string) (Credential, bool) {
	found, ok := c[accessKey]
	return found, ok
}

// TestSessionTokens: a temporary key requires its token until it expires, and other keys must not
// have one; for both places of a credential.
//
// Scenarios: S19.
func TestSessionTokens(t *testing.T) {
	keys := credentials{
		"lasting":   {Secret: "secretsecret"},
		"temporary": {Secret: "secretsecret", Token: "token", Expires: time.Now().Add(time.Hour)},
		"expired":   {Secret: "secretsecret", Token: "token", Expires: time.Now().Add(-time.Second)},
	}
	for _, c := range []struct {
		key, token string
		want       s3err.Code
	}{
		{"lasting", "", ""},
		{"lasting", "token", s3err.InvalidToken},
		{"temporary", "token", ""},
		{"temporary", "", s3err.InvalidToken},
		{"temporary", "other", s3err.InvalidToken},
		{"expired", "token", s3err.ExpiredToken},
		{"expired", "other", s3err.InvalidToken},
	} {
		for _, place := range []Place{Header, Query} {
			u := &url.URL{Scheme: "http", Host: "127.0.0.1:9000", Path: "/bucket/key"}
			r := http.Request{Method: "GET", URL: u, Host: u.Host, Header: http.Header{}}
			var signed *http.Request
			if place == Header {
				r.Header.Set("X-Amz-Content-Sha256", emptySHA256)
				signed = signer.SignV4(r, c.key, "secretsecret", c.token, "us-east-1")
			} else {
				signed = signer.PreSignV4(r, c.key, "secretsecret", c.token, "us-east-1", 60)
			}
			id, _, err := verify(&Verifier{Region: "us-east-1", Keys: keys}, signed)
			switch {
			case c.want == "" && (err != nil || id.AccessKey() != c.key || id.Place() != place):
				t.Errorf("%s with token %q in place %d: %v", c.key, c.token, place, err)
			case c.want != "" && !errors.Is(err, c.want):
				t.Errorf("%s with token %q in place %d: %v, want %s", c.key, c.token, place, err, c.want)
			}
		}
	}
}

// TestAnonymous: only a request without any part of a credential is anonymous.
func TestAnonymous(t *testing.T) {
	for _, c := range []struct {
		name, query string
		header      http.Header
		want        s3err.Code
	}{
		{"nothing", "", nil, ""},
		{"an option", "versionId=x", nil, ""},
		{"a token alone", "", http.Header{"X-Amz-Security-Token": {"t"}}, s3err.AccessDenied},
		{"an algorithm", "X-Amz-Algorithm=AWS4-HMAC-SHA256", nil, s3err.AuthorizationQueryParameters},
		{"an expiry", "X-Amz-Expires=1", nil, s3err.AuthorizationQueryParameters},
		{"a token in the query", "X-Amz-Security-Token=t", nil, s3err.AuthorizationQueryParameters},
		{"S6 signature version 2", "AWSAccessKeyId=key&Signature=x&Expires=1", nil, s3err.InvalidRequest},
		{"S6 half of signature version 2", "Signature=x", nil, s3err.InvalidRequest},
		{"S4 both versions", "Signature=x&X-Amz-Signature=x", nil, s3err.InvalidArgument},
		{"S18 a chunked body", "", http.Header{"X-Amz-Content-Sha256": {unsignedTrailer}, "X-Amz-Decoded-Content-Length": {"1"}}, s3err.AccessDenied},
		{"an empty authorization", "", http.Header{"Authorization": {""}}, s3err.InvalidArgument},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, _, err := verify(verifier(), request(t, "GET", "/bucket/key?"+c.query, "h", c.header, nil))
			switch {
			case c.want == "" && (err != nil || !id.Anonymous()):
				t.Errorf("got %v", err)
			case c.want != "" && (!errors.Is(err, c.want) || id.Verified()):
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	if (Identity{}).Anonymous() || (Identity{}).Verified() {
		t.Error("nobody is anonymous")
	}
}

func replace(old, new string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, new, 1))
	}
}

// TestClock: the clock decides to the second.
//
// Scenarios: S9, S10.
func TestClock(t *testing.T) {
	r := signed(t, "GET", "/bucket/key", "", nil, nil, emptySHA256)
	at, _ := time.Parse(timeFormat, r.Header.Get("X-Amz-Date"))
	for offset, ok := range map[time.Duration]bool{15 * time.Minute: true, -15 * time.Minute: true, 15*time.Minute + time.Second: false, -15*time.Minute - time.Second: false} {
		v := verifier()
		v.Now = func() time.Time { return at.Add(offset) }
		if _, _, err := verify(v, r); ok != (err == nil) || err != nil && !errors.Is(err, s3err.RequestTimeTooSkewed) {
			t.Errorf("skew %v: %v", offset, err)
		}
	}
	u, _ := url.Parse("http://127.0.0.1:9000/bucket/key")
	p := signer.PreSignV4(http.Request{Method: "GET", URL: u, Host: u.Host, Header: http.Header{}}, "key", "secretsecret", "", "us-east-1", 60)
	at, _ = time.Parse(timeFormat, p.URL.Query().Get("X-Amz-Date"))
	for offset, ok := range map[time.Duration]bool{0: true, time.Minute: true, 61 * time.Second: false, -15 * time.Minute: true, -16 * time.Minute: false} {
		v := verifier()
		v.Now = func() time.Time { return at.Add(offset) }
		if _, _, err := verify(v, p); ok != (err == nil) || err != nil && !errors.Is(err, s3err.AccessDenied) {
			t.Errorf("presigned, %v later: %v", offset, err)
		}
	}
	for _, expires := range []string{"-1", "604801", "9999999999999999999", "x"} {
		q := p.URL.Query()
		q.Set("X-Amz-Expires", expires)
		bad := *p
		bad.URL = &url.URL{Path: p.URL.Path, RawQuery: q.Encode()}
		if _, _, err := verify(verifier(), &bad); !errors.Is(err, s3err.AuthorizationQueryParameters) {
			t.Errorf("expires %s: %v", expires, err)
		}
	}
	u, _ = url.Parse("http://127.0.0.1:9000/bucket/key")
	atOnce := signer.PreSignV4(http.Request{Method: "GET", URL: u, Host: u.Host, Header: http.Header{}}, "key", "secretsecret", "", "us-east-1", 0)
	at, _ = time.Parse(timeFormat, atOnce.URL.Query().Get("X-Amz-Date"))
	for _, offset := range []time.Duration{0, -time.Second, time.Nanosecond} { // expired from the beginning, also by a clock that is behind
		v := verifier()
		v.Now = func() time.Time { return at.Add(offset) }
		_, _, err := verify(v, atOnce)
		expectMessage(t, err, "AccessDenied", "Request has expired.", "X-Amz-Expires=0")
	}
}

// TestBodyHash: the signed digest of the body is compared before the end.
//
// Scenarios: S16.
func TestBodyHash(t *testing.T) {
	r := signed(t, "PUT", "/bucket/key", "", nil, []byte("other"), emptySHA256)
	_, p, err := verify(verifier(), r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(p); !errors.Is(err, s3err.ContentSHA256Mismatch) {
		t.Fatal(err)
	}
}

func BenchmarkVerify(b *testing.B) {
	r := signed(b, "GET", "/bucket/a/typical/key.parquet", "", http.Header{"Range": {"bytes=0-65535"}}, nil, emptySHA256)
	v := verifier()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := v.Verify(r, r.URL.Path, nil); err != nil {
			b.Fatal(err)
		}
	}
}
