package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/storekit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/snapshot"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/uploadpool"
	"github.com/akidb/akigw/writeback"
)

// TestHeldBackWritesAreReported: pending writes of a bucket that has changed are reported in status,
// health, metrics and explanations, and are uploaded when an operator decides so.
func TestHeldBackWritesAreReported(t *testing.T) {
	up := s3mem.New()
	var versioned, failed atomic.Bool
	up.Before = func(r *cold.Request) (*http.Response, error) {
		if r.Op == "PutObject" && !failed.Swap(true) { // makes the gateway query the bucket again
			return nil, fmt.Errorf("%w: connection reset", akigw.ErrUpstreamUnavailable)
		}
		if r.Op == "GetBucketVersioning" && versioned.Load() {
			return s3mem.Response(200, nil, []byte("<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")), nil
		}
		return nil, nil
	}
	log := slog.New(slog.DiscardHandler)
	book := rules.NewSet(nil, rules.Settings{Freshness: rules.Exclusive, Memory: true, Back: true, Block: 64 << 10})
	kit, err := storekit.Open(storekit.Options{
		Cache: tiers.Config{HotBytes: 1 << 20, BlockBytes: 64 << 10, SmallBytes: 4 << 10, MD5ETags: true}, Rules: book, Upstream: up, Log: log,
		Back:     writeback.Config{Dir: t.TempDir(), MaxPendingBytes: 1 << 30, MaxPending: 1000, MaxPendingSecs: 3600, InlineBytes: 16 << 10, SegmentBytes: 1 << 20, SyncTimeoutSecs: 10},
		Parallel: uploadpool.ParallelConfig{Enabled: true, Concurrency: 2, MaxRetries: 1, BackoffBaseMs: 1, MaxAgeSecs: 3600}, Batch: uploadpool.BatchConfig{BatchSize: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	defer func() {
		cancel()
		<-done
		kit.Close()
	}()
	key := akigw.Key{Bucket: "bucket", Name: "k"}
	w, err := kit.Writes.Accept(ctx, key, 4, nil)
	if err != nil || w == nil {
		t.Fatalf("%v %v", w, err)
	}
	if _, err := w.Write([]byte("body")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(ctx, `"841a2d689ad86bd1611447453c22c6fc"`, http.Header{}); err != nil {
		t.Fatal(err)
	}
	w.Discard()
	versioned.Store(true)
	go func() {
		defer close(done)
		_ = kit.Run(ctx)
	}()
	s := New(Options{Config: Config{Listen: "127.0.0.1:9001", Metrics: kit.Metrics}, Store: kit.Store, Writes: kit.Writes, Rules: book, Keys: sigv4.StaticKeys{"operator": "secret-of-the-operator"}, Region: "us-east-1", Version: "test", Log: log})
	ask := func(method, path string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "http://127.0.0.1:9001"+path, nil)
		r.RemoteAddr = "127.0.0.1:1"
		if method == http.MethodPost {
			r.SetBasicAuth("operator", "secret-of-the-operator")
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	status := func() (st Status) {
		t.Helper()
		if err := json.Unmarshal(ask("GET", "/api/v1/status").Body.Bytes(), &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	await := func(what string, is func(Status) bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !is(status()); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: %+v", what, status())
			}
		}
	}
	await("it is not held back", func(st Status) bool { return st.PausedBuckets == 1 })
	st := status()
	if len(st.WriteBack) != 1 || st.WriteBack[0].Bucket != "bucket" || st.WriteBack[0].Reason != "versioned" || !st.WriteBack[0].Paused || !strings.Contains(st.WriteBack[0].Remedy, "akigw journal resume bucket") {
		t.Errorf("%+v", st.WriteBack)
	}
	if w := ask("GET", "/healthz"); w.Code != 200 || !strings.Contains(w.Body.String(), "pending writes of 1 buckets are not uploaded") || strings.Contains(w.Body.String(), "bucket ") {
		t.Errorf("health: %d %s", w.Code, w.Body)
	}
	s.Snapshots = snapshot.Open(snapshot.Options{Dir: filepath.Join(os.DevNull, "snapshots"), Log: log}) // a second problem
	if w := ask("GET", "/healthz"); w.Code != 200 || !strings.Contains(w.Body.String(), "are not uploaded") || !strings.Contains(w.Body.String(), "\nsnapshots: ") {
		t.Errorf("health: %d %s", w.Code, w.Body)
	}
	s.Snapshots = nil
	if w := ask("GET", "/metrics"); !strings.Contains(w.Body.String(), "akigw_uploadpool_paused_buckets 1\n") {
		t.Error("it is not in the metrics")
	}
	if w := ask("GET", "/api/v1/rules/explain?bucket=bucket&key=k"); !strings.Contains(w.Body.String(), `"note": "the bucket keeps versions`) {
		t.Errorf("explained by %s", w.Body)
	}
	for path, want := range map[string]int{"": 400, "?bucket=Not+A+Bucket": 400, "?bucket=another-bucket": 409, "?bucket=bucket": 200} {
		if w := ask("POST", "/api/v1/journal/resume"+path); w.Code != want {
			t.Errorf("resume%s: %d %s", path, w.Code, w.Body)
		}
	}
	await("it is not uploaded", func(st Status) bool { return st.Pending == 0 && st.PausedBuckets == 0 })
	if w := ask("GET", "/healthz"); w.Body.String() != "ok\n" {
		t.Errorf("health: %s", w.Body)
	}
}
