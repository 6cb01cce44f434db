package warm

import (
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"github.com/akidb/akigw/internal/popular"
)

// popularity decides what comes in when the tier is full: a value that was asked
// for more often lately than those that leave for it, or at least twice. So what
// is read once, as by a scan, does not drive out what is read again and again
// (TinyLFU).
type popularity struct {
	*popular.Sketch
	bar    atomic.Int64 // hundredths: what the last ones that left had on the average
	sum, n int64        // of those that leave now; of the goroutine that sweeps
}

const (
	// sketchCounters is the size of the sketch: 4 MiB.
	sketchCounters = 1 << 20
	// mostBar bounds the bar, in hundredths: those that leave may have been very
	// popular once.
	mostBar = 100
)

// count counts a key once more and returns how often that was lately.
func (p *popularity) count(key []byte) uint32 {
	count, halved := p.Count(xxhash.Sum64(key))
	if halved {
		p.bar.Store(p.bar.Load() / 2)
	}
	return count
}

// evicted notes that a key leaves.
func (p *popularity) evicted(key []byte) {
	p.sum += 100 * int64(p.Estimate(xxhash.Sum64(key)))
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
func (p *popularity) admits(count uint32) bool {
	return 100*int64(count) > min(p.bar.Load(), mostBar)
}
