package cold

import "sync"

// allowance bounds retries and hedges together to a share of the requests: each request earns a part of
// a repetition. So an upstream that fails gets a fifth more requests, and not several times as many.
type allowance struct {
	mu     sync.Mutex
	credit int // in parts of a repetition; guarded by mu
}

const (
	// partsPerRepeat is how many requests earn one repetition.
	partsPerRepeat = 5
	// savedRepeats is how many repetitions can be saved up for a bad moment.
	savedRepeats = 10
)

func newAllowance() *allowance { return &allowance{credit: savedRepeats * partsPerRepeat} }

// earn counts a request.
func (a *allowance) earn() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.credit = min(a.credit+1, savedRepeats*partsPerRepeat)
}

// spend takes one repetition, and reports whether there was one.
func (a *allowance) spend() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.credit < partsPerRepeat {
		return false
	}
	a.credit -= partsPerRepeat
	return true
}
