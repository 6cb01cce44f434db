// Package popular counts how often keys were asked for lately, whether they are
// held or not, in a sketch of constant size.
package popular

import "sync/atomic"

// Sketch counts keys by their hashes. Each key has two small counters, which it
// shares with others, and the smaller one counts (a count-min sketch). All are
// halved now and then, so that what was popular once does not stay so. All
// methods may be called from any goroutine.
type Sketch struct {
	counts  []atomic.Uint32
	samples atomic.Int64 // since the last halving
	period  atomic.Int64 // how many are counted between two halvings
}

const (
	// mostCounted is where a counter stops.
	mostCounted = 15
	// perValue is how many keys are counted between two halvings for each value
	// that is held, and leastPeriod and mostPeriod its bounds.
	perValue    = 16
	leastPeriod = 1 << 14
	mostPeriod  = 1 << 24
)

// New makes a sketch of so many counters of four bytes.
func New(counters int) *Sketch {
	s := &Sketch{counts: make([]atomic.Uint32, counters)}
	s.Holds(0)
	return s
}

// Holds says how many values are held by whoever uses the sketch.
func (s *Sketch) Holds(values int64) {
	s.period.Store(min(max(perValue*values, leastPeriod), mostPeriod))
}

// slots finds the counters of a key.
func (s *Sketch) slots(hash uint64) (a, b *atomic.Uint32) {
	n := uint64(len(s.counts))
	return &s.counts[hash%n], &s.counts[(hash>>32^hash<<32)%n]
}

// Count counts a key once more and returns how often it was counted lately. It
// is true besides if it was time to halve all counters.
func (s *Sketch) Count(hash uint64) (count uint32, halved bool) {
	a, b := s.slots(hash)
	least := min(a.Load(), b.Load())
	if least < mostCounted { // only the smaller ones, so that sharing does less harm
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

// Estimate is how often a key was counted lately, or more.
func (s *Sketch) Estimate(hash uint64) uint32 {
	a, b := s.slots(hash)
	return min(a.Load(), b.Load())
}
