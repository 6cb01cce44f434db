// Package testkit is what tests of several packages share: seeds, bytes and texts at random, certificates,
// addresses, small disks, the reference model, and the runs of docs/reliability.md. It is not part of
// the product.
package testkit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Random returns a source of randomness for a test. If the test fails, it logs the AKIGW_SEED that
// replays it.
func Random(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(Seed(t), 1))
}

// Seed returns the seed of a test: AKIGW_SEED, or a new one each time. If the test fails, it logs the
// seed.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("AKIGW_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("AKIGW_SEED: %v", err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("AKIGW_SEED=%d replays this", seed)
		}
	})
	return seed
}

// MemoryDir returns a temporary directory, in memory if the machine has such a file system: for tests
// that sync often and do not simulate power cuts.
func MemoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "akigw-test")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // best effort: leftovers cost memory, but are no reason to fail
	return dir
}

// Bytes returns n bytes that differ by position and by seed.
func Bytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	x := seed*0x9e3779b97f4a7c15 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}

// letters includes characters that some encodings treat specially.
var letters = []rune("abcXYZ019-_.~/ +%&=?#@!$'()*,;:[]äß漢\u0001\t\\\"<>|^`{}")

// Text returns a random text of fewer than n letters.
func Text(random *rand.Rand, n int) string {
	var b strings.Builder
	for range random.IntN(n) {
		b.WriteRune(letters[random.IntN(len(letters))])
	}
	return b.String()
}

// Pick returns a random element.
func Pick[T any](random *rand.Rand, from ...T) T { return from[random.IntN(len(from))] }

// Certify writes a new self-signed certificate and its key to two PEM files. hosts are names and
// IP addresses.
func Certify(t testing.TB, certFile, keyFile, commonName string, hosts ...string) *x509.Certificate {
	t.Helper()
	return CertifyUntil(t, certFile, keyFile, commonName, time.Now().Add(time.Hour), hosts...)
}

// CertifyUntil is like Certify, with an expiry time.
func CertifyUntil(t testing.TB, certFile, keyFile, commonName string, ends time.Time, hosts ...string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: commonName}, NotAfter: ends,
		IsCA: true, BasicConstraintsValid: true}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(cryptorand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// FreeAddr returns a free loopback address. Its port is below the range of outgoing connections, and
// is returned only once per process.
func FreeAddr(t testing.TB) string {
	t.Helper()
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+(os.Getpid()*97+int(ports.Add(1)))%20_000)
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

var ports atomic.Int64

// WithoutRace skips a test under the race detector, where it would take ten times as long and find nothing more; why
// gives the reason. "make test" finds the tests that call it, and runs them without the detector: call it in the test
// itself, not in a helper.
func WithoutRace(t testing.TB, why string) {
	t.Helper()
	if Race {
		t.Skip(why + ": make test runs it without the race detector")
	}
}
