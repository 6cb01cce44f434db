package warm

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/akidb/akigw/tiers/warm/policy"
)

// heat counts how often keys were used lately: small counters in a table of fixed size, found by
// hash. Two keys may share one; then both look warmer than they are, which costs a little disk
// space and nothing else.
type heat struct {
	seed   maphash.Seed
	counts [1 << 20]atomic.Uint32
}

func (h *heat) warmUp() { h.seed = maphash.MakeSeed() }

func (h *heat) slot(key []byte) *atomic.Uint32 {
	return &h.counts[maphash.Bytes(h.seed, key)%uint64(len(h.counts))]
}

func (h *heat) touch(key []byte) {
	if c := h.slot(key); c.Load() < policy.MaxHeat {
		c.Add(1)
	}
}

// cool removes one use, and reports whether there was one.
func (h *heat) cool(key []byte) bool {
	c := h.slot(key)
	n := c.Load()
	return n > 0 && c.CompareAndSwap(n, n-1)
}
