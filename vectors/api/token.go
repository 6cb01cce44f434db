package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"math/bits"

	"github.com/akidb/akigw/vectors"
)

// A token says where a listing goes on. It is opaque to clients and has nothing secret: a version, the
// position, and a checksum over them and over what the listing is about, so that garbage and tokens
// of another listing are refused. It needs no state, and outlives a restart.

const (
	tokenVersion  = 1
	tokenChecksum = 8
)

// sealToken returns the token of a position in the listing that about describes.
func sealToken(position []byte, about ...string) string {
	b := append([]byte{tokenVersion}, position...)
	return base64.RawURLEncoding.EncodeToString(append(b, tokenSum(b, about)...))
}

// openToken returns the position in a token.
func openToken(token string, about ...string) ([]byte, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if n := len(raw) - tokenChecksum; err == nil && n >= 1 && raw[0] == tokenVersion && bytes.Equal(raw[n:], tokenSum(raw[:n], about)) {
		return raw[1:n], nil
	}
	return nil, errToken()
}

// errToken refuses a token that no page of the listing gave.
func errToken() error { return vectors.Invalid("/nextToken", "is not a token of this listing") }

func tokenSum(b []byte, about []string) []byte {
	h := sha256.New()
	h.Write([]byte("akigw s3vectors token"))
	for _, part := range append([]string{string(b)}, about...) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		h.Write([]byte(part))
	}
	return h.Sum(nil)[:tokenChecksum]
}

// position is how far a ListVectors has come: the hash of the last key that was returned, in an
// incarnation of an index and one of its segments.
type position struct {
	incarnation       vectors.Incarnation
	last              vectors.Hash
	segments, segment int
}

// token returns the token of a position.
func (p position) token() string {
	raw, _ := hex.DecodeString(string(p.incarnation)) // it is valid
	b := append(raw, p.last[:]...)
	return sealToken(append(b, byte(p.segments), byte(p.segment)), "ListVectors")
}

// parsePosition returns the position in a token. It must belong to the same incarnation and segment.
func parsePosition(token string, want position) (position, error) {
	b, err := openToken(token, "ListVectors")
	if err != nil || len(b) != 16+len(vectors.Hash{})+2 {
		return position{}, errToken()
	}
	p := position{incarnation: vectors.Incarnation(hex.EncodeToString(b[:16])), last: vectors.Hash(b[16:32]), segments: int(b[32]), segment: int(b[33])}
	switch {
	case p.incarnation != want.incarnation:
		return position{}, vectors.Invalid("/nextToken", "belongs to an index that was deleted")
	case p.segments != want.segments || p.segment != want.segment:
		return position{}, vectors.Invalid("/nextToken", "belongs to another segment")
	}
	return p, nil
}

// segmentRange returns the hashes of a segment: those above after (nil: all) and at most last.
func segmentRange(segment, segments int) (after *vectors.Hash, last vectors.Hash) {
	if segment > 0 {
		before := segmentEnd(segment, segments)
		after = &before
	}
	return after, segmentEnd(segment+1, segments)
}

// segmentEnd returns the last hash before the segment with a number.
func segmentEnd(segment, segments int) (end vectors.Hash) {
	top := ^uint64(0)
	if segment < segments {
		begin, _ := bits.Div64(uint64(segment), 0, uint64(segments)) // segment/segments of 2^64
		top = begin - 1
	}
	binary.BigEndian.PutUint64(end[:8], top)
	binary.BigEndian.PutUint64(end[8:], ^uint64(0))
	return end
}
