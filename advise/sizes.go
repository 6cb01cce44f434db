package advise

import (
	"fmt"

	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/trace"
)

const (
	// leastMemory and leastDisk are the smallest sizes that are considered. No disk tier may be smaller.
	leastMemory = 1 << 20
	leastDisk   = 32 << 20
	// doubling is what twice the size must add to the hit ratio to be worth it.
	doubling = 0.01
	// mostSizes bounds the number of sizes of a curve.
	mostSizes = 20
)

// ladder returns sizes from at least the smallest one, each twice the one before, up to the first one
// in which all of the data fits, and one more.
func ladder(least, data int64) []int64 {
	all := []int64{least}
	for last := least; last < 2*data; {
		last *= 2
		all = append(all, last)
	}
	return all[max(len(all)-mostSizes, 0):]
}

// knee returns the first point from which no doubling adds a percentage point or more: there, the
// hit ratio stops growing.
func knee(curve []Point) Point {
	at := len(curve) - 1
	for at > 0 && curve[at].HitRatio-curve[at-1].HitRatio < doubling {
		at--
	}
	return curve[at]
}

// sizes computes the miss-ratio curves and proposes the sizes at their knees.
func (m *model) sizes() (memory, disk []Point, p *Proposal) {
	data := m.trace.Bytes + m.trace.Bytes/4 // with what the tiers need besides
	for _, bytes := range ladder(leastMemory, data) {
		r := m.trace.Predict(bytes, 0, warmUp).Total
		memory = append(memory, m.point(bytes, r, share(r.Hot, r.Reads)))
	}
	hot, warm := knee(memory).Bytes, int64(0)
	if m.facts.Memory.Quota == 0 {
		hot = 0 // it was switched off on purpose
	}
	if m.facts.Disk.Quota > 0 {
		for _, bytes := range ladder(leastDisk, data*4/3) {
			r := m.trace.Predict(hot, holds(bytes), warmUp).Total
			disk = append(disk, m.point(bytes, r, 1-share(r.Cold, r.Reads)))
		}
		warm = knee(disk).Bytes
	}
	return memory, disk, m.propose(hot, warm, m.trace.Predict(hot, holds(warm), warmUp))
}

// point is the point of a curve for a result.
func (m *model) point(bytes int64, r trace.Result, ratio float64) Point {
	prices := &m.facts.Prices
	without := prices.Price(cost.Counts{Reads: uint64(r.Reads), Out: uint64(r.Bytes)})
	with := prices.Price(cost.Counts{Reads: uint64(r.UpstreamReads), Out: uint64(r.UpstreamBytes)})
	return Point{bytes, ratio, m.month * (without - with)}
}

// propose proposes sizes, with what is expected of them.
func (m *model) propose(hot, warm int64, expected trace.Prediction) *Proposal {
	p := &Proposal{Kind: "sizes", Memory: hot, Disk: warm, Expect: m.expect(expected.Total, m.validations(""))}
	p.Why = fmt.Sprintf("The hit ratio stops growing at %s of memory", size.Human(hot))
	if warm > 0 {
		p.Why += fmt.Sprintf(" and %s of disk", size.Human(warm))
	}
	p.Why += ": from there on, no doubling adds a percentage point."
	p.Caution = fmt.Sprintf("The trace covers %s. What is read more rarely than that does not show in it.", span(m.summary.Seconds))
	p.TOML = sizesTOML(hot, warm)
	return p
}

// leastLookups is how many look-ups the estimate of a ghost cache needs: it samples one key of 32.
const leastLookups = 20_000

// ghosts proposes sizes by the ghost caches alone: twice the size where that is worth it.
func (m *model) ghosts() (p *Proposal, notes []string) {
	memory, gainMemory, note := m.ghost("memory", m.facts.Memory)
	notes = append(notes, note)
	disk, gainDisk, note := m.ghost("disk", m.facts.Disk)
	notes = append(notes, note)
	if gainMemory < doubling && gainDisk < doubling {
		return nil, notes
	}
	p = &Proposal{Kind: "sizes", Memory: memory, Disk: disk, Why: "The ghost caches say that twice the size is worth it.", Caution: "Ghost caches compare with twice the size only. A trace tells where the hit ratio stops growing.", TOML: sizesTOML(memory, disk)}
	now := m.measured()
	if now.HitRatio != nil {
		// A read that memory answers in addition may have come from disk, so memory alone does not
		// change how many reads need the upstream.
		hot := min(*now.HotRatio+gainMemory, 1)
		p.Expect.HotRatio = &hot
		if m.facts.Disk.Quota > 0 {
			hit := min(*now.HitRatio+gainDisk*(1-*now.HotRatio), 1)
			p.Expect.HitRatio = &hit
		} else {
			p.Expect.HitRatio = &hot
		}
	}
	return p, notes
}

// ghost judges a tier by its ghost cache. It returns the size to propose, and the share of the
// look-ups that twice the size would answer in addition.
func (m *model) ghost(name string, t Tier) (bytes int64, gain float64, note string) {
	switch gain = float64(t.Missed-t.MissedAtDouble) / float64(max(t.Lookups, 1)); {
	case t.Quota == 0:
		return 0, 0, fmt.Sprintf("The %s tier is off.", name)
	case t.Lookups < leastLookups:
		return t.Quota, 0, fmt.Sprintf("The %s tier was asked %d times since %s, too rarely for its ghost cache to say anything: it needs %d.", name, t.Lookups, m.facts.Since.Format("2006-01-02 15:04"), leastLookups)
	case gain < doubling:
		return t.Quota, gain, fmt.Sprintf("Twice the %s (%s) would add %.1f points to the tier's hit ratio of %.1f%%: not worth it.", name, size.Human(2*t.Quota), 100*max(gain, 0), 100*(1-float64(t.Missed)/float64(t.Lookups)))
	}
	return 2 * t.Quota, gain, fmt.Sprintf("Twice the %s (%s) would add %.1f points to the tier's hit ratio of %.1f%%.", name, size.Human(2*t.Quota), 100*gain, 100*(1-float64(t.Missed)/float64(t.Lookups)))
}
