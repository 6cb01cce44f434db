package admin

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"
)

// presentation is a way to present credentials.
type presentation struct {
	name string
	make func(key, secret string) *http.Request
}

var presentations = []presentation{
	{"basic", func(key, secret string) *http.Request {
		r := httptest.NewRequest("GET", "https://127.0.0.1:9001/api/v1/audit", nil)
		r.SetBasicAuth(key, secret)
		return r
	}},
	{"login", func(key, secret string) *http.Request {
		r := httptest.NewRequest("POST", "https://127.0.0.1:9001/api/v1/login", strings.NewReader(fmt.Sprintf(`{"access_key": %q, "secret_key": %q}`, key, secret)))
		r.Header.Set(consoleHeader, "1")
		return r
	}},
	{"signature", func(key, secret string) *http.Request {
		r := httptest.NewRequest("GET", "https://127.0.0.1:9001/api/v1/audit", nil)
		r.Header.Set("X-Amz-Content-Sha256", noBody)
		return signer.SignV4(*r, key, secret, "", "us-east-1")
	}},
	{"presigned", func(key, secret string) *http.Request {
		r := httptest.NewRequest("GET", "https://127.0.0.1:9001/api/v1/audit", nil)
		r = signer.PreSignV4(*r, key, secret, "", "us-east-1", 60)
		r.URL.RawQuery = strings.ReplaceAll(r.URL.RawQuery, "X-Amz-", "X%2DAmz%2D")
		return r
	}},
}

// TestWrongCredentials: responses to wrong credentials are delayed, however they are presented. After
// ten of them, even right credentials are not checked for the rest of a minute. Other addresses are
// not affected.
func TestWrongCredentials(t *testing.T) {
	const right, wrong = "secret-of-the-operator", "guessed-guessed"
	for _, guess := range presentations {
		t.Run(guess.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, store, _ := testServer(t)
				defer store.Close()
				ask := func(p presentation, remote, secret string) (int, time.Duration) {
					r := p.make("operator", secret)
					r.RemoteAddr = remote
					w := httptest.NewRecorder()
					began := time.Now()
					s.ServeHTTP(w, r)
					return w.Code, time.Since(began)
				}
				for n := range wrongLimit {
					if code, took := ask(guess, "192.0.2.1:5", wrong); code != 403 || took != wrongPause {
						t.Fatalf("guess %d: %d after %v", n+1, code, took)
					}
				}
				for _, p := range presentations {
					for _, secret := range []string{wrong, right} {
						if code, took := ask(p, "192.0.2.1:6", secret); code != 429 || took != 0 {
							t.Errorf("%s after too many guesses, %s: %d after %v", p.name, secret, code, took)
						}
					}
					if code, took := ask(p, "192.0.2.2:5", right); code != 200 || took != 0 {
						t.Errorf("%s from another address: %d after %v", p.name, code, took)
					}
				}
				time.Sleep(wrongWindow)
				if code, _ := ask(guess, "192.0.2.1:5", right); code != 200 {
					t.Errorf("a minute later: %d", code)
				}
			})
		})
	}
}

// TestAttemptsAreBounded: the memory for counters is bounded, and addresses that did not guess are never
// blocked, however many others do.
func TestAttemptsAreBounded(t *testing.T) {
	var a attempts
	now := time.Now()
	for n := range 3 * maxAttempts {
		from := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
		for range wrongLimit {
			a.failed(from, now)
		}
		if n%1000 == 0 && a.blocked(from, now) == 0 {
			t.Fatalf("address %d is not held up", n)
		}
		now = now.Add(time.Millisecond)
	}
	if len(a.wrong) > maxAttempts {
		t.Errorf("%d addresses are known", len(a.wrong))
	}
	for n := range 3 * maxAttempts {
		if from := netip.AddrFrom4([4]byte{11, byte(n >> 16), byte(n >> 8), byte(n)}); a.blocked(from, now) > 0 {
			t.Fatalf("%v is held up for what others did", from)
		}
	}
}

// TestOrigin: addresses that may all belong to one client share a counter.
func TestOrigin(t *testing.T) {
	for _, c := range []struct {
		name, a, b string
		same       bool
	}{
		{"ports", "192.0.2.1:1", "192.0.2.1:2", true},
		{"hosts", "192.0.2.1:1", "192.0.2.2:1", false},
		{"one host in both families", "[::ffff:192.0.2.1]:1", "192.0.2.1:1", true},
		{"one network", "[2001:db8::1]:1", "[2001:db8::2]:1", true},
		{"two networks", "[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false},
		{"loopback", "127.0.0.1:1", "127.9.9.9:1", true},
		{"loopback in both families", "[::1]:1", "127.0.0.1:1", true},
	} {
		if got := origin(c.a) == origin(c.b); got != c.same {
			t.Errorf("%s: %s and %s count as one: %t, want %t", c.name, c.a, c.b, got, c.same)
		}
	}
}
