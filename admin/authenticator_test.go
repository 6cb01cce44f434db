package admin

import (
	"cmp"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/akidb/akigw/sigv4"
)

const noBody = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// TestEveryRoute requests every route without credentials, with wrong ones, with those of S3
// and with those of an administrator, with and without KeysOnly. New routes are included automatically.
//
// Scenarios: S43, S44.
func TestEveryRoute(t *testing.T) {
	synctest.Test(t, everyRoute) // responses to wrong credentials are delayed
}

func everyRoute(t *testing.T) {
	keys := sigv4.StaticKeys{"operator": "secret-of-the-operator"}
	for _, keysOnly := range []bool{true, false} {
		s := New(Options{Config: Config{Listen: "127.0.0.1:9001", KeysOnly: keysOnly, EventsToken: "the-token-of-events"}, Keys: keys, Region: "us-east-1", Version: "test", Log: slog.New(slog.DiscardHandler)})
		for _, r := range s.routes() {
			reached := false
			r.handle = func(http.ResponseWriter, *http.Request) { reached = true }
			none := http.StatusOK
			method := cmp.Or(r.method, "GET")
			needed := keysOnly || method != "GET" || r.private
			if needed && !r.open {
				none = http.StatusUnauthorized
			}
			refused := http.StatusForbidden
			if r.open {
				refused = http.StatusOK
			}
			for _, c := range []struct {
				name, key, secret string
				how               string
				host, remote      string
				want              int
			}{
				{"nothing", "", "", "", "", "", none},
				{"an admin's signature", "operator", "secret-of-the-operator", "sign", "", "", http.StatusOK},
				{"a wrong signature", "operator", "another-secret", "sign", "", "", refused},
				{"an S3 key's signature", "testaccess", "testsecret", "sign", "", "", refused},
				{"an admin's password", "operator", "secret-of-the-operator", "basic", "", "", http.StatusOK},
				{"an admin's password from afar", "operator", "secret-of-the-operator", "basic", "", "192.0.2.1:5", refused},
				{"a wrong password", "operator", "another-secret", "basic", "", "", refused},
				{"an S3 key's password", "testaccess", "testsecret", "basic", "", "", refused},
				{"no password", "operator", "", "basic", "", "", refused},
				{"nothing, a bearer's token", "x", "", "bearer", "", "", refused},
				{"the token of events", "the-token-of-events", "", "bearer", "", "", map[bool]int{true: http.StatusOK, false: refused}[r.token != ""]},
				{"nothing, a foreign name", "", "", "", "evil.example.com:9001", "", map[bool]int{true: http.StatusUnauthorized, false: http.StatusForbidden}[needed]},
			} {
				if c.host != "" && r.open {
					continue
				}
				req := httptest.NewRequest(method, "http://127.0.0.1:9001"+r.path, nil)
				if c.host != "" {
					req.Host = c.host
				}
				req.RemoteAddr = "127.0.0.1:5"
				if c.remote != "" {
					req.RemoteAddr = c.remote
				}
				switch c.how {
				case "sign":
					req.Header.Set("X-Amz-Content-Sha256", noBody)
					req = signer.SignV4(*req, c.key, c.secret, "", "us-east-1")
				case "basic":
					req.SetBasicAuth(c.key, c.secret)
				case "bearer":
					req.Header.Set("Authorization", "Bearer "+c.key)
				}
				reached, s.attempts = false, attempts{}
				w := httptest.NewRecorder()
				s.guard(r).ServeHTTP(w, req)
				if w.Code != c.want || reached != (c.want == http.StatusOK) {
					t.Errorf("keys only %t, %s with %s: %d, reached %t, want %d", keysOnly, r.path, c.name, w.Code, reached, c.want)
				}
			}
		}
	}
}
