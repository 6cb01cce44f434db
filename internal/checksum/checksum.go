// Package checksum implements the checksum algorithms of S3: their header names, sizes and hashes
// ("Checking object integrity" in the S3 user guide).
package checksum

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"net/http"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/minio/crc64nvme"
	"github.com/zeebo/xxh3"
)

// Algorithm is one checksum algorithm of S3.
type Algorithm struct {
	// Name is S3's name: "CRC32C".
	Name string
	// Header is the canonical header that carries a value: "X-Amz-Checksum-Crc32c".
	Header string
	// New starts a computation.
	New func() hash.Hash
	// Size is the length of a digest in bytes.
	Size int
	// Slow says that hashing takes longer than receiving: 0.3 to 2 ms of CPU per MiB, instead of
	// less than 0.1.
	Slow bool
}

// Algorithms are all algorithms, the most common first. A digest is sent as the base64 of its
// bytes, big-endian.
var Algorithms = []Algorithm{
	{"CRC64NVME", "X-Amz-Checksum-Crc64nvme", func() hash.Hash { return crc64nvme.New() }, 8, false},
	{"CRC32C", "X-Amz-Checksum-Crc32c", func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }, 4, false},
	{"CRC32", "X-Amz-Checksum-Crc32", func() hash.Hash { return crc32.NewIEEE() }, 4, false},
	{"SHA256", "X-Amz-Checksum-Sha256", sha256.New, 32, true},
	{"SHA1", "X-Amz-Checksum-Sha1", sha1.New, 20, true},
	{"SHA512", "X-Amz-Checksum-Sha512", sha512.New, 64, true},
	{"MD5", "X-Amz-Checksum-Md5", md5.New, 16, true},
	{"XXHASH64", "X-Amz-Checksum-Xxhash64", func() hash.Hash { return xxhash.New() }, 8, false},
	{"XXHASH3", "X-Amz-Checksum-Xxhash3", func() hash.Hash { return xxh3.New() }, 8, false},
	{"XXHASH128", "X-Amz-Checksum-Xxhash128", func() hash.Hash { return xxh3.New128() }, 16, false},
}

// ByHeader returns the algorithm for a header or trailer name, in any case.
func ByHeader(name string) (Algorithm, bool) {
	for _, a := range Algorithms {
		if strings.EqualFold(a.Header, name) {
			return a, true
		}
	}
	return Algorithm{}, false
}

// Parse decodes a header's value and checks its length.
func (a Algorithm) Parse(value string) ([]byte, bool) {
	raw, err := base64.StdEncoding.DecodeString(value)
	return raw, err == nil && len(raw) == a.Size
}

// EncodedLen returns the length of a value in a header, in bytes.
func (a Algorithm) EncodedLen() int { return base64.StdEncoding.EncodedLen(a.Size) }

// Digest is a running computation and the expected digest.
type Digest struct {
	hash.Hash
	Want []byte
	// By is the algorithm.
	By Algorithm
}

// OK reports whether the bytes written so far have the expected digest.
func (d *Digest) OK() bool { return string(d.Sum(nil)) == string(d.Want) }

// OfObject returns a digest with which the whole body of an object can be verified: a checksum in its
// headers of type FULL_OBJECT or, if md5ETag says that the upstream's ETags are MD5s, the MD5 in its
// ETag. It returns nil if there is none. A multipart ETag, a checksum without a type, and the ETag of
// an object encrypted with a KMS or customer key may not be digests of the body.
func OfObject(h http.Header, md5ETag bool) *Digest {
	if h.Get("X-Amz-Checksum-Type") == "FULL_OBJECT" {
		for _, a := range Algorithms {
			if want, ok := a.Parse(h.Get(a.Header)); ok {
				return &Digest{a.New(), want, a}
			}
		}
	}
	encryption := h.Get("X-Amz-Server-Side-Encryption")
	if !md5ETag || encryption != "" && encryption != "AES256" || h.Get("X-Amz-Server-Side-Encryption-Customer-Algorithm") != "" {
		return nil
	}
	want, ok := md5OfETag(h.Get("Etag"))
	if !ok {
		return nil
	}
	a, _ := ByHeader("X-Amz-Checksum-Md5")
	return &Digest{a.New(), want, a}
}

func md5OfETag(etag string) ([]byte, bool) {
	sum, err := hex.DecodeString(strings.Trim(etag, `"`))
	return sum, err == nil && len(sum) == md5.Size
}
