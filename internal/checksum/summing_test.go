package checksum

import (
	"crypto/sha256"
	"errors"
	"testing"
)

// short takes some bytes, and then fails.
type short struct{ left int }

func (s *short) Write(p []byte) (int, error) {
	n := min(len(p), s.left)
	s.left -= n
	if n < len(p) {
		return n, errors.New("full")
	}
	return n, nil
}

func TestSummingCountsWhatWasTaken(t *testing.T) {
	s := NewSumming(&short{left: 5})
	if n, err := s.Write([]byte("abc")); n != 3 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	if n, err := s.Write([]byte("defg")); n != 2 || err == nil {
		t.Errorf("%d %v", n, err)
	}
	if want := sha256.Sum256([]byte("abcde")); s.Bytes() != 5 || [32]byte(s.SHA256()) != want {
		t.Errorf("%d bytes, %x", s.Bytes(), s.SHA256())
	}
}
