// Package budget shares a limited number of bytes, such as memory, among many users.
package budget

import (
	"sync"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"
)

// Budget is a number of bytes that can be acquired and released. The nil Budget is unlimited. Its
// methods may be called from any goroutine.
type Budget struct {
	limit   int64
	used    atomic.Int64
	refused *metrics.Counter
	parts   map[string]*part // of takers that share it; nil: there is one

	mu sync.Mutex // guards what parts have used
}

// New returns a budget of limit bytes; refused counts refusals. If takers are named, each has a
// reserved part: see Of.
func New(limit int64, refused *metrics.Counter, takers ...string) *Budget {
	b := &Budget{limit: limit, refused: refused}
	if len(takers) > 1 {
		b.parts = make(map[string]*part, len(takers))
		for _, name := range takers {
			b.parts[name] = &part{all: b}
		}
	}
	return b
}

// Acquire takes n bytes, and returns false if there are not enough.
func (b *Budget) Acquire(n int64) bool {
	if b == nil || b.used.Add(n) <= b.limit {
		return true
	}
	b.used.Add(-n)
	b.refused.Inc()
	return false
}

// Release returns n bytes.
func (b *Budget) Release(n int64) {
	if b != nil {
		b.used.Add(-n)
	}
}

// Used returns the number of bytes that are acquired.
func (b *Budget) Used() int64 { return b.used.Load() }
