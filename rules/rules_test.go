package rules

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/akidb/akigw/internal/watch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var defaults = Settings{Freshness: Strict, TTL: time.Minute, Memory: true, Disk: true, Block: 256 << 10}

const example = `
[cache]
freshness = "strict"

[[rule]]
bucket = "logs"
key = "*.gz"
freshness = "immutable"

[[rule]] # the whole bucket
bucket = "logs"
freshness = "ttl"
ttl_secs = 300
max_stale_secs = 3600

[[rule]]
key = "tmp/*"
tiers = ["hot"]
max_object_bytes = 1048576

[storage]
`

func mustParse(t testing.TB, file string, defaults Settings) *Set {
	t.Helper()
	rules, err := Parse([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	return NewSet(rules, defaults)
}

// TestFirstMatchPerField: each field comes from the first rule that matches and
// has it.
func TestFirstMatchPerField(t *testing.T) {
	set := mustParse(t, example, defaults)
	for _, c := range []struct {
		bucket, key string
		want        Settings
	}{
		{"data", "a", defaults},
		{"logs", "2026/a.gz", Settings{Freshness: Immutable, TTL: 5 * time.Minute, MaxStale: time.Hour, Memory: true, Disk: true, Block: 256 << 10}},
		{"logs", "a", Settings{Freshness: TTL, TTL: 5 * time.Minute, MaxStale: time.Hour, Memory: true, Disk: true, Block: 256 << 10}},
		{"logs", "tmp/a.gz", Settings{Freshness: Immutable, TTL: 5 * time.Minute, MaxStale: time.Hour, Memory: true, MaxObject: 1 << 20, Block: 256 << 10}},
		{"data", "tmp/", Settings{Freshness: Strict, TTL: time.Minute, Memory: true, MaxObject: 1 << 20, Block: 256 << 10}},
		{"data", "a/tmp/b", defaults},
	} {
		first, second := set.For(c.bucket, c.key), set.For(c.bucket, c.key)
		if *first != c.want || first != second {
			t.Errorf("%s/%s: %+v, then the same one %t", c.bucket, c.key, *first, first == second)
		}
	}
}

// TestExplain: Explain returns the line of each field.
func TestExplain(t *testing.T) {
	var got strings.Builder
	for _, e := range mustParse(t, example, defaults).Explain("logs", "tmp/a.gz") {
		fmt.Fprintf(&got, "%s=%s line %d", e.Field, e.Value, e.Line)
		if e.Rule != nil {
			fmt.Fprintf(&got, " of %s at %d", e.Rule, e.Rule.Line)
		}
		got.WriteString("\n")
	}
	want := `freshness="immutable" line 8 of [[rule]] bucket = "logs", key = "*.gz" at 5
ttl_secs=300 line 13 of [[rule]] bucket = "logs", key = "*" at 10
max_stale_secs=3600 line 14 of [[rule]] bucket = "logs", key = "*" at 10
stale_after_ms=0 line 0
tiers=["hot"] line 18 of [[rule]] bucket = "*", key = "tmp/*" at 16
max_object_bytes="1MiB" line 19 of [[rule]] bucket = "*", key = "tmp/*" at 16
write="through" line 0
cache_writes="both" line 0
pack_bytes="0" line 0
block_bytes="256KiB" line 0
read_ahead="0" line 0
compression="none" line 0
pin=false line 0
hot_tier_ttl_hours=0 line 0
warm_tier_ttl_days=0 line 0
hot_promotion_threshold=0 line 0
access_window_hours=0 line 0
list_ttl_secs=0 line 0
qos="" line 0
compare=0 line 0
shadow="off" line 0
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

// TestMistakes: every mistake is reported with its line, and no rule is applied.
func TestMistakes(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"[[rule]]\nfreshness = \"sometimes\"", `line 2: rule.freshness: must be one of ["strict" "ttl" "immutable" "exclusive" "events"]`},
		{"[[rule]]\nfreshness = 1", "line 2: rule.freshness: must be one of"},
		{"[[rule]]\ncache_writes = \"hot\"", `line 2: rule.cache_writes: must be "both", "memory", "disk" or "none"`},
		{"[[rule]]\ncache_writes = false", "line 2: rule.cache_writes: must be"},
		{"[[rule]]\nttl_secs = 0", "line 2: rule.ttl_secs: must be a number of seconds from 1"},
		{"[[rule]]\nttl_secs = \"1\"", "line 2: rule.ttl_secs"},
		{"[[rule]]\nmax_stale_secs = -1", "line 2: rule.max_stale_secs"},
		{"[[rule]]\n\n\ntiers = [\"cold\"]", `line 4: rule.tiers: must be a list of "hot" and "warm"`},
		{"[[rule]]\ntiers = \"hot\"", "line 2: rule.tiers"},
		{"[[rule]]\nmax_object_bytes = \"1 megabyte\"", "line 2: rule.max_object_bytes"},
		{"[[rule]]\nmax_object_bytes = -1", "line 2: rule.max_object_bytes"},
		{"[[rule]]\nwrite = \"sideways\"", "line 2: rule.write: must be"},
		{"[[rule]]\nblock_bytes = \"100KiB\"", "line 2: rule.block_bytes: must be a power of two"},
		{"[[rule]]\nblock_bytes = 1", "line 2: rule.block_bytes: must be a power of two"},
		{"[[rule]]\nread_ahead = \"far\"", "line 2: rule.read_ahead: \"far\" is not a size"},
		{"[[rule]]\ncompression = \"lz4\"", "line 2: rule.compression: must be"},
		{"[[rule]]\npin = 1", "line 2: rule.pin: must be true or false"},
		{"[[rule]]\nwarm_tier_ttl_days = -1", "line 2: rule.warm_tier_ttl_days: must be 0 or a number that makes at least a second"},
		{"[[rule]]\nhot_tier_ttl_hours = 0.0001", "line 2: rule.hot_tier_ttl_hours: must be 0 or a number that makes at least a second"},
		{"[[rule]]\naccess_window_hours = nan", "line 2: rule.access_window_hours: must be 0 or a number that makes at least a second"},
		{"[[rule]]\nhot_promotion_threshold = 1.5", "line 2: rule.hot_promotion_threshold: must be a number from 0 to 1000000"},
		{"[[rule]]\nlist_ttl_secs = -1", "line 2: rule.list_ttl_secs"},
		{"[[rule]]\nqos = 1", "line 2: rule.qos: must be"},
		{"[[rule]]\ncompare = 1.01", "line 2: rule.compare: must be a number from 0 to 1"},
		{"[[rule]]\ncompare = -1", "line 2: rule.compare: must be a number from 0 to 1"},
		{"[[rule]]\ncompare = nan", "line 2: rule.compare: must be a number from 0 to 1"},
		{"[[rule]]\ncompare = true", "line 2: rule.compare: must be a number from 0 to 1"},
		{"[[rule]]\nbucket = \"\"", "line 2: rule.bucket: must be a pattern"},
		{"[[rule]]\nkey = 3", "line 2: rule.key: must be a pattern"},
		{"[[rule]]\nwrite = \"behind\"", "line 2: rule.write: must be"},
		{"[[rule]]\ncolour = \"red\"\nttl_secs = -1", "line 2: rule.colour: unknown setting\nline 3: rule.ttl_secs"},
		{"[rule]\nkey = \"a\"", "must be written as [[rule]] tables"},
		{"rule = 1", "must be written as [[rule]] tables"},
		{"rule = [1]", "must be written as [[rule]] tables"},
		{"rule = [{key = \"a\", ttl_secs = 3}]", "must be written as [[rule]] tables"},
		{"[[rule]]\n[rule.more]\nkey = \"a\"", "line 1: rule.more: unknown setting"},
		{"[[rule]", "toml"},
		{strings.Repeat("[[rule]]\n", maxRules+1), "more than 256"},
	} {
		if _, err := Parse([]byte(c.file)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q: %v, want %s", c.file, err, c.want)
		}
	}
	for _, file := range []string{"", "[cache]\nfreshness = \"ttl\"", strings.Repeat("[[rule]]\n", maxRules)} {
		if _, err := Parse([]byte(file)); err != nil {
			t.Errorf("%.60q: %v", file, err)
		}
	}
}

// TestReload: changes of the file take effect as a whole while keys are
// looked up. After a mistake, the previous rules stay in force.
//
// Scenarios: D19.
func TestReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "akigw.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	var log bytes.Buffer
	b, err := Open(Options{Path: path, Defaults: defaults, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	becomes := func(want Freshness) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); b.For("b", "k").Freshness != want; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("still %+v", b.For("b", "k"))
			}
		}
	}
	write("[[rule]]\nfreshness = \"ttl\"\n")
	becomes(TTL)
	write("[[rule]]\nfreshness = \"immutable\"\nttl_secs = 0 # wrong\n")
	time.Sleep(2 * watch.Interval)
	becomes(TTL)
	write("[[rule]]\nfreshness = \"exclusive\"\n")
	becomes(Exclusive)
	cancel()
	wait.Wait()
	if !strings.Contains(log.String(), "line 3: rule.ttl_secs") {
		t.Errorf("the log says %s", &log)
	}
	if _, err := Open(Options{Path: path + ".none", Defaults: defaults, Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("opened a file that is not there")
	}
}

// TestManyCombinations: the cache of combinations is bounded and correct.
func TestManyCombinations(t *testing.T) {
	var file strings.Builder
	for i := range 12 {
		fmt.Fprintf(&file, "[[rule]]\nkey = \"*%c*\"\nttl_secs = %d\n", 'a'+i, i+1)
	}
	set := mustParse(t, file.String(), defaults)
	for n := range 1 << 12 {
		key, want := "", time.Minute
		for i := 11; i >= 0; i-- {
			if n&(1<<i) != 0 {
				key, want = key+string(rune('a'+i)), time.Duration(i+1)*time.Second
			}
		}
		if got := set.For("b", key).TTL; got != want {
			t.Fatalf("%s: %s, want %s", key, got, want)
		}
	}
	if n := len(*set.combined.Load()); n > maxCombined+1 {
		t.Errorf("%d combinations are kept", n)
	}
}

// FuzzParse: no file makes the parser panic, and reported lines are lines of the file.
func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add("rule = [{key = \"a\", ttl_secs = 3}]")
	f.Add("[[rule.x]]\n[[rule]]\n\"key\" = '*'\nrule.key = 1")
	f.Fuzz(func(t *testing.T, file string) {
		rules, err := Parse([]byte(file))
		if err != nil {
			return
		}
		for _, e := range NewSet(rules, defaults).Explain("bucket", "key") {
			if e.Line < 0 || e.Line > strings.Count(file, "\n")+1 {
				t.Fatalf("%+v", e)
			}
		}
	})
}

func BenchmarkFor(b *testing.B) {
	set := mustParse(b, example, defaults)
	b.ReportAllocs()
	for b.Loop() {
		set.For("logs", "team/2026/11/part-00001.parquet")
	}
}
