package budget

// Taker is what takes memory and gives it back: a Budget, or a part of one.
type Taker interface {
	// Acquire takes n bytes, or reports that there are not enough.
	Acquire(n int64) bool
	// Release gives n bytes back.
	Release(n int64)
}

// part is what one of several takers draws on. Half of a budget is kept for them in equal
// shares, so that one that gives nothing back for a while cannot keep the others from theirs.
type part struct {
	all  *Budget
	used int64 // bytes; guarded by all.mu
}

// Of returns what the taker with a name draws on: its part of b, or b itself if b was not made
// for it. It is never nil.
func (b *Budget) Of(name string) Taker {
	if b != nil {
		if p := b.parts[name]; p != nil {
			return p
		}
	}
	return b
}

// kept is how many bytes are kept for each taker.
func (b *Budget) kept() int64 { return b.limit / int64(2*len(b.parts)) }

// Acquire implements Taker.
func (p *part) Acquire(n int64) bool {
	a := p.all
	a.mu.Lock()
	defer a.mu.Unlock()
	rest := int64(0) // that is kept for others, and not used by them
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
