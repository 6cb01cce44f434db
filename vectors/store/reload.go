package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/vectors/remote"
)

// reloadStale returns the error of a commit. If it says that the manifest in the upstream is another one
// than this gateway believes, it is loaded first, so that the next attempt continues from it: a commit
// whose response was lost has arrived all the same, or the copy from which it was loaded was older. c's
// turn is taken.
func (s *flusher) reloadStale(ctx context.Context, c *collection, err error) error {
	if !errors.Is(err, remote.ErrStale) {
		return err
	}
	return errors.Join(err, s.reload(ctx, c))
}

// reload continues from the manifest that the upstream has. What is not flushed stays as it is: rows that
// the manifest has already are flushed once more, which changes nothing.
func (s *tierer) reload(ctx context.Context, c *collection) error {
	r, err := s.reader()
	if err != nil {
		return err
	}
	loaded, err := r.LoadManifest(ctx, collectionOf(&c.index), nil)
	if err != nil {
		return fmt.Errorf("the manifest could not be loaded again: %w", err)
	}
	before := c.state()
	if loaded.ETag == before.etag && !loaded.Degraded {
		return errUnchanged
	}
	after := manifestState{Manifest: loaded.Manifest, etag: loaded.ETag, parts: before.parts}
	parts, tier := []held(nil), Cold
	if before.tier != Cold {
		if parts, err = s.warmParts(ctx, c, after, after.refs()); err == nil {
			tier = Warm
		}
	}
	c.discard() // the manifest may name that segment
	c.adopt(loaded)
	c.install(parts, tier, false)
	s.freeHot(before.parts)
	s.log.Warn("the manifest of a vector collection in the upstream is newer than the one that was known here; it is used from now on", "bucket", c.index.Bucket, "index", c.index.Name, "generation", loaded.Generation)
	return nil
}

// adopt replaces the manifest by one that was loaded.
func (c *collection) adopt(loaded remote.LoadedManifest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.manifest, c.etag, c.unsaved = loaded.Manifest, loaded.ETag, true
	if reason := degradedBy(loaded); reason != "" {
		c.degraded = reason
	}
	c.next = max(c.next, loaded.Applied+1)
}

// errUnchanged: the manifest in the upstream is the one that is known.
const errUnchanged = akigw.Error("the manifest in the upstream has not changed")
