package admin

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/google/pprof/profile"
)

// TestContention: contention is measured only during a request, and by one request at a time.
func TestContention(t *testing.T) {
	s, _, _ := testServer(t)
	ask := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
		s.ServeHTTP(w, r)
		return w
	}
	if w := ask("/debug/pprof/mutex"); w.Code != http.StatusBadRequest {
		t.Errorf("without seconds: %d %s", w.Code, w.Body)
	}
	codes := make([]int, 2)
	var wait sync.WaitGroup
	for i, name := range []string{"mutex", "block"} {
		wait.Go(func() {
			w := ask("/debug/pprof/" + name + "?seconds=1")
			if codes[i] = w.Code; w.Code == http.StatusOK {
				if _, err := profile.Parse(w.Body); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	wait.Wait()
	if min(codes[0], codes[1]) != http.StatusOK || max(codes[0], codes[1]) != http.StatusConflict {
		t.Errorf("two at a time: %v", codes)
	}
}
