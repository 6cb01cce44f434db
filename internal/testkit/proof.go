package testkit

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// Proof is one of the runs T1 to T16 of docs/reliability.md. Each comes in three sizes: a small
// one among all tests, the quick one (AKIGW_PROOF=quick, make quick) and the long one
// (AKIGW_PROOF=long, make long TEST=T4). Its figures and its seed are logged, and, if
// AKIGW_RESULTS names a directory, written there as JSON.
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

// Prove begins a run. The seed is AKIGW_SEED, or another one each time.
func Prove(t testing.TB, name string) *Proof {
	t.Helper()
	p := &Proof{t: t, began: time.Now(), Name: name, Size: os.Getenv("AKIGW_PROOF"), Seed: Seed(t), Cores: runtime.GOMAXPROCS(0), Figures: map[string]any{}}
	if p.Size == "" {
		p.Size = "small"
	}
	t.Cleanup(p.report)
	return p
}

// Long reports whether this is the long run.
func (p *Proof) Long() bool { return p.Size == "long" }

// Amount is how much of something there is to be in this run. AKIGW_AMOUNT takes the place of
// it in quick and long runs.
func (p *Proof) Amount(small, quick, long int) int {
	if n, err := strconv.Atoi(os.Getenv("AKIGW_AMOUNT")); err == nil && p.Size != "small" {
		return n
	}
	return map[string]int{"quick": quick, "long": long}[p.Size] + map[bool]int{p.Size == "small": small}[true]
}

// Only skips the test if the run is small, or, with long, if it is not long.
func (p *Proof) Only(long bool) {
	p.t.Helper()
	if p.Size == "small" || long && !p.Long() {
		p.t.Skipf("%s: make long TEST=%s", p.Name, p.Name)
	}
}

// Random is a source of randomness of the run: the n-th.
func (p *Proof) Random(n int) *rand.Rand { return rand.New(rand.NewPCG(p.Seed, uint64(n))) }

// Figure keeps a figure of the run.
func (p *Proof) Figure(name string, value any) { p.Figures[name] = value }

// report logs and writes what there is.
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
	line, _ := json.Marshal(p.Figures) // it was just done
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
