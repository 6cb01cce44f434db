package tiers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// validator decides whether the entry of a key may be served, and asks the upstream where
// necessary. The headers of an object that was just written may be known without that. At most one validation of a key is running. Requests that arrive meanwhile share the
// next one, so that no response is older than a request that it serves.
type validator struct {
	*catalog
	upstream    Upstream
	tasks       *tasks
	follower    *follower
	predictions *predictions
	pages       *pages
	results     Validations // nil: nobody is told
	silence     Silence     // nil if the upstream does not detect that it has stopped responding
	bare304     originSet   // upstreams whose 304 has no Last-Modified: ask without a condition

	mu   sync.Mutex
	next map[akigw.Key]*validation // by key with a running validation; nil if no other follows; guarded by mu
}

func newValidator(c *catalog, upstream Upstream, background *tasks, f *follower, p *predictions) *validator {
	v := &validator{
		catalog: c, upstream: upstream, tasks: background, follower: f, next: make(map[akigw.Key]*validation),
		predictions: p, pages: newPages(c, upstream, background),
	}
	v.silence, _ = upstream.(Silence)
	return v
}

// validation asks the upstream whether an entry is still current. Its result is set when done is
// closed.
type validation struct {
	known *entry // the entry that the first request knew
	flow  cold.Flow
	done  chan struct{}
	entry *entry
	err   error
}

// current returns the entry of a key if it may be used, after validating it if necessary. It
// returns nil and Cold if there is none.
func (v *validator) current(ctx context.Context, key akigw.Key, settings *rules.Settings, conditions akigw.Conditions) (*entry, akigw.Outcome, error) {
	known, outcome := v.lookup(key)
	return v.currentOf(ctx, known, outcome, settings, conditions)
}

// currentOf is current after the entry was looked up.
func (v *validator) currentOf(ctx context.Context, known *entry, outcome akigw.Outcome, settings *rules.Settings, conditions akigw.Conditions) (*entry, akigw.Outcome, error) {
	if known == nil || v.fresh(known, settings, conditions) {
		return known, outcome, nil
	}
	if e := v.asPredicted(ctx, known, conditions); e != nil {
		return e, outcome, nil
	}
	e, err := v.validateSoon(ctx, known, settings, conditions)
	switch {
	case errors.Is(err, akigw.ErrUpstreamUnavailable) && v.usable(known, settings, conditions):
		return known, akigw.Stale, nil
	case e == nil || e.extent != known.extent: // deleted, or another version
		outcome = akigw.Cold
	}
	return e, outcome, err
}

// validate asks the upstream whether known is still the object that its key holds. It returns known
// or its successor, or nil if the upstream has no such object or refuses to say: then the caller's
// own request must find out why.
func (v *validator) validate(ctx context.Context, known *entry) (*entry, error) {
	if err := v.unanswered(known.Key); err != nil {
		return nil, err
	}
	q := v.upcoming(cold.FlowOf(ctx), known)
	select {
	case <-q.done:
		return q.entry, q.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// upcoming returns a validation that has not started yet.
func (v *validator) upcoming(flow cold.Flow, known *entry) *validation {
	v.mu.Lock()
	defer v.mu.Unlock()
	next, running := v.next[known.Key]
	if next != nil {
		return next
	}
	q := &validation{known: known, flow: flow, done: make(chan struct{})}
	if running {
		v.next[known.Key] = q
		return q
	}
	v.next[known.Key] = nil
	v.tasks.start(func() { v.carryOut(q) })
	return q
}

// carryOut runs q, and then the validations of its key that are requested meanwhile.
func (v *validator) carryOut(q *validation) {
	for key := q.known.Key; q != nil; {
		if newest, _ := v.lookup(key); newest != nil {
			q.known = newest
		}
		asked := time.Now()
		q.entry, q.err = v.confirmed(&cold.FlowContext{Context: v.tasks.ctx, Flow: q.flow}, q.known)
		if v.results != nil && q.err == nil {
			v.results.Validated(key.Bucket, q.entry != nil && q.entry.extent == q.known.extent, time.Since(asked))
		}
		next := v.following(key)
		close(q.done)
		q = next
	}
}

// following returns the next validation of a key after one has ended, nil for none.
func (v *validator) following(key akigw.Key) *validation {
	v.mu.Lock()
	defer v.mu.Unlock()
	next := v.next[key]
	if next == nil {
		delete(v.next, key)
	} else {
		v.next[key] = nil
	}
	return next
}

// confirmed does the work of validate with one request to the upstream.
func (v *validator) confirmed(ctx context.Context, e *entry) (*entry, error) {
	v.fence.enter(e.Key)
	defer v.fence.leave(e.Key)
	written := v.soleWriter(e) && v.holds(e)
	current, err := v.ask(ctx, e.Key, e)
	var refused *cold.ResponseError
	if errors.As(err, &refused) && refused.Status < 500 && refused.Status != http.StatusTooManyRequests {
		return nil, nil
	}
	if errors.As(err, &refused) {
		return nil, fmt.Errorf("%w: validation of %s: %w", akigw.ErrUpstreamUnavailable, e.Key, err)
	}
	if err == nil && written {
		v.learn(e, current)
	}
	return current, err
}
