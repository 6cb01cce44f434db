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
	for _, size := range []int{4 << 10, 1 << 20} {
		hotGet(t, g, size, false)() // from the upstream
		for _, quick := range []bool{false, true} {
			if n := testing.AllocsPerRun(200, hotGet(t, g, size, quick)); n > 15 {
				t.Errorf("%d bytes, quick %t: %.0f allocations, 15 are known", size, quick, n)
			}
		}
	}
}
