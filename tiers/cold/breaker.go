package cold

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/sony/gobreaker/v2"

	"github.com/akidb/akigw"
)

const (
	// breakerWindow is how far back a breaker looks, and breakerLeast how many
	// requests it has to have seen end there: it opens on the share that failed, not
	// on their number.
	breakerWindow = 10 * time.Second
	breakerLeast  = 20
	// breakerRest is how long an open breaker lets nothing through, and
	// breakerProbes how many requests it lets through then, all of which have to
	// go well.
	breakerRest   = 2 * time.Second
	breakerProbes = 3
	// maxBreakers bounds the memory: beyond it one starts anew for each that is added.
	maxBreakers = 4096
)

var (
	breakerOpened  = metrics.NewCounter("akigw_cold_breaker_opened_total")
	breakerRefused = metrics.NewCounter("akigw_cold_breaker_refused_total")
)

// breakers keep requests from an upstream that fails, bucket by bucket: so that
// it can recover, and so that nobody waits for what is not going to come.
type breakers struct {
	share float64 // of failed requests that opens one; 0 switches them off

	mu   sync.Mutex
	byID map[string]*gobreaker.CircuitBreaker[*http.Response] // by bucket; guarded by mu
}

func (b *breakers) of(bucket string) *gobreaker.CircuitBreaker[*http.Response] {
	b.mu.Lock()
	defer b.mu.Unlock()
	if breaker := b.byID[bucket]; breaker != nil {
		return breaker
	}
	if len(b.byID) >= maxBreakers {
		b.makeRoom()
	}
	if b.byID == nil {
		b.byID = make(map[string]*gobreaker.CircuitBreaker[*http.Response])
	}
	breaker := gobreaker.NewCircuitBreaker[*http.Response](gobreaker.Settings{
		MaxRequests: breakerProbes, Interval: breakerWindow, BucketPeriod: time.Second, Timeout: breakerRest,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			ended := c.TotalFailures + c.TotalSuccesses // c.Requests has those, too, that are under way or were given up
			return ended >= breakerLeast && float64(c.TotalFailures) >= b.share*float64(ended)
		},
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				breakerOpened.Inc()
			}
		},
		IsSuccessful: func(err error) bool { return err == nil },
		IsExcluded:   func(err error) bool { return errors.Is(err, errGivenUp) },
	})
	b.byID[bucket] = breaker
	return breaker
}

// makeRoom forgets one breaker, of a few at random: one that has nothing to remember if
// there is one, and an open one last. Clients can invent names of buckets, and must not
// make the others start anew by it. It needs mu.
func (b *breakers) makeRoom() {
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

// open is the number of breakers that let nothing or only probes through.
func (b *breakers) open() int { return len(b.broken()) }

// broken are the buckets whose breakers let nothing or only probes through.
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

// Broken are the buckets whose requests are refused for a while, or tried out, because too
// many of them failed; "" stands for requests that name none.
func (u *Upstreams) Broken() (buckets []string) {
	for _, one := range u.all {
		buckets = append(buckets, one.breakers.broken()...)
	}
	slices.Sort(buckets)
	return buckets
}

// errGivenUp marks a request that its sender ended, or whose body its sender did
// not bring to an end: it says nothing of the upstream.
var errGivenUp = errors.New("given up by who sent it")

// failing is an answer that counts as a failure.
type failing struct{ status int }

func (f failing) Error() string { return fmt.Sprintf("status %d", f.status) }

// guarded sends a request, unless its breaker is open.
func (u *Upstream) guarded(ctx context.Context, r *Request) (*http.Response, error) {
	if u.breakers.share == 0 {
		return u.linked(ctx, r)
	}
	var resp *http.Response
	var err error
	_, refused := u.breakers.of(r.Key.Bucket).Execute(func() (*http.Response, error) {
		resp, err = u.linked(ctx, r)
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
		breakerRefused.Inc()
		return nil, unavailable(r, fmt.Errorf("%w: %w", ErrNotSent, refused))
	}
	return resp, err
}

func isOpen(err error) bool {
	return errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests)
}

func unavailable(r *Request, cause error) error {
	return fmt.Errorf("%w: %s %s: %w", akigw.ErrUpstreamUnavailable, r.Op, r.Key, cause)
}
