package admin

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/warm"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/store"
)

// vectorsOf runs the storage of vector collections of a gateway over an upstream until the test ends.
func vectorsOf(t *testing.T, up *s3mem.Memory, writer string) *store.Store {
	t.Helper()
	log, dir := slog.New(slog.DiscardHandler), testkit.MemoryDir(t)
	j, err := journal.Open(journal.Config{Dir: filepath.Join(dir, "journal"), FS: vfs.Disk{}, Log: log, InlineBytes: 4 << 10, SegmentBytes: 1 << 20, SyncTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	disk, err := warm.Open(warm.Config{Dir: filepath.Join(dir, "warm"), Quota: 256 << 20, Format: "vectors", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	o := store.Options{Dir: filepath.Join(dir, "vectors"), FS: vfs.Disk{}, Writer: writer, Journal: j, Upstream: up, Warm: disk, Log: log}
	o.Config.SetDefaults()
	o.Config.Bucket, o.Config.FlushSecs = "vectors", 3600
	s, err := store.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- disk.Run(ctx) }()
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for _, err := range []error{<-ended, <-ended, disk.Close(), j.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

// eventually waits until f holds.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not seen: %s", what)
		}
	}
}

// TestVectorRoutes: each action on vector collections, and what it refuses.
func TestVectorRoutes(t *testing.T) {
	up := s3mem.New()
	all := vectorsOf(t, up, "gw-1")
	eventually(t, "that the collections are loaded", func() bool { return all.Owner().Loaded })
	s, _, _ := testServer(t)
	s = New(Options{Config: Config{Listen: "127.0.0.1:9001"}, Store: s.Store, Placement: s.Placement, Keys: s.Keys, Region: "us-east-1", Vectors: all, Log: s.Log})
	ask := func(method, path, body string) (int, string) {
		r := httptest.NewRequest(method, "http://127.0.0.1:9001"+path, strings.NewReader(body))
		r.RemoteAddr = "127.0.0.1:1"
		r.SetBasicAuth("operator", "secret-of-the-operator")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	if code, body := ask("GET", "/api/v1/vectors", ""); code != 200 || !strings.Contains(body, `"collections": []`) || !strings.Contains(body, `"writer": "gw-1"`) {
		t.Errorf("no collections: %d %s", code, body)
	}
	if _, err := all.CreateBucket(t.Context(), vectors.Bucket{Name: "bucket"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "two"} {
		if _, err := all.CreateIndex(t.Context(), vectors.Index{Bucket: "bucket", Name: name, Dimension: 2, Metric: vectors.Cosine}); err != nil {
			t.Fatal(err)
		}
		if err := all.Put(t.Context(), "bucket", name, []vectors.Vector{{Key: "k", Data: []float32{1, 2}}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, method, path, body string
		code                     int
		want                     string
	}{
		{"flush", "POST", "/api/v1/vectors/flush", "", 200, `"pending": 0`},
		{"demote", "POST", "/api/v1/vectors/move", `{"action": "demote_to_warm", "bucket": "bucket", "index": "one"}`, 200, `"moved": 1`},
		{"promote", "POST", "/api/v1/vectors/move", `{"action": "promote_to_hot", "bucket": "bucket", "index": "one"}`, 200, `"moved": 1`},
		{"promote again", "POST", "/api/v1/vectors/move", `{"action": "promote_to_warm", "bucket": "bucket", "index": "one"}`, 200, `"already": 1`},
		{"demote all", "POST", "/api/v1/vectors/move", `{"action": "demote_to_cold", "bucket": "bucket"}`, 200, `"moved": 2`},
		{"a demotion moves nothing up", "POST", "/api/v1/vectors/move", `{"action": "demote_to_warm", "bucket": "bucket"}`, 200, `"already": 2`},
		{"pin", "POST", "/api/v1/vectors/move", `{"action": "pin", "bucket": "bucket", "index": "two", "tier": "hot"}`, 200, `"moved": 1`},
		{"pinned", "GET", "/api/v1/vectors", "", 200, `"pinned": "hot"`},
		{"unpin all", "POST", "/api/v1/vectors/move", `{"action": "unpin", "bucket": "bucket"}`, 200, `"moved": 1`},
		{"sweep", "POST", "/api/v1/vectors/sweep", "", 200, `"done": true`},
		{"takeover", "POST", "/api/v1/vectors/takeover", "", 409, "nothing to take over"},
		{"status", "GET", "/api/v1/status", "", 200, `"collections": 2`},
		{"health", "GET", "/healthz", "", 200, "ok"},
		{"no index", "POST", "/api/v1/vectors/move", `{"action": "pin", "bucket": "bucket", "index": "three"}`, 404, "akigw vectors ls"},
		{"no action", "POST", "/api/v1/vectors/move", `{"action": "polish", "bucket": "bucket"}`, 400, "promote_to_hot"},
		{"no bucket", "POST", "/api/v1/vectors/move", `{"action": "pin"}`, 400, "vector bucket"},
		{"tier of a promotion", "POST", "/api/v1/vectors/move", `{"action": "promote_to_hot", "bucket": "bucket", "tier": "hot"}`, 400, "only the action pin"},
		{"unknown tier", "POST", "/api/v1/vectors/move", `{"action": "pin", "bucket": "bucket", "tier": "lukewarm"}`, 400, "tier must be"},
		{"unknown field", "POST", "/api/v1/vectors/move", `{"action": "pin", "bucket": "bucket", "key": "k"}`, 400, "the body must be JSON"},
	} {
		if code, body := ask(c.method, c.path, c.body); code != c.code || !strings.Contains(body, c.want) {
			t.Errorf("%s: %d %s", c.name, code, body)
		}
	}

	// Another gateway takes the prefix: this one is fenced, and says so.
	other := vectorsOf(t, up, "gw-2")
	eventually(t, "the owner", func() bool { return other.Owner().Writer == "gw-1" })
	if _, err := other.Takeover(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the takeover", func() bool { return other.Owner().Loaded })
	if err := all.Put(t.Context(), "bucket", "one", []vectors.Vector{{Key: "l", Data: []float32{1, 2}}}); err != nil {
		t.Fatal(err)
	}
	if err := other.Put(t.Context(), "bucket", "one", []vectors.Vector{{Key: "m", Data: []float32{1, 2}}}); err != nil {
		t.Fatal(err)
	}
	if err := other.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, body := ask("POST", "/api/v1/vectors/flush", ""); code != 409 || !strings.Contains(body, "gw-2") {
		t.Errorf("flush of a fenced gateway: %d %s", code, body)
	}
	if code, body := ask("GET", "/healthz", ""); code != 503 || !strings.Contains(body, "gw-2") || !strings.Contains(body, "akigw vectors ls") {
		t.Errorf("health of a fenced gateway: %d %s", code, body)
	}
	code, body := ask("POST", "/api/v1/vectors/takeover", "")
	var taken store.Takeover
	if err := json.Unmarshal([]byte(body), &taken); code != 200 || err != nil || taken.From != "gw-2" || !taken.Restart || taken.Records == 0 {
		t.Errorf("takeover: %d %s", code, body)
	}
}

// TestNoVectors: without vector collections, the routes say which setting there is.
func TestNoVectors(t *testing.T) {
	s, _, _ := testServer(t)
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "http://127.0.0.1:9001/api/v1/vectors", nil)
	r.RemoteAddr = "127.0.0.1:1"
	s.ServeHTTP(w, r)
	if w.Code != 404 || !strings.Contains(w.Body.String(), "vectors.bucket") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
