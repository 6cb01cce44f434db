package server

import (
	"context"

	"github.com/akidb/akigw/internal/memlimit"
)

const (
	// spareMemory is the memory in bytes that the process may use besides its budgets before the garbage
	// collector works harder.
	spareMemory = 112 << 20
	// pendingMemory is the approximate memory in bytes of a pending write besides its body.
	pendingMemory = 2 << 10
)

// MostMemory returns how many bytes of memory the process may use when all of its budgets are used up.
func (c *Config) MostMemory() int64 {
	return int64(c.Cache.HotBytes+c.Cache.ReadAheadBytes+c.Cache.FillBytes+c.Gateway.RequestMemory) + spareMemory + pendingMemory*int64(c.Back.MaxPending)
}

// limitMemory manages the memory limit of the Go runtime until ctx is done.
func (c *Config) limitMemory(ctx context.Context) error {
	return memlimit.Run(ctx, int64(c.Cache.HotBytes+c.Cache.ReadAheadBytes)+spareMemory, c.MostMemory())
}
