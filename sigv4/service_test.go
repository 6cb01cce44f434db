package sigv4

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/s3err"
)

const otherService = "s3vectors"

// serviceRequest is a request to another service, as boto3 signs it: the path is encoded twice, and there is
// no x-amz-content-sha256. Its fields are changed before it is signed.
type serviceRequest struct {
	method, target, body   string
	accessKey, secret      string
	region, service, token string
	at                     time.Time
	header                 http.Header
	declared               string // what is signed in place of the digest of the body
	unsigned               http.Header
}

func (s serviceRequest) sign(t testing.TB) *http.Request {
	r := request(t, s.method, s.target, "127.0.0.1:9000", s.header.Clone(), []byte(s.body))
	if r.Header == nil {
		r.Header = http.Header{}
	}
	date := s.at.UTC().Format(timeFormat)
	r.Header.Set("X-Amz-Date", date)
	names := []string{"host"}
	if len(r.Header["X-Amz-Content-Sha256"]) > 0 {
		names = append(names, "x-amz-content-sha256")
	}
	names = append(names, "x-amz-date")
	if s.token != "" {
		r.Header.Set("X-Amz-Security-Token", s.token)
		names = append(names, "x-amz-security-token")
	}
	query, err := ParseQuery(r.URL.RawQuery)
	if err != nil {
		t.Fatal(err)
	}
	declared := s.declared
	if declared == "" {
		declared = hexSHA256([]byte(s.body))
	}
	path, _, _ := strings.Cut(s.target, "?")
	c := credential{signedHeaders: strings.Join(names, ";"), time: date, day: date[:8], service: s.service}
	canonical := appendCanonical(nil, r, path, query, c.signedHeaders, declared)
	text := appendStringToSign(nil, algorithm, date, c.day, s.region, s.service)
	text = append(text, hexSHA256(canonical)...)
	sum := newSigningKey(s.secret, c.day, s.region, s.service).sum(text)
	r.Header.Set("Authorization", algorithm+" Credential="+s.accessKey+"/"+string(appendScope(nil, c.day, s.region, s.service))+
		", SignedHeaders="+c.signedHeaders+", Signature="+hexOf(sum[:]))
	for name, values := range s.unsigned {
		r.Header[name] = values
	}
	return r
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var text strings.Builder
	for _, c := range b {
		text.WriteByte(digits[c>>4])
		text.WriteByte(digits[c&15])
	}
	return text.String()
}

// counted is a memory budget that must be empty at the end.
type counted struct{ used, most, limit int64 }

func (m *counted) Acquire(n int64) bool {
	if m.used+n > m.limit {
		return false
	}
	m.used += n
	m.most = max(m.most, m.used)
	return true
}

func (m *counted) Release(n int64) { m.used -= n }

func verifyWhole(v *Verifier, m Memory, r *http.Request, limit int64) (Identity, []byte, error) {
	query, err := ParseQuery(r.URL.RawQuery)
	if err != nil {
		return Identity{}, nil, err
	}
	id, body, err := v.VerifyWhole(m, r, otherService, query, limit)
	if err != nil {
		return id, nil, err
	}
	defer body.Close()
	return id, bytes.Clone(body.Bytes), nil
}

// plainService is a request that is accepted.
func plainService() serviceRequest {
	return serviceRequest{method: "POST", target: "/GetIndex", body: `{"indexName":"i"}`, accessKey: exampleKey, secret: exampleSecret, region: "us-east-1", service: otherService, at: exampleTime}
}

// botoSignature is what botocore 1.43 (SigV4Auth) computed for this request of ListTagsForResource.
const botoSignature = "58f22f9e72728dc657772a8b8ad98f358286c2f4ede57833cffbcd14c320eb12"

// TestServiceAsBotocoreSigns: a signature that was made by botocore is accepted, with the ARN in the path.
func TestServiceAsBotocoreSigns(t *testing.T) {
	r := request(t, "GET", "/tags/arn%3Aaws%3As3vectors%3Aus-east-1%3A000000000000%3Abucket%2Fmy.bucket%2Findex%2Fi-1", "127.0.0.1:9000", http.Header{
		"X-Amz-Date":    {"20130524T000000Z"},
		"Authorization": {"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3vectors/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + botoSignature},
	}, nil)
	id, body, err := verifyWhole(exampleVerifier(), nil, r, 100)
	if err != nil || id.AccessKey() != exampleKey || len(body) != 0 {
		t.Fatalf("%q, %q, %v", id.AccessKey(), body, err)
	}
	r.URL.RawPath = "" // as if the path had been sent with the colons and slashes themselves
	if _, _, err := verifyWhole(exampleVerifier(), nil, r, 100); !errors.Is(err, s3err.SignatureDoesNotMatch) {
		t.Errorf("another spelling of the path: %v", err)
	}
}

// TestService: what of a request to another service is accepted, and what is refused.
func TestService(t *testing.T) {
	temporary := time.Date(2013, 5, 24, 1, 0, 0, 0, time.UTC)
	keys := keysOf{exampleKey: {Secret: exampleSecret}, "TEMPORARY": {Secret: "s", Token: "token", Expires: temporary}}
	digest := hexSHA256([]byte(plainService().body))
	for _, c := range []struct {
		name   string
		change func(*serviceRequest)
		after  func(*http.Request)
		want   error // nil: accepted
	}{
		{"as boto3 sends it", func(*serviceRequest) {}, nil, nil},
		{"with the digest", func(s *serviceRequest) { s.header = http.Header{"X-Amz-Content-Sha256": {digest}} }, nil, nil},
		{"an ARN in the path", func(s *serviceRequest) { s.method, s.target, s.body = "GET", "/tags/arn%3Aaws%3Ax%2Fy", "" }, nil, nil},
		{"an ARN in the path, in lower-case hex", func(s *serviceRequest) { s.target = "/tags/arn%3aaws%3ax%2fy" }, nil, nil},
		{"tag keys in the query", func(s *serviceRequest) {
			s.method, s.target, s.body = "DELETE", "/tags/arn%3Aaws?tagKeys=b&tagKeys=a%20c", ""
		}, nil, nil},
		{"a session token", func(s *serviceRequest) { s.accessKey, s.secret, s.token = "TEMPORARY", "s", "token" }, nil, nil},
		{"a wrong session token", func(s *serviceRequest) { s.accessKey, s.secret, s.token = "TEMPORARY", "s", "other" }, nil, s3err.InvalidToken},
		{"no session token", func(s *serviceRequest) { s.accessKey, s.secret = "TEMPORARY", "s" }, nil, s3err.InvalidToken},
		{"a wrong secret", func(s *serviceRequest) { s.secret = "wrong" }, nil, s3err.SignatureDoesNotMatch},
		{"an unknown key", func(s *serviceRequest) { s.accessKey = "UNKNOWN" }, nil, s3err.SignatureDoesNotMatch},
		{"the path encoded once", func(s *serviceRequest) { s.target = "/tags/arn%3Aaws" }, func(r *http.Request) { r.URL.RawPath, r.URL.Path = "", "/tags/arn:aws" }, s3err.SignatureDoesNotMatch},
		{"another body", func(*serviceRequest) {}, func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(`{"indexName":"j"}`)) }, s3err.SignatureDoesNotMatch},
		{"another body than its digest", func(s *serviceRequest) { s.header = http.Header{"X-Amz-Content-Sha256": {digest}} },
			func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(`{"indexName":"j"}`)) }, s3err.ContentSHA256Mismatch},
		{"another path", func(*serviceRequest) {}, func(r *http.Request) { r.URL.Path = "/DeleteIndex" }, s3err.SignatureDoesNotMatch},
		{"the service s3", func(s *serviceRequest) { s.service = "s3" }, nil, s3err.AuthorizationHeaderMalformed},
		{"another region", func(s *serviceRequest) { s.region = "eu-west-1" }, nil, s3err.AuthorizationHeaderMalformed},
		{"a body that is not signed", func(s *serviceRequest) {
			s.header, s.declared = http.Header{"X-Amz-Content-Sha256": {unsignedPayload}}, unsignedPayload
		}, nil, s3err.InvalidRequest},
		{"a chunked body", func(s *serviceRequest) {
			s.header, s.declared = http.Header{"X-Amz-Content-Sha256": {streamingSigned}}, streamingSigned
		}, nil, s3err.InvalidRequest},
		{"an old request", func(s *serviceRequest) { s.at = exampleTime.Add(-16 * time.Minute) }, nil, s3err.RequestTimeTooSkewed},
		{"a request of the future", func(s *serviceRequest) { s.at = exampleTime.Add(16 * time.Minute) }, nil, s3err.RequestTimeTooSkewed},
		{"a header that is not signed", func(s *serviceRequest) { s.unsigned = http.Header{"X-Amz-Meta-A": {"b"}} }, nil, s3err.AccessDenied},
		{"a digest that is not signed", func(s *serviceRequest) { s.unsigned = http.Header{"X-Amz-Content-Sha256": {digest}} }, nil, s3err.AccessDenied},
		{"two signatures", func(*serviceRequest) {}, func(r *http.Request) { r.Header.Add("Authorization", "AWS4-HMAC-SHA256 x") }, s3err.InvalidArgument},
		{"no signature", func(*serviceRequest) {}, func(r *http.Request) { r.Header.Del("Authorization") }, s3err.AccessDenied},
		{"signature version 2", func(*serviceRequest) {}, func(r *http.Request) { r.Header.Set("Authorization", "AWS "+exampleKey+":c2ln") }, s3err.InvalidRequest},
		{"a presigned URL", func(*serviceRequest) {}, func(r *http.Request) {
			r.Header.Del("Authorization")
			r.URL.RawQuery = "X-Amz-Credential=a%2F20130524%2Fus-east-1%2Fs3vectors%2Faws4_request&X-Amz-Signature=00"
		}, s3err.AccessDenied},
		{"a body of more than the limit", func(s *serviceRequest) { s.body = strings.Repeat(" ", 1001) }, nil, s3err.EntityTooLarge},
		{"the same of unknown length", func(s *serviceRequest) { s.body = strings.Repeat(" ", 1001) }, func(r *http.Request) { r.ContentLength = -1 }, s3err.EntityTooLarge},
		{"a body of the limit", func(s *serviceRequest) { s.body = strings.Repeat(" ", 1000) }, nil, nil},
		{"the same of unknown length", func(s *serviceRequest) { s.body = strings.Repeat(" ", 1000) }, func(r *http.Request) { r.ContentLength = -1 }, nil},
		{"a body that breaks off", func(s *serviceRequest) {}, func(r *http.Request) { r.ContentLength++ }, nil}, // net/http would report it
		{"a chunked body that breaks off", func(s *serviceRequest) {}, func(r *http.Request) {
			r.ContentLength, r.Body = -1, io.NopCloser(io.MultiReader(strings.NewReader("{"), brokenReader{}))
		}, s3err.IncompleteBody},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := plainService()
			c.change(&s)
			r := s.sign(t)
			if c.after != nil {
				c.after(r)
			}
			v, memory := exampleVerifier(), &counted{limit: 1 << 20}
			v.Keys = keys
			id, body, err := verifyWhole(v, memory, r, 1000)
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err == nil && (string(body) != s.body || id.AccessKey() != s.accessKey || !id.Verified() || id.Version() != 4 || id.Place() != Header) {
				t.Errorf("body %q, identity %+v", body, id)
			}
			if err != nil && (id.Verified() || id.AccessKey() != "") {
				t.Errorf("a refused request has the identity %+v", id)
			}
			if memory.used != 0 {
				t.Errorf("%d bytes of memory are not given back", memory.used)
			}
		})
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// keysOf are keys with all that a credential has.
type keysOf map[string]Credential

func (k keysOf) Lookup(accessKey string) (Credential, bool) {
	c, ok := k[accessKey]
	return c, ok
}

// TestServiceMemory: a body without room is refused, and a client without a key that declares a digest gets
// no memory at all.
func TestServiceMemory(t *testing.T) {
	s := plainService()
	s.body = strings.Repeat(" ", 300<<10)
	for _, c := range []struct {
		name   string
		limit  int64
		length int64
		want   error
	}{
		{"enough", 1 << 20, 300 << 10, nil},
		{"too little", 200 << 10, 300 << 10, s3err.SlowDown},
		{"enough, of unknown length", 1 << 20, -1, nil},
		{"too little, of unknown length", 300 << 10, -1, s3err.SlowDown},
	} {
		r := s.sign(t)
		r.ContentLength = c.length
		m := &counted{limit: c.limit}
		if _, body, err := verifyWhole(exampleVerifier(), m, r, 1<<20); !errors.Is(err, c.want) || err == nil && string(body) != s.body || m.used != 0 {
			t.Errorf("%s: %v, %d bytes left over", c.name, err, m.used)
		}
	}
	s.header, s.secret = http.Header{"X-Amz-Content-Sha256": {hexSHA256([]byte(s.body))}}, "wrong"
	m := &counted{limit: 1 << 20}
	if _, _, err := verifyWhole(exampleVerifier(), m, s.sign(t), 1<<20); !errors.Is(err, s3err.SignatureDoesNotMatch) || m.most != 0 {
		t.Errorf("%v with %d bytes of memory", err, m.most)
	}
}

// TestServicesDoNotMix: a signature for one service is none for another, also when both keys are cached.
func TestServicesDoNotMix(t *testing.T) {
	v := exampleVerifier()
	for range 2 {
		if _, _, err := verifyWhole(v, nil, plainService().sign(t), 100); err != nil {
			t.Fatal(err)
		}
		s := plainService()
		s.service, s.target, s.header = "s3", "/bucket/key", http.Header{"X-Amz-Content-Sha256": {hexSHA256([]byte(s.body))}}
		if _, _, err := verify(v, s.sign(t)); err != nil {
			t.Fatal(err)
		}
		s.service = otherService
		if _, _, err := verify(v, s.sign(t)); !errors.Is(err, s3err.AuthorizationHeaderMalformed) {
			t.Fatalf("S3 accepts the scope of another service: %v", err)
		}
	}
}

// TestServiceOf: the service that a request claims.
func TestServiceOf(t *testing.T) {
	for _, c := range []struct{ auth, query, want string }{
		{"", "", ""},
		{"AWS4-HMAC-SHA256 Credential=AK/20130524/us-east-1/s3vectors/aws4_request, SignedHeaders=host, Signature=x", "", "s3vectors"},
		{"AWS4-HMAC-SHA256 SignedHeaders=host,Credential=AK/20130524/us-east-1/s3/aws4_request,Signature=x", "", "s3"},
		{"AWS4-HMAC-SHA256 Credential=AK/20130524", "", ""},
		{"AWS AK:sig", "", ""},
		{"", "a=b&X-Amz-Credential=AK%2F20130524%2Fus-east-1%2Fs3vectors%2Faws4_request&c=d", "s3vectors"},
		{"", "X-Amz-Credential=AK%2", ""},
	} {
		r := &http.Request{Header: http.Header{}, URL: &url.URL{RawQuery: c.query}}
		if c.auth != "" {
			r.Header.Set("Authorization", c.auth)
		}
		if got := ServiceOf(r); got != c.want {
			t.Errorf("%q %q: %q, want %q", c.auth, c.query, got, c.want)
		}
	}
}

// FuzzService: whatever a request has, it is verified only if it was signed so, and no memory stays taken.
func FuzzService(f *testing.F) {
	f.Add("POST", "/GetIndex", "", "{}", "")
	f.Add("GET", "/tags/arn%3Aaws", "tagKeys=a&tagKeys=b", "", emptySHA256)
	f.Add("DELETE", "/%", "X-Amz-Signature=1", "", unsignedPayload)
	f.Fuzz(func(t *testing.T, method, path, query, body, declared string) {
		target := path
		if query != "" {
			target += "?" + query
		}
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Host != "" || u.Opaque != "" {
			return
		}
		values, err := ParseQuery(u.RawQuery)
		if err != nil {
			return
		}
		r := &http.Request{Method: method, URL: u, Host: "h", Header: http.Header{"X-Amz-Date": {exampleTime.Format(timeFormat)}}, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}
		names := "host;x-amz-date"
		if declared != "" {
			r.Header["X-Amz-Content-Sha256"], names = []string{declared}, "host;x-amz-content-sha256;x-amz-date"
		}
		signature := strings.Repeat("0", 64)
		r.Header.Set("Authorization", algorithm+" Credential="+exampleKey+"/20130524/us-east-1/"+otherService+"/aws4_request, SignedHeaders="+names+", Signature="+signature)
		if got := ServiceOf(r); got != otherService {
			t.Fatalf("service %q", got)
		}
		m := &counted{limit: 64}
		id, got, err := exampleVerifier().VerifyWhole(m, r, otherService, values, 100)
		if err == nil || id.Verified() || got != nil || m.used != 0 {
			t.Fatalf("%v, %v, %s bytes taken", id, err, strconv.FormatInt(m.used, 10))
		}
	})
}
