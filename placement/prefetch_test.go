package placement

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/testing/tiertest"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
)

// TestPrefetch: a prefetch fetches everything once; a repetition fetches only what is missing.
func TestPrefetch(t *testing.T) {
	up := s3mem.New()
	s := controlled(t, tiertest.Config(rules.Exclusive), t.TempDir(), up)
	defer closeStore(t, s)
	for i := range 1100 { // more than a page
		up.Put(key(fmt.Sprintf("a/%04d", i)), testkit.Bytes(uint64(i), Pick(i, 100, 5000)))
	}
	up.Put(key("b"), []byte("x"))
	run := func(p Prefetch) (last PrefetchProgress, err error) {
		tells := 0
		err = s.Prefetch(t.Context(), akigw.Pattern{Bucket: "bucket", Prefix: "a/"}, p, func(now PrefetchProgress) {
			last = now
			tells++
		})
		if tells == 0 {
			t.Error("nothing was reported")
		}
		return last, err
	}
	if p, err := run(Prefetch{}); err != nil || p.Fetched != 1100 || p.Already != 0 || p.Failed != 0 || !p.Done || p.After != "a/1099" {
		t.Errorf("%+v, %v", p, err)
	}
	gets := up.Count("GET")
	if p, err := run(Prefetch{}); err != nil || p.Fetched != 0 || p.Already != 1100 || !p.Done {
		t.Errorf("%+v, %v", p, err)
	}
	if n := up.Count("GET"); n-gets > 5 {
		t.Errorf("%d requests for cached objects", n-gets)
	}
	up.Put(key("a/0500"), []byte("changed behind it"))
	if _, err := s.store.Purge(t.Context(), akigw.Exactly(key("a/0700"))); err != nil {
		t.Fatal(err)
	}
	if p, err := run(Prefetch{After: "a/0600"}); err != nil || p.Fetched != 1 || p.Listed != 499 {
		t.Errorf("%+v, %v", p, err)
	}
	if _, known := s.store.Find(key("b")); known {
		t.Error("the prefetch fetched an object that was not named")
	}
	for i := range 70 {
		up.Put(key(fmt.Sprintf("a/big%02d", i)), testkit.Bytes(1, 1<<20))
	}
	if p, err := run(Prefetch{Hot: true, After: "a/1099"}); p.Fetched == 0 && !errors.Is(err, tiers.ErrNoRoom) {
		t.Errorf("%+v, %v", p, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var last PrefetchProgress
	if _, err := s.store.Purge(t.Context(), akigw.Pattern{Bucket: "bucket"}); err != nil {
		t.Fatal(err)
	}
	err := s.Prefetch(ctx, akigw.Pattern{Bucket: "bucket"}, Prefetch{Rate: 100_000}, func(now PrefetchProgress) { last = now })
	if err == nil || last.Bytes > 200_000 || last.Done {
		t.Errorf("%+v, %v", last, err)
	}
}
