package warm

import (
	"cmp"

	"github.com/VictoriaMetrics/metrics"
)

// counters are the metrics of a tier.
type counters struct {
	corrupt     *metrics.Counter // values whose checksum was wrong
	refused     *metrics.Counter // values that did not fit
	evicted     *metrics.Counter // values removed to make space for others
	failed      *metrics.Counter // values that could not be written
	unpopular   *metrics.Counter // values less popular than those that they would have displaced
	pinsRefused *metrics.Counter // pins that did not fit
	written     *metrics.Counter // bytes of new blocks in segments
	copied      *metrics.Counter // bytes of blocks that were moved to another segment
}

// newCounters registers the metrics in set, or in a private one if it is nil.
func newCounters(set *metrics.Set) counters {
	set = cmp.Or(set, metrics.NewSet())
	return counters{
		corrupt:     set.GetOrCreateCounter("akigw_warm_corrupt_values_total"),
		refused:     set.GetOrCreateCounter("akigw_warm_refused_writes_total"),
		evicted:     set.GetOrCreateCounter("akigw_warm_evicted_values_total"),
		failed:      set.GetOrCreateCounter("akigw_warm_failed_writes_total"),
		unpopular:   set.GetOrCreateCounter("akigw_warm_unpopular_writes_total"),
		pinsRefused: set.GetOrCreateCounter("akigw_warm_pins_refused_total"),
		written:     set.GetOrCreateCounter("akigw_warm_segment_written_bytes_total"),
		copied:      set.GetOrCreateCounter("akigw_warm_segment_copied_bytes_total"),
	}
}
