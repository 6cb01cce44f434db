package gateway

import (
	"cmp"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/internal/budget"
	"github.com/akidb/akigw/internal/s3err"
)

// NewMemory returns the budget for the bodies of requests in progress: limit bytes. Each of several
// upstreams has a share of it, so that bodies which one upstream does not accept leave memory for
// those of others. A nil set keeps its metric private.
func NewMemory(limit int64, set *metrics.Set, upstreams ...string) *budget.Budget {
	return budget.New(limit, cmp.Or(set, metrics.NewSet()).GetOrCreateCounter("akigw_gateway_over_request_memory_total"), upstreams...)
}

// What a body takes besides its own bytes.
const (
	// streamMemory is what a streamed body takes: a block on its way into the cache, and buffers on
	// both sides.
	streamMemory = 384 << 10
	// parsedFactor is how much larger a document is once it is parsed.
	parsedFactor = 4
)

// reserve takes memory that is given back when the call ends.
func (c *call) reserve(n int64) error {
	if !c.memory.Acquire(n) {
		return s3err.SlowDown
	}
	c.reserved += n
	return nil
}

// bodyMemory is what the body of a call takes on its way to the upstream.
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
