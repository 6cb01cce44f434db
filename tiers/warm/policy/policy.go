// Package policy says what the disk tier admits, when it evicts, and how much. It does no I/O and keeps
// no values: package tiers/warm applies it to what is on disk, and package shadow to a simulation of
// that, so that the simulation follows each change of the policy.
package policy

import "time"

// Eviction begins when highTenths of the limit are used, and ends at lowTenths. The space in
// between is for writes that arrive meanwhile.
const (
	highTenths = 9
	lowTenths  = 8
	// CrowdedTenths is the fill level from which a value must be popular to be admitted. It is
	// below lowTenths; otherwise values that nobody reads again would fill the space that eviction
	// frees.
	CrowdedTenths = 7
)

const (
	// tick is how often space is measured; fastTick is how often while space is short.
	tick     = 250 * time.Millisecond
	fastTick = 25 * time.Millisecond
	// liveShare is the inverse share of the limit below which live values are not evicted: if there
	// is no space although so few values are live, files have to be rewritten.
	liveShare = 2
	// owedShare is the inverse share of the limit above which nothing more is evicted until the disk
	// has freed what was.
	owedShare = 3
	// sweepShare is the inverse share of the limit that one step evicts, and sweepLeast the minimum
	// in bytes for a small tier, because each step has a fixed cost.
	sweepShare = 16
	sweepLeast = 4 << 20
	// garbageShare is the share of garbage from which a file is rewritten, and garbageWhenBusy the one
	// while space is short.
	garbageShare    = 0.5
	garbageWhenBusy = 0.2
)

const (
	// MaxHeat is the number of passes of the clock that a much used value survives.
	MaxHeat = 3
	// BlockLeast is the size in bytes that a block counts at least, because each takes memory in the index:
	// without it a tier of blocks that compress to nothing would have an index without bounds.
	BlockLeast = 8 << 10
	// ValueThreshold is the size in bytes from which a record is admitted only if it is popular, and goes
	// to the value log, where compactions do not write it again and again: a record with a body.
	// Summaries and most other records are smaller.
	ValueThreshold = 1 << 10
	// BadgerLeast is about how many bytes Badger takes on disk for itself, however little it has: tables of
	// removed keys, and what makes it notice those. Evicting entries does not free it.
	BadgerLeast = 1 << 20
)

// Quota is the size of the tier in bytes (cache.warm_bytes).
type Quota int64

// Limit is how many bytes writes may fill; the rest is for files being rewritten.
func (q Quota) Limit() int64 { return int64(q - q/8) }

// Sweep is how many bytes one step evicts, and the most that it copies out of files that it removes.
func (q Quota) Sweep() int64 { return max(q.Limit()/sweepShare, sweepLeast) }

// MostBlocks is how many blocks the tier may have.
func (q Quota) MostBlocks() int64 { return q.Limit() / BlockLeast }

// SegmentBytes is the size of a segment of blocks, small against the quota: one more may exist while its
// blocks are moved. A very large tier has large ones, because each is an open file.
func (q Quota) SegmentBytes() int64 {
	return int64(min(max(q/32, 1<<20), max(64<<20, q/2048)))
}

// ValueLogBytes is the size of a value log file, small against the quota: space is freed a file at a
// time.
func (q Quota) ValueLogBytes() int64 { return int64(min(max(q/16, 2<<20), 128<<20)) }

// Pressure is how short space was when it was last measured. The zero value is that of an empty tier.
type Pressure struct {
	Busy    bool // space is being freed
	Crowded bool // space is being freed, or will be soon: only popular values are admitted
}

// Measure takes a measurement. full reports whether more than a number of tenths of the limit are taken.
func (p *Pressure) Measure(full func(tenths int64) bool) {
	p.Busy = full(highTenths) || p.Busy && full(lowTenths)
	p.Crowded = full(CrowdedTenths)
}

// Pause is the time until the next measurement.
func (p *Pressure) Pause() time.Duration {
	if p.Busy {
		return fastTick
	}
	return tick
}

// Garbage is the share of garbage from which a file is rewritten.
func (p *Pressure) Garbage() float64 {
	if p.Busy {
		return garbageWhenBusy
	}
	return garbageShare
}

// Evicts reports whether live values are evicted now, in a tier of a limit in bytes that has so many live
// bytes, and owes so many: they were evicted, and their files are not rewritten yet. Only a rewrite frees
// what was evicted.
func (p *Pressure) Evicts(limit, live, owed int64) bool {
	return p.Busy && owed < limit/owedShare && live > limit/liveShare
}
