package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/akidb/akigw/vectors/remote"
)

// sweepEvery is how often garbage in the upstream is looked for.
const sweepEvery = 10 * time.Minute

// orphan is an object whose upload was journalled and that no manifest names: the gateway ended in the
// middle of a flush.
type orphan struct {
	at     remote.Collection
	name   string
	record uint64
}

// orphans are the orphans that are not removed yet.
type orphans struct {
	mu   sync.Mutex
	list []orphan
}

func (o *orphans) add(x orphan) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, x)
}

func (o *orphans) all() []orphan {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.list)
}

func (o *orphans) remove(x orphan) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = slices.DeleteFunc(o.list, func(y orphan) bool { return x == y })
}

// sweeping removes garbage from the upstream until ctx ends.
func (s *flusher) sweeping(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && !errStopped(ctx, err) && !errors.Is(err, errDetached) {
			s.log.Warn("garbage of vector collections could not be removed; it is tried again", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Sweep removes the objects below the prefix that no manifest names any more. Objects that the store does
// not know are removed after a day.
func (s *flusher) Sweep(ctx context.Context) error {
	r, err := s.session.writer()
	if err != nil {
		return err
	}
	for _, o := range s.orphans.all() {
		if err := s.sweepOrphan(ctx, r, o); err != nil {
			return s.session.failed(err)
		}
	}
	swept, err := r.Sweep(ctx, remote.Live{Collection: func(c remote.Collection) bool { return s.in(c) != nil }, InUse: s.inUse})
	s.swept.Add(swept.Removed)
	return s.session.failed(err)
}

// sweepOrphan removes an orphan, unless a flush that was tried again has made it part of a collection: with
// the same content, it has the same name.
func (s *flusher) sweepOrphan(ctx context.Context, r *remote.Remote, o orphan) error {
	c := s.in(o.at)
	if c != nil {
		if err := c.turn.take(ctx); err != nil {
			return err
		}
		defer c.turn.release()
	}
	named, err := s.named(ctx, r, o)
	if err != nil {
		return err
	}
	if !named {
		if err := r.RemovePart(ctx, o.at, o.name); err != nil {
			return err
		}
	}
	s.orphans.remove(o)
	return s.release([]uint64{o.record})
}

// named reports whether the manifest in the upstream names an orphan. The one that is known here may be older:
// the gateway may have ended after the commit, and started from local copies.
func (s *flusher) named(ctx context.Context, r *remote.Remote, o orphan) (bool, error) {
	loaded, err := r.LoadManifest(ctx, o.at, nil)
	switch {
	case errors.Is(err, remote.ErrAbsent):
		return false, nil
	case err != nil:
		return false, err
	case loaded.Degraded:
		return true, nil // nothing is known: the object may be needed
	}
	return slices.Contains(loaded.Names(), o.name), nil
}

// in returns the collection at a place, nil if there is none.
func (s *core) in(at remote.Collection) *collection {
	e, ok := s.catalog.current.Load().indexes[indexName{at.Bucket, at.Index}]
	if !ok || e.Incarnation != at.Incarnation {
		return nil
	}
	return e.collection
}

func (m manifestState) names(name string) bool {
	return m.Manifest != nil && slices.Contains(m.Names(), name)
}

// inUse reports whether a part is named by the manifest that a collection has here, or will be by the next
// one.
func (s *core) inUse(at remote.Collection, name string) bool {
	c := s.in(at)
	return c != nil && (c.state().names(name) || c.uploading(name))
}

// uploading reports whether an object was announced since the manifest was committed.
func (c *collection) uploading(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.uploads, func(u upload) bool { return u.name == name })
}
