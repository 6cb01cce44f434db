package search

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestLongRecall measures recall, times and memory with 1,000,000 rows of 128 dimensions in each kind of
// data: as built, with filters, and after 20% of the rows were updated, which leaves a base part with
// holes and five delta parts. AKIGW_SEARCH_KIND and AKIGW_SEARCH_ROWS narrow it down. The limits are for
// a machine of 2 cores that does nothing else.
func TestLongRecall(t *testing.T) {
	if os.Getenv("AKIGW_LONG") == "" {
		t.Skip("takes minutes: AKIGW_LONG=1 runs it")
	}
	n := 1_000_000
	if s := os.Getenv("AKIGW_SEARCH_ROWS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 1000 {
			t.Fatalf("AKIGW_SEARCH_ROWS=%s is not a number of rows from 1,000 on", s)
		}
	}
	for kind, metric := range map[string]Metric{"overlapping": Cosine, "tight": Cosine, "uniform": Euclidean} {
		if k := os.Getenv("AKIGW_SEARCH_KIND"); k == "" || k == kind {
			t.Run(kind, func(t *testing.T) { longRecall(t, kind, metric, n) })
		}
	}
}

func longRecall(t *testing.T, kind string, metric Metric, n int) {
	const dim, queries, k = 128, 200, 10
	c := &collection{metric: metric, dim: dim}
	d := newDataset(kind, dim, 1000, testkit.Seed(t))
	raw := float64(4 * dim * n)
	before := rssAnon(t)
	peak := peakOf(t)
	start := time.Now()
	clusters := c.build(t, d, 0, n) // with making the rows and their norms
	built := time.Since(start)
	building, steady := (peak()-before)/raw, (rssAnon(t)-before)/raw
	t.Logf("%s: built in %v, memory %.2f of the rows, %.2f while building, index %.2f",
		kind, built.Round(time.Second), steady, building, float64(c.indexes[0].Bytes())/raw)
	if built > 10*time.Minute || steady > 1.6 || building > 2.2 {
		t.Error("building is too slow, or takes too much memory")
	}
	list := d.queries(queries)
	measure := func(name string) {
		recall, times := c.measure(t, list, k)
		p50, p95 := times.at(0.5), times.at(0.95)
		t.Logf("%s, %s: recall %.4f, P50 %.2f ms, P95 %.2f ms, CPU %.2f ms on average", kind, name, recall, p50, p95, times.cpu.Seconds()*1e3/queries)
		if recall < 0.95 || p95 > 5 {
			t.Errorf("%s, %s: want recall 0.95 and P95 5 ms", kind, name)
		}
	}
	byName := filters(d.random, clusters)
	for name, allowed := range byName {
		c.allowed[0] = allowed
		measure(name)
	}
	alive := randomBitmap(d.random, n, 0.8)
	c.build(t, d, 2000, n/10, n/20, n*3/100, n*3/200, n/200)
	for name, allowed := range byName {
		c.allowed[0] = alive.Clone()
		if allowed != nil {
			c.allowed[0].And(allowed)
		}
		measure("20% updated, " + name)
	}
	c.allowed[0] = alive
	times := c.load(list, 100, 10*time.Second)
	p50, p95 := times[len(times)/2], times[len(times)*95/100]
	t.Logf("%s, 20%% updated, 100 QPS: P50 %.2f ms, P95 %.2f ms", kind, p50.Seconds()*1e3, p95.Seconds()*1e3)
	if p95 > 10*time.Millisecond {
		t.Errorf("%s, 100 QPS: want P95 10 ms", kind)
	}
}

// load searches at a fixed rate and returns the sorted times from when each search was due.
func (c *collection) load(queries [][]float32, perSecond int, length time.Duration) (times []time.Duration) {
	var mu sync.Mutex
	var searches sync.WaitGroup
	start := time.Now()
	for i := range int(length.Seconds() * float64(perSecond)) {
		due := start.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
		time.Sleep(time.Until(due))
		searches.Go(func() {
			c.search(NewQuery(c.metric, queries[i%len(queries)]), 10)
			took := time.Since(due)
			mu.Lock()
			times = append(times, took)
			mu.Unlock()
		})
	}
	searches.Wait()
	slices.Sort(times)
	return times
}

// rssAnon returns the process's anonymous memory in bytes, after a collection.
func rssAnon(t testing.TB) float64 {
	debug.FreeOSMemory()
	return readRSSAnon(t)
}

func readRSSAnon(t testing.TB) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skipf("memory is measured on Linux only: %v", err)
	}
	var kib float64
	if _, rest, ok := strings.Cut(string(status), "RssAnon:"); ok {
		if _, err := fmt.Sscan(rest, &kib); err != nil {
			t.Fatal(err)
		}
	}
	return kib * 1024
}

// peakOf watches the process's anonymous memory until the returned function is called, which returns the
// maximum.
func peakOf(t testing.TB) func() float64 {
	stop, result := make(chan struct{}), make(chan float64)
	go func() {
		peak := 0.0
		for {
			peak = max(peak, readRSSAnon(t))
			select {
			case <-stop:
				result <- peak
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() float64 { close(stop); return <-result }
}

// BenchmarkSearch searches 100,000 rows of 128 dimensions.
func BenchmarkSearch(b *testing.B) {
	for kind := range kinds {
		b.Run(kind, func(b *testing.B) {
			c := &collection{metric: Euclidean, dim: 128}
			d := newDataset(kind, c.dim, 1000, 42)
			c.build(b, d, 1, 100_000)
			queries := d.queries(100)
			random := rand.New(rand.NewPCG(1, 1))
			for b.Loop() {
				c.search(NewQuery(c.metric, queries[random.IntN(len(queries))]), 10)
			}
			b.ReportMetric(float64(c.indexes[0].Bytes())/100_000, "bytes/row")
			runtime.KeepAlive(c)
		})
	}
}

// BenchmarkEstimate estimates the distances of 1,000,000 rows of 128 dimensions.
func BenchmarkEstimate(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 1))
	codes, factors := make([]uint64, 2_000_000), make([]factor, 1_000_000)
	for i := range codes {
		codes[i] = random.Uint64()
	}
	e := estimate{planes: [][2]uint64{{random.Uint64(), random.Uint64()}, {random.Uint64(), random.Uint64()}}}
	for b.Loop() {
		for first := 0; first < len(factors); first += 64 {
			sink += float32(e.hits(codes[first*2:first*2+128], factors[first:first+64], -1))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1e6, "ns/row")
}
