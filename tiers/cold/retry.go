package cold

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"
)

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

const (
	// backoffBase and throttledBase are the upper bounds of the wait before the first retry; they double
	// with each, up to backoffCap. The wait is a random time below the bound ("full jitter"). An
	// upstream that throttles gets more time.
	backoffBase   = 100 * time.Millisecond
	throttledBase = time.Second
	backoffCap    = 5 * time.Second
)

// throttled reports whether a status asks for fewer requests (S3: SlowDown).
func throttled(status int) bool {
	return status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests
}

// transient reports whether a request that got a status may succeed soon.
func transient(status int) bool {
	return throttled(status) || status == http.StatusInternalServerError || status == http.StatusBadGateway || status == http.StatusGatewayTimeout
}

// backoff is how long to wait before retry number n, from 0. resp may be nil.
func backoff(n int, resp *http.Response) time.Duration {
	base := backoffBase
	if resp != nil && throttled(resp.StatusCode) {
		base = throttledBase
		if secs, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && secs > 0 {
			return min(time.Duration(secs)*time.Second, backoffCap)
		}
	}
	return rand.N(min(base<<n, backoffCap)) + 1
}

// repeatable reports whether a request may be sent twice: a read without a body. A change is repeated by
// the caller, who knows what a second time means.
func (r *Request) repeatable() bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.Length == 0
}

// retry sends a request, and repeats it while it is repeatable, may succeed, and the allowance lasts. It
// returns the last response or error.
func (u *Upstream) retry(ctx context.Context, r *Request) (*http.Response, error) {
	started := time.Now()
	for n := 0; ; n++ {
		resp, err := u.hedged(ctx, r)
		again := r.repeatable() && n < u.config.Retries && (err != nil || transient(resp.StatusCode)) && ctx.Err() == nil && !isOpen(err)
		if suspect, _ := u.suspicion.now(); suspect {
			again = false
		}
		if !again {
			return resp, err
		}
		wait := backoff(n, resp)
		if time.Since(started)+wait > u.deadlines.Read {
			return resp, err
		}
		if !u.repeats.spend() {
			u.counters.retriesRefused.Inc()
			return resp, err
		}
		if resp != nil {
			resp.Body.Close()
		}
		u.counters.retries.Inc()
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, unavailable(r, ctx.Err())
		}
	}
}
