package gateway

import (
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/internal/s3err"
)

// Memory is the budget for request bodies under way. The nil Memory has no
// bound. Its methods may be called from any goroutine.
type Memory struct {
	limit int64
	used  atomic.Int64
}

// NewMemory makes a budget of limit bytes.
func NewMemory(limit int64) *Memory {
	return &Memory{limit: limit}
}

var overMemory = metrics.NewCounter("akigw_gateway_over_request_memory_total")

// Acquire takes n bytes, or reports that there are not enough.
func (m *Memory) Acquire(n int64) bool {
	if m == nil || m.used.Add(n) <= m.limit {
		return true
	}
	m.used.Add(-n)
	overMemory.Inc()
	return false
}

// Release gives n bytes back.
func (m *Memory) Release(n int64) {
	if m != nil {
		m.used.Add(-n)
	}
}

// What a body takes besides its own bytes.
const (
	// streamMemory is what a body takes that streams through: a block on its
	// way into the cache, and buffers on both sides.
	streamMemory = 384 << 10
	// parsedFactor is how much larger a document is once it is parsed.
	parsedFactor = 4
)

// reserve takes memory that is given back when the call ends.
func (c *Call) reserve(m *Memory, n int64) error {
	if !m.Acquire(n) {
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
