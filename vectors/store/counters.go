package store

import (
	"github.com/VictoriaMetrics/metrics"
)

// counters are the metrics of a store.
type counters struct {
	flushes, merges, moves, failures, swept *metrics.Counter
}

// register makes the metrics, in set if there is one.
func (s *Store) register(set *metrics.Set) {
	if set == nil {
		set = metrics.NewSet()
	}
	s.counters = counters{
		flushes:  set.NewCounter("akigw_vectors_flushes_total"),
		merges:   set.NewCounter("akigw_vectors_merges_total"),
		moves:    set.NewCounter("akigw_vectors_policy_moves_total"),
		swept:    set.NewCounter("akigw_vectors_swept_objects_total"),
		failures: set.NewCounter("akigw_vectors_failures_total"),
	}
	set.NewGauge("akigw_vectors_pending_bytes", func() float64 { pending, _ := s.memory.used(); return float64(pending) })
	set.NewGauge("akigw_vectors_oldest_seconds", func() float64 {
		oldest := s.Totals().Oldest
		if oldest.IsZero() {
			return 0
		}
		return max(0, s.now().Sub(oldest).Seconds())
	})
	set.NewGauge("akigw_vectors_hot_bytes", func() float64 { _, hot := s.memory.used(); return float64(hot) })
	set.NewGauge("akigw_vectors_stored_bytes", func() float64 { return float64(s.stored()) })
	for _, tier := range []Tier{Cold, Warm, Hot} {
		set.NewGauge(`akigw_vectors_collections{tier="`+tier.String()+`"}`, func() float64 { return float64(s.inTier(tier)) })
	}
	set.NewGauge("akigw_vectors_problem", func() float64 {
		if s.Problem() != nil {
			return 1
		}
		return 0
	})
}

// inTier returns how many collections a tier has.
func (s *core) inTier(tier Tier) (n int) {
	for _, e := range s.catalog.current.Load().indexes {
		if e.collection.state().tier == tier {
			n++
		}
	}
	return n
}
