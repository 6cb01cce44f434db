package budget

import (
	"testing"

	"github.com/VictoriaMetrics/metrics"
)

// TestParts: one taker can use everything that is not reserved for the others, and the others get
// their reserved parts.
func TestParts(t *testing.T) {
	type step struct {
		who  string // "" is nobody
		n    int64  // negative: released
		want bool
	}
	for _, c := range []struct {
		name  string
		names []string
		steps []step
	}{
		{"alone", []string{"a"}, []step{{"a", 100, true}, {"a", 1, false}, {"a", -100, true}, {"a", 100, true}}},
		{"one takes all it can", []string{"a", "b"}, []step{{"a", 75, true}, {"a", 1, false}, {"b", 25, true}, {"b", 1, false}}},
		{"both need more than their share", []string{"a", "b"}, []step{{"a", 40, true}, {"b", 60, true}, {"a", 1, false}, {"b", -60, true}, {"a", 35, true}, {"a", 1, false}}},
		{"two of three hang", []string{"a", "b", "c", "d"}, []step{{"a", 62, true}, {"b", 14, true}, {"b", 1, false}, {"c", 12, true}, {"d", 12, true}, {"d", 1, false}}},
		{"what is nobody's", []string{"a", "b"}, []step{{"", 75, true}, {"a", 1, false}, {"", -25, true}, {"a", 25, true}, {"b", 25, true}, {"", 1, false}}},
	} {
		b := New(100, metrics.NewSet().NewCounter("refused"), c.names...)
		sum := int64(0)
		for i, s := range c.steps {
			taker := b.Of(s.who)
			got := true
			if s.n < 0 {
				taker.Release(-s.n)
			} else {
				got = taker.Acquire(s.n)
			}
			if got {
				sum += s.n
			}
			if got != s.want || b.Used() != sum {
				t.Errorf("%s, step %d: %t, want %t; %d bytes used, want %d", c.name, i+1, got, s.want, b.Used(), sum)
			}
		}
	}
	if none := (*Budget)(nil).Of("a"); !none.Acquire(1 << 40) {
		t.Error("no budget has a bound")
	}
}
