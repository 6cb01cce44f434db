package gateway

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/access/policy"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/storekit"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/writeback"
)

// people are the keys of the matrix: one of each kind, and what they may do.
type people map[string]struct {
	credential sigv4.Credential
	rights     *policy.Policy
}

func (p people) Lookup(accessKey string) (sigv4.Credential, bool) {
	found, ok := p[accessKey]
	return found.credential, ok
}

func (p people) PolicyOf(id sigv4.Identity) *policy.Policy { return p[id.AccessKey()].rights }

// bench is a gateway that is called directly, over an upstream in memory.
type bench struct {
	g      *Gateway
	up     *s3mem.Memory
	store  *tiers.Store
	kit    *storekit.Kit        // nil without write-back
	writes *writeback.WriteBack // likewise
	place  *placement.Placement // nil for most
	// outcome, if set, is told of each answer's x-akigw-cache.
	outcome func(string)
}

// allRoutes is the table of operations, with handlers that nothing calls.
var allRoutes = routes(new(handlers))

func newBench(t testing.TB, keys sigv4.Keys, policies Policies) *bench {
	t.Helper()
	b := &bench{up: s3mem.New()}
	log := slog.New(slog.DiscardHandler)
	var err error
	b.store, err = newStore(tiers.Config{HotBytes: 16 << 20, WarmBytes: 64 << 20, BlockBytes: 64 << 10, SmallBytes: 4 << 10, MD5ETags: true, Freshness: rules.Exclusive},
		filepath.Join(t.TempDir(), "warm"), b.up, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.store.Close(); err != nil {
			t.Error(err)
		}
	})
	b.g = New(Options{Verifier: &sigv4.Verifier{Region: "us-east-1", Keys: keys}, Policies: policies, Store: b.store, Upstream: b.up, Log: log})
	return b
}

// memoryBench is a bench without a warm tier, over up if it is not nil, whose
// tenants' objects are treated by settings.
func memoryBench(t testing.TB, config tiers.Config, settings rules.Settings, up Upstream) *bench {
	t.Helper()
	return diskBench(t, "", s3mem.New(), config, settings, up)
}

// diskBench is a bench over the objects of memory, with a warm tier in dir if
// config has one.
func diskBench(t testing.TB, dir string, memory *s3mem.Memory, config tiers.Config, settings rules.Settings, up Upstream) *bench {
	t.Helper()
	b := &bench{up: memory}
	log := slog.New(slog.DiscardHandler)
	config.BlockBytes, config.SmallBytes, config.MD5ETags = 64<<10, 4<<10, true
	settings.Memory, settings.Block = true, 64<<10
	var err error
	if b.store, err = tiers.New(tiers.Options{Config: config, Rules: rules.NewSet(nil, settings), Dir: dir, Upstream: memory, Log: log}); err != nil {
		t.Fatal(err)
	}
	if up == nil {
		up = memory
	}
	b.g = newBenchGateway(b, up, tenants(t), log)
	return b
}

func newBenchGateway(b *bench, up Upstream, who people, log *slog.Logger) *Gateway {
	return New(Options{Verifier: &sigv4.Verifier{Region: "us-east-1", Keys: who}, Policies: who, Store: b.store, Upstream: up, Log: log})
}

// reconfigure replaces the gateway by one with other options.
func (b *bench) reconfigure(change func(*Options)) {
	o := b.g.options
	change(&o)
	b.g = New(o)
}

func keyOf(bucket, name string) akigw.Key { return akigw.Key{Bucket: bucket, Name: name} }

// answer serves r, as it came from a connection.
func (b *bench) answer(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	func() {
		defer func() { // an answer that is cut off
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				panic(p)
			}
		}()
		b.g.ServeHTTP(w, r)
	}()
	if b.outcome != nil {
		b.outcome(sentHeader(w, "x-akigw-cache"))
	}
	return w
}

// requestFor makes an unsigned request for a row of the routing table.
func requestFor(row *Route) (*http.Request, []byte) {
	path := map[Level]string{ServiceLevel: "/", BucketLevel: "/bucket", ObjectLevel: "/bucket/key", AnyLevel: "/bucket"}[row.Level]
	values := map[string]string{"partNumber": "1", "uploadId": "u", "list-type": "2", "select-type": "2", "id": "i"}
	query := url.Values{}
	for _, name := range row.Query {
		query.Set(name, values[name])
	}
	if row.Any {
		query.Set("unheard-of", "")
	}
	method := row.Method
	if method == "" {
		method = http.MethodPut
	}
	r := &http.Request{Method: method, URL: &url.URL{Path: path, RawQuery: query.Encode()}, Host: "s3.example.com", Header: http.Header{},
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "127.0.0.1:1"}
	if row.Header != "" {
		r.Header.Set(row.Header, "/bucket/source")
	}
	var body []byte
	switch {
	case row.Op == "DeleteObjects":
		body = []byte("<Delete><Object><Key>key</Key></Object></Delete>")
	case row.Op == "CompleteMultipartUpload":
		body = []byte("<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>")
	case row.Body != NoBody:
		body = []byte("<Document/>")
	}
	if row.Op == "DeleteObjects" {
		sum := md5.Sum(body)
		r.Header.Set("Content-Md5", base64.StdEncoding.EncodeToString(sum[:]))
	}
	return r, body
}

// cell is one request of the matrix.
type cell struct {
	row     *Route
	signing s3client.Signing
	r       *http.Request
}

// defect spoils a cell, before it is signed or after. Codes are what may be
// answered.
type defect struct {
	name   string
	before func(*cell)
	after  func(*cell)
	codes  []string
	only   func(*cell) bool // nil: for all
}

func header(c *cell) bool  { return !c.signing.Presign }
func presign(c *cell) bool { return c.signing.Presign }
func streaming(c *cell) bool {
	return strings.HasPrefix(c.signing.Payload, "STREAMING-")
}
func chained(c *cell) bool {
	return streaming(c) && c.signing.Payload != "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
}
func trailing(c *cell) bool { return strings.HasSuffix(c.signing.Payload, "-TRAILER") }

// swap replaces text in the signature of a request, wherever that is.
func swap(old, new string) func(*cell) {
	return func(c *cell) {
		if a := c.r.Header.Get("Authorization"); a != "" {
			c.r.Header.Set("Authorization", strings.Replace(a, old, new, 1))
			return
		}
		q := c.r.URL.Query()
		for name := range q {
			q.Set(name, strings.Replace(q.Get(name), old, new, 1))
		}
		c.r.URL.RawQuery = q.Encode()
	}
}

// signature changes the signature itself.
func signature(change func(string) string) func(*cell) {
	return func(c *cell) {
		if head, sig, ok := strings.Cut(c.r.Header.Get("Authorization"), "Signature="); ok {
			c.r.Header.Set("Authorization", head+"Signature="+change(sig))
			return
		}
		q := c.r.URL.Query()
		q.Set("X-Amz-Signature", change(q.Get("X-Amz-Signature")))
		c.r.URL.RawQuery = q.Encode()
	}
}

func bodyOf(change func([]byte) []byte) func(*cell) {
	return func(c *cell) {
		raw, _ := io.ReadAll(c.r.Body) // memory
		s3client.SetBody(c.r, change(raw))
	}
}

const (
	denied    = "AccessDenied"
	mismatch  = "SignatureDoesNotMatch"
	malformed = "AuthorizationHeaderMalformed"
	badQuery  = "AuthorizationQueryParametersError"
)

var defects = []defect{
	{name: "no credentials", after: func(c *cell) {
		c.r.Header.Del("Authorization")
		q := c.r.URL.Query()
		for name := range q {
			if strings.HasPrefix(name, "X-Amz-") {
				q.Del(name)
			}
		}
		c.r.URL.RawQuery = q.Encode()
	}, codes: []string{denied}},
	{name: "wrong secret", before: func(c *cell) { c.signing.Secret = "another-secret" }, codes: []string{mismatch}},
	{name: "unknown key", before: func(c *cell) { c.signing.AccessKey = "nobody" }, codes: []string{mismatch}},
	{name: "a key without rights", before: func(c *cell) { c.signing.AccessKey = "powerless" }, codes: []string{denied}},
	{name: "a key with rights elsewhere", before: func(c *cell) { c.signing.AccessKey = "neighbour" }, codes: []string{denied}},
	{name: "a digit of the signature", after: signature(func(s string) string {
		return s[:len(s)-1] + map[bool]string{true: "0", false: "1"}[s[len(s)-1] != '0']
	}), codes: []string{mismatch}},
	{name: "half a signature", after: signature(func(s string) string { return s[:32] }), codes: []string{mismatch}},
	{name: "a signature in capitals", after: signature(func(s string) string { return strings.ToUpper(s) + "G" }), codes: []string{mismatch}},
	{name: "an empty signature", after: signature(func(string) string { return "" }), codes: []string{malformed, badQuery}},
	{name: "another region", before: func(c *cell) { c.signing.Region = "eu-west-1" }, codes: []string{malformed, badQuery}},
	{name: "another service", before: func(c *cell) { c.signing.Service = "s3tables" }, codes: []string{malformed, badQuery}},
	{name: "another terminator", before: func(c *cell) { c.signing.Terminator = "aws4_other" }, codes: []string{malformed, badQuery}},
	{name: "another day in the scope", before: func(c *cell) { c.signing.Day = "20200101" }, codes: []string{malformed, badQuery}},
	{name: "a slash too many in the scope", before: func(c *cell) { c.signing.AccessKey += "/x" }, codes: []string{malformed, badQuery}},
	{name: "an hour old", before: func(c *cell) { c.signing.Time = time.Now().Add(-time.Hour) }, codes: []string{"RequestTimeTooSkewed", denied}},
	{name: "an hour ahead", before: func(c *cell) { c.signing.Time = time.Now().Add(time.Hour) }, codes: []string{"RequestTimeTooSkewed", denied}},
	{name: "a date that is none", before: func(c *cell) { c.signing.Date = "20261341T000000Z" }, codes: []string{denied, badQuery}},
	{name: "a date with a fraction", before: func(c *cell) { c.signing.Date = time.Now().UTC().Format("20060102T150405.0Z") }, codes: []string{denied, badQuery}},
	{name: "no date", after: func(c *cell) { c.r.Header.Del("X-Amz-Date"); del(c, "X-Amz-Date") }, codes: []string{denied, badQuery}},
	{name: "algorithm none", before: func(c *cell) { c.signing.Algorithm = "none" }, codes: []string{"InvalidArgument", badQuery}},
	{name: "S6 version 4A", before: func(c *cell) { c.signing.Algorithm = "AWS4-ECDSA-P256-SHA256" }, codes: []string{"InvalidRequest", badQuery}},
	{name: "S6 version 2", after: func(c *cell) {
		c.r.Header.Set("Authorization", "AWS root:AAAAAAAAAAAAAAAAAAAAAAAAAAA=")
		for name := range c.r.URL.Query() {
			if strings.HasPrefix(name, "X-Amz-") {
				del(c, name)
			}
		}
	}, codes: []string{"InvalidRequest"}},
	{name: "S4 a second mechanism", after: func(c *cell) {
		if c.signing.Presign {
			c.r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x")
		} else {
			c.r.URL.RawQuery += "&X-Amz-Signature=x"
		}
	}, codes: []string{"InvalidArgument"}},
	{name: "S5 a credential twice", after: func(c *cell) {
		if c.signing.Presign {
			c.r.URL.RawQuery += "&X-Amz-Credential=x"
		} else {
			c.r.Header.Add("Authorization", "x")
		}
	}, codes: []string{"InvalidArgument"}},
	{name: "S5 a signed header twice", after: func(c *cell) { c.r.Header.Add("X-Amz-Date", "x") }, only: header, codes: []string{"InvalidArgument"}},
	{name: "S12 another host", after: func(c *cell) { c.r.Host = "evil.example.com" }, codes: []string{mismatch}},
	{name: "another path", after: func(c *cell) { c.r.URL.Path += "x" }, only: func(c *cell) bool { return c.row.Level != ServiceLevel }, codes: []string{mismatch}},
	{name: "S13 a parameter more", after: func(c *cell) { c.r.URL.RawQuery += "&more=1" }, codes: []string{mismatch}},
	{name: "another method", after: func(c *cell) {
		c.r.Method = map[bool]string{true: http.MethodDelete, false: http.MethodPut}[c.r.Method != http.MethodDelete]
	}, codes: []string{mismatch}},
	{name: "S11 an unsigned x-amz-acl", after: func(c *cell) { c.r.Header.Set("X-Amz-Acl", "public-read") }, codes: []string{denied}},
	{name: "S11 an unsigned x-amz-copy-source", after: func(c *cell) {
		c.r.Header.Set(copySourceHeader, "/bucket/secret")
	}, only: func(c *cell) bool { return c.row.Header == "" }, codes: []string{denied}},
	{name: "S11 an unsigned content MD5", after: func(c *cell) { c.r.Header.Set("Content-Md5", "1B2M2Y8AsgTpgAmY7PhCfg==") },
		only: func(c *cell) bool { return header(c) && c.row.Op != "DeleteObjects" }, codes: []string{denied}}, // that one signs its own
	{name: "S11 the host unsigned", before: func(c *cell) { c.signing.SignedHeaders = []string{"x-amz-content-sha256", "x-amz-date"} }, codes: []string{denied}},
	{name: "S11 signed headers in disorder", after: swap("host", "zzz;host"), codes: []string{malformed, badQuery}},
	{name: "S15 no declared payload", after: func(c *cell) { c.r.Header.Del("X-Amz-Content-Sha256") }, only: header, codes: []string{"InvalidRequest"}},
	{name: "S15 an unknown payload mode", before: func(c *cell) { c.signing.Payload = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD" }, codes: []string{"InvalidArgument"}},
	{name: "S19 a token for a lasting key", before: func(c *cell) { c.signing.Token = "token" }, codes: []string{"InvalidToken"}},
	{name: "S19 a temporary key without its token", before: func(c *cell) { c.signing.AccessKey = "temporary" }, codes: []string{"InvalidToken"}},
	{name: "S19 a temporary key with another's token", before: func(c *cell) { c.signing.AccessKey, c.signing.Token = "temporary", "other" }, codes: []string{"InvalidToken"}},
	{name: "S19 an expired key", before: func(c *cell) { c.signing.AccessKey, c.signing.Token = "expired", "token" }, codes: []string{"ExpiredToken"}},
	{name: "S10 no expiry", after: func(c *cell) { del(c, "X-Amz-Expires") }, only: presign, codes: []string{badQuery}},
	{name: "S10 expires after 0 seconds", before: func(c *cell) { c.signing.Expires = "0" }, only: presign, codes: []string{denied}},
	{name: "S10 expires after 8 days", before: func(c *cell) { c.signing.Expires = "691200" }, only: presign, codes: []string{badQuery}},
	{name: "S10 an overflowing expiry", before: func(c *cell) { c.signing.Expires = "9223372036854775808" }, only: presign, codes: []string{badQuery}},
	{name: "S16 another body", after: bodyOf(func(b []byte) []byte { return append(b[:len(b)-1:len(b)-1], b[len(b)-1]^1) }),
		only: func(c *cell) bool {
			return c.signing.Payload == "" && !c.signing.Presign && len(c.signing.Body) > 0 && c.row.Class != Refused
		},
		codes: []string{"XAmzContentSHA256Mismatch", "BadDigest"}},
	{name: "S17 a chunk signature", after: bodyOf(func(b []byte) []byte {
		b[bytes.IndexByte(b, '=')+1] ^= 1
		return b
	}), only: chained, codes: []string{mismatch}},
	{name: "S17 a chunk signature that is too long", after: bodyOf(func(b []byte) []byte {
		return bytes.Replace(b, []byte("chunk-signature="), []byte("chunk-signature=0"), 1)
	}), only: chained, codes: []string{"IncompleteBody"}},
	{name: "S17 another chunk", after: bodyOf(func(b []byte) []byte { return bytes.Replace(b, []byte("<Document"), []byte("<document"), 1) }), only: streaming,
		codes: []string{mismatch, "BadDigest"}},
	{name: "S17 no last chunk", after: bodyOf(func(b []byte) []byte { return b[:bytes.LastIndex(b, []byte("\r\n0"))+2] }), only: streaming, codes: []string{"IncompleteBody"}},
	{name: "S17 a chunk of 2^60 bytes", after: bodyOf(func(b []byte) []byte {
		return append([]byte("1000000000000000"), b[bytes.IndexAny(b, ";\r"):]...)
	}), only: streaming, codes: []string{"IncompleteBody", "InvalidRequest"}},
	{name: "S18 another trailer", after: bodyOf(func(b []byte) []byte {
		i := bytes.Index(b, []byte("sha256:")) + 7
		c := bytes.Clone(b)
		c[i] = map[bool]byte{true: 'A', false: 'B'}[c[i] != 'A']
		return c
	}), only: trailing, codes: []string{mismatch, "BadDigest"}},
	{name: "S18 no trailer", after: bodyOf(func(b []byte) []byte { return append(b[:bytes.Index(b, []byte("x-amz-checksum")):len(b)], "\r\n"...) }), only: trailing, codes: []string{"MalformedTrailerError"}},
	{name: "S18 an end in the middle of the trailer", after: bodyOf(func(b []byte) []byte { return b[:len(b)-2] }), only: trailing, codes: []string{"IncompleteBody"}},
	{name: "S18 a trailer that was not announced", after: bodyOf(func(b []byte) []byte {
		return bytes.Replace(b, []byte("x-amz-checksum-sha256"), []byte("x-amz-meta-evil"), 1)
	}), only: trailing, codes: []string{"MalformedTrailerError"}},
}

func del(c *cell, name string) {
	q := c.r.URL.Query()
	q.Del(name)
	c.r.URL.RawQuery = q.Encode()
}

// payloads are the values of x-amz-content-sha256 to try; "" is the digest, or
// nothing in a presigned URL.
var payloads = map[string]sigv4.Mode{
	"": sigv4.Digest, "UNSIGNED-PAYLOAD": sigv4.Unsigned, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD": sigv4.StreamingSigned,
	"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": sigv4.StreamingTrailer, "STREAMING-UNSIGNED-PAYLOAD-TRAILER": sigv4.UnsignedTrailer,
}

// TestT7_S15_AuthMatrix walks operation x payload mode x place x defect. Every
// defect is answered with its code and changes nothing anywhere; without a
// defect the verdict of the table holds, and what it admits gets through.
//
// Scenarios: S15.
func TestT7_S15_AuthMatrix(t *testing.T) {
	p := testkit.Prove(t, "T7")
	const secret = "secret-of-everybody"
	nothing, err := policy.Parse([]byte(`{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := policy.Parse([]byte(`{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":["arn:aws:s3:::bucket2","arn:aws:s3:::bucket2/*","arn:aws:s3:::bucket/kez*"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	everybody := people{
		"root":      {sigv4.Credential{Secret: secret}, policy.Everything},
		"powerless": {sigv4.Credential{Secret: secret}, nothing},
		"neighbour": {sigv4.Credential{Secret: secret}, elsewhere},
		"temporary": {sigv4.Credential{Secret: secret, Token: "token", Expires: time.Now().Add(time.Hour)}, policy.Everything},
		"expired":   {sigv4.Credential{Secret: secret, Token: "token", Expires: time.Now().Add(-time.Hour)}, policy.Everything},
	}
	b := newBench(t, everybody, everybody)
	key := akigw.Key{Bucket: "bucket", Name: "key"}
	b.up.Put(key, []byte("cached"))
	sign := func(row *Route, s s3client.Signing, d *defect) *cell {
		c := &cell{row: row, signing: s}
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
	get := &allRoutes[0]
	cells, admitted, refusedModes := 0, 0, 0
	for i := range allRoutes {
		row := &allRoutes[i]
		if row.Body == Form {
			continue // it has no such credentials: TestFormMatrix
		}
		for payload, mode := range payloads {
			for _, place := range []sigv4.Place{sigv4.Header, sigv4.Query} {
				if mode != sigv4.Digest && row.Body != Content && i > 0 && row.Op != "DeleteObjects" && row.Op != "ListObjectsV2" {
					continue // the verdict depends on the kind of the body alone
				}
				s := s3client.Signing{AccessKey: "root", Secret: secret, Payload: payload, Presign: place == sigv4.Query}
				// Cached, so that a change that gets through by mistake shows.
				b.answer(sign(get, s3client.Signing{AccessKey: "root", Secret: secret}, nil).r)
				usage := b.store.Usage()
				b.up.Reset()
				for d := range defects {
					d := &defects[d]
					if d.only != nil && !d.only(&cell{row: row, signing: withBody(row, s)}) {
						continue
					}
					if row.Class == Refused && (slices.Contains(d.codes, denied) && len(d.codes) == 1) {
						continue // answered with 501 to everybody
					}
					if !row.admits(place, verdictMode(place, mode)) && (strings.HasPrefix(d.name, "S17") || strings.HasPrefix(d.name, "S18")) {
						continue // its body is not read at all
					}
					if row.Op == "DeleteObjects" && strings.HasPrefix(d.name, "a key with") {
						continue // each key of the document is answered for by itself: TestS26
					}
					cells++
					w := b.answer(sign(row, s, d).r)
					code := codeOf(w)
					if w.Code != 400 && w.Code != 403 || row.Method != http.MethodHead && !slices.Contains(d.codes, code) {
						t.Errorf("%s, %q in place %d, with %s: %d %s, want one of %v", row.Op, payload, place, d.name, w.Code, code, d.codes)
					}
				}
				for _, kind := range []string{"GET", "HEAD", "PUT", "POST", "DELETE"} {
					if n := b.up.Count(kind); n != 0 {
						t.Errorf("%s, %q in place %d: %d %s reached the upstream", row.Op, payload, place, n, kind)
					}
				}
				if now := b.store.Usage(); now.HotValues != usage.HotValues || now.HotBytes != usage.HotBytes {
					t.Errorf("%s, %q in place %d: the cache changed from %+v to %+v", row.Op, payload, place, usage, now)
				}
				if w := b.answer(sign(get, s3client.Signing{AccessKey: "root", Secret: secret}, nil).r); w.Header().Get("x-akigw-cache") != "" && w.Header()["x-akigw-cache"][0] != "hot" {
					t.Errorf("%s, %q in place %d: the cached object is gone", row.Op, payload, place)
				}
				// Without a defect.
				b.up.Put(key, []byte("cached"))
				w := b.answer(sign(row, s, nil).r)
				switch {
				case row.Class == Refused:
					if w.Code != 501 {
						t.Errorf("%s is refused, with %d", row.Op, w.Code)
					}
				case !row.admits(place, verdictMode(place, mode)):
					refusedModes++
					if w.Code != 400 || row.Method != http.MethodHead && codeOf(w) != "InvalidRequest" {
						t.Errorf("%s, %q in place %d is not admitted, and answered with %d %s", row.Op, payload, place, w.Code, codeOf(w))
					}
				default:
					admitted++
					reached := w.Header()["x-akigw-cache"] != nil
					for _, kind := range []string{"GET", "HEAD", "PUT", "POST", "DELETE"} {
						reached = reached || b.up.Count(kind) > 0
					}
					if !reached {
						t.Errorf("%s, %q in place %d did not get through: %d %s", row.Op, payload, place, w.Code, w.Body)
					}
				}
			}
		}
	}
	for name, n := range map[string]int{"cells": cells, "defects": len(defects), "admitted without a defect": admitted, "modes refused": refusedModes} {
		p.Figure(name, n)
	}
	if cells < 5000 || admitted < 200 || refusedModes < 10 || len(defects) < 30 {
		t.Errorf("the matrix is not what it should be: %d cells, %d defects, %d admitted, %d modes refused", cells, len(defects), admitted, refusedModes)
	}
}

// verdictMode is the mode that the gateway sees: a presigned URL that declares
// nothing is unsigned.
func verdictMode(place sigv4.Place, mode sigv4.Mode) sigv4.Mode {
	if place == sigv4.Query && mode == sigv4.Digest {
		return sigv4.Unsigned
	}
	return mode
}

func withBody(row *Route, s s3client.Signing) s3client.Signing {
	_, s.Body = requestFor(row)
	return s
}

func codeOf(w *httptest.ResponseRecorder) string {
	_, rest, _ := strings.Cut(w.Body.String(), "<Code>")
	code, _, _ := strings.Cut(rest, "</Code>")
	if code == "" {
		return fmt.Sprintf("no code in %.100q", w.Body)
	}
	return code
}
