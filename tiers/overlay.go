package tiers

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/akidb/akigw"
)

// Overlay is what reads see above the tiers: writes that are acknowledged before the upstream has
// them, and what clients were promised about objects that the upstream describes differently. Its
// methods are safe for concurrent use and do not wait for I/O.
type Overlay interface {
	// Pending returns the pending change of a key, nil if there is none. A key with a version never
	// has one.
	Pending(key akigw.Key) Pending
	// Promise returns what clients were promised about the object that a key holds, nil if the
	// upstream describes it the same way.
	Promise(key akigw.Key) Promise
	// Own reports whether an object is internal to the gateway: it is never replaced, so it needs
	// no validation, and no operator pins it.
	Own(key akigw.Key) bool
}

// Pending is a change of a key that is not in the upstream yet.
type Pending interface {
	// Object describes the object that the key holds, nil after a deletion.
	Object() *akigw.Object
	// Part describes a part of the object by its number, nil if only the upstream can.
	Part(number int) *Part
	// Open opens a range of the body, and returns where its bytes come from. A body may be a range
	// of an object in the upstream, which is then read through s. The error is ErrNotPending if the
	// change has reached the upstream meanwhile.
	Open(ctx context.Context, s *Store, r akigw.Range) (Body, akigw.Outcome, error)
}

// Body is the body of a pending object.
type Body interface {
	// Next returns the next bytes, io.EOF at the end. They are shared and must not be changed; they
	// stay valid.
	Next() ([]byte, error)
	io.Closer
}

// Promise is the ETag and Last-Modified that clients know an object by, where the upstream has
// others. It is for one goroutine.
type Promise interface {
	// Conditions translates a client's conditions so that they can be compared with the upstream's
	// ETag and date.
	Conditions(c akigw.Conditions) akigw.Conditions
	// Object returns an object of the upstream with the promised values, valid until the next call;
	// false if the promise is about another object.
	Object(o *akigw.Object) (promised *akigw.Object, ok bool)
	// Forget drops the promise, because the key holds another object now.
	Forget()
}

// ErrNotPending: a pending change has reached the upstream or was superseded.
const ErrNotPending = akigw.Error("the write is no longer pending")

// noOverlay is an Overlay without pending changes.
type noOverlay struct{}

// Pending implements Overlay.
func (noOverlay) Pending(akigw.Key) Pending { return nil }

// Promise implements Overlay.
func (noOverlay) Promise(akigw.Key) Promise { return nil }

// Own implements Overlay.
func (noOverlay) Own(akigw.Key) bool { return false }

// pendingReader opens the pending change of a key. It returns nil if there is none. With read, its
// bytes can be read. The error is ErrUncacheable if only the upstream can respond: then the pending
// change must be flushed and the request forwarded.
func (s *Store) pendingReader(ctx context.Context, key akigw.Key, spec akigw.RangeSpec, conditions akigw.Conditions, read bool) (*Reader, error) {
	for {
		p := s.overlay.Pending(key)
		if p == nil {
			return nil, nil
		}
		r, err := s.openPending(ctx, p, spec, conditions, read)
		if !errors.Is(err, ErrNotPending) {
			return r, err
		}
	}
}

// openPending is pendingReader for a given change.
func (s *Store) openPending(ctx context.Context, p Pending, spec akigw.RangeSpec, conditions akigw.Conditions, read bool) (*Reader, error) {
	object := p.Object()
	if object == nil {
		s.counters.reads[akigw.Overlay].Inc()
		return nil, akigw.ErrNoSuchKey
	}
	r := &Reader{Object: object, Outcome: akigw.Overlay, Hold: mostHeld, source: s.source}
	if n := spec.Part(); n > 0 {
		if r.Part = p.Part(n); r.Part == nil {
			return nil, ErrUncacheable
		}
	}
	if err := conditions.Check(object); err != nil {
		return r, err
	}
	var err error
	if r.Part != nil {
		r.Range = r.Part.Range
	} else if r.Range, err = spec.Resolve(object.Size); err != nil {
		return r, err
	}
	r.at = r.Range.Start
	if read {
		if r.pending, r.Outcome, err = p.Open(ctx, s, r.Range); errors.Is(err, ErrNotPending) {
			return nil, err
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, err)
		}
	}
	s.counters.reads[r.Outcome].Inc()
	return r, nil
}

// Pending opens the pending change of a key, or a range of it. It returns nil if there is none, and
// akigw.ErrNoSuchKey if the change is a deletion. An error that comes with a Reader is about the
// range.
func (s *Store) Pending(ctx context.Context, key akigw.Key, spec akigw.RangeSpec) (*Reader, error) {
	return s.pendingReader(ctx, key, spec, akigw.Conditions{}, true)
}

// upstreamConditions translates a client's conditions for comparison with the upstream's objects. p
// may be nil.
func upstreamConditions(p Promise, c akigw.Conditions) akigw.Conditions {
	if p == nil {
		return c
	}
	return p.Conditions(c)
}

// promised makes a reader describe its object as promised. p is the promise from before the key was
// looked up, nil for none. It is dropped if the key holds another object now.
func (s *Store) promised(key akigw.Key, p Promise, r *Reader) {
	if r == nil {
		return
	}
	if p != nil {
		if o, ok := p.Object(r.Object); ok {
			r.Object = o
			return
		}
	}
	now := s.overlay.Promise(key) // the object may have been flushed in the meantime
	if p != nil && now != nil && r.Outcome != akigw.Stale {
		p.Forget()
	}
	if now != nil {
		if o, ok := now.Object(r.Object); ok {
			r.Object = o
		}
	}
}

// hasPending reports whether a key has an acknowledged write that is not in the upstream yet.
func (s *Store) hasPending(key akigw.Key) bool {
	return s.overlay.Pending(key.Current()) != nil
}
