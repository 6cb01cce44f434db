package checksum

import (
	"crypto/sha256"
	"hash"
	"io"
)

// Summing is an io.Writer that passes writes on, counts their bytes and computes their SHA-256.
type Summing struct {
	w     io.Writer
	hash  hash.Hash
	bytes int64
}

// NewSumming returns a Summing in front of w.
func NewSumming(w io.Writer) *Summing { return &Summing{w: w, hash: sha256.New()} }

// Write implements io.Writer. What w did not take does not count.
func (s *Summing) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.hash.Write(p[:n])
	s.bytes += int64(n)
	return n, err
}

// Bytes returns how many bytes were written.
func (s *Summing) Bytes() int64 { return s.bytes }

// SHA256 returns the SHA-256 of what was written, 32 bytes that the caller owns.
func (s *Summing) SHA256() []byte { return s.hash.Sum(nil) }
