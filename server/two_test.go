package server

import (
	"bytes"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/akidb/akigw/admin/client"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestTwoServers: two gateways in one process, each with its own data directory and metrics, serve,
// count only their own requests, stop, and leave no goroutine.
func TestTwoServers(t *testing.T) {
	defer goleak.VerifyNone(t, append(testkit.BadgerLeaks(), goleak.IgnoreCurrent())...)
	type gateway struct {
		*running
		operator *client.Client
	}
	start := func() gateway {
		dir := t.TempDir()
		c := config(t, "", dir, "AKIGW_ACCESS_KEY="+s3client.AccessKey, "AKIGW_SECRET_KEY="+s3client.SecretKey, "AKIGW_ACCESS_LOG_FILE="+filepath.Join(dir, "access.log"))
		users, err := c.OpenUsers()
		if err != nil {
			t.Fatal(err)
		}
		admin, err := ensureAdmin(users)
		if err != nil {
			t.Fatal(err)
		}
		r := runConfig(t, c)
		return gateway{r, client.New(client.Options{Address: r.AdminAddr().String(), Key: func() (client.Key, error) {
			return client.Key{AccessKey: admin.AccessKey, SecretKey: admin.SecretKey}, nil
		}})}
	}
	both := []gateway{start(), start()}
	for n, g := range both {
		s3 := &s3client.Client{Endpoint: g.endpoint, HTTP: http.DefaultClient}
		body := fmt.Appendf(nil, "body of %d", n)
		if a := s3.Must(t, "PUT", "/bucket", "", nil, nil); a.Status != 200 {
			t.Fatalf("PUT of a bucket: %d %s", a.Status, a.Body)
		}
		if a := s3.Must(t, "PUT", "/bucket/key", "", nil, body); a.Status != 200 {
			t.Fatalf("PUT: %d %s", a.Status, a.Body)
		}
		if a := s3.Must(t, "GET", "/bucket/key", "", nil, nil); a.Status != 200 || !bytes.Equal(a.Body, body) {
			t.Errorf("GET: %d %s", a.Status, a.Body)
		}
		for range n + 1 {
			if _, err := g.operator.CreateSnapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for n, g := range both {
		shown := g.shown(t)
		for _, want := range []string{fmt.Sprintf("akigw_snapshot_created_total %d\n", n+1), "akigw_hot_quota_bytes 268435456\n", "go_goroutines ", "process_resident_memory_bytes "} {
			if strings.Count(shown, "\n"+want) != 1 {
				t.Errorf("gateway %d: %q is %d times in %s", n, want, strings.Count(shown, "\n"+want), shown)
			}
		}
		audited, err := g.operator.Audit(t.Context(), 100)
		if err != nil || len(audited) != n+1 {
			t.Errorf("gateway %d: %d changes are audited, %v", n, len(audited), err)
		}
	}
	for _, g := range both {
		g.end(t)
	}
}
