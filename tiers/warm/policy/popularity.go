package policy

import (
	"sync/atomic"

	"github.com/akidb/akigw/internal/popular"
)

// Popularity decides which values are admitted when the tier is full: those that were requested
// more often lately than those that would be evicted for them, or at least twice. So values that
// are read once, as by a scan, do not evict what is read again and again (TinyLFU). Values are known by
// hashes. Count and Admits are safe for concurrent use.
type Popularity struct {
	sketch *popular.Sketch
	bar    atomic.Int64 // hundredths: the average count of the values that were evicted last
	sum, n int64        // of the values that are evicted now; used by the evictor only
}

// mostBar bounds the bar, in hundredths, because evicted values may have been very popular once.
const mostBar = 100

// NewPopularity returns a Popularity with a number of counters of four bytes each.
func NewPopularity(counters int) *Popularity { return &Popularity{sketch: popular.New(counters)} }

// Count counts an access of a value and returns its recent number of accesses.
func (p *Popularity) Count(hash uint64) uint32 {
	count, halved := p.sketch.Count(hash)
	if halved {
		p.bar.Store(p.bar.Load() / 2)
	}
	return count
}

// Evicted records an evicted value.
func (p *Popularity) Evicted(hash uint64) {
	p.sum += 100 * int64(p.sketch.Estimate(hash))
	p.n++
}

// Learn sets the bar from what was evicted since the last call, in a tier that holds so many values.
func (p *Popularity) Learn(values int64) {
	if p.n > 0 {
		p.bar.Store(p.sum / p.n)
		p.sum, p.n = 0, 0
	}
	p.sketch.Holds(values)
}

// Admits reports whether a value with this count is worth its space.
func (p *Popularity) Admits(count uint32) bool {
	return 100*int64(count) > min(p.bar.Load(), mostBar)
}
