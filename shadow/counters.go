package shadow

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
)

// counters are the metrics of a Shadow. docs/metrics.md says what each counts.
type counters struct {
	requests, bytes       *metrics.Counter
	sentRequests, fetched *metrics.Counter // to the upstream, by a gateway
	reads                 map[akigw.Outcome]*metrics.Counter
	stale                 map[rules.Freshness]*metrics.Counter
}

func newCounters(set *metrics.Set) *counters {
	c := &counters{
		requests:     set.GetOrCreateCounter("akigw_shadow_requests_total"),
		bytes:        set.GetOrCreateCounter("akigw_shadow_bytes_total"),
		sentRequests: set.GetOrCreateCounter("akigw_shadow_upstream_requests_total"),
		fetched:      set.GetOrCreateCounter("akigw_shadow_upstream_bytes_total"),
		reads:        map[akigw.Outcome]*metrics.Counter{},
		stale:        map[rules.Freshness]*metrics.Counter{},
	}
	for _, outcome := range []akigw.Outcome{akigw.Hot, akigw.Warm, akigw.Cold} {
		c.reads[outcome] = set.GetOrCreateCounter(fmt.Sprintf("akigw_shadow_reads_total{outcome=%q}", string(outcome)))
	}
	for _, mode := range rules.Modes() {
		c.stale[mode] = set.GetOrCreateCounter(fmt.Sprintf("akigw_shadow_stale_reads_total{freshness=%q}", string(mode)))
	}
	return c
}

// passed counts a request that passed.
func (c *counters) passed(sent int64) {
	c.requests.Inc()
	c.bytes.AddInt64(sent)
}

// upstream counts requests that a gateway would have sent, as configured.
func (c *counters) upstream(requests int, bytes int64) {
	c.sentRequests.Add(requests)
	c.fetched.AddInt64(bytes)
}

// read counts what a gateway would have done for a read, as configured.
func (c *counters) read(a *answer, scale int) {
	c.reads[a.tier].Add(scale)
	c.upstream(scale*(a.heads+a.gets+a.lists), int64(scale)*(a.bytes+int64(a.lists)*pageBytes))
}
