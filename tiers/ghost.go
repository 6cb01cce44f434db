package tiers

import (
	"github.com/akidb/akigw/tiers/hot"
)

// ghost is a ghost cache: it measures what a tier of twice the size would have hit. It stores a
// sample of all keys, without values, and so needs only the sample's share of the size (a
// scaled-down simulation). It follows the policy of the hot tier; the warm tier's is similar. It
// counts misses instead of hits: a very frequent key may or may not be in the sample, which would
// distort the hits, but it misses only once.
type ghost struct {
	keys  *hot.Cache[uint64, uint32]
	count lookups
}

// sampled is the inverse of the sampling rate: a ghost tracks one in so many keys.
const sampled = 32

func newGhost(count lookups, quota int64) *ghost {
	return &ghost{keys: hot.NewSimulation(2 * quota / sampled), count: count}
}

// saw counts a read of a number of bytes, and whether the tier hit or missed.
func (g *ghost) saw(id uint64, bytes int64, hit bool) {
	if g == nil {
		return
	}
	g.count.all.Inc()
	if !hit {
		g.count.missed.Inc()
	}
	if (id^id>>29)%sampled != 0 {
		return
	}
	if _, ok := g.keys.Get(id); !ok {
		g.count.missedAtDoubleSize.Add(sampled)
		g.keys.Put(id, uint32(bytes))
	}
}
