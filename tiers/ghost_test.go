package tiers

import (
	"math"
	"testing"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/zipf"
	"github.com/akidb/akigw/tiers/hot"
)

// TestGhostKnowsTheDouble: the ghost cache's estimate for a tier of twice the size matches a real
// tier of that size.
func TestGhostKnowsTheDouble(t *testing.T) {
	random := testkit.Random(t)
	const capacity, keys, reads, bytes = 5_000, 50_000, 200_000, 1000
	single, double := hot.NewSimulation(capacity*bytes), hot.NewSimulation(2*capacity*bytes)
	get := func(c *hot.Cache[uint64, uint32], key uint64) bool {
		_, hit := c.Get(key)
		if !hit {
			c.Put(key, bytes)
		}
		return hit
	}
	g := newGhost(newLookups(metrics.NewSet(), "test"), capacity*bytes)
	s := &storage{hotGhost: g}
	hits := 0
	z := zipf.New(keys, 0.9)
	for range reads {
		key := mix(uint64(z.Draw(random)))
		tier := akigw.Cold
		if get(single, key) {
			tier = akigw.Hot
		}
		if get(double, key) {
			hits++
		}
		s.saw(&entry{Object: akigw.Object{Size: bytes - 512}, block: block, object: key}, 0, tier)
	}
	ratio, estimate, real := 1-float64(g.count.missed.Get())/reads, 1-float64(g.count.missedAtDoubleSize.Get())/reads, float64(hits)/reads
	t.Logf("hit ratio %.3f; at twice the size %.3f, estimated %.3f", ratio, real, estimate)
	if math.Abs(estimate-real) > 0.03 || estimate <= ratio {
		t.Errorf("at twice the size %.3f, estimated %.3f; at this size %.3f", real, estimate, ratio)
	}
}
