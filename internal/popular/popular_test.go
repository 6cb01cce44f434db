package popular

import (
	"testing"

	"github.com/cespare/xxhash/v2"
)

func hash(n int) uint64 { return xxhash.Sum64([]byte{byte(n), byte(n >> 8), byte(n >> 16)}) }

// TestEstimates: a key that is counted often stands out from many that are counted once, and is
// forgotten once it is no longer counted.
func TestEstimates(t *testing.T) {
	s := New(1 << 16)
	for n := range 5000 {
		s.Count(hash(n + 10))
		if n%500 == 0 {
			s.Count(hash(1))
		}
	}
	if got := s.Estimate(hash(1)); got < 10 {
		t.Errorf("counted 10 times, estimated %d", got)
	}
	wrong := 0
	for n := range 5000 {
		if s.Estimate(hash(n+10)) > 1 {
			wrong++
		}
	}
	if wrong > 250 {
		t.Errorf("%d of 5000 keys that were counted once look popular", wrong)
	}
	halvings := 0
	for n := range 5 * leastPeriod {
		if _, halved := s.Count(hash(n + 10000)); halved {
			halvings++
		}
	}
	if halvings != 5 || s.Estimate(hash(2)) > 3 {
		t.Errorf("%d halvings", halvings)
	}
}
