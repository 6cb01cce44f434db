package uploadpool

import (
	"cmp"

	"github.com/VictoriaMetrics/metrics"
)

// counters are the metrics of a pool.
type counters struct {
	flushed      *metrics.Counter // writes that the upstream has, verified
	flushedBytes *metrics.Counter // bytes of their bodies
	retries      *metrics.Counter // attempts that were not the first
	deadLetters  *metrics.Counter // writes that became dead letters
	translated   *metrics.Counter // objects whose ETag in the upstream is not the promised one
	throttled    *metrics.Counter // responses that asked for fewer requests
	packs        *metrics.Counter // packs that were written
	packed       *metrics.Counter // objects in them
	lateRequests *metrics.Counter // entries uploaded again because of a late request
	disagreed    *metrics.Counter // uploads whose response a HEAD contradicted
	// verified returns the counter of the uploads of objects that were verified in a way.
	verified func(by string) *metrics.Counter
}

// newCounters registers the metrics in set, or in a private one if it is nil.
func newCounters(set *metrics.Set) counters {
	set = cmp.Or(set, metrics.NewSet())
	return counters{
		flushed:      set.GetOrCreateCounter("akigw_uploadpool_flushed_total"),
		flushedBytes: set.GetOrCreateCounter("akigw_uploadpool_flushed_bytes_total"),
		retries:      set.GetOrCreateCounter("akigw_uploadpool_retries_total"),
		deadLetters:  set.GetOrCreateCounter("akigw_uploadpool_dead_letters_total"),
		translated:   set.GetOrCreateCounter("akigw_uploadpool_translated_etags_total"),
		throttled:    set.GetOrCreateCounter("akigw_uploadpool_throttled_total"),
		packs:        set.GetOrCreateCounter("akigw_uploadpool_packs_total"),
		packed:       set.GetOrCreateCounter("akigw_uploadpool_packed_total"),
		disagreed:    set.GetOrCreateCounter("akigw_uploadpool_answers_contradicted_total"),
		verified: func(by string) *metrics.Counter {
			return set.GetOrCreateCounter(`akigw_uploadpool_verified_total{by="` + by + `"}`)
		},
		lateRequests: set.GetOrCreateCounter("akigw_uploadpool_late_requests_total"),
	}
}
