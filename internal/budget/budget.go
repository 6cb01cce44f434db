// Package budget shares a limited number of bytes, such as memory, among many users.
package budget

import (
	"sync"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"
)

// Taker is a Budget, or a part of one.
type Taker interface {
	// Acquire takes n bytes, and returns false if there are not enough.
	Acquire(n int64) bool
	// Release returns n bytes.
	Release(n int64)
}

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

// Of returns the part of the taker with a name, or b itself if b has no part for it. It is never
// nil.
func (b *Budget) Of(name string) Taker {
	if b != nil {
		if p := b.parts[name]; p != nil {
			return p
		}
	}
	return b
}

// Used returns the number of bytes that are acquired.
func (b *Budget) Used() int64 { return b.used.Load() }

// part is the part of one of several takers. Half of a budget is reserved for them in equal shares,
// so that a taker that releases nothing for a while cannot starve the others.
type part struct {
	all  *Budget
	used int64 // bytes; guarded by all.mu
}

// kept returns how many bytes are reserved for each taker.
func (b *Budget) kept() int64 { return b.limit / int64(2*len(b.parts)) }

// Acquire implements Taker.
func (p *part) Acquire(n int64) bool {
	a := p.all
	a.mu.Lock()
	defer a.mu.Unlock()
	rest := int64(0) // reserved for others and not used by them
	for _, other := range a.parts {
		if other != p {
			rest += max(0, a.kept()-other.used)
		}
	}
	if a.used.Add(n)+rest > a.limit {
		a.used.Add(-n)
		a.refused.Inc()
		return false
	}
	p.used += n
	return true
}

// Release implements Taker.
func (p *part) Release(n int64) {
	a := p.all
	a.mu.Lock()
	defer a.mu.Unlock()
	p.used -= n
	a.used.Add(-n)
}
