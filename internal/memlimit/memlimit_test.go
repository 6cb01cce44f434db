package memlimit

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// TestStep: the limit follows the collector's share, between its bounds.
func TestStep(t *testing.T) {
	for _, c := range []struct {
		limit int64
		share float64
		want  int64
	}{
		{800, 0.6, 900}, {800, 0.2, 900}, {900, 0.2, 1000}, {1000, 0.2, 1000}, {1200, 0.2, 1200}, {1000, 0.6, 1125}, {800, 0.05, 800}, {1000, 0.01, 985}, {800, 0, 800}, {1900, 0.6, 2000}, {2000, 0.9, 2000}, {805, 0, 800},
	} {
		if got := step(c.limit, 800, 2000, c.share); got != c.want {
			t.Errorf("%d with %g: %d, want %d", c.limit, c.share, got, c.want)
		}
	}
}

// TestNoThrashing: live memory above the limit raises the limit.
func TestNoThrashing(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	const live = 64 << 20
	held := make([][]*int, 0, live>>10)
	for range live >> 10 {
		block := make([]*int, 128)
		for i := range block {
			block[i] = new(int)
		}
		held = append(held, block)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, live, 16*live) }()
	var garbage [][]byte
	raised := func() bool {
		limit := debug.SetMemoryLimit(-1)
		return limit >= live*5/4 && limit < math.MaxInt64
	}
	for deadline := time.Now().Add(20 * time.Second); !raised() && time.Now().Before(deadline); {
		garbage = append(garbage[:0], make([]byte, 1<<20))
	}
	if limit := debug.SetMemoryLimit(-1); !raised() {
		t.Errorf("the limit is %d MiB", limit>>20)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	runtime.KeepAlive(held)
	runtime.KeepAlive(garbage)
}
