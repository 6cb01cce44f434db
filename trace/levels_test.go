package trace

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/zipf"
	"github.com/akidb/akigw/tiers/warm"
)

// keys is a sequence of keys that are asked for. Keys from scanned on belong to
// a scan.
type keys []uint64

const scanned = 1 << 40

// The traces: keys of a working set, the same with a looping scan of so many
// keys between, and a working set that moves on.
func zipfTrace(random *rand.Rand, n, keys int) (t keys) {
	z := zipf.New(keys, 0.9)
	for range n {
		t = append(t, uint64(z.Draw(random)))
	}
	return t
}

func scanTrace(set keys, loop int) (t keys) {
	for i, key := range set {
		t = append(t, key, scanned+uint64(i%loop))
	}
	return t
}

func movingTrace(random *rand.Rand, n, keys int) (t keys) {
	for i, key := range zipfTrace(random, n, keys) {
		t = append(t, key+uint64(i/(n/4)*keys/4))
	}
	return t
}

// score counts hits among keys that are no scan's, after a first quarter in
// which caches fill.
type score struct{ hits, reads int }

func (t keys) play(get func(key uint64) bool) (s score) {
	for i, key := range t {
		hit := get(key)
		if key < scanned && i >= len(t)/4 {
			s.reads++
			if hit {
				s.hits++
			}
		}
	}
	return s
}

func (s score) percent() float64 { return 100 * float64(s.hits) / float64(s.reads) }

// through asks a simulated tier of so many values for one after the other.
func (t keys) through(tier func([]step, int64) level, capacity int) func(key uint64) bool {
	steps := make([]step, len(t))
	for i, key := range t {
		steps[i] = step{block: key, bytes: warmValue - overhead}
	}
	l, n := tier(steps, int64(capacity)*warmValue), -1
	return func(uint64) bool {
		n++
		return l.see(n)
	}
}

// warmTier is a real warm tier with its background work.
type warmTier struct {
	*warm.Tier
	stop func()
}

const warmValue = 12 << 10

func newWarm(t testing.TB, quota int64) *warmTier {
	t.Helper()
	tier, err := warm.Open(warm.Config{Dir: filepath.Join(t.TempDir(), "warm"), Quota: quota, Format: "trace", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tier.Run(ctx) }()
	return &warmTier{tier, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := tier.Close(); err != nil {
			t.Error(err)
		}
	}}
}

// get asks the warm tier, with a rest after every so many misses, which leaves the
// background work its part: the tier makes room by the clock.
func (w *warmTier) get(pace int) func(key uint64) bool {
	value := testkit.Bytes(1, warmValue)
	misses := 0
	return func(key uint64) bool {
		run := warm.Run{ID: key, Object: key}
		if _, ok := w.Block(run, 0, nil); ok {
			return true
		}
		if w.PutBlock(run, 0, value); misses%pace == 0 {
			time.Sleep(5 * time.Millisecond)
		}
		misses++
		return false
	}
}

// held counts which keys of a trace are there.
func (w *warmTier) held(t keys) int {
	seen := map[uint64]bool{}
	for _, key := range t {
		if !seen[key] && w.HasBlock(warm.Run{ID: key, Object: key}, 0) {
			seen[key] = true
		}
	}
	return len(seen)
}

// TestScanResistance: a looping scan of ten times the cache beside a working
// set takes less than five points of the warm tier's hits, and less than half of
// LRU's loss from the hot tier's. The log has the table; AKIGW_LONG=1 makes it a larger one.
func TestScanResistance(t *testing.T) {
	if testkit.Race {
		t.Skip("it is about hits; make test runs it without the race detector, which it waits for most of the time")
	}
	t.Parallel()
	random := testkit.Random(t)
	quota, objects, reads, pace := int64(32<<20), 10_000, 24_000, 50
	if os.Getenv("AKIGW_LONG") != "" {
		quota, objects, reads, pace = 64<<20, 20_000, 60_000, 30
	}
	capacity := int(quota * 7 / 8 * 8 / 10 / warmValue)
	set := zipfTrace(random, reads, objects)
	traces := []struct {
		name string
		keys
	}{
		{"Zipf 0.9", set},
		{"Zipf 0.9 and a looping scan", scanTrace(set, 10*capacity)},
		{"moving Zipf 0.9", movingTrace(random, reads, objects)},
	}
	percent := map[string][]float64{}
	for _, c := range traces {
		w := newWarm(t, quota)
		warmScore := c.play(w.get(pace))
		size := w.held(c.keys)
		w.stop()
		row := []float64{c.play(c.through(newWeighted, capacity)).percent(), warmScore.percent(), c.play(c.through(newLRU, capacity)).percent(), c.play(c.through(newOptimum, capacity)).percent()}
		t.Logf("%-28s hot %5.1f%%  warm %5.1f%% (holds %d)  LRU %5.1f%%  optimum %5.1f%%  of %d values", c.name, row[0], row[1], size, row[2], row[3], capacity)
		percent[c.name] = row
	}
	alone, scan := percent[traces[0].name], percent[traces[1].name]
	for i, tier := range []string{"hot", "warm"} {
		allowed := []float64{(alone[2] - scan[2]) / 2, 5}[i]
		if alone[i]-scan[i] > allowed {
			t.Errorf("the scan took %.1f points from the %s tier's hits, which may be %.1f", alone[i]-scan[i], tier, allowed)
		}
		if scan[i] < scan[2] {
			t.Errorf("under a scan the %s tier hits less (%.1f%%) than LRU (%.1f%%)", tier, scan[i], scan[2])
		}
	}
}
