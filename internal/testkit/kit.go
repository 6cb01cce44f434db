package testkit

import (
	"crypto/sha256"
	"hash"
	"net"
	"testing"
)

// Hasher is the hasher that minio-go's streaming signer asks for.
type Hasher struct{ hash.Hash }

// NewHasher returns a SHA-256.
func NewHasher() Hasher { return Hasher{sha256.New()} }

// Close does nothing.
func (Hasher) Close() {}

// FreeAddr returns a loopback address that nobody listened on a moment ago.
func FreeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
