// Package popular estimates how often keys were requested lately, whether they are cached or not,
// in constant memory.
package popular

import "sync/atomic"

// Sketch is a count-min sketch: it counts keys by their hashes. Each key has two small counters,
// which it shares with others, and its count is the smaller one. All counters are halved regularly,
// so that what was popular once does not stay popular. All methods may be called from any
// goroutine.
type Sketch struct {
	counts  []atomic.Uint32
	samples atomic.Int64 // counted since the last halving
	period  atomic.Int64 // number of counts between two halvings
}

const (
	// mostCounted is the maximum value of a counter.
	mostCounted = 15
	// perValue is the number of counts between two halvings for each cached value; leastPeriod and
	// mostPeriod bound the period.
	perValue    = 16
	leastPeriod = 1 << 14
	mostPeriod  = 1 << 24
)

// New returns a sketch with the given number of counters of four bytes each.
func New(counters int) *Sketch {
	s := &Sketch{counts: make([]atomic.Uint32, counters)}
	s.Holds(0)
	return s
}

// Holds sets the number of cached values, which determines how often the counters are halved.
func (s *Sketch) Holds(values int64) {
	s.period.Store(min(max(perValue*values, leastPeriod), mostPeriod))
}

// slots returns the counters of a key.
func (s *Sketch) slots(hash uint64) (a, b *atomic.Uint32) {
	n := uint64(len(s.counts))
	return &s.counts[hash%n], &s.counts[(hash>>32^hash<<32)%n]
}

// Count counts a key and returns how often it was counted lately. halved reports whether all counters
// were halved.
func (s *Sketch) Count(hash uint64) (count uint32, halved bool) {
	a, b := s.slots(hash)
	least := min(a.Load(), b.Load())
	if least < mostCounted { // increment only the smaller counter, so that collisions do less harm
		a.CompareAndSwap(least, least+1)
		b.CompareAndSwap(least, least+1)
	}
	if s.samples.Add(1) < s.period.Load() {
		return least + 1, false
	}
	s.samples.Store(0)
	for i := range s.counts {
		if n := s.counts[i].Load(); n > 0 {
			s.counts[i].CompareAndSwap(n, n/2)
		}
	}
	return least + 1, true
}

// Estimate returns an upper bound of how often a key was counted lately.
func (s *Sketch) Estimate(hash uint64) uint32 {
	a, b := s.slots(hash)
	return min(a.Load(), b.Load())
}
