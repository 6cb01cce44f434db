package warm

import (
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"github.com/akidb/akigw/internal/popular"
)

// popularity decides which values are admitted when the tier is full: those that were requested
// more often lately than those that would be evicted for them, or at least twice. So values that
// are read once, as by a scan, do not evict what is read again and again (TinyLFU).
type popularity struct {
	*popular.Sketch
	bar    atomic.Int64 // hundredths: the average count of the values that were evicted last
	sum, n int64        // of the values that are evicted now; used by the evictor only
}

const (
	// sketchCounters is the size of the sketch: 4 MiB.
	sketchCounters = 1 << 20
	// mostBar bounds the bar, in hundredths, because evicted values may have been very popular
	// once.
	mostBar = 100
)

// count counts an access of a key and returns its recent number of accesses.
func (p *popularity) count(key []byte) uint32 {
	count, halved := p.Count(xxhash.Sum64(key))
	if halved {
		p.bar.Store(p.bar.Load() / 2)
	}
	return count
}

// evicted records an evicted key.
func (p *popularity) evicted(key []byte) {
	p.sum += 100 * int64(p.Estimate(xxhash.Sum64(key)))
	p.n++
}

// learn sets the bar from what was evicted since the last call.
func (p *popularity) learn() {
	if p.n > 0 {
		p.bar.Store(p.sum / p.n)
		p.sum, p.n = 0, 0
	}
}

// admits reports whether a value with this count is worth its space.
func (p *popularity) admits(count uint32) bool {
	return 100*int64(count) > min(p.bar.Load(), mostBar)
}
