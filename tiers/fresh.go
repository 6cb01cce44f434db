package tiers

import (
	"bytes"
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

// fresh reports whether e may be served to a request without asking the
// upstream. In mode Exclusive a version never is: its bytes stay what they are,
// but its tags and its retention can be changed by requests that do not name
// it, and it can be deleted. While a write is under way, or its outcome is unknown, the
// upstream may have it or not: a reader who has seen it must not see what was filled a
// moment before.
func (s *Store) fresh(e *entry, settings *rules.Settings, c akigw.Conditions) bool {
	if !e.known() || e.run < s.trusted || c.NoCache || c.MaxAge > 0 && !within(e, c.MaxAge) || s.fence.writing(e.Key) {
		return false
	}
	switch settings.Freshness {
	case rules.TTL:
		return within(e, settings.TTL)
	case rules.Immutable:
		return true
	case rules.Exclusive:
		return e.Key.Version == ""
	case rules.Events:
		return s.unchanged(e, settings)
	}
	return false
}

// usable reports whether e may be served although the upstream could not be
// asked. It may not be once a write through this gateway has replaced it, or may
// have.
func (s *Store) usable(e *entry, settings *rules.Settings, c akigw.Conditions) bool {
	return settings.Freshness == rules.TTL && e.known() && e.run >= s.trusted && !c.NoCache && c.MaxAge == 0 &&
		within(e, settings.TTL+settings.MaxStale) && s.fence.alive(e.Key, e.Generation) && !s.fence.writing(e.Key)
}

// within reports whether the upstream confirmed e at most d ago. A time that
// is still to come says that the clock was set back: then nobody knows.
func within(e *entry, d time.Duration) bool {
	age := time.Since(e.validated)
	return age >= 0 && age < d
}

// age is the time since the upstream last confirmed an object.
func age(e *entry) time.Duration { return max(0, time.Since(e.validated)) }

// validations are the questions to the upstream whether what is known of a key
// still holds. For each key at most one is under way; who comes meanwhile
// shares the next one, so that no answer is older than the request that it
// serves. The zero value is ready.
type validations struct {
	mu   sync.Mutex
	keys map[akigw.Key]*question // the next one of each key that has one under way, or nil; guarded by mu
}

// question is one validation. Its result is set when done is closed.
type question struct {
	known *entry // what was known by who asked first
	flow  cold.Flow
	done  chan struct{}
	entry *entry
	err   error
}

// validate asks the upstream whether known is still what its key holds. It
// returns known or its successor, or nil when the upstream has no such object
// or refuses to say: then the caller's own request has to find out why.
func (s *Store) validate(ctx context.Context, known *entry) (*entry, error) {
	if err := s.unanswered(known.Key); err != nil {
		return nil, err
	}
	q := s.question(cold.FlowOf(ctx), known)
	select {
	case <-q.done:
		return q.entry, q.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// question returns a validation that has not begun yet.
func (s *Store) question(flow cold.Flow, known *entry) *question {
	v := &s.validations
	v.mu.Lock()
	defer v.mu.Unlock()
	next, running := v.keys[known.Key]
	if next != nil {
		return next
	}
	q := &question{known: known, flow: flow, done: make(chan struct{})}
	if v.keys == nil {
		v.keys = make(map[akigw.Key]*question)
	}
	if running {
		v.keys[known.Key] = q
		return q
	}
	v.keys[known.Key] = nil
	s.work.Go(func() { s.answer(q) })
	return q
}

// answer answers q and those of its key that are asked meanwhile.
func (s *Store) answer(q *question) {
	v, key := &s.validations, q.known.Key
	for q != nil {
		if newest, _ := s.lookup(key); newest != nil {
			q.known = newest
		}
		q.entry, q.err = s.confirmed(&cold.FlowContext{Context: s.ctx, Flow: q.flow}, q.known)
		v.mu.Lock()
		next := v.keys[key]
		if next == nil {
			delete(v.keys, key)
		} else {
			v.keys[key] = nil
		}
		v.mu.Unlock()
		close(q.done)
		q = next
	}
}

// confirmed is validate for one question.
func (s *Store) confirmed(ctx context.Context, e *entry) (*entry, error) {
	current, err := s.ask(ctx, e.Key, e)
	var refused *cold.ResponseError
	if errors.As(err, &refused) && refused.Status < 500 && refused.Status != http.StatusTooManyRequests {
		return nil, nil
	}
	if errors.As(err, &refused) {
		return nil, fmt.Errorf("%w: validation of %s: %w", akigw.ErrUpstreamUnavailable, e.Key, err)
	}
	return current, err
}

// absence is the upstream's word that a key holds nothing.
type absence struct {
	answer *cold.ResponseError
	head   bool // to a HEAD: it has no body
}

// maxAbsence is how long an absence is believed, whatever the TTL.
const maxAbsence = time.Second

// rememberAbsence keeps an answer, if it says no more than that the key holds
// nothing. The caller has entered the key's fence.
func (s *Store) rememberAbsence(key akigw.Key, generation uint64, asked time.Time, answer *cold.ResponseError, head bool) {
	clean := answer.Status == http.StatusNotFound && (head || bytes.Contains(answer.Body, []byte("<Code>NoSuchKey</Code>")))
	if !clean || key.Version != "" || s.settings(key).Freshness != rules.TTL {
		return
	}
	e := s.newEntry(akigw.Object{Key: key}, generation, asked)
	e.absent = &absence{answer, head}
	s.remember(e)
}

// absent returns the upstream's word that a key holds nothing, nil if it is not
// known or may not be used.
func (s *Store) absent(key akigw.Key, settings *rules.Settings, c akigw.Conditions, head bool) error {
	if settings.Freshness != rules.TTL || c.NoCache || c.MaxAge > 0 || s.fence.writing(key) {
		return nil
	}
	v, ok := s.hot.Get(hotKey{key: key})
	if !ok || v.entry.absent == nil || v.entry.absent.head && !head || !s.fence.alive(key, v.entry.Generation) || !within(v.entry, min(maxAbsence, settings.TTL)) {
		return nil
	}
	return v.entry.absent.answer
}
