package gateway

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
)

// TestForwardedRequestIsLate: a write that was forwarded and met its deadline puts its key in doubt.
// If the upstream carries it out after a newer write that the journal acknowledged, the newer one
// is uploaded again.
func TestForwardedRequestIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backBench(t)
		b.up.Before = func(r *cold.Request) (*http.Response, error) {
			if r.Method != http.MethodPut {
				return nil, nil
			}
			_, _ = io.Copy(io.Discard, r.Body)
			return nil, fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, cold.ErrDeadline)
		}
		if w := b.ask("root", "PUT", "/back/k", "", http.Header{"X-Amz-Storage-Class": {"GLACIER"}}, "old"); w.Code != 503 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		b.up.Before = nil
		if w := b.ask("root", "PUT", "/back/k", "", nil, "new"); w.Code != 200 || sentHeader(w, "x-akigw-commit") != "journal" {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		b.runPool(t)
		has := func(body string) bool {
			o, ok := b.up.Get(backKey("k"))
			return ok && string(o.Body) == body
		}
		for end := time.Now().Add(time.Minute); !has("new") && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
		synctest.Wait() // a confirmation is due 5 ms later
		if st := b.writes.Status(); st.Unconfirmed != 1 || st.Pending != 1 {
			t.Fatalf("%d wait for their confirmation, %d are pending", st.Unconfirmed, st.Pending)
		}
		b.up.Put(backKey("k"), []byte("old"))
		time.Sleep(time.Minute)
		if st := b.writes.Status(); st.Pending > 0 || !has("new") {
			t.Errorf("%d are pending, the upstream has the acknowledged write: %t", st.Pending, has("new"))
		}
	})
}
