package trace

import (
	"math"

	"github.com/akidb/akigw/tiers/hot"
)

// weighted is the memory tier without the bytes. The disk tier evicts by another method and has a
// similar hit rate.
type weighted struct {
	*hot.Cache[uint64, uint32]
	steps []step
}

func newWeighted(steps []step, bytes int64) level {
	return weighted{hot.NewSimulation(bytes), steps}
}

func (w weighted) see(n int) bool {
	s := w.steps[n]
	_, hit := w.Get(s.block)
	if !hit {
		w.Put(s.block, uint32(min(s.bytes+overhead, math.MaxUint32)))
	}
	return hit
}

func (w weighted) drop(block uint64) { w.Drop(block) }
