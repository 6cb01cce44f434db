// Package advise proposes settings for a running gateway: sizes of the tiers, freshness modes, pins
// and how writes are acknowledged, each with its reason and with what it would change.
//
// It judges by what the gateway has measured (Facts) and by a trace of its accesses (Observed). Sizes
// come from a miss-ratio curve: the trace is replayed against tiers of many sizes, with the gateway's
// own policy. Without a trace, or with one that is too short, there is less advice, and the report
// says why. Package advise sends no requests and changes nothing.
//
// Two proposals are never made, because observation cannot support them. A bucket's objects are not
// proposed to be immutable: that nobody ever replaces them is a promise, not a measurement. And no
// write is proposed to be written back without the line that says what a lost disk loses.
package advise

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/trace"
)

// Facts are what a running gateway has measured since it started.
type Facts struct {
	Since  time.Time `json:"since"`
	Memory Tier      `json:"memory"`
	Disk   Tier      `json:"disk"`
	// Reads counts reads by akigw.Outcome.
	Reads map[string]int64 `json:"reads"`
	// Latency is the time to the last byte of a GetObject, by akigw.Outcome, and of a PutObject by what
	// acknowledged it, journal or upstream.
	Latency map[string]Latency `json:"latency"`
	Prices  cost.Config        `json:"prices"`
	Buckets []Measured         `json:"buckets"`
}

// Tier is the size of a tier, and what its ghost cache estimates.
type Tier struct {
	Quota int64 `json:"quota_bytes"` // 0: the tier is off
	Used  int64 `json:"used_bytes"`
	// Lookups counts look-ups of blocks, Missed those that missed, and MissedAtDouble those that would
	// have missed in a tier of twice the size.
	Lookups        int64 `json:"lookups"`
	Missed         int64 `json:"missed"`
	MissedAtDouble int64 `json:"missed_at_double_size"`
}

// Latency is a mean in milliseconds.
type Latency struct {
	Requests int64   `json:"requests"`
	Mean     float64 `json:"mean_ms"`
}

// Measured are the settings of a bucket, as far as its rules apply to all keys, and its validations.
type Measured struct {
	Bucket    string    `json:"bucket"`
	Freshness string    `json:"freshness"` // "": unknown
	TTLSecs   int64     `json:"ttl_secs"`
	Write     string    `json:"write"`
	Packs     bool      `json:"packs"`  // small objects are packed
	Shadow    bool      `json:"shadow"` // requests only pass
	Validated Validated `json:"validated"`
}

// Report is the advice for a gateway.
type Report struct {
	Facts Facts `json:"measured"`
	// Trace describes the trace, nil if there was none.
	Trace *Summary `json:"trace,omitempty"`
	// Memory and Disk are the results with tiers of other sizes, in ascending order: Memory those of
	// a memory tier alone, Disk those of a disk tier below the memory tier that is proposed.
	Memory []Point `json:"memory_curve,omitempty"`
	Disk   []Point `json:"disk_curve,omitempty"`
	// Now is what is expected of the present settings.
	Now Expectation `json:"now"`
	// Sizes is the proposal for the sizes of the tiers, nil for none.
	Sizes   *Proposal `json:"sizes,omitempty"`
	Buckets []Bucket  `json:"by_bucket,omitempty"` // most reads first
	// Notes say what could not be judged, and why.
	Notes []string `json:"notes,omitempty"`
	// TOML are all proposals, to be pasted into the configuration file.
	TOML string `json:"toml,omitempty"`
}

// Summary describes a trace.
type Summary struct {
	Seconds float64 `json:"seconds"`
	Reads   int     `json:"reads"`
	Objects int     `json:"objects"`
	Bytes   int64   `json:"bytes"` // of distinct data
	Lost    int64   `json:"lost"`  // accesses that are missing
	Rate    float64 `json:"rate"`  // share of the objects that was replayed
	Counted int     `json:"counted_reads"`
	Unknown int     `json:"unknown_reads"` // of data that the tiers had before the trace began; not counted
	// Found is what the gateway itself answered to the counted reads.
	Found trace.Result `json:"recorded"`
}

// Point is the result with a tier of one size.
type Point struct {
	Bytes    int64   `json:"bytes"`
	HitRatio float64 `json:"hit_ratio"` // 0 to 1
	// Saved is the upstream cost that the tiers save, for 30 days of what the trace shows.
	Saved float64 `json:"saved_per_month"`
}

// Expectation is what settings lead to, as far as it is known.
type Expectation struct {
	// HitRatio is the share of reads that need no data from the upstream, HotRatio that of reads
	// served from memory.
	HitRatio *float64 `json:"hit_ratio,omitempty"`
	HotRatio *float64 `json:"hot_ratio,omitempty"`
	// Latency is the mean in milliseconds: of reads, and in a proposal for writes of those.
	Latency *float64 `json:"latency_ms,omitempty"`
	// Cost is that of reads and validations at the upstream, and in a proposal for writes of uploads, for 30
	// days of what the trace shows.
	Cost *float64 `json:"cost_per_month,omitempty"`
}

// Bucket is the advice for a bucket.
type Bucket struct {
	Name      string      `json:"name"`
	Reads     int         `json:"reads"`
	Writes    int         `json:"writes"`
	Objects   int         `json:"objects"`
	Replaced  int         `json:"replaced"` // accesses that found another version of their object
	Now       Expectation `json:"now"`
	Proposals []Proposal  `json:"proposals,omitempty"`
	Notes     []string    `json:"notes,omitempty"`
}

// Proposal is a change of the configuration.
type Proposal struct {
	Kind   string      `json:"kind"` // sizes, freshness, pin or write
	Why    string      `json:"why"`
	Expect Expectation `json:"expect"`
	// Caution is what the proposal costs, or what has to be true.
	Caution string `json:"caution"`
	TOML    string `json:"toml"`
	// Memory and Disk are the proposed sizes in bytes; only in a proposal of sizes.
	Memory int64 `json:"memory_bytes,omitempty"`
	Disk   int64 `json:"disk_bytes,omitempty"`
}

const (
	// warmUp is the share of a trace that fills the simulated tiers and is not counted.
	warmUp = 0.5
	// leastReads is how many reads a judgement needs.
	leastReads = 1000
	// mostUnknown is the share of reads whose fate the trace cannot tell, above which it is too short
	// to judge sizes by.
	mostUnknown = 0.25
	// differs is the difference between what the gateway served and what the replay with its sizes does
	// that is reported.
	differs = 0.02
	// mostListed is how many buckets a report lists.
	mostListed = 50
)

// New returns the advice for a gateway. seen is nil if there is no trace.
func New(f Facts, seen *Observed) *Report {
	r := &Report{Facts: f}
	m := &model{facts: &f, month: 1, known: map[string]Measured{}, uses: map[string][]use{}}
	for _, b := range f.Buckets {
		m.known[b.Bucket] = b
	}
	if slices.ContainsFunc(f.Buckets, func(b Measured) bool { return b.Shadow }) {
		r.Notes = append(r.Notes, "In shadow mode requests only pass, and neither counters nor a trace see their reads. akigw shadow report says what the cache would save for them.")
	}
	if seen == nil {
		r.Notes = append(r.Notes, "No trace was recorded, so this judges by counters and ghost caches alone: nothing is proposed for single buckets, and sizes are compared with twice the size only. Record one with akigw advise --seconds 3600, or with akigw trace record and akigw advise --trace FILE.")
		r.Now = m.measured()
		r.bySize(m.ghosts())
		r.TOML = r.toml()
		return r
	}
	m.observe(seen)
	r.Trace = m.summary
	r.Now = m.expect(m.now.Total, m.validations(""))
	switch s := m.summary; {
	case s.Counted < leastReads:
		r.Notes = append(r.Notes, fmt.Sprintf("The trace has too little data for advice on sizes: %d reads count, and %d are needed. Record for a longer time.", s.Counted, leastReads))
		r.bySize(m.ghosts())
	case float64(s.Unknown) > mostUnknown*float64(s.Unknown+s.Counted):
		r.Notes = append(r.Notes, fmt.Sprintf("The trace is too short for advice on sizes: %d of %d reads found data in the tiers that was not used earlier in the trace, and it cannot tell which sizes keep such data. Record for a longer time.", s.Unknown, s.Unknown+s.Counted))
		r.bySize(m.ghosts())
	default:
		r.Memory, r.Disk, r.Sizes = m.sizes()
	}
	r.Buckets = m.buckets()
	if s := m.summary; s.Counted >= leastReads && math.Abs(share(m.now.Total.Cold, s.Counted)-share(s.Found.Cold, s.Counted)) > differs {
		r.Notes = append(r.Notes, fmt.Sprintf("The gateway itself served %.1f%% of the counted reads without the upstream, and the replay with its sizes %.1f%%. Moves, purges, pins and restarts are not in a trace, and a disk tier is replayed approximately: other sizes will differ from what is expected of them in the same way.",
			100-100*share(s.Found.Cold, s.Counted), 100-100*share(m.now.Total.Cold, s.Counted)))
	}
	if s := m.summary; s.Lost > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d accesses are missing from the trace, because the machine was too busy to record them.", s.Lost))
	}
	if seen.nameless {
		r.Notes = append(r.Notes, "The trace has no names, so nothing is proposed for single buckets.")
	}
	r.TOML = r.toml()
	return r
}

// bySize adds the advice of the ghost caches.
func (r *Report) bySize(sizes *Proposal, notes []string) {
	r.Sizes = sizes
	r.Notes = append(r.Notes, notes...)
}

// model computes expectations from facts and a trace.
type model struct {
	facts   *Facts
	known   map[string]Measured // Facts.Buckets by name
	trace   *trace.Trace
	uses    map[string][]use // the kept accesses by bucket
	seen    *Observed
	summary *Summary
	now     trace.Prediction // with the present sizes
	month   float64          // by which counts of the trace's counted part are multiplied to get those of 30 days
}

// use is an access of a trace.
type use struct {
	trace.Use
	counted bool // it is not of the warm-up
}

// observe replays the trace with the present sizes.
func (m *model) observe(seen *Observed) {
	m.seen, m.trace = seen, seen.trace
	t := seen.trace
	n, skip := 0, int(warmUp*float64(t.Kept()))
	for u := range t.Uses() {
		m.uses[u.Bucket] = append(m.uses[u.Bucket], use{u, n >= skip})
		n++
	}
	m.now = t.Predict(m.facts.Memory.Quota, holds(m.facts.Disk.Quota), warmUp)
	if counted := t.Took.Seconds() * (1 - warmUp); counted > 0 {
		m.month = (30 * 24 * time.Hour).Seconds() / counted
	}
	m.summary = &Summary{
		Seconds: t.Took.Seconds(), Reads: t.Recorded.Reads, Objects: t.Objects, Bytes: t.Bytes, Lost: t.Lost, Rate: t.Rate,
		Counted: m.now.Total.Reads, Unknown: m.now.Unknown, Found: m.now.Recorded,
	}
}

// holds is how much of a disk tier holds data while it is full: 7/8 may be filled, and eviction
// keeps about a seventh of that free.
func holds(quota int64) int64 { return quota / 4 * 3 }

// share is n of a number, 0 of none.
func share(n, of int) float64 { return float64(n) / float64(max(of, 1)) }

// expect returns what a result of a replay means, with a number of validations.
func (m *model) expect(r trace.Result, validations float64) Expectation {
	if r.Reads == 0 {
		return Expectation{}
	}
	hit, hot := 1-share(r.Cold, r.Reads), share(r.Hot, r.Reads)
	costs := m.month * m.facts.Prices.Price(cost.Counts{Reads: uint64(float64(r.UpstreamReads) + validations), Out: uint64(r.UpstreamBytes)})
	return Expectation{HitRatio: &hit, HotRatio: &hot, Latency: m.latency(map[string]int{"hot": r.Hot, "warm": r.Warm, "cold": r.Cold}), Cost: &costs}
}

// leastMeasured is how many requests a mean needs.
const leastMeasured = 20

// latency returns the mean of reads by their outcomes, nil if too few of an outcome were measured.
func (m *model) latency(reads map[string]int) *float64 {
	sum, all := 0.0, 0
	for outcome, n := range reads {
		l := m.facts.Latency[outcome]
		if n > 0 && l.Requests < leastMeasured {
			return nil
		}
		sum += float64(n) * l.Mean
		all += n
	}
	if all == 0 {
		return nil
	}
	mean := sum / float64(all)
	return &mean
}

// measured is what the counters say about the present.
func (m *model) measured() Expectation {
	reads := map[string]int{}
	all := 0
	for outcome, n := range m.facts.Reads {
		if outcome == "hot" || outcome == "warm" || outcome == "cold" {
			reads[outcome] = int(n)
			all += int(n)
		}
	}
	if all == 0 {
		return Expectation{}
	}
	hit, hot := 1-share(reads["cold"], all), share(reads["hot"], all)
	return Expectation{HitRatio: &hit, HotRatio: &hot, Latency: m.latency(reads)}
}

// buckets returns the advice for the buckets with the most reads.
func (m *model) buckets() []Bucket {
	var all []Bucket
	for name, found := range m.trace.Buckets() {
		if name != "" { // no name, or one of too many buckets
			all = append(all, Bucket{Name: name, Reads: found.Reads})
		}
	}
	slices.SortFunc(all, func(a, b Bucket) int { return cmp.Or(b.Reads-a.Reads, cmp.Compare(a.Name, b.Name)) })
	all = all[:min(len(all), mostListed)]
	for i := range all {
		b := &all[i]
		s := m.stats(b.Name)
		b.Writes, b.Objects, b.Replaced = s.scale(s.writes), s.scale(len(s.objects)), s.scale(s.replaced)
		b.Now = m.expect(m.now.Buckets[b.Name], m.validations(b.Name))
		for _, propose := range []func(*Bucket, *bucketStats) *Proposal{m.freshness, m.pins, m.writes} {
			if p := propose(b, s); p != nil {
				b.Proposals = append(b.Proposals, *p)
			}
		}
	}
	return all
}
