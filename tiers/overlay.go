package tiers

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/akidb/akigw"
)

// Overlay is what reads find above the tiers: writes that were acknowledged before the upstream
// has them, and what clients were promised of objects that the upstream describes otherwise.
// Its methods may be called from any goroutine. They do not wait for I/O.
type Overlay interface {
	// Pending returns the pending change of a key, nil if there is none. A key with a version
	// never has one.
	Pending(key akigw.Key) Pending
	// Promise returns what clients were promised of the object that a key holds, nil if the
	// upstream describes it just so.
	Promise(key akigw.Key) Promise
	// Own reports whether an object is the gateway's own: it is never replaced by another one,
	// so it needs no validation, and no operator pins it.
	Own(key akigw.Key) bool
}

// Pending is a change of a key that is not upstream yet.
type Pending interface {
	// Object describes what the key holds, nil after a deletion.
	Object() *akigw.Object
	// Part describes a part of the object by its number, nil if only the upstream can.
	Part(number int) *Part
	// Open opens a range of the body, and says where the bytes come from. A body may be a
	// stretch of an object upstream, which is read through s. The error is ErrNotPending if
	// the change reached the upstream meanwhile.
	Open(ctx context.Context, s *Store, r akigw.Range) (Body, akigw.Outcome, error)
}

// Body is the body of a pending object.
type Body interface {
	// Next returns the next bytes, io.EOF at the end. They are shared and must not be
	// changed; they stay valid.
	Next() ([]byte, error)
	io.Closer
}

// Promise is an ETag and a Last-Modified that clients know an object by, while the upstream
// knows it by others. It is for one goroutine.
type Promise interface {
	// Conditions translates a client's conditions into those that the upstream's ETag and date
	// are compared with.
	Conditions(c akigw.Conditions) akigw.Conditions
	// Object describes an object of the upstream as clients were promised it, until the next
	// call; false if the promise is not about that object.
	Object(o *akigw.Object) (promised *akigw.Object, ok bool)
	// Forget says that the key holds another object by now.
	Forget()
}

// ErrNotPending: a change that was pending has reached the upstream, or is superseded.
const ErrNotPending = akigw.Error("the write is not pending any more")

// noOverlay is the Overlay of a store above which nothing is pending.
type noOverlay struct{}

// Pending implements Overlay.
func (noOverlay) Pending(akigw.Key) Pending { return nil }

// Promise implements Overlay.
func (noOverlay) Promise(akigw.Key) Promise { return nil }

// Own implements Overlay.
func (noOverlay) Own(akigw.Key) bool { return false }

// pendingReader opens the pending change of a key. It returns nil if there is none. With read its
// bytes can be read. The error is ErrUncacheable if only the upstream can answer: then what is
// pending has to be flushed, and the request forwarded.
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

// openPending is pendingReader for a change.
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

// Pending opens what is pending of a key, or a range of it. It returns nil if nothing is, and
// akigw.ErrNoSuchKey if the key was deleted; with a Reader the error says what is wrong with
// the range.
func (s *Store) Pending(ctx context.Context, key akigw.Key, spec akigw.RangeSpec) (*Reader, error) {
	return s.pendingReader(ctx, key, spec, akigw.Conditions{}, true)
}

// upstreamConditions are a client's conditions as the upstream's objects are compared with them.
// p may be nil.
func upstreamConditions(p Promise, c akigw.Conditions) akigw.Conditions {
	if p == nil {
		return c
	}
	return p.Conditions(c)
}

// promised makes a reader show what clients were promised. p is the promise from before the key
// was looked up, nil for none. It is forgotten if the key holds another object by now.
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
	now := s.overlay.Promise(key) // the object may have been flushed meanwhile
	if p != nil && now != nil && r.Outcome != akigw.Stale {
		p.Forget()
	}
	if now != nil {
		if o, ok := now.Object(r.Object); ok {
			r.Object = o
		}
	}
}

// hasPending reports whether a write of a key is acknowledged and not upstream yet.
func (s *Store) hasPending(key akigw.Key) bool {
	return s.overlay.Pending(key.Current()) != nil
}
