package tiers

import (
	"context"
	"errors"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/tiers/warm"
)

// changes invalidates cached data: through writes by this gateway, events about others' writes, and
// purges.
type changes struct {
	directory
	openings  *fetcher
	revisions *revisions
	tasks     *tasks
	observers observers
	uploads   *uploads
	unsettled unsettled // writes that the upstream may still apply
	// predictions are for the headers of what is written.
	predictions *predictions
}

// Begin starts a change of key: cached data of it becomes unreachable at once. What is on disk stays
// there, behind the fence, until the end of the change replaces or removes it.
func (c *changes) Begin(key akigw.Key) *Write {
	settings := c.settings(key).ForWrite()
	w := &Write{
		changes: c, settings: settings, key: key, write: c.fence.beginWrite(key),
		extent: warm.Run{ID: c.fence.generation(), Object: objectNumber(key)}, body: cutter{buffers: &c.buffers, length: int(settings.Block)},
	}
	c.openings.forgetOpening(key, nil)
	c.dropFromMemory(key)
	c.revisions.advance(key.Bucket)
	return w
}

// ChangeBucket starts the creation, deletion or configuration of a bucket. Listings of it from
// before end are no longer used.
func (c *changes) ChangeBucket(bucket string) (end func()) {
	c.revisions.advance(bucket)
	return func() { c.revisions.advance(bucket) }
}

// Changed handles an event. If the event is about the cached version, its bytes stay but must be
// validated before they are served, because the headers may have changed.
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

// Purge removes the cached data of the keys that a pattern matches: all their versions, in memory
// and on disk, cached listings and absences, and running fills. Pending writes stay, because they
// are not copies. It returns the number of known objects. If ctx ends, Purge stops early; it can be
// repeated.
func (c *changes) Purge(ctx context.Context, what akigw.Pattern) (n int, err error) {
	c.revisions.advance(what.Bucket)
	seen := map[akigw.Key]bool{}
	for key := range c.openings.underway(what) {
		if e, _ := c.lookup(key); e != nil { // from a fill that is about to end
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
