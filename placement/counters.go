package placement

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"
)

// counters are the metrics of a Placement.
type counters struct {
	set    *metrics.Set
	cycles *metrics.PrometheusHistogram // seconds
}

func newCounters(set *metrics.Set) *counters {
	return &counters{set: set, cycles: set.GetOrCreatePrometheusHistogram("akigw_tiers_worker_cycle_seconds")}
}

// The values of the label by: who had objects moved.
const (
	byOperator = "operator"
	byWorker   = "worker"
)

// moved counts objects by what was done with them, and who had it done.
func (c *counters) moved(action Action, by string) *metrics.Counter {
	return c.set.GetOrCreateCounter(fmt.Sprintf("akigw_tiers_moves_total{action=%q,by=%q}", action, by))
}
