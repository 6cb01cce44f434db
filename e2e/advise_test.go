package e2e

import (
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/akidb/akigw/advise"
	"github.com/akidb/akigw/bench"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestLongAdvise: a small load test, on tiers that are too small for it. akigw advise names sizes; with
// those, the same load hits as often as predicted, within two points, and with tiers of twice the size it hits
// about as often.
func TestLongAdvise(t *testing.T) {
	long(t)
	const seconds = 60
	addr := testkit.FreeAddr(t)
	spawn(t, addr, exec.Command(build(t, plain), "fakes3", "--listen", addr, "--access-key", upstreamAccessKey, "--secret-key", upstreamSecretKey))
	sizes := func(memory, disk int64) []string {
		return []string{"AKIGW_CACHE_FRESHNESS=strict", fmt.Sprint("AKIGW_CACHE_HOT_BYTES=", memory), fmt.Sprint("AKIGW_CACHE_WARM_BYTES=", disk)}
	}
	g := startGateway(t, options{plain: true, upstream: upstream{"fakes3", "http://" + addr}, env: sizes(2<<20, 32<<20)})
	g.operator()
	seed := testkit.Seed(t)
	g.load(t, seed, 1) // stores the objects
	page := filepath.Join(t.TempDir(), "advice.html")
	cmd := g.command("advise", "--seconds", fmt.Sprint(seconds+5), "--json", "--html", page)
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	before := g.load(t, seed, seconds)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	var report advise.Report
	if err := json.Unmarshal([]byte(out.String()), &report); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	t.Logf("%s", &out)
	if plots := string(readFile(t, page)); strings.Count(plots, "<polyline") != 4 {
		t.Error("the page lacks plots")
	}
	p := report.Sizes
	if p == nil {
		t.Fatal("no sizes are proposed")
	}
	g.restart(sizes(p.Memory, p.Disk))
	proposed := g.load(t, seed, seconds)
	g.restart(sizes(2*p.Memory, 2*p.Disk))
	double := g.load(t, seed, seconds)
	t.Logf("seed %d; before: %s; predicted for it: %.1f%% local, %.1f%% hot", seed, before, 100**report.Now.HitRatio, 100**report.Now.HotRatio)
	t.Logf("memory %d MiB, disk %d MiB: %s; predicted %.1f%% local, %.1f%% hot", p.Memory>>20, p.Disk>>20, proposed, 100**p.Expect.HitRatio, 100**p.Expect.HotRatio)
	t.Logf("twice that: %s", double)
	if d := math.Abs(proposed.local() - *p.Expect.HitRatio); d > 0.02 {
		t.Errorf("the hit ratio is %.1f points from the predicted one", 100*d)
	}
	if d := math.Abs(proposed.memory() - *p.Expect.HotRatio); d > 0.02 {
		t.Errorf("the hit ratio of memory is %.1f points from the predicted one", 100*d)
	}
	if gain := double.local() - proposed.local(); gain > 0.02 {
		t.Errorf("twice the size adds %.1f points", 100*gain)
	}
	if gain := double.memory() - proposed.memory(); gain > 0.02 {
		t.Errorf("twice the memory adds %.1f points", 100*gain)
	}
	if before.local() > proposed.local()-0.02 && before.memory() > proposed.memory()-0.02 {
		t.Error("the tiers were not too small before: the test shows nothing")
	}
}

// outcomes are reads by the slowest tier that they needed.
type outcomes map[string]int64

func (o outcomes) share(tiers ...string) float64 {
	sum, all := int64(0), int64(0)
	for _, n := range o {
		all += n
	}
	for _, name := range tiers {
		sum += o[name]
	}
	return float64(sum) / float64(max(all, 1))
}

func (o outcomes) local() float64  { return o.share("hot", "warm") }
func (o outcomes) memory() float64 { return o.share("hot") }

// String implements fmt.Stringer.
func (o outcomes) String() string {
	return fmt.Sprintf("%.1f%% local, %.1f%% hot of %v", 100*o.local(), 100*o.memory(), map[string]int64(o))
}

// load runs the load test on 1,000 objects, with the same requests for the same seed, and returns the outcomes of its second
// half. It moves nothing: moves are not in a trace, and with so few objects they would decide the hit ratio.
func (g *gateway) load(t *testing.T, seed uint64, seconds int) outcomes {
	t.Helper()
	out, err := g.command("bench", "load", "--json", "--items", "1000", "--item-bytes", "32KiB", "--qps", "200", "--seed", fmt.Sprint(seed),
		"--search-pct", "0.8", "--insert-pct", "0.2", "--tier-control-pct", "0", "--duration-secs", fmt.Sprint(seconds)).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var report bench.Report
	if err := json.Unmarshal(out, &report); err != nil || report.Wrong > 0 || report.Errors > report.Requests/100 {
		t.Fatalf("%v, %d of %d requests failed, %d were wrong: %q", err, report.Errors, report.Requests, report.Wrong, report.Problems)
	}
	found := outcomes{}
	for _, s := range report.Samples {
		if s.At > float64(seconds)/2 {
			for tier, n := range s.Tiers {
				found[tier] += n
			}
		}
	}
	return found
}

// restart restarts a gateway with another environment.
func (g *gateway) restart(env []string) {
	g.t.Helper()
	g.stop()
	g.env = env
	g.start()
}
