// Package akigw holds the vocabulary that the packages of the gateway share: keys, objects, byte
// ranges, outcomes and the sentinel errors that callers decide on. It knows the terms of S3 and
// HTTP and nothing else: no network, no disk, no library beyond the standard one.
//
// docs/architecture.md defines the terms. The packages below it (gateway, tiers, admin, ...) import
// this package; it imports none of them.
package akigw

import (
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxKeyBytes is the longest object key in bytes (S3: "Object key naming").
const MaxKeyBytes = 1024

// MaxObjectBytes is the largest body of one PutObject or UploadPart (5 GiB).
const MaxObjectBytes = 5 << 30

// Key names one object: a bucket and the key's bytes, exactly as the client
// sent them after one round of percent-decoding. It is never a file path and
// is never cleaned: "a//b", "../x" and "a/" are three ordinary keys.
type Key struct {
	Bucket string
	Name   string
	// Version is a version ID, "" for the current version. The upstream chooses it; it is opaque
	// and never contains a NUL.
	Version string
}

// String renders the key for logs and messages. The result cannot be parsed back.
func (k Key) String() string {
	if k.Version != "" {
		return k.Bucket + "/" + strconv.Quote(k.Name) + "?versionId=" + strconv.Quote(k.Version)
	}
	return k.Bucket + "/" + strconv.Quote(k.Name)
}

// Current returns the key without its version ID.
func (k Key) Current() Key { return Key{Bucket: k.Bucket, Name: k.Name} }

// CheckKeyName returns ErrKeyTooLong for more than MaxKeyBytes bytes and
// ErrInvalidKey for names that S3 cannot hold: invalid UTF-8 or a NUL.
func CheckKeyName(name string) error {
	switch {
	case len(name) > MaxKeyBytes:
		return ErrKeyTooLong
	case !utf8.ValidString(name) || strings.IndexByte(name, 0) >= 0:
		return ErrInvalidKey
	}
	return nil
}

// CheckBucketName applies S3's "General purpose bucket naming rules": 3 to 63
// bytes of a-z, 0-9, "." and "-", first and last alphanumeric, no "..", not
// formatted as an IP address, none of the reserved prefixes and suffixes. It
// returns ErrInvalidBucketName or nil.
func CheckBucketName(name string) error {
	if len(name) < 3 || len(name) > 63 || !alphanumeric(name[0]) || !alphanumeric(name[len(name)-1]) {
		return ErrInvalidBucketName
	}
	dotsOrDigits := true
	for i := range len(name) {
		c := name[i]
		if !alphanumeric(c) && c != '-' && c != '.' || c == '.' && name[i-1] == '.' {
			return ErrInvalidBucketName
		}
		dotsOrDigits = dotsOrDigits && (c == '.' || '0' <= c && c <= '9')
	}
	if dotsOrDigits && strings.Count(name, ".") == 3 {
		return ErrInvalidBucketName
	}
	for _, prefix := range [...]string{"xn--", "sthree-"} { // reserved by S3, like the suffixes
		if strings.HasPrefix(name, prefix) {
			return ErrInvalidBucketName
		}
	}
	for _, suffix := range [...]string{"-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"} {
		if strings.HasSuffix(name, suffix) {
			return ErrInvalidBucketName
		}
	}
	return nil
}

func alphanumeric(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// Object describes one version of a key.
type Object struct {
	Key Key
	// Generation is the number that this gateway assigned when it learned of the version.
	// Generations rise: a higher one is newer information.
	Generation uint64
	Size       int64 // bytes
	// ETag is the entity tag with its quotes, as the upstream sent it.
	ETag string
	// LastModified is the upstream's Last-Modified, zero if it is not known yet.
	LastModified time.Time
	// Header holds the representation headers of the upstream's response (Content-Type,
	// x-amz-meta-*, x-amz-checksum-*, ...) with canonical names. All readers share it; it must not
	// be changed. Nil means that the headers are not known yet, as for an object that was just
	// written.
	Header http.Header
}

// VersionID is the x-amz-version-id of the object, "" in an unversioned bucket.
func (o *Object) VersionID() string { return first(o.Header["X-Amz-Version-Id"]) }

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// Outcome says which tier a response was served from. It is the value of the x-akigw-cache response
// header.
type Outcome string

// The outcomes. A response that needed more than one tier is named after the slowest of them.
const (
	Hot     Outcome = "hot"     // memory
	Warm    Outcome = "warm"    // local disk
	Cold    Outcome = "cold"    // the upstream, filling the cache on the way
	Overlay Outcome = "overlay" // the journal: acknowledged, but not in the upstream yet
	Stale   Outcome = "stale"   // a tier, while the upstream could not be reached to validate
	Bypass  Outcome = "bypass"  // the upstream, without using the cache
)

// CatalogEntry describes one cached object: its version, which tiers hold its bytes, and how it is
// used.
type CatalogEntry struct {
	Object      // without Header
	ContentType string
	// Tier is the fastest tier that holds all of the bytes: Hot, Warm or Cold.
	Tier Outcome
	// HotBytes and WarmBytes are how many of its bytes are in memory and on disk.
	HotBytes, WarmBytes int64
	Pinned              bool
	// LastAccess is the time of the last read or write, zero if unknown.
	LastAccess time.Time
	// Recent is the approximate number of reads in the policy's window, Accesses that of all
	// counted reads.
	Recent   uint32
	Accesses uint64
}

// Range is a resolved byte range: Length bytes from Start.
type Range struct {
	Start, Length int64
}

// End is the offset after the last byte.
func (r Range) End() int64 { return r.Start + r.Length }

// ContentRange is the value of the Content-Range header (RFC 9110 §14.4) of a
// 206 with this range of size bytes.
func (r Range) ContentRange(size int64) string {
	return "bytes " + strconv.FormatInt(r.Start, 10) + "-" + strconv.FormatInt(r.End()-1, 10) + "/" + strconv.FormatInt(size, 10)
}

// RangeSpec is one byte range of a Range header that is not yet resolved
// against a size (RFC 9110 §14.1.2). The zero value is "the whole object".
type RangeSpec struct {
	set         bool
	first, last int64 // last < 0: up to the end. first < 0: the last `last` bytes.
	part        int
	checksum    bool // the part's own checksum is wanted
}

// PartSpec selects one part of an object by its number (GetObject, partNumber). checksum says that the
// part's own checksum is wanted (x-amz-checksum-mode), which only the upstream knows, as it knows the
// ranges of most parts.
func PartSpec(number int, checksum bool) RangeSpec {
	return RangeSpec{part: number, checksum: checksum}
}

// Part is the number of the requested part, 0 for none.
func (r RangeSpec) Part() int { return r.part }

// Checksum reports whether the checksum of the requested part is wanted.
func (r RangeSpec) Checksum() bool { return r.checksum }

// ParseRange parses a Range header as S3 does: anything other than exactly one syntactically valid
// bytes range (RFC 9110 §14.1.1) is ignored and selects the whole object.
func ParseRange(header string) RangeSpec {
	spec, ok := strings.CutPrefix(header, "bytes=")
	if !ok {
		return RangeSpec{}
	}
	from, to, ok := strings.Cut(spec, "-")
	if !ok {
		return RangeSpec{}
	}
	first, hasFirst, ok1 := parseOffset(from)
	last, hasLast, ok2 := parseOffset(to)
	switch {
	case !ok1 || !ok2 || !hasFirst && !hasLast:
		return RangeSpec{}
	case !hasFirst:
		return RangeSpec{set: true, first: -1, last: last}
	case !hasLast:
		return RangeSpec{set: true, first: first, last: -1}
	case last < first:
		return RangeSpec{}
	}
	return RangeSpec{set: true, first: first, last: last}
}

func parseOffset(s string) (n int64, present, ok bool) {
	if s == "" {
		return 0, false, true
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil { // larger than int64: after the end of any object
		return 1<<63 - 1, true, true
	}
	return n, true, true
}

// Whole reports whether r selects the whole object.
func (r RangeSpec) Whole() bool { return !r.set && r.part == 0 }

// Suffix returns the length of a "last n bytes" range.
func (r RangeSpec) Suffix() (n int64, ok bool) { return r.last, r.set && r.first < 0 }

// Bounds returns the offsets of a "first-last" range. last is -1 for a range that extends to the
// end. The result has no meaning for a whole or a suffix range.
func (r RangeSpec) Bounds() (first, last int64) { return r.first, r.last }

// Partial reports whether the response to r, for an object of size bytes that can satisfy it, is a
// 206 with a Content-Range. It is a 200 for the whole object, and for a suffix range of an empty
// object: no Content-Range can describe that (RFC 9110 §14.4), and S3 also responds with 200.
func (r RangeSpec) Partial(size int64) bool { return !r.Whole() && size > 0 }

// Resolve returns the range for an object of size bytes, or ErrRangeNotSatisfiable (RFC 9110
// §15.5.17, S3: InvalidRange). A suffix range of an empty object is the empty object (RFC 9110
// §14.1.2: a suffix range with a length other than 0 is always satisfiable); no other range of it
// is satisfiable.
func (r RangeSpec) Resolve(size int64) (Range, error) {
	switch {
	case !r.set:
		return Range{0, size}, nil
	case r.first < 0:
		if r.last == 0 {
			return Range{}, ErrRangeNotSatisfiable
		}
		n := min(r.last, size)
		return Range{size - n, n}, nil
	case r.first >= size:
		return Range{}, ErrRangeNotSatisfiable
	case r.last < 0 || r.last >= size:
		return Range{r.first, size - r.first}, nil
	}
	return Range{r.first, r.last - r.first + 1}, nil
}
