package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/remote"
	"github.com/akidb/akigw/vectors/segment"
)

// session is the store's hold on its prefix in the upstream. It begins unloaded, without a remote. It
// can be loaded without a remote, from local copies, while the upstream does not respond.
type session struct {
	probe func(context.Context) (*remote.Remote, error) // asks the upstream, and takes nothing
	decisions
	self string // this gateway
	log  *slog.Logger

	mu      sync.Mutex
	loaded  bool
	failure error          // why nothing could be loaded yet, nil if that was not tried or if it was
	owner   segment.Owner  // as this gateway has taken the prefix
	remote  *remote.Remote // nil: the upstream has not confirmed yet that the prefix is ours
	fenced  error          // why nothing is written any more, nil if it is
	cause   error          // why there is no remote
}

func newSession(o Options) *session {
	return &session{self: o.Writer, decisions: newDecisions(o.FS, o.Dir), log: o.Log, probe: func(ctx context.Context) (*remote.Remote, error) {
		return remote.Open(ctx, remote.Options{Upstream: o.Upstream, Bucket: o.Config.Bucket, Prefix: o.Config.Prefix, Writer: o.Writer, Keep: o.Config.KeepSnapshots, Dir: temporary(o.Dir), Sender: o.Sender, Log: o.Log})
	}}
}

// attach confirms at the upstream that the prefix is ours.
func (s *session) attach(ctx context.Context) (*remote.Remote, error) {
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	var owner segment.Owner
	r, err := s.probe(ctx)
	if err == nil {
		owner, err = s.acquire(ctx, r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.remote, s.owner, s.cause = r, owner, nil
		if !s.loaded { // another gateway had it, and nothing was loaded since
			s.fenced = nil
		}
	case errors.Is(err, remote.ErrOwned), errors.Is(err, remote.ErrFenced):
		s.fence(err)
	default:
		s.cause = err
	}
	return s.remote, err
}

// attachTimeout bounds one attempt.
const attachTimeout = 30 * time.Second

// fence ends all writing, because another gateway has the prefix. s.mu is locked.
func (s *session) fence(err error) {
	if s.fenced == nil {
		s.log.Error("vector collections are not written any more: another gateway has their prefix in the upstream. Let one gateway use a prefix; to move it here on purpose, run akigw vectors takeover", "error", err)
	}
	s.fenced, s.cause = err, err
}

// restrict ends all writing for another reason.
func (s *session) restrict(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.Error("vector collections are read-only", "error", err)
	s.fenced, s.cause = err, err
}

// failed notes an error of the upstream, and returns it. One that says that another gateway has the
// prefix ends all writing.
func (s *session) failed(err error) error {
	if errors.Is(err, remote.ErrFenced) || errors.Is(err, remote.ErrOwned) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.fence(err)
	}
	return err
}

// begin says that everything is loaded.
func (s *session) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded, s.failure = true, nil
}

// unloaded notes why nothing could be loaded.
func (s *session) unloaded(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = err
}

// ready returns why nothing can be read, nil if it can.
func (s *session) ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.loaded {
		return &vectors.Error{Code: vectors.Unavailable, Message: "The vector collections are being loaded. Try again later.", RetryAfter: 1, Cause: s.cause}
	}
	return nil
}

// accepting returns why nothing can be written, nil if it can.
func (s *session) accepting() error {
	if err := s.ready(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fenced != nil {
		return &vectors.Error{Code: vectors.Unavailable, Message: "The vector collections are read-only at this gateway: another gateway has taken them over, or they are damaged.", Cause: s.fenced}
	}
	return nil
}

// errDetached: the upstream has not confirmed yet that the prefix is ours.
const errDetached = akigw.Error("the upstream has not confirmed the ownership of the vector collections")

// writer returns what writes to the upstream, or why nothing may be written there.
func (s *session) writer() (*remote.Remote, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.fenced != nil:
		return nil, s.fenced
	case s.remote == nil:
		return nil, fmt.Errorf("%w: %w", errDetached, s.cause)
	}
	return s.remote, nil
}

// problem returns what an operator should know, nil if all is well.
func (s *session) problem() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.cause, s.failure)
}

// takeable returns why a takeover is not possible, nil if it is, and whether collections are loaded.
func (s *session) takeable() (loaded bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.Is(s.fenced, ErrDegraded):
		return s.loaded, ErrUntakeable
	case s.fenced == nil && s.remote != nil:
		return s.loaded, ErrOurs
	}
	return s.loaded, nil
}

// holder describes the hold on the prefix.
func (s *session) holder() Owner {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := Owner{Gateway: s.self, Loaded: s.loaded, Fenced: s.fenced != nil}
	var owned *remote.OwnedError
	switch {
	case errors.As(s.cause, &owned):
		o.Writer, o.Epoch, o.Since = owned.Owner.Writer, owned.Owner.Epoch, owned.Owner.Since
	case s.remote != nil && s.fenced == nil:
		o.Writer, o.Epoch, o.Since = s.owner.Writer, s.owner.Epoch, s.owner.Since
	}
	return o
}
