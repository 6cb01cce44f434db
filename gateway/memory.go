package gateway

import (
	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/internal/budget"
	"github.com/akidb/akigw/internal/s3err"
)

var overMemory = metrics.NewCounter("akigw_gateway_over_request_memory_total")

// NewMemory makes the budget for request bodies under way: limit bytes, of which each of several
// upstreams has a part.
func NewMemory(limit int64, upstreams ...string) *budget.Budget {
	return budget.New(limit, overMemory, upstreams...)
}

// What a body takes besides its own bytes.
const (
	// streamMemory is what a body takes that streams through: a block on its
	// way into the cache, and buffers on both sides.
	streamMemory = 384 << 10
	// parsedFactor is how much larger a document is once it is parsed.
	parsedFactor = 4
)

// memoryOf is what the bodies of a call draw on: the part of the upstream that has its bucket,
// so that bodies which one upstream does not take leave memory for those of others.
func (g *Gateway) memoryOf(c *Call) budget.Taker {
	return g.Memory.Of(g.Upstream.Owner(c.key.Bucket))
}

// reserve takes memory that is given back when the call ends.
func (c *Call) reserve(n int64) error {
	if !c.memory.Acquire(n) {
		return s3err.SlowDown
	}
	c.reserved += n
	return nil
}

// bodyMemory is what the body of a call takes on its way to the upstream.
func (c *Call) bodyMemory() int64 {
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
