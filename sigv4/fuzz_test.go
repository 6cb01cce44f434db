package sigv4

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/s3client"
)

// atExampleTime signs a GET with a fixed time, so that all processes of a fuzz run sign the same
// request: workers create their own, but get seeds from another process.
func atExampleTime(target string, presign bool) *http.Request {
	u, _ := url.Parse(target)
	r := &http.Request{Method: "GET", URL: u, Host: u.Host, Header: http.Header{}}
	s3client.Signing{AccessKey: "key", Secret: "secretsecret", Time: exampleTime, Presign: presign}.Sign(r)
	return r
}

// FuzzHeaderAuth: whatever the Authorization header contains, a request is accepted only with the
// right signature.
func FuzzHeaderAuth(f *testing.F) {
	r := atExampleTime("http://127.0.0.1:9000/bucket/key", false)
	good := r.Header.Get("Authorization")
	_, signature, _ := strings.Cut(good, "Signature=")
	f.Add(good, r.Header.Get("X-Amz-Date"))
	f.Add(strings.ReplaceAll(good, ", ", ","), r.Header.Get("X-Amz-Date"))
	f.Add("AWS4-HMAC-SHA256 Credential=key/x/y/s3/aws4_request, SignedHeaders=host, Signature="+signature, "")
	f.Add("AWS key:signature", "Thu, 01 Jan 1970 00:00:00 GMT")
	f.Fuzz(func(t *testing.T, auth, date string) {
		v := verifier()
		v.Now = func() time.Time { return exampleTime }
		changed := r.Clone(t.Context())
		changed.Header.Set("Authorization", auth)
		changed.Header.Set("X-Amz-Date", date)
		id, _, err := verify(v, changed)
		if err == nil && (!strings.Contains(auth, signature) || date != r.Header.Get("X-Amz-Date") || id.AccessKey() != "key" || id.Place() != Header) {
			t.Fatalf("verified %q %q", auth, date)
		}
		if err != nil && id.Verified() {
			t.Fatal("an error and an identity")
		}
	})
}

// FuzzPresign: a query is accepted only if its parameters are the signed ones.
func FuzzPresign(f *testing.F) {
	r := atExampleTime("http://127.0.0.1:9000/bucket/key?response-content-type=a%2Fb", true)
	want := r.URL.Query().Encode()
	f.Add(r.URL.RawQuery)
	f.Add(r.URL.RawQuery + "&X-Amz-Security-Token=x")
	f.Add(strings.ReplaceAll(r.URL.RawQuery, "X-Amz-Expires=60", "X-Amz-Expires=604801"))
	f.Add("AWSAccessKeyId=key&Signature=x&Expires=1")
	f.Fuzz(func(t *testing.T, rawQuery string) {
		query, err := url.ParseQuery(rawQuery)
		if err != nil {
			return
		}
		v := verifier()
		v.Now = func() time.Time { return exampleTime }
		changed := &http.Request{Method: "GET", URL: &url.URL{Path: r.URL.Path, RawQuery: rawQuery}, Host: r.Host, Header: http.Header{}}
		id, _, err := v.Verify(changed, r.URL.Path, query)
		switch {
		case err == nil && id.Anonymous():
			for name := range query {
				if authenticates(name) {
					t.Fatalf("%q taken for anonymous", rawQuery)
				}
			}
		case err == nil && query.Encode() != want:
			t.Fatalf("verified %q", rawQuery)
		}
	})
}

// FuzzCanonicalRequest: the canonical request of a path and a query has one
// line each for them, in an encoding that decodes to what was signed.
func FuzzCanonicalRequest(f *testing.F) {
	f.Add("/bucket/a b+c%/ä", "prefix=a%20b&x=&y", "  two  spaces ")
	f.Add("//../%2F\n\x00", "a=1&a=2&A=3&a-b=4", "\t")
	f.Fuzz(func(t *testing.T, path, rawQuery, header string) {
		query, err := url.ParseQuery(rawQuery)
		if err != nil || strings.ContainsAny(header, "\r\n") {
			return
		}
		r := &http.Request{Method: "GET", Host: "h", Header: http.Header{"X-Amz-Meta-A": {header}}}
		lines := strings.Split(string(CanonicalRequest(r, path, query, []string{"host", "x-amz-meta-a"}, unsignedPayload)), "\n")
		if len(lines) != 8 || lines[0] != "GET" || lines[3] != "host:h" || lines[6] != "host;x-amz-meta-a" || lines[7] != unsignedPayload {
			t.Fatalf("%q", lines)
		}
		if decoded, err := url.PathUnescape(lines[1]); err != nil || decoded != path {
			t.Fatalf("path %q became %q", path, lines[1])
		}
		query.Del("X-Amz-Signature")
		if decoded, err := url.ParseQuery(lines[2]); err != nil || decoded.Encode() != sortedValues(query).Encode() {
			t.Fatalf("query %q became %q", rawQuery, lines[2])
		}
	})
}

func sortedValues(query url.Values) url.Values {
	parsed, _ := url.ParseQuery(string(appendQuery(nil, query)))
	return parsed
}

// chunked frames body in a mode, signed with a test key.
func chunked(mode Mode, chunks ...string) []byte {
	chain := &chunkChain{key: chunkKey, previous: "seed"}
	var b bytes.Buffer
	for _, c := range append(chunks, "") {
		fmt.Fprintf(&b, "%x", len(c))
		if mode != UnsignedTrailer {
			text := appendStringToSign(nil, "AWS4-HMAC-SHA256-PAYLOAD", "", "", "", service)
			sum := chunkKey.sum(append(text, chain.previous+"\n"+emptySHA256+"\n"+hexSHA256([]byte(c))...))
			chain.previous = hex.EncodeToString(sum[:])
			b.WriteString(";chunk-signature=" + chain.previous)
		}
		b.WriteString("\r\n")
		if c != "" {
			b.WriteString(c + "\r\n")
		}
	}
	if mode != StreamingSigned {
		b.WriteString("x-amz-checksum-crc32:AAAAAA==\r\n")
	}
	if mode == StreamingTrailer {
		text := appendStringToSign(nil, "AWS4-HMAC-SHA256-TRAILER", "", "", "", service)
		sum := chunkKey.sum(append(text, chain.previous+"\n"+hexSHA256([]byte("x-amz-checksum-crc32:AAAAAA==\n"))...))
		b.WriteString("x-amz-trailer-signature:" + hex.EncodeToString(sum[:]) + "\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

var chunkKey = &signingKey{raw: []byte("k")}

var chunkModes = []Mode{StreamingSigned, StreamingTrailer, UnsignedTrailer}

// openChunks reads wire as the body of a request of this mode.
func openChunks(t testing.TB, mode Mode, wire []byte, length int) *Payload {
	h := http.Header{"X-Amz-Decoded-Content-Length": {fmt.Sprint(length)}}
	if mode != StreamingSigned {
		h.Set("X-Amz-Trailer", "x-amz-checksum-crc32")
	}
	p := &Payload{Mode: mode, body: bytes.NewReader(wire)}
	if err := p.decodeChunks(h, mode, &chunkChain{key: chunkKey, previous: "seed"}, nil); err != nil {
		t.Fatal(err)
	}
	return p
}

// FuzzChunkReader: a signed body ends cleanly only if it matches the signature, an unsigned one only if
// it has the announced length.
func FuzzChunkReader(f *testing.F) {
	for i, mode := range chunkModes {
		f.Add(chunked(mode, "hello"), uint8(i))
		f.Add(chunked(mode, "he", "llo"), uint8(i))
	}
	f.Add([]byte("5;chunk-signature=00\r\nhello\r\n0;chunk-signature=00\r\n\r\n"), uint8(0))
	f.Add([]byte("ffffffffffffffff\r\nhello\r\n0\r\n\r\n"), uint8(2))
	f.Fuzz(func(t *testing.T, wire []byte, which uint8) {
		mode := chunkModes[int(which)%len(chunkModes)]
		got, err := io.ReadAll(openChunks(t, mode, wire, 5))
		switch {
		case err == nil && len(got) != 5:
			t.Fatalf("ended cleanly with %d bytes", len(got))
		case err == nil && mode != UnsignedTrailer && string(got) != "hello":
			t.Fatalf("nobody signed %q", got)
		}
	})
}

// TestCutAndChanged: a chunked body that is cut at any byte, or has any one
// byte changed where it is signed, does not end cleanly.
//
// Scenarios: S17, S18.
func TestCutAndChanged(t *testing.T) {
	for _, mode := range chunkModes {
		wire := chunked(mode, "he", "llo")
		if got, err := io.ReadAll(openChunks(t, mode, wire, 5)); err != nil || string(got) != "hello" {
			t.Fatalf("mode %d: %q %v", mode, got, err)
		}
		end := bytes.LastIndex(bytes.TrimRight(wire, "\r\n"), []byte("\r\n")) // start of the last line
		for n := range end {
			if _, err := io.ReadAll(openChunks(t, mode, wire[:n], 5)); err == nil {
				t.Errorf("mode %d: cut at %d of %d ended cleanly", mode, n, len(wire))
			}
		}
		if mode == UnsignedTrailer {
			continue
		}
		for n := range wire {
			changed := bytes.Clone(wire)
			changed[n] ^= 1
			if got, err := io.ReadAll(openChunks(t, mode, changed, 5)); err == nil && string(got) != "hello" {
				t.Errorf("mode %d: a change at %d gave %q", mode, n, got)
			}
		}
		wrong := openChunks(t, mode, wire, 5)
		wrong.body.(*chunkReader).chain.previous = "another seed"
		if _, err := io.ReadAll(wrong); err == nil {
			t.Errorf("mode %d: the seed signature does not matter", mode)
		}
	}
}
