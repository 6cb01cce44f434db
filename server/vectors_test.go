package server

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/store"
)

// vectorGateway starts a gateway with vector collections, and waits until they are loaded.
func vectorGateway(t *testing.T, dir string, change func(*Config)) (*running, *store.Store) {
	t.Helper()
	c := config(t, "", dir, "AKIGW_ACCESS_KEY="+s3client.AccessKey, "AKIGW_SECRET_KEY="+s3client.SecretKey, "AKIGW_ENABLE_FAULTS=true",
		"AKIGW_VECTORS_BUCKET=collections", "AKIGW_VECTORS_FLUSH_SECS=3600", "AKIGW_WRITE_BACK_DRAIN_TIMEOUT_SECS=2")
	if change != nil {
		change(c)
	}
	r := runConfig(t, c)
	(&s3client.Client{Endpoint: r.endpoint, HTTP: http.DefaultClient}).Must(t, "PUT", "/collections", "", nil, nil)
	v := r.storage.vectors.store
	for end := time.Now().Add(20 * time.Second); v.Owner().Writer != v.Owner().Gateway || !v.Owner().Loaded; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(v.Problem())
		}
	}
	return r, v
}

// TestVectorsAreFlushedAtShutdown: acknowledged vectors are in the upstream when a gateway has ended. If
// the upstream fails, Run says so, and the next start has them.
func TestVectorsAreFlushedAtShutdown(t *testing.T) {
	dir := t.TempDir()
	var most atomic.Int64
	r, v := vectorGateway(t, dir, func(c *Config) {
		c.OnDrain = func(pending func() Pending, done <-chan struct{}) {
			most.Store(int64(pending().Vectors))
			<-done
		}
	})
	if _, err := v.CreateBucket(t.Context(), vectors.Bucket{Name: "bucket"}); err != nil {
		t.Fatal(err)
	}
	if _, err := v.CreateIndex(t.Context(), vectors.Index{Bucket: "bucket", Name: "index", Dimension: 2, Metric: vectors.Euclidean}); err != nil {
		t.Fatal(err)
	}
	put := func(v *store.Store, n int) {
		t.Helper()
		for i := range n {
			if err := v.Put(t.Context(), "bucket", "index", []vectors.Vector{{Key: fmt.Sprint(i), Data: []float32{1, float32(i)}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(v, 5)
	if status := r.shown(t); !strings.Contains(status, "akigw_vectors_pending_bytes") || !strings.Contains(status, "akigw_vectors_problem 0") {
		t.Error("/metrics has no pending vectors")
	}
	r.end(t)
	if most.Load() < 5 {
		t.Errorf("%d pending vectors were shown", most.Load())
	}

	r, v = vectorGateway(t, dir, nil)
	if n := v.Totals(); n.Pending != 0 || n.Stored == 0 || n.Collections != 1 {
		t.Errorf("after a restart: %+v", n)
	}
	put(v, 3)
	if err := r.faults.Set(faults.Plan{Faults: []faults.Fault{{Tier: faults.Cold, Op: "PutObject", Effect: faults.SlowDown}}}); err != nil {
		t.Fatal(err)
	}
	r.stop()
	if err := r.ended(t); !errors.Is(err, ErrPending) {
		t.Errorf("with a failing upstream: %v", err)
	}

	r, v = vectorGateway(t, dir, nil)
	if n := v.Totals(); n.Pending < 3 {
		t.Errorf("pending after that: %+v", n)
	}
	r.end(t)
}
