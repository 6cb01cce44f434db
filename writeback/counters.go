package writeback

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/writeback/buckets"
)

// counters count the writes that a rule wants written back.
type counters struct {
	journal, upstream *metrics.Counter                   // by where they were acknowledged
	through           map[buckets.Cause]*metrics.Counter // by the reason why they went through
}

func newCounters(set *metrics.Set) *counters {
	c := &counters{
		journal:  set.GetOrCreateCounter(`akigw_tiers_back_writes_total{commit="journal"}`),
		upstream: set.GetOrCreateCounter(`akigw_tiers_back_writes_total{commit="upstream"}`),
		through:  map[buckets.Cause]*metrics.Counter{},
	}
	for _, cause := range buckets.Causes() {
		c.through[cause] = set.GetOrCreateCounter(fmt.Sprintf(`akigw_tiers_back_through_total{reason=%q}`, string(cause)))
	}
	return c
}
