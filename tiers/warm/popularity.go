package warm

import (
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// popularity counts how often keys were asked for lately, whether they are here
// or not, in a sketch of constant size: each key has two small counters, which
// it shares with others, and the smaller one counts (a count-min sketch). All
// are halved now and then, so that what was popular once does not stay so.
//
// When the tier is full, a value has to be asked for more often than those that
// leave for it: what is read once, as by a scan, does not drive out what is read
// again and again (TinyLFU).
type popularity struct {
	counts  [1 << 20]atomic.Uint32
	samples atomic.Int64 // since the last halving
	bar     atomic.Int64 // hundredths: what the last ones that left had on the average
	sum, n  int64        // of those that leave now; of the goroutine that sweeps
}

const (
	// mostCounted is where a counter stops.
	mostCounted = 15
	// period is how many are counted between two halvings.
	period = 1 << 20
)

// slots finds the counters of a key.
func (p *popularity) slots(key []byte) (a, b *atomic.Uint32) {
	h := xxhash.Sum64(key)
	return &p.counts[h%uint64(len(p.counts))], &p.counts[(h>>32)%uint64(len(p.counts))]
}

// count counts a key once more and returns the sum.
func (p *popularity) count(key []byte) uint32 {
	a, b := p.slots(key)
	least := min(a.Load(), b.Load())
	if least < mostCounted { // only the smaller ones, so that sharing does less harm
		a.CompareAndSwap(least, least+1)
		b.CompareAndSwap(least, least+1)
	}
	if p.samples.Add(1) >= period {
		p.halve()
	}
	return least + 1
}

func (p *popularity) halve() {
	p.samples.Store(0)
	p.bar.Store(p.bar.Load() / 2)
	for i := range p.counts {
		if n := p.counts[i].Load(); n > 0 {
			p.counts[i].CompareAndSwap(n, n/2)
		}
	}
}

// evicted notes that a key leaves.
func (p *popularity) evicted(key []byte) {
	a, b := p.slots(key)
	p.sum += 100 * int64(min(a.Load(), b.Load()))
	p.n++
}

// learn sets the bar by what left since it was called last.
func (p *popularity) learn() {
	if p.n > 0 {
		p.bar.Store(p.sum / p.n)
		p.sum, p.n = 0, 0
	}
}

// admits reports whether a value that was counted so often is worth the room.
func (p *popularity) admits(count uint32) bool { return 100*int64(count) > p.bar.Load() }
