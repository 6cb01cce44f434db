package checksum

import (
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"testing"
)

// TestWhatIsADigestOfTheBody: only headers that certainly have a digest of the body are used.
//
// Scenarios: A13.
func TestWhatIsADigestOfTheBody(t *testing.T) {
	const md5OfHello, crcOfHello = `"5d41402abc4b2a76b9719d911017c592"`, "NhCmhg=="
	for _, c := range []struct {
		name string
		h    http.Header
		md5  bool
		want bool // a digest of "hello"
	}{
		{"MD5 ETag", http.Header{"Etag": {md5OfHello}}, true, true},
		{"MD5 ETag of a service that makes none", http.Header{"Etag": {md5OfHello}}, false, false},
		{"multipart ETag", http.Header{"Etag": {`"5d41402abc4b2a76b9719d911017c592-2"`}}, true, false},
		{"opaque ETag", http.Header{"Etag": {`"v17"`}}, true, false},
		{"encrypted by S3", http.Header{"Etag": {md5OfHello}, "X-Amz-Server-Side-Encryption": {"AES256"}}, true, true},
		{"encrypted by KMS", http.Header{"Etag": {md5OfHello}, "X-Amz-Server-Side-Encryption": {"aws:kms"}}, true, false},
		{"encrypted with the client's key", http.Header{"Etag": {md5OfHello}, "X-Amz-Server-Side-Encryption-Customer-Algorithm": {"AES256"}}, true, false},
		{"full-object checksum", http.Header{"Etag": {`"x-2"`}, "X-Amz-Checksum-Crc32": {crcOfHello}, "X-Amz-Checksum-Type": {"FULL_OBJECT"}}, true, true},
		{"composite checksum", http.Header{"Etag": {`"x-2"`}, "X-Amz-Checksum-Crc32": {crcOfHello}, "X-Amz-Checksum-Type": {"COMPOSITE"}}, true, false},
		{"checksum of nobody knows what", http.Header{"Etag": {`"x-2"`}, "X-Amz-Checksum-Crc32": {crcOfHello}}, true, false},
		{"nothing", http.Header{}, true, false},
	} {
		d := OfObject(c.h, c.md5)
		if (d != nil) != c.want {
			t.Errorf("%s: a digest: %t", c.name, d != nil)
			continue
		}
		if d != nil {
			d.Write([]byte("hello"))
			if !d.OK() {
				t.Errorf("%s: does not match", c.name)
			}
			d.Write([]byte("!"))
			if d.OK() {
				t.Errorf("%s: matches another body", c.name)
			}
		}
	}
}

// TestAlgorithms: each algorithm computes a published test vector.
func TestAlgorithms(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range []struct{ header, text, want string }{
		{"X-Amz-Checksum-Crc32", "hello", "NhCmhg=="},
		{"x-amz-checksum-crc32c", "hello", "mnG7TA=="},
		{"X-AMZ-CHECKSUM-SHA1", "hello", "qvTGHdzF6KLavt4PO0gs2a6pQ00="},
		{"x-amz-checksum-sha256", "hello", "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="},
		{"x-amz-checksum-sha512", "hello", ofHex("9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca72323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043")},
		{"x-amz-checksum-md5", "hello", "XUFAKrxLKna5cZ2REBfFkg=="},
		{"x-amz-checksum-crc64nvme", "123456789", ofHex("ae8b14860a799888")},
		{"x-amz-checksum-xxhash64", "Hello world", ofHex("c500b0c912b376d8")},
		{"x-amz-checksum-xxhash3", "", ofHex("2d06800538d394c2")},
		{"x-amz-checksum-xxhash128", "", ofHex("99aa06d3014798d86001c324468d497f")},
	} {
		a, ok := ByHeader(c.header)
		if !ok {
			t.Fatal(c.header)
		}
		seen[a.Name] = true
		wanted, ok := a.Parse(c.want)
		d := Digest{a.New(), wanted, a}
		d.Write([]byte(c.text))
		if !ok || !d.OK() || a.EncodedLen() != len(c.want) {
			t.Errorf("%s: %t %x", c.header, ok, d.Sum(nil))
		}
	}
	if len(seen) != len(Algorithms) {
		t.Errorf("%d of %d algorithms were tried", len(seen), len(Algorithms))
	}
	if _, ok := ByHeader("x-amz-checksum-mode"); ok {
		t.Error("there is no such checksum")
	}
}

func ofHex(digits string) string {
	raw, _ := hex.DecodeString(digits) // an invalid digit gives a wrong value, which the test reports
	return base64.StdEncoding.EncodeToString(raw)
}
