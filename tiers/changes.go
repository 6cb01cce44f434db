package tiers

import (
	"context"
	"errors"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/tiers/warm"
)

// changes end what the cache knows: writes through this gateway, events of others, and purges.
type changes struct {
	directory
	openings  *fetcher
	revisions *revisions
	tasks     *tasks
	observers observers
	unsettled unsettled // writes that the upstream may still carry out
}

// Begin starts a change of key: what is cached becomes unreachable at once.
func (c *changes) Begin(key akigw.Key) *Write {
	w := &Write{
		changes: c, settings: c.settings(key), key: key, write: c.fence.beginWrite(key),
		extent: warm.Run{ID: c.fence.generation(), Object: objectNumber(key)},
	}
	c.openings.forgetOpening(key, nil)
	c.dropEntry(key)
	c.revisions.advance(key.Bucket)
	return w
}

// ChangeBucket says that a bucket is being created, deleted or configured: listings of it from
// before end are not used any more.
func (c *changes) ChangeBucket(bucket string) (end func()) {
	c.revisions.advance(bucket)
	return func() { c.revisions.advance(bucket) }
}

// Changed takes what an event says of an object. If the version that it speaks
// of is the one that is known, its bytes stay, and have to be confirmed before
// they are served: the headers can be others.
func (c *changes) Changed(change cold.Change) {
	c.counters.events.Inc()
	c.revisions.advance(change.Key.Bucket)
	if change.Key.Version != "" {
		c.changed(change)
	}
	change.Key = change.Key.Current()
	c.changed(change)
}

func (c *changes) changed(change cold.Change) {
	known, _ := c.lookup(change.Key)
	generation := c.fence.raise(change.Key)
	defer c.fence.leave(change.Key)
	c.openings.forgetOpening(change.Key, nil)
	if known == nil || change.Removed || known.ETag != change.ETag || known.Size != change.Size {
		c.dropEntry(change.Key)
		return
	}
	marked := *known
	marked.Generation, marked.validated = generation, time.Time{}
	c.publish(&marked)
}

// Purge forgets what is cached of the keys that a pattern names: all their versions, in memory and
// on disk, kept listings and absences, and what is being filled. Pending writes stay: they are no
// copy. It returns how many objects were known. If ctx ends, Purge stops half-way; it can be
// repeated.
func (c *changes) Purge(ctx context.Context, what akigw.Pattern) (n int, err error) {
	c.revisions.advance(what.Bucket)
	seen := map[akigw.Key]bool{}
	for key := range c.openings.underway(what) {
		if e, _ := c.lookup(key); e != nil { // of a fill that is about to end
			seen[key] = true
		}
		c.Begin(key).End()
	}
	forget := func(key akigw.Key, extent uint64) bool {
		c.Begin(key).End()
		if c.warm != nil && extent != 0 {
			c.warm.DropBlocks(extent)
		}
		seen[key] = true
		return ctx.Err() == nil
	}
	for k, v := range c.hot.All() {
		if v.entry == nil || !what.Names(k.key) {
			continue
		}
		if !forget(k.key, v.entry.extent) {
			return len(seen), ctx.Err()
		}
	}
	if c.warm != nil {
		err = c.walkObjects(what, func(k Known) bool { return forget(k.Key, k.extent) })
	}
	return len(seen), errors.Join(err, ctx.Err())
}
