package cold

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

const (
	// backoffBase and throttledBase are the upper bounds of the wait before the first retry; they
	// double with each, up to backoffCap. The wait is a random time below the bound ("full
	// jitter"). An upstream that throttles gets more time.
	backoffBase   = 100 * time.Millisecond
	throttledBase = time.Second
	backoffCap    = 5 * time.Second
)

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

// retrier repeats requests that failed.
type retrier struct {
	retries   int           // for each request
	within    time.Duration // for each request, with all attempts and waits
	allowance *allowance
	suspicion *suspicion
	counters  *counters
	next      sender
}

// send sends a request, and repeats it while it is repeatable, may succeed, and the allowance lasts. It
// returns the last response or error.
func (t *retrier) send(ctx context.Context, r *Request) (*http.Response, error) {
	started := time.Now()
	for n := 0; ; n++ {
		resp, err := t.next(ctx, r)
		again := r.repeatable() && n < t.retries && (err != nil || transient(resp.StatusCode)) && ctx.Err() == nil && !isOpen(err)
		if suspect, _ := t.suspicion.now(); suspect {
			again = false
		}
		if !again {
			return resp, err
		}
		wait := backoff(n, resp)
		if time.Since(started)+wait > t.within {
			return resp, err
		}
		if !t.allowance.spend() {
			t.counters.retriesRefused.Inc()
			return resp, err
		}
		if resp != nil {
			resp.Body.Close()
		}
		t.counters.retries.Inc()
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, unavailable(r, ctx.Err())
		}
	}
}
