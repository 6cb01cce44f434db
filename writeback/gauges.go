package writeback

import (
	"io"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/uploadpool"
)

// gauges register the state of the journal and of the upload pool in a set of metrics, until close.
type gauges struct {
	set    *metrics.Set
	names  []string
	closed atomic.Bool
}

func newGauges(set *metrics.Set, j *journal.Journal, pool *uploadpool.Pool, pausedBuckets func() int) *gauges {
	g := &gauges{set: set}
	of := func(value func(journal.Stats) float64) func() float64 {
		return func() float64 { return value(j.Stats()) }
	}
	for name, value := range map[string]func() float64{
		"akigw_journal_pending":          of(func(st journal.Stats) float64 { return float64(st.Pending) }),
		"akigw_journal_dead_letters":     of(func(st journal.Stats) float64 { return float64(st.Dead) }),
		"akigw_journal_packed":           of(func(st journal.Stats) float64 { return float64(st.Packed) }),
		"akigw_journal_packs":            of(func(st journal.Stats) float64 { return float64(st.Packs) }),
		"akigw_journal_translated_etags": of(func(st journal.Stats) float64 { return float64(st.Translations) }),
		"akigw_journal_promised_dates":   of(func(st journal.Stats) float64 { return float64(st.Dates) }),
		"akigw_journal_uploads":          of(func(st journal.Stats) float64 { return float64(st.Uploads) }),
		"akigw_journal_pending_bytes":    of(func(st journal.Stats) float64 { return float64(st.Bytes) }),
		"akigw_journal_segment_bytes":    of(func(st journal.Stats) float64 { return float64(st.SegmentBytes) }),
		"akigw_journal_oldest_seconds":   of(func(st journal.Stats) float64 { return sinceOldest(st).Seconds() }),
		"akigw_journal_failed": of(func(st journal.Stats) float64 {
			if st.Problem != nil {
				return 1
			}
			return 0
		}),
		"akigw_uploadpool_active":         func() float64 { return float64(pool.Progress().Active) },
		"akigw_uploadpool_unconfirmed":    func() float64 { return float64(pool.Progress().Unconfirmed) },
		"akigw_uploadpool_limit":          func() float64 { return pool.Progress().Limit },
		"akigw_uploadpool_paused_buckets": func() float64 { return float64(pausedBuckets()) },
		"akigw_uploadpool_paused":         func() float64 { return float64(len(pool.Progress().Paused)) },
	} {
		set.NewGauge(name, value)
		g.names = append(g.names, name)
	}
	set.RegisterMetricsWriter(func(to io.Writer) {
		if g.closed.Load() {
			return // a writer cannot be unregistered
		}
		st := j.Stats()
		metrics.WriteCounterUint64(to, "akigw_journal_repaired_total", uint64(st.Repaired))
		metrics.WriteCounterUint64(to, "akigw_journal_lost_bodies_total", uint64(st.Lost))
	})
	return g
}

// close removes the gauges, because a later gateway in the process may use the same set.
func (g *gauges) close() {
	g.closed.Store(true)
	for _, name := range g.names {
		g.set.UnregisterMetric(name)
	}
}
