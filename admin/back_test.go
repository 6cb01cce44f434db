package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestBackRoutes: routes that change a dead letter require a key and a number; the others report the
// state.
func TestBackRoutes(t *testing.T) {
	s, _, _ := testServer(t)
	ask := func(method, path string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "http://127.0.0.1:9001"+path, nil)
		r.RemoteAddr = "127.0.0.1:1"
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	var st Status
	if w := ask("GET", "/api/v1/status"); w.Code != 200 || json.Unmarshal(w.Body.Bytes(), &st) != nil || st.HotQuota == 0 {
		t.Errorf("status: %d %s", w.Code, w.Body)
	}
	if w := ask("GET", "/api/v1/dead-letters"); w.Code != 200 || w.Body.String() != "[]\n" {
		t.Errorf("dead letters: %d %q", w.Code, w.Body)
	}
	for _, path := range []string{"/api/v1/dead-letters/retry?id=1", "/api/v1/dead-letters/drop?id=1", "/api/v1/dead-letters/export?id=1", "/api/v1/dead-letters/archive?bucket=bucket&key=k", "/api/v1/journal/accept", "/api/v1/journal/resume?bucket=bucket"} {
		if w := ask("POST", path); w.Code != http.StatusUnauthorized {
			t.Errorf("%s without a key: %d", path, w.Code)
		}
		if w := ask("GET", path); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("GET %s: %d", path, w.Code)
		}
	}
}
