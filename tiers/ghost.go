package tiers

import (
	"github.com/akidb/akigw/tiers/hot"
)

// ghost is a ghost cache: it tells what a tier of twice the size would have hit. It keeps keys
// without their values, of a sample of all keys, and so has the sample's share of the size (a
// scaled-down simulation). It follows the policy of the hot tier; the warm tier's is similar. It
// counts misses and not hits, because a key that is asked for all the time may be in the sample or
// not, and misses once.
type ghost struct {
	keys  *hot.Cache[uint64, uint32]
	count lookups
}

// sampled is one out of how many keys a ghost looks at.
const sampled = 32

func newGhost(count lookups, quota int64) *ghost {
	return &ghost{
		keys:  hot.New(2*quota/sampled, func(_ uint64, bytes uint32) uint32 { return bytes }, func(id uint64, _ uint32) uint64 { return id }),
		count: count,
	}
}

// saw counts a read of so many bytes, which the tier hit or missed.
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

// close stops the goroutines of the ghost.
func (g *ghost) close() error {
	if g == nil {
		return nil
	}
	return g.keys.Close()
}
