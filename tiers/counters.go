package tiers

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
)

// counters count what the cache does.
type counters struct {
	set      *metrics.Set
	reads    map[akigw.Outcome]*metrics.Counter
	listings map[bool]*metrics.Counter // by whether memory had them

	readAheadRefused *metrics.Counter
	sequentialBytes  *metrics.Counter
	unsettledWrites  *metrics.Counter
	events           *metrics.Counter
	eventGaps        *metrics.Counter
	fillYields       *metrics.Counter
}

// newCounters makes the counters in a set; nil: in a set of their own.
func newCounters(set *metrics.Set) *counters {
	if set == nil {
		set = metrics.NewSet()
	}
	c := &counters{
		set: set, reads: map[akigw.Outcome]*metrics.Counter{},
		listings: map[bool]*metrics.Counter{
			true:  set.GetOrCreateCounter(`akigw_tiers_listings_total{outcome="hot"}`),
			false: set.GetOrCreateCounter(`akigw_tiers_listings_total{outcome="cold"}`),
		},
		readAheadRefused: set.GetOrCreateCounter("akigw_tiers_read_ahead_refused_total"),
		sequentialBytes:  set.GetOrCreateCounter("akigw_tiers_sequential_read_ahead_bytes_total"),
		unsettledWrites:  set.GetOrCreateCounter("akigw_tiers_unsettled_writes_total"),
		events:           set.GetOrCreateCounter("akigw_tiers_events_total"),
		eventGaps:        set.GetOrCreateCounter("akigw_tiers_event_gaps_total"),
		fillYields:       set.GetOrCreateCounter("akigw_tiers_fills_yielded_total"),
	}
	for _, o := range []akigw.Outcome{akigw.Hot, akigw.Warm, akigw.Cold, akigw.Overlay, akigw.Stale} {
		c.reads[o] = set.GetOrCreateCounter(fmt.Sprintf("akigw_tiers_reads_total{outcome=%q}", string(o)))
	}
	return c
}
