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

// The values of the label by: what caused the move.
const (
	byOperator = "operator"
	byWorker   = "worker"
)

// moved counts moved objects, by action and by what caused it.
func (c *counters) moved(action Action, by string) *metrics.Counter {
	return c.set.GetOrCreateCounter(fmt.Sprintf("akigw_tiers_moves_total{action=%q,by=%q}", action, by))
}
