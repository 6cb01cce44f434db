package gateway

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

// TestCacheDirectives: a client can have the upstream asked, and can keep its
// read out of the cache.
func TestCacheDirectives(t *testing.T) {
	b := newBench(t, rootAlone, rootAlone) // exclusive
	key := akigw.Key{Bucket: "bucket", Name: "k"}
	b.up.Put(key, []byte("old"))
	ask := func(directive, body, outcome string) {
		t.Helper()
		var h http.Header
		if directive != "" {
			h = http.Header{"Cache-Control": {directive}}
		}
		w := b.ask("root", "GET", "/bucket/k", "", h, "")
		if got := w.Header()["x-akigw-cache"]; w.Body.String() != body || len(got) != 1 || got[0] != outcome {
			t.Fatalf("%q: %d %s from %v, want %s from %s", directive, w.Code, w.Body, got, body, outcome)
		}
	}
	ask("no-store", "old", "bypass")
	ask("", "old", "cold")
	b.up.Put(key, []byte("new"))
	ask("", "old", "hot")
	ask("no-store", "new", "bypass")
	ask("", "old", "hot")
	ask("no-cache", "new", "cold")
	ask("", "new", "hot")
}

// TestStaleIsSaid: what could not be validated is marked (RFC 9111 §5.5 of the
// old Warning header, which S3 clients and people still read).
func TestStaleIsSaid(t *testing.T) {
	b := newBench(t, rootAlone, rootAlone)
	store, err := tiers.New(tiers.Options{Config: tiers.Config{HotBytes: 1 << 20, BlockBytes: 64 << 10, SmallBytes: 4 << 10}, Upstream: b.up,
		Rules: rules.NewSet(nil, rules.Settings{Freshness: rules.TTL, TTL: 1, MaxStale: time.Hour, Memory: true, Block: 64 << 10})})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	b.reconfigure(func(o *Options) { o.Store = store })
	b.up.Put(akigw.Key{Bucket: "bucket", Name: "k"}, []byte("x"))
	b.ask("root", "GET", "/bucket/k", "", nil, "")
	b.up.Before = func(*cold.Request) (*http.Response, error) {
		return nil, fmt.Errorf("%w: down", akigw.ErrUpstreamUnavailable)
	}
	w := b.ask("root", "GET", "/bucket/k", "", nil, "")
	if w.Code != 200 || w.Header()["x-akigw-cache"][0] != "stale" || w.Header().Get("Warning") != `110 - "Response is Stale"` || w.Header().Get("Age") == "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	w = b.ask("root", "GET", "/bucket/k", "", http.Header{"Cache-Control": {"no-cache"}}, "")
	if w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("with no-cache: %d %v", w.Code, w.Header())
	}
}
