package budget

// Taker is a Budget, or a part of one.
type Taker interface {
	// Acquire takes n bytes, and returns false if there are not enough.
	Acquire(n int64) bool
	// Release returns n bytes.
	Release(n int64)
}

// part is the part of one of several takers. Half of a budget is reserved for them in equal shares,
// so that a taker that releases nothing for a while cannot starve the others.
type part struct {
	all  *Budget
	used int64 // bytes; guarded by all.mu
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
