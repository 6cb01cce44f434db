package e2e

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// weather is the condition of a scenario's upstream.
type weather struct {
	t    *testing.T
	plan string // the file of a fault plan; "" in fair weather
}

// fairAndFoul runs a scenario with a healthy upstream, or with one that fails by a random plan: the seed
// decides. With AKIGW_LONG it runs the scenario both ways, concurrently.
func fairAndFoul(t *testing.T, scenario func(t *testing.T, w weather)) {
	t.Parallel()
	seed := testkit.Seed(t)
	random := rand.New(rand.NewPCG(seed, 1))
	both, foul := os.Getenv("AKIGW_LONG") != "", random.IntN(2) == 1
	plan, err := json.MarshalIndent(s3mem.RandomPlan(random, 5), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if both || !foul {
		t.Run("fair", func(t *testing.T) {
			t.Parallel()
			t.Logf("AKIGW_SEED=%d: the weather is fair", seed)
			scenario(t, weather{t: t})
		})
	}
	if both || foul {
		t.Run("foul", func(t *testing.T) {
			t.Parallel()
			t.Logf("AKIGW_SEED=%d: the faults: %s", seed, plan)
			scenario(t, weather{t: t, plan: writeFile(t, filepath.Join(t.TempDir(), "plan.json"), plan)})
		})
	}
}

func (w weather) foul() bool { return w.plan != "" }

// start starts the scenario's gateway with an operator. The weather is still fair. If it stays fair, the gateway
// has no race detector: failures of the upstream take more ways through the code than its answers do.
func (w weather) start(o options) *gateway {
	w.t.Helper()
	if o.plain = o.plain || !w.foul(); w.foul() {
		o.env = append(o.env, "AKIGW_ENABLE_FAULTS=true")
	}
	g := startGateway(w.t, o)
	g.operator()
	return g
}

// gateway returns another gateway, which has the weather from its start.
func (w weather) gateway(o options) *gateway {
	w.t.Helper()
	if w.foul() {
		o.env = append(o.env, "AKIGW_ENABLE_FAULTS=true", "AKIGW_FAULT_PLAN="+w.plan)
	}
	return newGateway(w.t, o)
}

// bucket creates a bucket. Its client retries in foul weather.
func (w weather) bucket(g *gateway, name string) *bucketOf {
	w.t.Helper()
	b := newBucket(w.t, g, name)
	b.patient = w.foul()
	return b
}

// breaks starts the faults of foul weather.
func (w weather) breaks(g *gateway) {
	w.t.Helper()
	if w.foul() {
		g.setPlanFile(w.plan)
	}
}

// clears ends the faults, and checks that there were some.
func (w weather) clears(g *gateway) {
	w.t.Helper()
	if !w.foul() {
		return
	}
	if g.metric("akigw_faults_hits_total") == 0 {
		w.t.Error("no fault occurred")
	}
	g.says("faults", "clear")
}
