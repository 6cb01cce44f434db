package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestQueriesAreReadWhole: a parameter with a bare semicolon is kept, and a query that cannot be
// parsed is refused. A purge of a prefix must not become a purge of the bucket.
func TestQueriesAreReadWhole(t *testing.T) {
	for _, c := range []struct {
		query        string
		code, purged int
	}{
		{"bucket=bucket&prefix=a;b", 200, 2},
		{"bucket=bucket&prefix=a%3Bb", 200, 2},
		{"bucket=bucket&prefix=a", 200, 3},
		{"bucket=bucket&prefix=%zz", 400, 0},
		{"bucket=bucket", 200, 4},
	} {
		s, store, up := testServer(t)
		for _, name := range []string{"a;b", "a;bc", "ax", "c"} {
			key := akigw.Key{Bucket: "bucket", Name: name}
			up.Put(key, testkit.Bytes(1, 10))
			reader, err := store.Get(t.Context(), key, akigw.RangeSpec{}, akigw.Conditions{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := reader.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
			reader.Close()
		}
		r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:9001/api/v1/purge?"+c.query, nil)
		r.RemoteAddr = "127.0.0.1:5"
		r.SetBasicAuth("operator", "secret-of-the-operator")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		var got struct{ Purged int }
		if w.Code == 200 {
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Error(err)
			}
		}
		if w.Code != c.code || got.Purged != c.purged {
			t.Errorf("%s: %d, %d purged, want %d and %d: %s", c.query, w.Code, got.Purged, c.code, c.purged, w.Body)
		}
	}
}
