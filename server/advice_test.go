package server

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/advise"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/trace"
)

// everyAdvice is a report with proposals of all kinds for one bucket, of which a key needs quotes.
func everyAdvice(t *testing.T, pinned string) *advise.Report {
	t.Helper()
	seen := advise.NewObservation()
	at := int64(1_000_000)
	add := func(key, version string, write bool, outcome akigw.Outcome) {
		at += 200
		seen.Add(&trace.Access{At: at, Bucket: "photos", Key: key, Version: version, Size: 1000, Block: 1 << 18, Length: 1000, Write: write, Outcome: outcome})
	}
	for n := range 5000 {
		outcome := akigw.Hot
		if n%20 == 0 {
			outcome = akigw.Cold
		}
		add(pinned, "1", false, outcome)
		add(fmt.Sprint("seldom/", n), "1", false, akigw.Cold)
		if n%10 == 0 {
			add(fmt.Sprint("written/", n), "1", true, "")
		}
	}
	mean := advise.Latency{Requests: 1000, Mean: 20}
	r := advise.New(advise.Facts{
		Since: time.Unix(0, 0), Memory: advise.Tier{Quota: 256 << 20}, Disk: advise.Tier{Quota: 10 << 30}, Prices: cost.Default(),
		Latency: map[string]advise.Latency{"hot": mean, "warm": mean, "cold": mean, "upstream": mean},
		Buckets: []advise.Measured{{Bucket: "photos", Freshness: "strict", Write: "through", Validated: advise.Validated{Unchanged: 1000, Mean: 10}}},
	}, seen.End(0))
	kinds := map[string]bool{"sizes": r.Sizes != nil}
	for _, p := range r.Buckets[0].Proposals {
		kinds[p.Kind] = true
	}
	for _, kind := range []string{"sizes", "freshness", "pin", "write"} {
		if !kinds[kind] {
			t.Fatalf("nothing of the kind %s is proposed: %+v", kind, r)
		}
	}
	return r
}

// TestAdviceLoads: what akigw advise proposes is a configuration that this program loads, and it means
// what was proposed.
func TestAdviceLoads(t *testing.T) {
	const pinned = `a "quoted" key\ü`
	r := everyAdvice(t, pinned)
	file := filepath.Join(t.TempDir(), "akigw.toml")
	older := "\n[[rule]]\nbucket = \"photos\"\nfreshness = \"strict\"\nwrite = \"through\"\n"
	if err := os.WriteFile(file, []byte(r.TOML+older), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file, nil, nil)
	if err != nil {
		t.Fatalf("%v:\n%s", err, r.TOML)
	}
	if int64(c.Cache.HotBytes) != r.Sizes.Memory || int64(c.Cache.WarmBytes) != r.Sizes.Disk {
		t.Errorf("memory %d, disk %d; proposed were %d and %d", c.Cache.HotBytes, c.Cache.WarmBytes, r.Sizes.Memory, r.Sizes.Disk)
	}
	book, err := c.OpenRules(slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatalf("%v:\n%s", err, r.TOML)
	}
	if s := book.For("photos", "any"); s.Freshness != rules.TTL || s.TTL < 10*time.Second || !s.Back || s.Pack != 64<<10 || s.Pin {
		t.Errorf("%+v:\n%s", s, r.TOML)
	}
	if s := book.For("photos", pinned); !s.Pin {
		t.Errorf("%s is not pinned:\n%s", pinned, r.TOML)
	}
	// With the promise that its comment names, the comment is a setting.
	promised := strings.Replace(strings.Replace(r.TOML, "freshness = \"ttl\"\n", "", 1), "# freshness =", "freshness =", 1)
	if err := os.WriteFile(file, []byte(promised), 0o600); err != nil {
		t.Fatal(err)
	}
	if book, err = c.OpenRules(slog.New(slog.DiscardHandler), nil); err != nil || book.For("photos", "any").Freshness != rules.Immutable {
		t.Errorf("%v:\n%s", err, promised)
	}
}
