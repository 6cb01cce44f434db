package gateway

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"
	"go.uber.org/goleak"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/access/policy"
	"github.com/akidb/akigw/gateway/httpguard"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/storekit"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testkit.BadgerLeaks()...) }

// rig is a gateway over an upstream in memory.
type rig struct {
	*s3client.Client
	up    *s3mem.Memory
	store *tiers.Store
	kit   *storekit.Kit // nil without write-back
	addr  string
}

func verifier() *sigv4.Verifier {
	return &sigv4.Verifier{Region: "us-east-1", Keys: sigv4.StaticKeys{s3client.AccessKey: s3client.SecretKey}}
}

// rootOnly gives every right to who has a key.
type rootOnly struct{}

func (rootOnly) PolicyOf(id sigv4.Identity) *policy.Policy {
	if id.AccessKey() == "" {
		return nil
	}
	return policy.Everything
}

// newStore opens tiers without rules.
func newStore(config tiers.Config, dir string, up tiers.Upstream, log *slog.Logger) (*tiers.Store, error) {
	return tiers.New(tiers.Options{Config: config, Rules: rules.NewSet(nil, config.Settings()), Dir: dir, Upstream: up, Log: log})
}

func newRig(t testing.TB, freshness rules.Freshness) *rig { return newRigOf(t, freshness, 16<<20) }

func newRigOf(t testing.TB, freshness rules.Freshness, hotBytes size.Bytes) *rig {
	t.Helper()
	up := s3mem.New()
	log := slog.New(slog.DiscardHandler)
	store, err := newStore(tiers.Config{HotBytes: hotBytes, WarmBytes: 64 << 20, BlockBytes: 64 << 10, SmallBytes: 4 << 10, MD5ETags: true, Freshness: freshness},
		filepath.Join(t.TempDir(), "warm"), up, log)
	if err != nil {
		t.Fatal(err)
	}
	g := New(Options{Verifier: verifier(), Policies: rootOnly{}, Store: store, Upstream: up, Log: log, Domains: []string{"s3.example.com"}})
	server := httptest.NewUnstartedServer(nil)
	server.Config = Server(g, nil, log)
	server.Listener = httpguard.Strict(server.Listener, httpguard.Limits{HeadBytes: headerBytes, HeadTime: headerTimeout, Rate: 1 << 10, Window: rateWindow})
	server.Start()
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		server.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return &rig{Client: &s3client.Client{Endpoint: server.URL, HTTP: client}, up: up, store: store, addr: server.Listener.Addr().String()}
}

// oddKeys survive the way to the upstream and back byte for byte.
var oddKeys = []string{
	"a//b", "//", "../x", "../../etc/passwd", "./a", "a/./b", "a/../b", "%2F", "%", "%25", "+", "a+b", "a b", " ", "a/", "a//",
	"ä/ö", "漢字", "🦊", "@!*'();:&=$,?#[]", `\`, `"<>|^{}` + "`", "a?b=c", "a#b", "~-._", "\t\n\r\x01\x7f", "...", "..", ".",
	strings.Repeat("k", 1024), strings.Repeat("ü", 512),
}

// TestKeysAreBytes puts, reads, lists by HEAD and deletes odd keys.
//
// Scenarios: E11.
func TestKeysAreBytes(t *testing.T) {
	g := newRig(t, rules.Strict)
	for i, name := range oddKeys {
		body := fmt.Appendf(nil, "body %d", i)
		if a := g.Must(t, "PUT", "/bucket/"+name, "", nil, body); a.Status != 200 {
			t.Fatalf("PUT %q: %d %s", name, a.Status, a.Body)
		}
		if o, ok := g.up.Get(akigw.Key{Bucket: "bucket", Name: name}); !ok || !bytes.Equal(o.Body, body) {
			t.Fatalf("%q did not reach the upstream under its name", name)
		}
	}
	if g.up.Len() != len(oddKeys) {
		t.Fatalf("%d objects upstream, want %d", g.up.Len(), len(oddKeys))
	}
	for i, name := range oddKeys {
		if a := g.Must(t, "GET", "/bucket/"+name, "", nil, nil); a.Status != 200 || string(a.Body) != fmt.Sprintf("body %d", i) {
			t.Errorf("GET %q: %d %q", name, a.Status, a.Body)
		}
		if a := g.Must(t, "DELETE", "/bucket/"+name, "", nil, nil); a.Status != 204 {
			t.Errorf("DELETE %q: %d", name, a.Status)
		}
		if a := g.Must(t, "GET", "/bucket/"+name, "", nil, nil); a.Status != 404 {
			t.Errorf("GET of deleted %q: %d", name, a.Status)
		}
	}
}

// TestBadInput: each malformed request gets S3's code and status, and changes
// nothing.
func TestBadInput(t *testing.T) {
	g := newRig(t, rules.Exclusive)
	sum := func(b string) string {
		s := md5.Sum([]byte(b))
		return base64.StdEncoding.EncodeToString(s[:])
	}
	long := strings.Repeat("k", 1025)
	many := "<Delete>" + strings.Repeat("<Object><Key>k</Key></Object>", 1001) + "</Delete>"
	part := func(ns ...int) string {
		var b strings.Builder
		for _, n := range ns {
			fmt.Fprintf(&b, "<Part><PartNumber>%d</PartNumber><ETag>x</ETag></Part>", n)
		}
		return "<CompleteMultipartUpload>" + b.String() + "</CompleteMultipartUpload>"
	}
	for _, c := range []struct {
		name, method, path, query string
		header                    http.Header
		body                      string
		status                    int
		code                      string
	}{
		{"S35 bucket name too short", "GET", "/ab/k", "", nil, "", 400, "InvalidBucketName"},
		{"S35 bucket name in capitals", "PUT", "/Bucket", "", nil, "", 400, "InvalidBucketName"},
		{"S35 bucket name like an address", "PUT", "/192.168.1.1", "", nil, "", 400, "InvalidBucketName"},
		{"S35 reserved prefix", "PUT", "/xn--bucket", "", nil, "", 400, "InvalidBucketName"},
		{"S35 reserved suffix", "PUT", "/bucket-s3alias", "", nil, "", 400, "InvalidBucketName"},
		{"S35 two dots", "PUT", "/a..b", "", nil, "", 400, "InvalidBucketName"},
		{"empty bucket name", "GET", "//k", "", nil, "", 400, "InvalidBucketName"},
		{"S3 key too long", "PUT", "/bucket/" + long, "", nil, "x", 400, "KeyTooLongError"},
		{"S3 NUL in the key", "PUT", "/bucket/a\x00b", "", nil, "x", 400, "InvalidURI"},
		{"E19 empty Content-MD5", "PUT", "/bucket/k", "", http.Header{"Content-Md5": {""}}, "x", 400, "InvalidDigest"},
		{"malformed Content-MD5", "PUT", "/bucket/k", "", http.Header{"Content-Md5": {"AAAA"}}, "x", 400, "InvalidDigest"},
		{"E20 wrong Content-MD5", "PUT", "/bucket/k", "", http.Header{"Content-Md5": {sum("y")}}, "x", 400, "BadDigest"},
		{"E20 wrong Content-MD5 of a large body", "PUT", "/bucket/k", "", http.Header{"Content-Md5": {sum("y")}}, strings.Repeat("x", 300_000), 400, "BadDigest"},
		{"E20 wrong checksum", "PUT", "/bucket/k", "", http.Header{"X-Amz-Checksum-Crc32": {"AAAAAA=="}}, "x", 400, "BadDigest"},
		{"E20 wrong checksum of a large body", "PUT", "/bucket/k", "", http.Header{"X-Amz-Checksum-Sha256": {base64.StdEncoding.EncodeToString(make([]byte, 32))}}, strings.Repeat("x", 300_000), 400, "BadDigest"},
		{"malformed checksum", "PUT", "/bucket/k", "", http.Header{"X-Amz-Checksum-Crc32": {"AAAA"}}, "x", 400, "InvalidRequest"},
		{"two checksums", "PUT", "/bucket/k", "", http.Header{"X-Amz-Checksum-Crc32": {"AAAAAA=="}, "X-Amz-Checksum-Crc32c": {"AAAAAA=="}}, "x", 400, "InvalidRequest"},
		{"checksum algorithm without a checksum", "PUT", "/bucket/k", "", http.Header{"X-Amz-Sdk-Checksum-Algorithm": {"CRC32"}}, "x", 400, "InvalidRequest"},
		{"S16 wrong signed digest", "PUT", "/bucket/k", "", http.Header{"X-Amz-Content-Sha256": {strings.Repeat("0", 64)}}, "x", 400, "XAmzContentSHA256Mismatch"},
		{"S16 wrong signed digest of a large body", "PUT", "/bucket/k", "", http.Header{"X-Amz-Content-Sha256": {strings.Repeat("0", 64)}}, strings.Repeat("x", 300_000), 400, "XAmzContentSHA256Mismatch"},
		{"too much metadata", "PUT", "/bucket/k", "", http.Header{"X-Amz-Meta-A": {strings.Repeat("x", 2048)}}, "x", 400, "MetadataTooLarge"},
		{"part number 0", "PUT", "/bucket/k", "uploadId=u&partNumber=0", nil, "x", 400, "InvalidArgument"},
		{"part number 10001", "PUT", "/bucket/k", "uploadId=u&partNumber=10001", nil, "x", 400, "InvalidArgument"},
		{"part number x", "PUT", "/bucket/k", "uploadId=u&partNumber=x", nil, "x", 400, "InvalidArgument"},
		{"E10 range and part number", "GET", "/bucket/k", "partNumber=1", http.Header{"Range": {"bytes=0-1"}}, "", 400, "InvalidRequest"},
		{"negative max-keys", "GET", "/bucket", "max-keys=-1", nil, "", 400, "InvalidArgument"},
		{"max-keys x", "GET", "/bucket", "list-type=2&max-keys=x", nil, "", 400, "InvalidArgument"},
		{"copy source without a key", "PUT", "/bucket/k", "", http.Header{"X-Amz-Copy-Source": {"bucket"}}, "", 400, "InvalidArgument"},
		{"S25 empty copy source", "PUT", "/bucket/k", "", http.Header{"X-Amz-Copy-Source": {"/"}}, "", 400, "InvalidArgument"},
		{"copy source in a bad bucket", "PUT", "/bucket/k", "", http.Header{"X-Amz-Copy-Source": {"B/k"}}, "", 400, "InvalidArgument"},
		{"S26 DeleteObjects without a digest", "POST", "/bucket", "delete", http.Header{"X-Amz-Content-Sha256": {"UNSIGNED-PAYLOAD"}}, "<Delete><Object><Key>k</Key></Object></Delete>", 400, "InvalidRequest"},
		{"E5 DeleteObjects, empty", "POST", "/bucket", "delete", nil, "<Delete></Delete>", 400, "MalformedXML"},
		{"E5 DeleteObjects, no XML", "POST", "/bucket", "delete", nil, "{}", 400, "MalformedXML"},
		{"E5 DeleteObjects, other root", "POST", "/bucket", "delete", nil, "<Remove><Object><Key>k</Key></Object></Remove>", 400, "MalformedXML"},
		{"E5 DeleteObjects, 1,001 keys", "POST", "/bucket", "delete", nil, many, 400, "MalformedXML"},
		{"S37 DeleteObjects with a document type", "POST", "/bucket", "delete", nil, `<!DOCTYPE d><Delete><Object><Key>k</Key></Object></Delete>`, 400, "MalformedXML"},
		{"S37 two keys in one object", "POST", "/bucket", "delete", nil, "<Delete><Object><Key>k</Key><Key>l</Key></Object></Delete>", 400, "MalformedXML"},
		{"E6 nested XML", "POST", "/bucket", "delete", nil, "<Delete>" + strings.Repeat("<a>", 50) + strings.Repeat("</a>", 50) + "</Delete>", 400, "MalformedXML"},
		{"E5 DeleteObjects, 3 MiB", "POST", "/bucket", "delete", nil, strings.Repeat(" ", 3<<20), 400, "MaxMessageLengthExceeded"},
		{"E5 Complete, empty", "POST", "/bucket/k", "uploadId=u", nil, "<CompleteMultipartUpload/>", 400, "MalformedXML"},
		{"Complete out of order", "POST", "/bucket/k", "uploadId=u", nil, part(2, 1), 400, "InvalidPartOrder"},
		{"Complete with part 0", "POST", "/bucket/k", "uploadId=u", nil, part(0), 400, "InvalidArgument"},
		{"Complete with part 10001", "POST", "/bucket/k", "uploadId=u", nil, part(10001), 400, "InvalidArgument"},
		{"checksum algorithm of another checksum", "PUT", "/bucket/k", "", http.Header{"X-Amz-Sdk-Checksum-Algorithm": {"SHA1"}, "X-Amz-Checksum-Crc32": {"jNIWqQ=="}}, "x", 400, "InvalidRequest"},
		{"copy source of no copy", "GET", "/bucket/there", "", http.Header{"X-Amz-Copy-Source": {"bucket/there"}}, "", 400, "InvalidArgument"},
		{"copy source in a bad encoding", "PUT", "/bucket/k", "", http.Header{"X-Amz-Copy-Source": {"bucket/%zz"}}, "", 400, "InvalidArgument"},
		{"uploads of a key", "GET", "/bucket/k", "uploads", nil, "", 400, "InvalidRequest"},
		{"versions of a key", "GET", "/bucket/k", "versions", nil, "", 400, "InvalidRequest"},
		{"a part without its number", "PUT", "/bucket/k", "uploadId=u", nil, "x", 405, "MethodNotAllowed"},
		{"a part without its upload", "PUT", "/bucket/k", "partNumber=1", nil, "x", 400, "InvalidArgument"},
		{"a POST of a key", "POST", "/bucket/k", "", nil, "x", 405, "MethodNotAllowed"},
		{"a POST of the service", "POST", "/", "", nil, "x", 405, "MethodNotAllowed"},
		{"max-buckets 0", "GET", "/", "max-buckets=0", nil, "", 400, "InvalidArgument"},
		{"max-keys beyond 32 bits", "GET", "/bucket", "max-keys=2147483648", nil, "", 400, "InvalidArgument"},
		{"odd method", "PATCH", "/bucket/k", "", nil, "", 405, "MethodNotAllowed"},
		{"browser upload that is no form", "POST", "/bucket", "", nil, "x", 412, "PreconditionFailed"},
		{"S15 streaming payload for another operation", "POST", "/bucket", "delete", http.Header{"X-Amz-Content-Sha256": {"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}, "X-Amz-Decoded-Content-Length": {"1"}}, "x", 400, "InvalidRequest"},
		{"streaming payload without a length", "PUT", "/bucket/k", "", http.Header{"X-Amz-Content-Sha256": {"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}}, "x", 411, "MissingContentLength"},
		{"streaming payload without framing", "PUT", "/bucket/k", "", http.Header{"X-Amz-Content-Sha256": {"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}, "X-Amz-Decoded-Content-Length": {"1"}}, "x", 400, ""},
		{"override of another header", "GET", "/bucket/there", "response-x-evil=1", nil, "", 400, "InvalidArgument"},
		{"S33 line break in an override", "GET", "/bucket/there", "response-content-type=a%0d%0ab", nil, "", 400, "InvalidArgument"},
		{"unsatisfiable range", "GET", "/bucket/there", "", http.Header{"Range": {"bytes=100-"}}, "", 416, "InvalidRange"},
		{"absent key", "GET", "/bucket/none", "", nil, "", 404, "NoSuchKey"},
		{"false If-Match", "GET", "/bucket/there", "", http.Header{"If-Match": {`"x"`}}, "", 412, "PreconditionFailed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g.up.Put(akigw.Key{Bucket: "bucket", Name: "there"}, []byte("here"))
			r, err := g.Request(c.method, c.path, c.query, c.header, []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			a, err := g.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if a.Status != c.status || !strings.Contains(string(a.Body), "<Code>"+c.code) {
				t.Errorf("got %d %s, want %d %s", a.Status, a.Body, c.status, c.code)
			}
			if a.Header.Get("X-Amz-Request-Id") == "" || c.status != 404 && !strings.Contains(string(a.Body), "<RequestId>"+a.Header.Get("X-Amz-Request-Id")) {
				t.Errorf("no request id: %v %s", a.Header, a.Body)
			}
			if g.up.Len() != 1 {
				t.Errorf("something was stored")
			}
			if _, err := g.store.Head(t.Context(), akigw.Key{Bucket: "bucket", Name: "k"}, akigw.RangeSpec{}, akigw.Conditions{}); err == nil {
				t.Errorf("something was cached")
			}
		})
	}
	if n := g.up.Count("PUT 200"); n != 0 {
		t.Errorf("%d PUTs reached the upstream whole", n)
	}
}

// TestRawBadInput is what an HTTP client library would not send.
func TestRawBadInput(t *testing.T) {
	g := newRig(t, rules.Exclusive)
	auth := func(method, path, extra string, mode string) string {
		h := http.Header{"X-Amz-Content-Sha256": {mode}}
		r, err := g.Request(method, path, "", h, nil)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nX-Amz-Date: %s\r\nX-Amz-Content-Sha256: %s\r\nAuthorization: %s\r\n%s",
			method, r.URL.EscapedPath(), r.Host, r.Header.Get("X-Amz-Date"), mode, r.Header.Get("Authorization"), extra)
	}
	for _, c := range []struct {
		name, raw, want string
	}{
		{"truncated body", auth("PUT", "/bucket/k", "Content-Length: 10\r\n\r\n12345", "UNSIGNED-PAYLOAD"), "400"},
		{"truncated large body", auth("PUT", "/bucket/k", "Content-Length: 1000000\r\n\r\n"+strings.Repeat("x", 200_000), "UNSIGNED-PAYLOAD"), "400"},
		{"no length", auth("PUT", "/bucket/k", "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "UNSIGNED-PAYLOAD"), "411"},
		{"too large", auth("PUT", "/bucket/k", "Content-Length: 5368709121\r\n\r\n", "UNSIGNED-PAYLOAD"), "400"},
		{"E4 large headers", "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", "431"},
		{"bad percent-encoding", "GET /bucket/%zz HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
		{"invalid UTF-8", "GET /bucket/%ff HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
		{"absolute-form target of another host", "GET http://evil/k HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
		{"no signature", "GET /bucket/k HTTP/1.1\r\nHost: x\r\n\r\n", "403"},
		{"garbage", "\x16\x03\x01\r\n\r\n", "400"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", g.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			go func() {
				io.WriteString(conn, c.raw)
				conn.(*net.TCPConn).CloseWrite()
			}()
			conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			answer, _ := io.ReadAll(conn)
			if !strings.HasPrefix(string(answer), "HTTP/1.1 "+c.want) {
				t.Errorf("got %.300q, want %s", answer, c.want)
			}
		})
	}
	if g.up.Len() != 0 {
		t.Error("something was stored")
	}
}

// TestPayloadModes sends one body in each payload mode, small and large.
func TestPayloadModes(t *testing.T) {
	g := newRig(t, rules.Exclusive)
	for _, size := range []int{0, 1, 5000, 64 << 10, 64<<10 + 1, 1 << 20} {
		body := testkit.Bytes(uint64(size), size)
		crc := crc32.ChecksumIEEE(body)
		checksum := base64.StdEncoding.EncodeToString([]byte{byte(crc >> 24), byte(crc >> 16), byte(crc >> 8), byte(crc)})
		for _, mode := range []string{"signed", "unsigned", "streaming", "streaming-trailer", "unsigned-trailer", "presigned", "md5", "checksum"} {
			if size == 0 && strings.Contains(mode, "ing") && mode != "presigned" || size == 0 && mode == "unsigned-trailer" {
				continue // the signing library has no framing for an empty body
			}
			name := fmt.Sprintf("%s-%d", mode, size)
			u, _ := url.Parse(g.Endpoint + "/bucket/" + name)
			r := &http.Request{Method: "PUT", URL: u, Host: u.Host, Header: http.Header{}, ContentLength: int64(size)}
			if size > 0 {
				r.Body = io.NopCloser(bytes.NewReader(body))
			}
			trailer := http.Header{"X-Amz-Checksum-Crc32": {checksum}}
			now := time.Now().UTC()
			switch mode {
			case "streaming":
				r = signer.StreamingSignV4(r, s3client.AccessKey, s3client.SecretKey, "", "us-east-1", int64(size), now, s3client.NewHasher())
			case "streaming-trailer":
				r.Trailer = trailer
				r = signer.StreamingSignV4(r, s3client.AccessKey, s3client.SecretKey, "", "us-east-1", int64(size), now, s3client.NewHasher())
			case "unsigned-trailer":
				r.Header.Set("X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
				r = signer.SignV4Trailer(*r, s3client.AccessKey, s3client.SecretKey, "", "us-east-1", trailer)
			case "presigned":
				r = signer.PreSignV4(*r, s3client.AccessKey, s3client.SecretKey, "", "us-east-1", 60)
			default:
				h := http.Header{}
				switch mode {
				case "unsigned":
					h.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
				case "md5":
					sum := md5.Sum(body)
					h.Set("Content-Md5", base64.StdEncoding.EncodeToString(sum[:]))
				case "checksum":
					h.Set("X-Amz-Checksum-Crc32", checksum)
				}
				var err error
				if r, err = g.Request("PUT", "/bucket/"+name, "", h, body); err != nil {
					t.Fatal(err)
				}
			}
			a, err := g.Do(r)
			if err != nil || a.Status != 200 {
				t.Errorf("%s: %v %+v", name, err, a)
				continue
			}
			if a.Header.Get("X-Akigw-Commit") != "upstream" {
				t.Errorf("%s: no x-akigw-commit", name)
			}
			if o, _ := g.up.Get(akigw.Key{Bucket: "bucket", Name: name}); !bytes.Equal(o.Body, body) {
				t.Errorf("%s: %d bytes upstream, want %d", name, len(o.Body), size)
			}
			if a := g.Must(t, "GET", "/bucket/"+name, "", nil, nil); !bytes.Equal(a.Body, body) || a.Header.Get("X-Akigw-Cache") != "hot" {
				t.Errorf("%s: read %d bytes from %s", name, len(a.Body), a.Header.Get("X-Akigw-Cache"))
			}
		}
	}
	if gets := g.up.Count("GET") - g.up.Count("ListObjectsV2"); gets != 0 {
		t.Errorf("%d GETs of objects at the upstream", gets)
	}
}

// TestReadAnswers looks at the headers of cached and uncached reads.
func TestReadAnswers(t *testing.T) {
	g := newRig(t, rules.Exclusive)
	body := testkit.Bytes(1, 200_000)
	k := akigw.Key{Bucket: "bucket", Name: "k"}
	etag := g.up.Put(k, body)
	o, _ := g.up.Get(k)
	o.Header = http.Header{"X-Amz-Meta-A": {"b"}, "Cache-Control": {"max-age=5"}, "X-Amz-Checksum-Crc32": {"NOTASUM="}, "X-Amz-Request-Id": {"theirs"}}
	g.up.PutStored(k, o)
	for _, want := range []string{"cold", "hot"} {
		a := g.Must(t, "GET", "/bucket/k", "", nil, nil)
		for name, value := range map[string]string{"X-Akigw-Cache": want, "Etag": etag, "X-Amz-Meta-A": "b", "Cache-Control": "max-age=5",
			"Content-Length": "200000", "X-Amz-Checksum-Crc32": "", "Age": "0", "Content-Type": "text/plain"} {
			if got := a.Header.Get(name); got != value {
				t.Errorf("%s GET: %s is %q, want %q", want, name, got, value)
			}
		}
		if id := a.Header.Get("X-Amz-Request-Id"); id == "theirs" || id == "" {
			t.Errorf("request id %q", id)
		}
	}
	a := g.Must(t, "GET", "/bucket/k", "response-content-type=image%2Fpng&x-id=GetObject", http.Header{"Range": {"bytes=5-9"}, "X-Amz-Checksum-Mode": {"ENABLED"}}, nil)
	if a.Status != 206 || a.Header.Get("Content-Range") != "bytes 5-9/200000" || a.Header.Get("Content-Type") != "image/png" || !bytes.Equal(a.Body, body[5:10]) || a.Header.Get("X-Amz-Checksum-Crc32") != "" {
		t.Errorf("range with an override: %d %v", a.Status, a.Header)
	}
	if a := g.Must(t, "GET", "/bucket/k", "", http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}, nil); a.Header.Get("X-Amz-Checksum-Crc32") != "NOTASUM=" {
		t.Errorf("checksum not returned when asked for: %v", a.Header)
	}
	if a := g.Must(t, "GET", "/bucket/k", "", http.Header{"If-None-Match": {etag}}, nil); a.Status != 304 || len(a.Body) > 0 || a.Header.Get("Etag") != etag {
		t.Errorf("304: %d %v", a.Status, a.Header)
	}
	if a := g.Must(t, "HEAD", "/bucket/k", "", nil, nil); a.Status != 200 || a.Header.Get("Content-Length") != "200000" || a.Header.Get("Etag") != etag {
		t.Errorf("HEAD: %d %v", a.Status, a.Header)
	}
	if a := g.Must(t, "HEAD", "/bucket/none", "", nil, nil); a.Status != 404 || len(a.Body) > 0 {
		t.Errorf("HEAD of an absent key: %d %q", a.Status, a.Body)
	}
}

// TestSSECIsNeverCached and TestS32: the upstream gets what it needs and
// nothing of the connection.
//
// Scenarios: E30.
func TestSSECIsNeverCached(t *testing.T) {
	g := newRig(t, rules.Exclusive)
	h := http.Header{"X-Amz-Server-Side-Encryption-Customer-Algorithm": {"AES256"}, "X-Amz-Server-Side-Encryption-Customer-Key": {"a2V5"}}
	if a := g.Must(t, "PUT", "/bucket/k", "", h, []byte("secret")); a.Status != 200 {
		t.Fatal(a.Status)
	}
	for range 2 {
		if a := g.Must(t, "GET", "/bucket/k", "", h, nil); a.Header.Get("X-Akigw-Cache") != "bypass" || string(a.Body) != "secret" {
			t.Fatalf("%v %q", a.Header, a.Body)
		}
	}
	if g.up.Count("GET") != 2 {
		t.Fatalf("%d GETs", g.up.Count("GET"))
	}
}

// Scenarios: S32.
func TestUpstreamRequestIsBuiltNew(t *testing.T) {
	g := newRig(t, rules.Strict)
	var sent *cold.Request
	g.up.Before = func(r *cold.Request) (*http.Response, error) {
		sent = r
		return s3mem.Response(200, nil, nil), nil
	}
	h := http.Header{"X-Forwarded-For": {"1.2.3.4"}, "Cookie": {"a=b"}, "X-Custom": {"x"}, "X-Amz-Meta-A": {"b"}, "Content-Type": {"text/plain"},
		"Connection": {"X-Amz-Meta-A"}, "Content-Encoding": {"aws-chunked,gzip"}}
	g.Must(t, "PUT", "/bucket/k", "tagging&x-id=PutObjectTagging", h, []byte("x"))
	if sent == nil {
		t.Fatal("nothing was sent")
	}
	for _, name := range []string{"X-Forwarded-For", "Cookie", "X-Custom", "X-Amz-Security-Token", "Authorization", "Connection", "X-Amz-Date", "X-Amz-Content-Sha256"} {
		if v, ok := sent.Header[name]; ok {
			t.Errorf("%s: %q went upstream", name, v)
		}
	}
	if sent.Header.Get("X-Amz-Meta-A") != "b" || sent.Header.Get("Content-Type") != "text/plain" || sent.Header.Get("Content-Encoding") != "gzip" || len(sent.Query) != 1 || !sent.Query.Has("tagging") {
		t.Errorf("header %v, query %v", sent.Header, sent.Query)
	}
}

// TestForwardedChangeFencesTheKey: what the cache knows of a key ends with any
// request that may change it.
func TestForwardedChangeFencesTheKey(t *testing.T) {
	for _, c := range []struct{ method, path, query, body string }{
		{"PUT", "/bucket/k", "tagging", "<Tagging/>"},
		{"POST", "/bucket/k", "restore", "<RestoreRequest/>"},
		{"DELETE", "/bucket/k", "versionId=1", ""},
		{"POST", "/bucket", "delete", "<Delete><Object><Key>k</Key></Object></Delete>"},
		{"POST", "/bucket/k", "uploadId=1", "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>"},
	} {
		g := newRig(t, rules.Exclusive)
		k := akigw.Key{Bucket: "bucket", Name: "k"}
		g.up.Put(k, []byte("old"))
		g.Must(t, "GET", "/bucket/k", "", nil, nil)
		g.up.Before = func(r *cold.Request) (*http.Response, error) {
			if r.Method == "GET" || r.Method == "HEAD" {
				return nil, nil
			}
			g.up.Put(k, []byte("new"))
			return s3mem.Response(200, nil, nil), nil
		}
		g.Must(t, c.method, c.path, c.query, nil, []byte(c.body))
		if a := g.Must(t, "GET", "/bucket/k", "", nil, nil); string(a.Body) != "new" {
			t.Errorf("%s ?%s: read %q after it", c.method, c.query, a.Body)
		}
	}
}

// TestPanicIsIsolated: one request fails, the next one is served.
//
// Scenarios: E33, S42.
func TestPanicIsIsolated(t *testing.T) {
	g := newRig(t, rules.Strict)
	g.up.Before = func(*cold.Request) (*http.Response, error) { panic("test") }
	if a := g.Must(t, "GET", "/bucket", "", nil, nil); a.Status != 500 || !strings.Contains(string(a.Body), "InternalError") {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	g.up.Before = nil
	g.up.Put(akigw.Key{Bucket: "bucket", Name: "k"}, []byte("x"))
	if a := g.Must(t, "GET", "/bucket/k", "", nil, nil); a.Status != 200 {
		t.Errorf("%d after a panic", a.Status)
	}
}

// TestEmptyBodyWithExpectGetsContinue: botocore depends on it.
func TestEmptyBodyWithExpectGetsContinue(t *testing.T) {
	g := newRig(t, rules.Strict)
	r, err := g.Request("PUT", "/bucket/empty", "", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "PUT /bucket/empty HTTP/1.1\r\nHost: %s\r\nX-Amz-Date: %s\r\nX-Amz-Content-Sha256: %s\r\nAuthorization: %s\r\nContent-Length: 0\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
		r.Host, r.Header.Get("X-Amz-Date"), r.Header.Get("X-Amz-Content-Sha256"), r.Header.Get("Authorization"))
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n") {
		t.Fatalf("%v %q", err, answer)
	}
}

// TestMethodsOfAllRoutes: a request without a signature is refused on every
// row of the table, and the upstream hears nothing of it.
//
// Scenarios: I4.
func TestEveryRouteNeedsASignature(t *testing.T) {
	g := newRig(t, rules.Exclusive)
	g.up.Put(akigw.Key{Bucket: "bucket", Name: "k"}, []byte("x"))
	g.Must(t, "GET", "/bucket/k", "", nil, nil) // cached: must make no difference
	g.up.Reset()
	for _, row := range allRoutes {
		for _, name := range []string{"k", "none"} {
			path := map[Level]string{ServiceLevel: "/", BucketLevel: "/bucket", ObjectLevel: "/bucket/" + name, AnyLevel: "/bucket"}[row.Level]
			status, code := 403, "AccessDenied"
			if row.Class == Refused {
				status, code = 501, "NotImplemented"
			}
			if row.Body == Form {
				status, code = 412, "PreconditionFailed" // it is none: TestFormMatrix
			}
			method := row.Method
			if method == "" {
				method = "PUT"
			}
			r, err := http.NewRequest(method, g.Endpoint+path+"?"+strings.Join(row.Query, "&"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if row.Header != "" {
				r.Header.Set(row.Header, "bucket/k")
			}
			a, err := g.Do(r)
			if err != nil || a.Status != status || a.Header.Get("X-Akigw-Cache") != "" || method != "HEAD" && !strings.Contains(string(a.Body), "<Code>"+code+"</Code>") {
				t.Errorf("%s %s: %v %+v", row.Op, path, err, a)
			}
		}
	}
	for _, kind := range []string{"GET", "HEAD", "PUT", "DELETE", "POST"} {
		if n := g.up.Count(kind); n != 0 {
			t.Errorf("%d %s reached the upstream", n, kind)
		}
	}
}

// hotGet is a GET of an object in memory without a network: by the handler, or as quick as most
// are answered.
func hotGet(t testing.TB, g *rig, size int, quick bool) (get func()) {
	name := fmt.Sprint("k", size)
	g.up.Put(akigw.Key{Bucket: "bucket", Name: name}, testkit.Bytes(1, size))
	handler := New(Options{Verifier: verifier(), Policies: rootOnly{}, Store: g.store, Upstream: g.up, Log: slog.New(slog.DiscardHandler)})
	r, err := g.Request("GET", "/bucket/"+name, "", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.URL, err = url.ParseRequestURI(r.URL.RequestURI()) // as a server sees it
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		w := nullWriter{h: http.Header{}}
		if !quick {
			handler.ServeHTTP(&w, r)
		} else if !handler.ServeLocal(&w, r) {
			t.Fatal("it is not answered quickly")
		}
		if w.status != 200 || w.n != size {
			t.Fatal(w.status, w.n)
		}
	}
}

func BenchmarkHotGet(b *testing.B) {
	g := newRig(b, rules.Exclusive)
	for _, size := range []int{4 << 10, 1 << 20} {
		hotGet(b, g, size, false)() // from the upstream
		for name, quick := range map[string]bool{"": false, "quick/": true} {
			get := hotGet(b, g, size, quick)
			b.Run(fmt.Sprint(name, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					get()
				}
			})
		}
	}
}

type nullWriter struct {
	h      http.Header
	status int
	n      int
}

func (w *nullWriter) Header() http.Header         { return w.h }
func (w *nullWriter) WriteHeader(s int)           { w.status = s }
func (w *nullWriter) Write(p []byte) (int, error) { w.n += len(p); return len(p), nil }

// TestTruncatedListing: a listing that the upstream cuts off does not end
// as if it were complete.
//
// Scenarios: A22.
func TestTruncatedListing(t *testing.T) {
	for _, length := range []int64{1000, -1} {
		g := newRig(t, rules.Strict)
		g.up.Before = func(*cold.Request) (*http.Response, error) {
			resp := s3mem.Response(200, nil, nil)
			resp.ContentLength = length
			resp.Body = io.NopCloser(io.MultiReader(strings.NewReader("<ListBucketResult><Contents>"), cutOff{}))
			return resp, nil
		}
		r, err := g.Request("GET", "/bucket", "list-type=2", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if a, err := g.Do(r); err == nil && a.Status != http.StatusServiceUnavailable {
			t.Errorf("length %d: a cut listing ended cleanly: %d %s", length, a.Status, a.Body)
		}
	}
}

// cutOff is a connection that breaks.
type cutOff struct{}

func (cutOff) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestClientDisconnectsMidUpload: nothing is stored, cached or left
// running (goleak looks).
//
// Scenarios: D13.
func TestClientDisconnectsMidUpload(t *testing.T) {
	g := newRig(t, rules.Exclusive)
	for i := range 20 {
		r, err := g.Request("PUT", "/bucket/k", "", http.Header{"X-Amz-Content-Sha256": {"UNSIGNED-PAYLOAD"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Body, r.ContentLength = io.NopCloser(io.MultiReader(bytes.NewReader(make([]byte, 50_000*i)), cutOff{})), 1_000_000
		if _, err := g.Do(r); err == nil {
			t.Error("a broken upload was answered")
		}
	}
	if a := g.Must(t, "GET", "/bucket/k", "", nil, nil); a.Status != 404 || g.up.Len() != 0 {
		t.Errorf("%d, %d objects", a.Status, g.up.Len())
	}
}

// TestSelfCopyWithNewMetadata: data and metadata entries both end.
//
// Scenarios: E28.
func TestSelfCopyWithNewMetadata(t *testing.T) {
	g := newRig(t, rules.Exclusive)
	k := akigw.Key{Bucket: "bucket", Name: "k"}
	etag := g.up.Put(k, []byte("same"))
	g.Must(t, "GET", "/bucket/k", "", nil, nil)
	g.Must(t, "HEAD", "/bucket/k", "", nil, nil)
	g.up.Before = func(r *cold.Request) (*http.Response, error) {
		if r.Method != "PUT" {
			return nil, nil
		}
		if r.Header.Get("X-Amz-Copy-Source") != "bucket/k" {
			t.Errorf("copy source %q", r.Header.Get("X-Amz-Copy-Source"))
		}
		o, _ := g.up.Get(k)
		o.ETag, o.Header = etag, http.Header{"X-Amz-Meta-Color": r.Header["X-Amz-Meta-Color"]}
		g.up.PutStored(k, o)
		return s3mem.Response(200, nil, []byte("<CopyObjectResult/>")), nil
	}
	g.Must(t, "PUT", "/bucket/k", "", http.Header{"X-Amz-Copy-Source": {"/bucket/k"}, "X-Amz-Metadata-Directive": {"REPLACE"}, "X-Amz-Meta-Color": {"blue"}}, nil)
	for _, method := range []string{"GET", "HEAD"} {
		if a := g.Must(t, method, "/bucket/k", "", nil, nil); a.Header.Get("X-Amz-Meta-Color") != "blue" {
			t.Errorf("%s has the old metadata", method)
		}
	}
}

// TestAwsChunkedIsNotStored and the case of metadata names is S3's.
//
// Scenarios: E18.
func TestAwsChunkedIsNotStored(t *testing.T) {
	for in, want := range map[string]string{"aws-chunked": "", "aws-chunked,gzip": "gzip", "gzip, AWS-Chunked": "gzip", "gzip": "gzip", "": ""} {
		if got := sigv4.WithoutChunked([]string{in}); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestHeaderCase: SDKs take the names of user metadata from the header names.
func TestHeaderCase(t *testing.T) {
	h := http.Header{"X-Amz-Meta-Color": {"a"}, "Etag": {"b"}, "Content-Type": {"c"}, "X-Amz-Request-Id": {"d"}}
	wireNames(h)
	for _, name := range []string{"x-amz-meta-color", "ETag", "Content-Type", "x-amz-request-id"} {
		if len(h[name]) != 1 {
			t.Errorf("no %s in %v", name, h)
		}
	}
}

// TestRefusedBeforeTheBody: a client that sends its whole request before it reads learns why the request was
// refused.
func TestRefusedBeforeTheBody(t *testing.T) {
	g := newRig(t, rules.Strict)
	file := make([]byte, 12<<20) // more than any buffer in between
	form := s3client.Upload{AccessKey: "nobody", Secret: "secret", Bucket: "bucket", Fields: [][2]string{{"key", "key"}}, File: file}.Body()
	for name, c := range map[string]struct {
		head string
		body []byte
		code string
	}{
		"a PUT without a signature":       {"PUT /bucket/key HTTP/1.1\r\nConnection: close\r\n", file, "AccessDenied"},
		"the same, kept alive":            {"PUT /bucket/key HTTP/1.1\r\n", file, "AccessDenied"},
		"a PUT that does not wait":        {"PUT /bucket/key HTTP/1.1\r\nExpect: 100-continue\r\n", file, "AccessDenied"},
		"a form with an unknown key":      {"POST /bucket HTTP/1.1\r\nConnection: close\r\nContent-Type: " + s3client.ContentType + "\r\n", form, "SignatureDoesNotMatch"},
		"a POST that no operation is for": {"POST /bucket/key?no-such HTTP/1.1\r\n", file, "AccessDenied"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", g.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			head := c.head + "Host: h\r\nContent-Length: " + strconv.Itoa(len(c.body)) + "\r\n\r\n"
			if _, err := conn.Write(append([]byte(head), c.body...)); err != nil {
				t.Fatalf("sending: %v", err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatalf("reading the answer: %v", err)
			}
			defer resp.Body.Close()
			if said, err := io.ReadAll(resp.Body); resp.StatusCode != 403 || !strings.Contains(string(said), "<Code>"+c.code+"<") || err != nil {
				t.Errorf("%d %s %v", resp.StatusCode, said, err)
			}
		})
	}
	if g.up.Len() != 0 {
		t.Errorf("%d objects were stored", g.up.Len())
	}
}
