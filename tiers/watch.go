package tiers

import (
	"context"
	"maps"
	"slices"

	"github.com/akidb/akigw"
)

// Watch observes what a key holds after a read of it. It is for one goroutine at a time.
type Watch struct {
	source *source
	entry  *entry
}

// Watch begins to observe the key of an object from the cache, so that a later comparison with the
// upstream knows about changes since the read. It returns nil if the key has changed already, or may
// have: then the cache no longer has the object. The caller has to Close the Watch soon; until then
// the fence remembers the key.
func (r *Reader) Watch() *Watch {
	w := &Watch{r.source, r.entry}
	w.source.fence.enter(w.entry.Key)
	now := w.now() // a write that has ended is not in the fence any more, but its predecessor is not in the catalog either
	if now == nil || w.Changed() {
		w.Close()
		return nil
	}
	return w
}

// Changed reports whether the key was written through this gateway since the read, is being written,
// was reported as changed by the upstream, or was found to hold something else. It remains false
// when the object only leaves the cache.
func (w *Watch) Changed() bool {
	if !w.source.fence.alive(w.entry.Key, w.entry.Generation) || w.source.fence.writing(w.entry.Key) {
		return true
	}
	now := w.now()
	return now != nil && !(now.same(&w.entry.Object) && maps.EqualFunc(now.Header, w.entry.Header, slices.Equal))
}

// Confirm has the object validated once more, as a read in mode strict does, and reports whether the key
// still holds it. It is false as well if the upstream does not say.
func (w *Watch) Confirm(ctx context.Context) bool {
	e, err := w.source.validator.validate(ctx, w.entry)
	return err == nil && e != nil && e.same(&w.entry.Object)
}

// Close ends the observation.
func (w *Watch) Close() { w.source.fence.leave(w.entry.Key) }

// now returns the entry that the catalog has of the key, nil if it has none.
func (w *Watch) now() *entry {
	key := w.entry.Key
	e := w.source.peek(key)
	if e == nil && key.Version != "" { // found through the entry of the current version
		if e = w.source.peek(key.Current()); e != nil && e.VersionID() != key.Version {
			return nil
		}
	}
	return e
}

// Stored describes the object that is read as the upstream describes it, whatever clients were
// promised about it. It is shared, and nil for a pending object.
func (r *Reader) Stored() *akigw.Object {
	if r.entry == nil {
		return nil
	}
	return &r.entry.Object
}
