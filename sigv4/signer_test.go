package sigv4

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// unsent is a request before it is signed.
type unsent struct {
	name, method, path string
	query              url.Values
	header             http.Header
	keys               KeyPair
	digest             string
	body               []byte
	trailer            http.Header
}

var examplePair = KeyPair{AccessKey: exampleKey, Secret: exampleSecret}

// request makes the request anew: signers change what they sign.
func (u *unsent) request() *http.Request {
	target := &url.URL{Scheme: "http", Host: "127.0.0.1:9000", Path: u.path}
	r := &http.Request{Method: u.method, URL: target, Host: target.Host, Header: u.header.Clone()}
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if len(u.body) > 0 {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(u.body)), int64(len(u.body))
	}
	return r
}

// ours signs the request with a Signer.
func (u *unsent) ours(s *Signer, at time.Time) *http.Request {
	r := u.request()
	if len(u.trailer) > 0 {
		s.SignTrailer(r, u.query, u.keys, u.trailer, at)
	} else {
		s.Sign(r, u.query, u.keys, u.digest, at)
	}
	return r
}

// theirs signs the request with minio-go, at time.Now. It sends the values of a repeated parameter in the
// order in which it got them, and signs them in that order; S3 verifies them sorted. So it gets them
// sorted.
func (u *unsent) theirs(region string) *http.Request {
	r := u.request()
	sorted := url.Values{}
	for name, values := range u.query {
		sorted[name] = slices.SortedFunc(slices.Values(values), func(x, y string) int {
			return bytes.Compare(appendEncoded(nil, x, false), appendEncoded(nil, y, false))
		})
	}
	r.URL.RawPath, r.URL.RawQuery = encodePath(u.path), sorted.Encode()
	declared := cmp.Or(u.digest, unsignedPayload)
	switch {
	case len(u.trailer) > 0:
		declared = unsignedTrailer
	case r.Body == nil:
		declared = emptySHA256
	}
	r.Header.Set("X-Amz-Content-Sha256", declared)
	return signer.SignV4Trailer(*r, u.keys.AccessKey, u.keys.Secret, u.keys.Token, region, u.trailer)
}

// compare signs u with both signers at the same time, and compares all that is sent.
func (u *unsent) compare(t *testing.T, s *Signer) {
	t.Helper()
	ours, theirs := u.ours(s, time.Now()), u.theirs(s.Region)
	if ours.URL.RequestURI() != theirs.URL.RequestURI() {
		t.Fatalf("%s: target\n%s, and minio-go's is\n%s", u.name, ours.URL.RequestURI(), theirs.URL.RequestURI())
	}
	if ours.ContentLength != theirs.ContentLength {
		t.Fatalf("%s: %d bytes, and minio-go's %d", u.name, ours.ContentLength, theirs.ContentLength)
	}
	for _, name := range slices.Sorted(maps.Keys(merged(ours.Header, theirs.Header))) {
		if !slices.Equal(ours.Header[name], theirs.Header[name]) {
			t.Fatalf("%s: %s:\n%q, and minio-go's is\n%q", u.name, name, ours.Header[name], theirs.Header[name])
		}
	}
	if (ours.Body == nil) != (theirs.Body == nil) {
		t.Fatalf("%s: a body: %t, and minio-go's: %t", u.name, ours.Body != nil, theirs.Body != nil)
	}
	if ours.Body != nil {
		got, err := io.ReadAll(ours.Body)
		want, theirErr := io.ReadAll(theirs.Body)
		if err != nil || theirErr != nil || !bytes.Equal(got, want) || int64(len(got)) != ours.ContentLength {
			t.Fatalf("%s: a body of %d bytes, %v, and minio-go's of %d, %v", u.name, len(got), err, len(want), theirErr)
		}
	}
}

func merged(x, y http.Header) http.Header {
	all := x.Clone()
	maps.Copy(all, y)
	return all
}

// TestSignerAsMinio compares the whole head of requests, and their bodies, with what minio-go makes of them.
func TestSignerAsMinio(t *testing.T) {
	token := KeyPair{exampleKey, exampleSecret, "session/token+with=signs=="}
	const digest = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
	crc := http.Header{"X-Amz-Checksum-Crc32": {"NhCmhg=="}}
	synctest.Test(t, func(t *testing.T) { // both sign in the same second
		s := &Signer{Region: "eu-central-1"}
		for _, u := range []unsent{
			{name: "service", method: "GET", path: "/"},
			{name: "bucket", method: "GET", path: "/bucket", query: url.Values{"list-type": {"2"}, "prefix": {"a b+c/%"}, "delimiter": {"/"}}},
			{name: "subresource", method: "GET", path: "/bucket", query: url.Values{"acl": {""}}},
			{name: "repeated parameters", method: "GET", path: "/bucket", query: url.Values{"tag": {"b", "a/b", "a-b", ""}, "a": {"1"}}},
			{name: "many parameters", method: "GET", path: "/bucket", query: url.Values{"a": {"1"}, "b": {"2"}, "a-b": {"3"}, "a.b": {"4"}, "c": {"5"}, "d": {"6"}, "e": {"7"}, "f": {"8"}, "g": {"9"}}},
			{name: "odd key", method: "GET", path: "/bucket//a/../ü +%2F&=?#;\x01漢/"},
			{name: "range", method: "GET", path: "/bucket/key", header: http.Header{"Range": {"bytes=0-9"}, "User-Agent": {"akigw"}, "Accept-Encoding": {"identity"}}},
			{name: "session token", method: "HEAD", path: "/bucket/key", keys: token},
			{name: "spaces in values", method: "PUT", path: "/bucket/key", header: http.Header{"X-Amz-Meta-A": {"  a   b\tc \t "}, "X-Amz-Meta-B": {""}, "X-Amz-Meta-C": {" "}}},
			{name: "repeated headers", method: "PUT", path: "/bucket/key", header: http.Header{"X-Amz-Meta-A": {"b", " a", "c  d"}}},
			{name: "names that sort differently in lower case", method: "PUT", path: "/bucket/key", header: http.Header{"X-Amz-Meta-_a": {"1"}, "X-Amz-Meta-Za": {"2"}, "X-Amz-Meta-0": {"3"}, "X-Amz-Meta": {"4"}}},
			{name: "body of a known digest", method: "PUT", path: "/bucket/key", digest: digest, body: []byte("Welcome to Amazon S3.")},
			{name: "unsigned body", method: "PUT", path: "/bucket/key", body: []byte("hello"), header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}},
			{name: "trailer", method: "PUT", path: "/bucket/key", body: []byte("hello"), trailer: crc},
			{name: "trailer and a coding", method: "PUT", path: "/bucket/key", body: []byte("hello"), trailer: crc, header: http.Header{"Content-Encoding": {"gzip"}}, keys: token},
			{name: "trailer, whole chunks", method: "PUT", path: "/bucket/key", body: testkit.Bytes(1, 2*chunkSize), trailer: crc},
			{name: "trailer, a byte more", method: "PUT", path: "/bucket/key", body: testkit.Bytes(1, 2*chunkSize+1), trailer: crc},
		} {
			u.keys = cmp.Or(u.keys, examplePair)
			u.compare(t, s)
		}
	})
}

// TestSignerAsMinioRandom does the same with random requests.
func TestSignerAsMinioRandom(t *testing.T) {
	random := testkit.Random(t)
	synctest.Test(t, func(t *testing.T) {
		signers := []*Signer{{Region: "us-east-1"}, {Region: "eu-west-3"}}
		for n := range 2000 {
			u := randomRequest(random)
			u.name = fmt.Sprint("request ", n)
			u.compare(t, testkit.Pick(random, signers...))
			if random.IntN(50) == 0 {
				time.Sleep(time.Duration(random.IntN(20)) * time.Hour) // so that days pass
			}
		}
	})
}

// randomRequest is a request with all that keys, queries, headers and credentials may have in them.
func randomRequest(random *rand.Rand) unsent {
	pick := func(from ...string) string { return testkit.Pick(random, from...) }
	text := func(n int) string { return testkit.Text(random, n) }
	u := unsent{method: pick("GET", "PUT", "POST", "DELETE", "HEAD"), query: url.Values{}, header: http.Header{}}
	u.path = "/" + pick("", "bucket", "bucket/"+text(40), "bucket/"+pick("//", "/..", "/../", ".", "a//b", "a%2Fb")+text(10))
	for range random.IntN(5) {
		u.query.Add(pick("prefix", "marker", "acl", "list-type", "uploadId", "partNumber", "versionId", "A", "b"), text(15))
	}
	for range random.IntN(6) {
		name := pick("Content-Type", "X-Amz-Acl", "Range", "Content-Md5", "If-Match", "X-Amz-Meta-Note", "X-Amz-Meta-_", "X-Amz-Meta-Z", "User-Agent", "Accept-Encoding")
		u.header.Add(name, strings.Repeat(" ", random.IntN(3))+text(25)+pick("", "  ", "\t", "\u00a0", "a   b")+text(5))
	}
	u.keys = KeyPair{AccessKey: pick("AKIA1", "AKIA2"), Secret: pick("secret-one", "secret-two"), Token: pick("", "", "token-"+text(20))}
	if random.IntN(2) == 0 {
		u.body = testkit.Bytes(random.Uint64(), random.IntN(3*chunkSize))
	}
	switch {
	case len(u.body) == 0:
	case random.IntN(3) == 0:
		u.trailer = http.Header{pick("X-Amz-Checksum-Crc32", "X-Amz-Checksum-Sha256"): {"value-" + pick("a", "bc")}}
	case random.IntN(2) == 0:
		u.digest = hexSHA256(u.body)
	}
	return u
}

// TestSignedRequestsVerify: the Verifier accepts what a Signer signs and net/http sends: all keys,
// also those that are not UTF-8, repeated parameters, several trailing headers, an empty body with
// one, and a Host header that net/http ignores.
func TestSignedRequestsVerify(t *testing.T) {
	two := http.Header{"X-Amz-Checksum-Crc32": {"NhCmhg=="}, "X-Amz-Checksum-Crc32c": {"mnG7TA=="}}
	for _, u := range []unsent{
		{name: "not UTF-8", method: "GET", path: "/bucket/\xff\xfe/\x80"},
		{name: "empty path", method: "GET"},
		{name: "repeated parameters", method: "GET", path: "/bucket", query: url.Values{"z": {"2", "1", "a b"}, "a[": {""}, "aA": {"x"}}},
		{name: "expect", method: "PUT", path: "/bucket/key", header: http.Header{"Expect": {"100-continue"}, "Host": {"elsewhere"}}, body: []byte("hello")},
		{name: "two trailers", method: "PUT", path: "/bucket/key", body: []byte("hello"), trailer: two},
		{name: "two trailers of an empty body", method: "PUT", path: "/bucket/key", trailer: two},
		{name: "signed before", method: "GET", path: "/bucket/key", header: http.Header{"Authorization": {"AWS4-HMAC-SHA256 old"}, "X-Amz-Date": {"20130524T000000Z"}, "X-Amz-Security-Token": {"old"}}},
	} {
		t.Run(u.name, func(t *testing.T) {
			u.keys = examplePair
			var wire bytes.Buffer
			if err := u.ours(&Signer{Region: "us-east-1"}, exampleTime).Write(&wire); err != nil {
				t.Fatal(err)
			}
			received, err := http.ReadRequest(bufio.NewReader(&wire))
			if err != nil {
				t.Fatal(err)
			}
			if received.ContentLength < 0 {
				t.Errorf("the length is not announced")
			}
			id, payload, err := verify(exampleVerifier(), received)
			if err != nil || id.AccessKey() != exampleKey {
				t.Fatalf("%v: %v", id, err)
			}
			if received.URL.Path != cmp.Or(u.path, "/") {
				t.Errorf("path %q, want %q", received.URL.Path, u.path)
			}
			if got, err := io.ReadAll(payload); err != nil || string(got) != string(u.body) {
				t.Errorf("body %q, %v", got, err)
			}
			for name := range u.trailer {
				if got := payload.Trailer().Get(name); got != u.trailer.Get(name) {
					t.Errorf("trailer %s: %q", name, got)
				}
			}
		})
	}
}

// TestSignerKeys: a signature is made with the key of its secret, its day and its region; the
// derived key is reused while none of them changes.
func TestSignerKeys(t *testing.T) {
	s := &Signer{Region: "us-east-1"}
	evening := time.Date(2024, 2, 29, 23, 59, 59, 0, time.UTC)
	sign := func(keys KeyPair, at time.Time) error {
		u := unsent{method: "GET", path: "/bucket/key", keys: keys}
		v := &Verifier{Region: "us-east-1", Keys: StaticKeys{keys.AccessKey: keys.Secret}, Now: func() time.Time { return at }}
		_, _, err := verify(v, u.ours(s, at))
		return err
	}
	for _, c := range []struct {
		name   string
		keys   KeyPair
		at     time.Time
		reused bool
	}{
		{"first", KeyPair{AccessKey: "key", Secret: "secret-one"}, evening, false},
		{"again", KeyPair{AccessKey: "key", Secret: "secret-one"}, evening.Add(-time.Hour), true},
		{"the same second in another zone, where it is tomorrow", KeyPair{AccessKey: "key", Secret: "secret-one"}, evening.In(time.FixedZone("east", 3600)), true},
		{"another secret of the same access key", KeyPair{AccessKey: "key", Secret: "secret-two"}, evening, false},
		{"another access key of the same secret", KeyPair{AccessKey: "key2", Secret: "secret-two"}, evening, true},
		{"midnight", KeyPair{AccessKey: "key2", Secret: "secret-two"}, evening.Add(time.Second), false},
		{"back in time", KeyPair{AccessKey: "key2", Secret: "secret-two"}, evening, false},
		{"the first secret", KeyPair{AccessKey: "key", Secret: "secret-one"}, evening, false},
	} {
		before := s.newest.Load()
		if err := sign(c.keys, c.at); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if reused := s.newest.Load() == before; reused != c.reused {
			t.Errorf("%s: the key was reused: %t", c.name, reused)
		}
	}
}

// TestSignerIsShared: requests that are signed at the same time, with several secrets and on several
// days, do not mix up their keys or buffers.
func TestSignerIsShared(t *testing.T) {
	s := &Signer{Region: "us-east-1"}
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			at := exampleTime.AddDate(0, 0, worker%2)
			keys := KeyPair{AccessKey: fmt.Sprint("key", worker%3), Secret: fmt.Sprint("a-secret-", worker%3)}
			v := &Verifier{Region: s.Region, Keys: StaticKeys{keys.AccessKey: keys.Secret}, Now: func() time.Time { return at }}
			for n := range 200 {
				u := unsent{method: "PUT", path: fmt.Sprintf("/bucket/%d/%d", worker, n), query: url.Values{"n": {fmt.Sprint(n)}}, header: http.Header{"X-Amz-Meta-A": {fmt.Sprint(worker)}}, keys: keys}
				if _, _, err := verify(v, u.ours(s, at)); err != nil {
					t.Errorf("worker %d, request %d: %v", worker, n, err)
					return
				}
			}
		})
	}
	group.Wait()
}

// TestFramedBody: a framed body is as long as announced however it is read, takes the trailer when the
// body has ended, and fails if the body has another length than announced or fails itself.
func TestFramedBody(t *testing.T) {
	const placeholder, value = "AAAAAAAA", "NhCmhg=="
	framed := func(body io.Reader, length int64) (*http.Request, http.Header) {
		trailer := http.Header{"X-Amz-Checksum-Crc32": {placeholder}}
		r := &http.Request{Method: "PUT", URL: &url.URL{Path: "/bucket/key"}, Header: http.Header{}, Body: io.NopCloser(body), ContentLength: length}
		r.GetBody = func() (io.ReadCloser, error) { return nil, nil }
		(&Signer{Region: "us-east-1"}).SignTrailer(r, nil, examplePair, trailer, exampleTime)
		return r, trailer
	}
	readers := map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "halves": iotest.HalfReader, "end with data": iotest.DataErrReader,
	}
	for _, n := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 3 * chunkSize} {
		data := testkit.Bytes(uint64(n), n)
		for name, reader := range readers {
			var trailer http.Header
			ends := readerFunc(func([]byte) (int, error) {
				trailer.Set("X-Amz-Checksum-Crc32", value)
				return 0, io.EOF
			})
			r, set := framed(reader(io.MultiReader(bytes.NewReader(data), ends)), int64(n))
			trailer = set
			wire, err := io.ReadAll(reader(r.Body))
			if err != nil || int64(len(wire)) != r.ContentLength || r.GetBody != nil {
				t.Fatalf("%d bytes, %s: read %d, %v, announced %d", n, name, len(wire), err, r.ContentLength)
			}
			p := openChunks(t, UnsignedTrailer, wire, n)
			if got, err := io.ReadAll(p); err != nil || !bytes.Equal(got, data) || p.Trailer().Get("X-Amz-Checksum-Crc32") != value {
				t.Errorf("%d bytes, %s: decoded %d, %v, trailer %v", n, name, len(got), err, p.Trailer())
			}
		}
	}
	broken := errors.New("broken")
	for _, c := range []struct {
		name   string
		body   io.Reader
		length int64
		want   string
	}{
		{"shorter", strings.NewReader("hell"), 5, io.ErrUnexpectedEOF.Error()},
		{"shorter by chunks", bytes.NewReader(make([]byte, chunkSize)), 2 * chunkSize, io.ErrUnexpectedEOF.Error()},
		{"longer", strings.NewReader("hello!"), 5, "longer"},
		{"broken", io.MultiReader(strings.NewReader("he"), iotest.ErrReader(broken)), 5, broken.Error()},
		{"broken at the end", io.MultiReader(strings.NewReader("hello"), iotest.ErrReader(broken)), 5, broken.Error()},
	} {
		r, _ := framed(c.body, c.length)
		if _, err := io.ReadAll(r.Body); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// readerFunc is a reader of a function.
type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// BenchmarkSign signs a typical upload of a part, and does the same with minio-go.
func BenchmarkSign(b *testing.B) {
	u := unsent{method: "PUT", path: "/bucket/a/typical/key.parquet", query: url.Values{"partNumber": {"7"}, "uploadId": {"VXBsb2FkIElE"}}, digest: emptySHA256, body: []byte("x"), keys: examplePair,
		header: http.Header{"Content-Type": {"application/octet-stream"}, "X-Amz-Meta-Mtime": {"1700000000.25"}, "X-Amz-Checksum-Crc64nvme": {"rosUhgp5mIg="}, "User-Agent": {"akigw"}, "Accept-Encoding": {"identity"}}}
	s := &Signer{Region: "us-east-1"}
	b.Run("akigw", func(b *testing.B) {
		r := u.request()
		b.ReportAllocs()
		for b.Loop() {
			s.Sign(r, u.query, u.keys, u.digest, exampleTime)
		}
	})
	b.Run("minio-go", func(b *testing.B) {
		r := u.request()
		r.Header.Set("X-Amz-Content-Sha256", u.digest)
		b.ReportAllocs()
		for b.Loop() {
			r.URL.RawPath, r.URL.RawQuery = "", u.query.Encode()
			signer.SignV4(*r, u.keys.AccessKey, u.keys.Secret, u.keys.Token, s.Region)
		}
	})
}
