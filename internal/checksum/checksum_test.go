package checksum

import (
	"net/http"
	"testing"
)

// TestA13_WhatIsADigestOfTheBody: only what is one for certain.
func TestA13_WhatIsADigestOfTheBody(t *testing.T) {
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

func TestAlgorithms(t *testing.T) {
	// The digests of "hello", as other tools print them.
	for name, want := range map[string]string{
		"X-Amz-Checksum-Crc32": "NhCmhg==", "x-amz-checksum-crc32c": "mnG7TA==", "X-AMZ-CHECKSUM-SHA1": "qvTGHdzF6KLavt4PO0gs2a6pQ00=",
		"x-amz-checksum-sha256": "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=",
	} {
		a, ok := ByHeader(name)
		if !ok {
			t.Fatal(name)
		}
		wanted, ok := a.Parse(want)
		d := Digest{a.New(), wanted}
		d.Write([]byte("hello"))
		if !ok || !d.OK() || a.EncodedLen() != len(want) {
			t.Errorf("%s: %t %x", name, ok, d.Sum(nil))
		}
	}
	if _, ok := ByHeader("x-amz-checksum-md5"); ok {
		t.Error("there is no such checksum")
	}
}
