package trace

import (
	"compress/gzip"
	"context"
	"encoding/csv"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
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

func (t keys) play(get func(key uint64) bool) score { return t.playFrom(len(t)/4, get) }

// playFrom is play that counts from the first of some keys on.
func (t keys) playFrom(first int, get func(key uint64) bool) (s score) {
	for i, key := range t {
		hit := get(key)
		if key < scanned && i >= first {
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

// published are the policies that the memory tier is measured by.
var published = []string{"lru", "s3-fifo", "sieve", "arc"}

// nearTheBest checks that a trace hits at most a point less in a memory tier of so many values than
// under the best of the published policies. It counts from the first of some keys on.
func (t keys) nearTheBest(test *testing.T, name string, first, capacity int) {
	test.Helper()
	percent := func(policy string) float64 {
		return t.playFrom(first, t.through(levelOf(policy), capacity)).percent()
	}
	best, row := 0.0, ""
	for _, policy := range published {
		percent := percent(policy)
		best = max(best, percent)
		row += fmt.Sprintf("  %s %.1f%%", policy, percent)
	}
	hot := percent("akigw")
	test.Logf("%-28s %6d values: hot %.1f%%%s  optimum %.1f%%", name, capacity, hot, row, percent("optimum"))
	if hot < best-1 {
		test.Errorf("%s: a memory tier of %d values hits %.1f%%, the best policy %.1f%%", name, capacity, hot, best)
	}
}

// TestNearTheBest: on a popular set, beside a looping scan, and while the set moves, the memory tier is
// within a point of the best of LRU, S3-FIFO, SIEVE and ARC, whatever its size is. AKIGW_LONG=1 makes the
// traces larger. The seed is fixed: the traces are samples, on which policies differ by some tenths of a point.
func TestNearTheBest(t *testing.T) {
	testkit.WithoutRace(t, "it is about hits, and has one goroutine")
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	objects, reads := 5_000, 12_000
	if os.Getenv("AKIGW_LONG") != "" {
		objects, reads = 20_000, 60_000
	}
	set, moving := zipfTrace(random, reads, objects), movingTrace(random, reads, objects)
	for _, percent := range []int{2, 5, 10, 20, 40} {
		capacity := objects * percent / 100
		set.nearTheBest(t, "Zipf 0.9", reads/4, capacity)
		scanTrace(set, 2*objects).nearTheBest(t, "Zipf 0.9 and a looping scan", 2*reads/4, capacity)
		moving.nearTheBest(t, "moving Zipf 0.9", reads/4, capacity)
	}
}

// TestNearTheBest_BlockTrace is the same for a block trace: a CSV file, compressed, with the number of a block in the
// column lbn. All blocks count as equal in size, and all requests, from the first one on.
func TestNearTheBest_BlockTrace(t *testing.T) {
	path := os.Getenv("AKIGW_BLOCK_TRACE")
	if path == "" {
		t.Skip("AKIGW_BLOCK_TRACE does not name a block trace: a CSV file, compressed with gzip, with a column lbn")
	}
	requests, objects := readBlockTrace(t, path)
	for _, percent := range []int{2, 5, 10, 20, 40} {
		requests.nearTheBest(t, "block trace", 0, objects*percent/100)
	}
}

// readBlockTrace returns the requests of a block trace, and how many blocks they are for.
func readBlockTrace(t *testing.T, path string) (requests keys, objects int) {
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	zip, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(zip).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	column := slices.Index(rows[0], "lbn")
	if column < 0 {
		t.Fatalf("%s has no column lbn: %q", path, rows[0])
	}
	numbers := map[string]uint64{}
	for _, row := range rows[1:] {
		if _, ok := numbers[row[column]]; !ok {
			numbers[row[column]] = uint64(len(numbers))
		}
		requests = append(requests, numbers[row[column]])
	}
	return requests, len(numbers)
}

// TestScanResistance: a looping scan of ten times the cache beside a working
// set takes less than five points of the warm tier's hits, and less than half of
// LRU's loss from the hot tier's. The log has the table; AKIGW_LONG=1 makes it a larger one.
func TestScanResistance(t *testing.T) {
	testkit.WithoutRace(t, "it is about hits")
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
