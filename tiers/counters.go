package tiers

import (
	"fmt"
	"strings"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/checksum"
)

// counters are the metrics of a store. docs/metrics.md says what each counts.
type counters struct {
	reads                     map[akigw.Outcome]*metrics.Counter
	listingsHot, listingsCold *metrics.Counter
	hotLookups, warmLookups   lookups

	readAheadRefused, sequentialBytes  *metrics.Counter
	windowWaits, windowRefused, yields *metrics.Counter
	events, eventGaps                  *metrics.Counter
	unsettledWrites                    *metrics.Counter
	uploadsCached, uploadsDropped      *metrics.Counter

	verified map[string]*metrics.Counter // whole bodies, by checksum.Algorithm.Name or unverified
	corrupt  *metrics.Counter            // whole bodies

	savedHeads, savedConfirmations *metrics.Counter
	wrongHeaders, wrongPages       *metrics.Counter
	pagesLoaded, pagesFailed       *metrics.Counter
}

// unverified stands for whole bodies that nothing could verify.
const unverified = "none"

// lookups counts the reads that a tier is asked for.
type lookups struct{ all, missed, missedAtDoubleSize *metrics.Counter }

func newCounters(set *metrics.Set) *counters {
	c := &counters{
		reads:            make(map[akigw.Outcome]*metrics.Counter),
		listingsHot:      set.GetOrCreateCounter(`akigw_tiers_listings_total{outcome="hot"}`),
		listingsCold:     set.GetOrCreateCounter(`akigw_tiers_listings_total{outcome="cold"}`),
		hotLookups:       newLookups(set, "hot"),
		warmLookups:      newLookups(set, "warm"),
		readAheadRefused: set.GetOrCreateCounter("akigw_tiers_read_ahead_refused_total"),
		sequentialBytes:  set.GetOrCreateCounter("akigw_tiers_sequential_read_ahead_bytes_total"),
		windowWaits:      set.GetOrCreateCounter("akigw_tiers_fill_memory_waits_total"),
		windowRefused:    set.GetOrCreateCounter("akigw_tiers_fill_memory_refused_total"),
		yields:           set.GetOrCreateCounter("akigw_tiers_fills_yielded_total"),
		events:           set.GetOrCreateCounter("akigw_tiers_events_total"),
		eventGaps:        set.GetOrCreateCounter("akigw_tiers_event_gaps_total"),
		unsettledWrites:  set.GetOrCreateCounter("akigw_tiers_unsettled_writes_total"),
		uploadsCached:    set.GetOrCreateCounter(`akigw_tiers_uploads_total{outcome="cached"}`),
		uploadsDropped:   set.GetOrCreateCounter(`akigw_tiers_uploads_total{outcome="dropped"}`),
		verified:         make(map[string]*metrics.Counter),
		corrupt:          set.GetOrCreateCounter("akigw_tiers_corrupt_bodies_total"),

		savedHeads:         set.GetOrCreateCounter(`akigw_tiers_requests_saved_total{what="headers"}`),
		savedConfirmations: set.GetOrCreateCounter(`akigw_tiers_requests_saved_total{what="confirmation"}`),
		wrongHeaders:       set.GetOrCreateCounter(`akigw_tiers_predictions_wrong_total{what="headers"}`),
		wrongPages:         set.GetOrCreateCounter(`akigw_tiers_predictions_wrong_total{what="page"}`),
		pagesLoaded:        set.GetOrCreateCounter(`akigw_tiers_pages_total{outcome="loaded"}`),
		pagesFailed:        set.GetOrCreateCounter(`akigw_tiers_pages_total{outcome="failed"}`),
	}
	for _, o := range []akigw.Outcome{akigw.Hot, akigw.Warm, akigw.Cold, akigw.Overlay, akigw.Stale} {
		c.reads[o] = set.GetOrCreateCounter(fmt.Sprintf("akigw_tiers_reads_total{outcome=%q}", string(o)))
	}
	for _, a := range append(checksum.Algorithms, checksum.Algorithm{Name: unverified}) {
		c.verified[a.Name] = set.GetOrCreateCounter(fmt.Sprintf("akigw_tiers_verified_bodies_total{by=%q}", strings.ToLower(a.Name)))
	}
	return c
}

func newLookups(set *metrics.Set, tier string) lookups {
	counter := func(name string) *metrics.Counter {
		return set.GetOrCreateCounter(fmt.Sprintf("akigw_tiers_lookups%s_total{tier=%q}", name, tier))
	}
	return lookups{counter(""), counter("_missed"), counter("_missed_at_double_size")}
}
