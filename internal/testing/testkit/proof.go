package testkit

import (
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// Proof is one of the runs T1 to T16 of docs/reliability.md. Each has three sizes: the small one is
// part of the normal tests, the quick one runs with AKIGW_PROOF=quick (make quick), and the long one
// with AKIGW_PROOF=long (make long TEST=T4). Its figures and its seed are logged and, if AKIGW_RESULTS
// names a directory, written there as JSON.
type Proof struct {
	t     testing.TB
	began time.Time

	Name    string         `json:"test"`
	Size    string         `json:"size"`
	Seed    uint64         `json:"seed"`
	Passed  bool           `json:"passed"`
	Seconds float64        `json:"seconds"`
	Cores   int            `json:"cores"`
	Figures map[string]any `json:"figures"`
}

// Prove begins a run. The seed is AKIGW_SEED, or a new one each time.
func Prove(t testing.TB, name string) *Proof {
	t.Helper()
	p := &Proof{t: t, began: time.Now(), Name: name, Size: cmp.Or(os.Getenv("AKIGW_PROOF"), small), Seed: Seed(t), Cores: runtime.GOMAXPROCS(0), Figures: map[string]any{}}
	if p.Size != small && p.Size != quick && p.Size != long {
		t.Fatalf("AKIGW_PROOF=%s: must be %s or %s", p.Size, quick, long)
	}
	t.Cleanup(p.report)
	return p
}

// The sizes of a run.
const (
	small = "small"
	quick = "quick"
	long  = "long"
)

// Quick reports whether this is the quick run.
func (p *Proof) Quick() bool { return p.Size == quick }

// Long reports whether this is the long run.
func (p *Proof) Long() bool { return p.Size == long }

// Amount returns the amount of something for the size of this run. AKIGW_AMOUNT overrides it in quick
// and long runs.
func (p *Proof) Amount(inSmall, inQuick, inLong int) int {
	if n, err := strconv.Atoi(os.Getenv("AKIGW_AMOUNT")); err == nil && p.Size != small {
		return n
	}
	return map[string]int{small: inSmall, quick: inQuick, long: inLong}[p.Size]
}

// NotSmall skips the test if the run is small.
func (p *Proof) NotSmall() {
	p.t.Helper()
	if p.Size == small {
		p.t.Skipf("%s: make quick, or make long TEST=%s", p.Name, p.Name)
	}
}

// OnlyLong skips the test if the run is not the long one.
func (p *Proof) OnlyLong() {
	p.t.Helper()
	if !p.Long() {
		p.t.Skipf("a long run: make long TEST=%s", p.Name)
	}
}

// Random returns the n-th source of randomness of the run.
func (p *Proof) Random(n int) *rand.Rand { return rand.New(rand.NewPCG(p.Seed, uint64(n))) }

// Share distributes jobs, numbered from 0, among parallel workers. Each worker is a subtest that takes
// the next jobs. Share returns when all workers are done.
func Share(t *testing.T, workers, jobs int, work func(t *testing.T, next iter.Seq[int])) {
	t.Helper()
	var taken atomic.Int64
	next := func(yield func(int) bool) {
		for n := int(taken.Add(1)) - 1; n < jobs && yield(n); n = int(taken.Add(1)) - 1 {
		}
	}
	t.Run("shared", func(t *testing.T) {
		for worker := range min(workers, jobs) {
			t.Run(strconv.Itoa(worker), func(t *testing.T) {
				t.Parallel()
				work(t, next)
			})
		}
	})
}

// Figure records a figure of the run.
func (p *Proof) Figure(name string, value any) { p.Figures[name] = value }

// report logs and writes the figures.
func (p *Proof) report() {
	if p.t.Skipped() {
		return
	}
	p.Passed, p.Seconds = !p.t.Failed(), float64(time.Since(p.began).Milliseconds())/1000
	raw, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		p.t.Error(err)
		return
	}
	line, _ := json.Marshal(p.Figures) // marshalled above
	p.t.Logf("%s %s, seed %d, %.1f s: %s", p.Name, p.Size, p.Seed, p.Seconds, line)
	dir := os.Getenv("AKIGW_RESULTS")
	if dir == "" {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s.json", p.Name, p.Size)), append(raw, '\n'), 0o644); err != nil {
		p.t.Error(err)
	}
}
