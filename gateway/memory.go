package gateway

import (
	"cmp"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/internal/budget"
	"github.com/akidb/akigw/internal/s3err"
)

// NewMemory returns the memory budget for the bodies of running requests: limit bytes. With several
// upstreams each has a share, so that bodies which one upstream does not accept leave memory for
// the others. The metrics are registered in set; nil: in a private one.
func NewMemory(limit int64, set *metrics.Set, upstreams ...string) *budget.Budget {
	return budget.New(limit, cmp.Or(set, metrics.NewSet()).GetOrCreateCounter("akigw_gateway_over_request_memory_total"), upstreams...)
}

// The memory of a body in addition to its own bytes.
const (
	// streamMemory is the memory of a streamed body: a block on its way into the cache, and buffers
	// on both sides.
	streamMemory = 384 << 10
	// parsedFactor is how much larger a document is once it is parsed.
	parsedFactor = 4
)

// reserve reserves memory that is released when the call ends.
func (c *call) reserve(n int64) error {
	if !c.memory.Acquire(n) {
		return s3err.SlowDown
	}
	c.reserved += n
	return nil
}

// bodyMemory is the memory that the body of a call needs on its way to the upstream.
func (c *call) bodyMemory() int64 {
	switch n := c.payload.Length; {
	case n == 0:
		return 0
	case n < 0:
		return inMemory
	case n <= inMemory:
		return n
	}
	return streamMemory
}
