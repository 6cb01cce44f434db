package cold

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/sony/gobreaker/v2"
)

const (
	// breakerWindow is how far back a breaker looks, and breakerLeast how many requests have to have
	// ended in that time: it opens on the share that failed, not on their number.
	breakerWindow = 10 * time.Second
	breakerLeast  = 20
	// breakerRest is how long an open breaker refuses all requests. After that it lets
	// breakerProbes requests through, which all have to succeed.
	breakerRest   = 2 * time.Second
	breakerProbes = 3
	// maxBreakers bounds the memory: beyond it, one is dropped for each that is added.
	maxBreakers = 4096
)

// breakers stop requests to an upstream that fails, bucket by bucket, so that it can recover, and
// so that clients get an error at once instead of waiting for a response that will not come.
type breakers struct {
	share           float64 // of failed requests that opens one; 0 switches them off
	opened, refused *metrics.Counter

	mu   sync.Mutex
	byID map[string]*gobreaker.CircuitBreaker[*http.Response] // by bucket; guarded by mu
}

// of returns the breaker of a bucket.
func (b *breakers) of(bucket string) *gobreaker.CircuitBreaker[*http.Response] {
	b.mu.Lock()
	defer b.mu.Unlock()
	if breaker := b.byID[bucket]; breaker != nil {
		return breaker
	}
	if len(b.byID) >= maxBreakers {
		b.makeRoomLocked()
	}
	if b.byID == nil {
		b.byID = make(map[string]*gobreaker.CircuitBreaker[*http.Response])
	}
	breaker := gobreaker.NewCircuitBreaker[*http.Response](gobreaker.Settings{
		MaxRequests: breakerProbes, Interval: breakerWindow, BucketPeriod: time.Second, Timeout: breakerRest,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			ended := c.TotalFailures + c.TotalSuccesses // c.Requests also counts running and abandoned ones
			return ended >= breakerLeast && float64(c.TotalFailures) >= b.share*float64(ended)
		},
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				b.opened.Inc()
			}
		},
		IsSuccessful: func(err error) bool { return err == nil },
		IsExcluded:   func(err error) bool { return errors.Is(err, errGivenUp) },
	})
	b.byID[bucket] = breaker
	return breaker
}

// makeRoomLocked drops one of a few random breakers: one without failures if possible, and an open
// one only if there is no other. Clients can invent bucket names, and must not be able to reset
// other breakers that way.
func (b *breakers) makeRoomLocked() {
	const few = 64
	victim, best, seen := "", -1, 0
	for id, breaker := range b.byID {
		worth := int(breaker.Counts().TotalFailures)
		if breaker.State() != gobreaker.StateClosed {
			worth = math.MaxInt
		}
		if best < 0 || worth < best {
			victim, best = id, worth
		}
		if seen++; best == 0 || seen == few {
			break
		}
	}
	delete(b.byID, victim)
}

// reset closes all breakers.
func (b *breakers) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.byID)
}

// open returns the number of breakers that are open or half-open.
func (b *breakers) open() int { return len(b.broken()) }

// broken returns the buckets whose breakers are open or half-open.
func (b *breakers) broken() (buckets []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for bucket, breaker := range b.byID {
		if breaker.State() != gobreaker.StateClosed {
			buckets = append(buckets, bucket)
		}
	}
	return buckets
}

// failing is a response that counts as a failure.
type failing struct{ status int }

func (f failing) Error() string { return fmt.Sprintf("status %d", f.status) }

// send sends a request, unless its breaker is open.
func (b *breakers) send(ctx context.Context, r *Request, next sender) (*http.Response, error) {
	if b.share == 0 {
		return next(ctx, r)
	}
	var resp *http.Response
	var err error
	_, refused := b.of(r.Key.Bucket).Execute(func() (*http.Response, error) {
		resp, err = next(ctx, r)
		switch {
		case err != nil && (ctx.Err() != nil && !errors.Is(context.Cause(ctx), ErrDeadline) || errors.Is(err, errGivenUp)):
			return nil, errGivenUp
		case err != nil:
			return nil, err
		case transient(resp.StatusCode):
			return nil, failing{resp.StatusCode}
		}
		return resp, nil
	})
	if isOpen(refused) {
		b.refused.Inc()
		return nil, unavailable(r, fmt.Errorf("%w: %w", ErrNotSent, refused))
	}
	return resp, err
}

// isOpen reports whether an error is the refusal of a breaker.
func isOpen(err error) bool {
	return errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests)
}
