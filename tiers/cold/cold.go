// Package cold is the coldest tier: the upstream S3 service. It owns the pooled transport, builds every
// upstream request anew from parsed fields, signs it when it is sent, and watches that the response
// arrives and makes progress.
//
// A request passes these layers, each in a file of its own: its deadline (deadline.go), retries within
// an allowance that all requests to one upstream share (retry.go), a second request for a slow read
// (hedge.go), the circuit breaker of its bucket (breaker.go), fair queueing for a slot (fairqueue.go),
// and the exchange itself (exchange.go). Beside them, suspect.go detects an upstream that has stopped
// responding, and keyring.go keeps the credentials.
//
// The package never follows redirects, never dials another host than the configured one, and never
// repeats a request that may change something, unless it is sure that the upstream did not see it. It
// does not interpret responses: status, headers and body are the caller's to read.
package cold

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/akidb/akigw/sigv4"
)

// Upstream sends signed requests to one S3 endpoint. Its methods are safe for concurrent use.
type Upstream struct {
	*exchanger
	origin    uint64
	allowance *allowance
	retrier   *retrier
	hedger    *hedger
	breakers  *breakers
	slots     *fairQueue
	probes    http.RoundTripper // opens a connection for each request
	closeIdle func()
	work      sync.WaitGroup // hedged requests and probes
	end       context.CancelFunc

	mu        sync.Mutex
	observers []func(suspect bool) // see OnSuspect; guarded by mu
}

// New builds an Upstream. wrap, if not nil, wraps the transport: tests and the fault layer use it.
func New(config Config, pool PoolConfig, wrap func(http.RoundTripper) http.RoundTripper) (*Upstream, error) {
	base, err := url.Parse(config.URL)
	if err != nil {
		return nil, fmt.Errorf("upstream.url: %w", err)
	}
	connections := newConnectionPool(newDialer(base), pool)
	fresh := connections.make()
	fresh.DisableKeepAlives = true
	counters := newCounters(config.Metrics)
	e := &exchanger{config: config, counters: counters, base: url.URL{Scheme: base.Scheme, Host: base.Host}, transport: connections, keyring: newKeyring(&config, counters), signer: sigv4.Signer{Region: config.Region}, deadlines: config.deadlines()}
	u := &Upstream{exchanger: e, origin: xxhash.Sum64String(cmp.Or(config.Identity, base.Scheme+"://"+base.Host)), probes: fresh, closeIdle: connections.close,
		allowance: newAllowance(), slots: newFairQueue(config.MaxRequests, counters.slotWaits),
		breakers: &breakers{share: float64(config.BreakerPercent) / 100, opened: counters.breakerOpened, refused: counters.breakerRefused}}
	if wrap != nil {
		e.transport, u.probes = wrap(connections), wrap(fresh)
	}
	var ctx context.Context
	ctx, u.end = context.WithCancel(context.Background())
	e.suspicion = newSuspicion(ctx, &config, counters, &u.work, u.probe)
	e.suspicion.changed = u.suspicionChanged
	u.hedger = &hedger{after: time.Duration(config.HedgeAfterMs) * time.Millisecond, allowance: u.allowance, counters: counters, work: &u.work, next: u.guarded}
	u.retrier = &retrier{retries: config.Retries, within: e.deadlines.Read, allowance: u.allowance, suspicion: e.suspicion, counters: counters, next: u.hedger.send}
	return u, nil
}

// Close ends probes and closes idle connections. Requests under way continue, except hedged ones that have
// lost.
func (u *Upstream) Close() error {
	u.end()
	u.work.Wait()
	u.keyring.close()
	u.closeIdle()
	return nil
}

// Do sends a request and returns the response, whatever its status; the caller closes the body. The
// error wraps akigw.ErrUpstreamUnavailable if there was no response, unless ctx ended the request;
// ErrDeadline as well if there was none in time; and ErrSuspect if nothing was sent because the upstream
// has stopped responding.
func (u *Upstream) Do(ctx context.Context, r *Request) (*http.Response, error) {
	if suspect, _ := u.suspicion.now(); suspect {
		u.counters.suspectRefused.Inc()
		return nil, unavailable(r, ErrSuspect)
	}
	u.allowance.earn()
	if r.Repeat && !u.allowance.spend() {
		u.counters.retriesRefused.Inc()
		return nil, unavailable(r, errNoAllowance)
	}
	return u.deadlines.bound(ctx, r, u.retrier.send)
}

var errNoAllowance = fmt.Errorf("%w: the allowance for repeated requests is spent", ErrNotSent)

// guarded sends a request once, past the breaker of its bucket and the queue for a slot.
func (u *Upstream) guarded(ctx context.Context, r *Request) (*http.Response, error) {
	return u.breakers.send(ctx, r, u.queued)
}

// queued sends a request once when it has a slot.
func (u *Upstream) queued(ctx context.Context, r *Request) (*http.Response, error) {
	return u.slots.send(ctx, r, u.send)
}

// Skew is how far this clock is ahead of the upstream's, by the Date of its last response: accurate to
// about a second.
func (u *Upstream) Skew() time.Duration { return time.Duration(u.skew.Load()) }

// probe asks for the head of the service, on a new connection: those in the pool may be dead unnoticed.
// Any response is a success.
func (u *Upstream) probe(ctx context.Context) error {
	resp, err := u.exchange(ctx, &Request{Op: probeOp, Method: http.MethodHead}, u.probes)
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// suspicionChanged is called when the upstream becomes suspect, and when it is back.
func (u *Upstream) suspicionChanged(suspect bool) {
	u.closeIdle() // what was opened before may be dead
	if !suspect {
		u.breakers.reset() // they saw failures of an upstream that is back
	}
	u.mu.Lock()
	observers := u.observers
	u.mu.Unlock()
	for _, observe := range observers {
		observe(suspect)
	}
}
