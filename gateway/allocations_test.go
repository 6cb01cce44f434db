//go:build !race

package gateway

import (
	"testing"

	"github.com/akidb/akigw/rules"
)

// TestHotGetAllocations: a GET from memory allocates what it did, and nothing more. Who needs
// another allocation there says why, with the figures of make bench-check.
func TestHotGetAllocations(t *testing.T) {
	g := newRig(t, rules.Exclusive)
	for size, most := range map[int]float64{4 << 10: 15, 1 << 20: 15} {
		get := hotGet(t, g, size)
		get() // from the upstream
		if n := testing.AllocsPerRun(200, get); n > most {
			t.Errorf("%d bytes: %.0f allocations, %.0f are known", size, n, most)
		}
	}
}
