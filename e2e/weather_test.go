package e2e

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// weather is what the upstream of a scenario is like.
type weather struct {
	t    *testing.T
	plan string // the file of a fault plan; "" in fair weather
}

// fairAndFoul runs a scenario twice, side by side: with an upstream that is well, and with one
// that fails by a plan at random.
func fairAndFoul(t *testing.T, scenario func(t *testing.T, w weather)) {
	t.Parallel()
	plan, err := json.MarshalIndent(s3mem.RandomPlan(testkit.Random(t), 5), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("fair", func(t *testing.T) {
		t.Parallel()
		scenario(t, weather{t: t})
	})
	t.Run("foul", func(t *testing.T) {
		t.Parallel()
		t.Logf("the faults: %s", plan)
		scenario(t, weather{t: t, plan: writeFile(t, filepath.Join(t.TempDir(), "plan.json"), plan)})
	})
}

func (w weather) foul() bool { return w.plan != "" }

// start starts the scenario's gateway, with an operator, in fair weather yet.
func (w weather) start(o options) *gateway {
	w.t.Helper()
	if w.foul() {
		o.env = append(o.env, "AKIGW_ENABLE_FAULTS=true")
	}
	g := startGateway(w.t, o)
	g.operator()
	return g
}

// gateway is another one, which the weather is there for from the start.
func (w weather) gateway(o options) *gateway {
	w.t.Helper()
	if w.foul() {
		o.env = append(o.env, "AKIGW_ENABLE_FAULTS=true", "AKIGW_FAULT_PLAN="+w.plan)
	}
	return newGateway(w.t, o)
}

// bucket makes a bucket whose client is as patient as the weather asks for.
func (w weather) bucket(g *gateway, name string) *bucketOf {
	w.t.Helper()
	b := newBucket(w.t, g, name)
	b.patient = w.foul()
	return b
}

// breaks begins the faults of foul weather.
func (w weather) breaks(g *gateway) {
	w.t.Helper()
	if w.foul() {
		g.setPlanFile(w.plan)
	}
}

// clears ends them, and sees that there were some.
func (w weather) clears(g *gateway) {
	w.t.Helper()
	if !w.foul() {
		return
	}
	if g.metric("akigw_faults_hits_total") == 0 {
		w.t.Error("no fault happened")
	}
	g.says("faults", "clear")
}
