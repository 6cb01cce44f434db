package server

import (
	"context"

	"github.com/akidb/akigw/internal/memlimit"
)

const (
	// spareMemory is what the process may use besides its budgets before the garbage collector
	// works harder, in bytes.
	spareMemory = 112 << 20
	// pendingMemory is about what a pending write takes besides its body, in bytes.
	pendingMemory = 2 << 10
)

// MostMemory is how many bytes of memory the process may take when all of its budgets are used.
func (c *Config) MostMemory() int64 {
	return int64(c.Cache.HotBytes+c.Cache.ReadAheadBytes+c.Cache.FillBytes+c.Gateway.RequestMemory) + spareMemory + pendingMemory*int64(c.Back.MaxPending)
}

// limitMemory manages the memory limit of the Go runtime until ctx is done.
func (c *Config) limitMemory(ctx context.Context) error {
	return memlimit.Run(ctx, int64(c.Cache.HotBytes+c.Cache.ReadAheadBytes)+spareMemory, c.MostMemory())
}
