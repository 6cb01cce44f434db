package zipf

import (
	"math/rand/v2"
	"testing"
)

// TestZipf: the most popular of 1,000 numbers is drawn with the expected frequency.
func TestZipf(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct{ skew, share float64 }{{0, 0.001}, {0.9, 0.095}, {2, 0.608}} {
		z, first := New(1000, c.skew), 0
		for range 100_000 {
			if z.Draw(random) == 0 {
				first++
			}
		}
		if got := float64(first) / 100_000; got < c.share*0.7 || got > c.share*1.3 {
			t.Errorf("skew %g: the first has %.4f, not %.4f", c.skew, got, c.share)
		}
	}
}
