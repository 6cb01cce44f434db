package server

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestTwoServers: two gateways in one process, each with a data directory and metrics of its own,
// serve, count what they did and not what the other did, stop, and leave no goroutine.
func TestTwoServers(t *testing.T) {
	defer goleak.VerifyNone(t, append(testkit.BadgerLeaks(), goleak.IgnoreCurrent())...)
	keys := []string{"AKIGW_ACCESS_KEY=" + testkit.AccessKey, "AKIGW_SECRET_KEY=" + testkit.SecretKey}
	both := []*running{run(t, t.TempDir(), keys...), run(t, t.TempDir(), keys...)}
	for n, r := range both {
		client := &testkit.Client{Endpoint: r.endpoint, HTTP: http.DefaultClient}
		body := fmt.Appendf(nil, "body of %d", n)
		for _, path := range []string{"/bucket", "/bucket/key"} {
			if a := client.Must(t, "PUT", path, "", nil, body[:len(body)*strings.Count(path[1:], "/")]); a.Status != 200 {
				t.Fatalf("PUT %s: %d %s", path, a.Status, a.Body)
			}
		}
		if a := client.Must(t, "GET", "/bucket/key", "", nil, nil); a.Status != 200 || !bytes.Equal(a.Body, body) {
			t.Errorf("GET: %d %s", a.Status, a.Body)
		}
		for range n + 1 {
			if _, err := r.storage.snapshots.Create(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for n, r := range both {
		shown := r.shown(t)
		for _, want := range []string{fmt.Sprintf("akigw_snapshot_created_total %d\n", n+1), "akigw_hot_quota_bytes 268435456\n", "go_goroutines ", "process_resident_memory_bytes "} {
			if strings.Count(shown, "\n"+want) != 1 {
				t.Errorf("gateway %d: %q is %d times in %s", n, want, strings.Count(shown, "\n"+want), shown)
			}
		}
	}
	if both[0].metrics == both[1].metrics {
		t.Error("both gateways have one set of metrics")
	}
	for _, r := range both {
		r.end(t)
	}
}
