package placement

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers"
)

// Catalog lists the known objects, where they are stored and how they are used.
type Catalog struct {
	store *tiers.Store
	usage *records
}

// known is an object of the catalog, with its usage.
type known struct {
	tiers.Known
	usage usage
}

// walk is tiers.Store.Walk with the usage of each object, and without orphans.
func (c *Catalog) walk(what akigw.Pattern, after string, yield func(known) bool) error {
	usage := c.usage.reader()
	return c.store.Walk(what, after, func(k tiers.Known) bool {
		if k.Orphan {
			c.usage.orphaned(k)
			return true
		}
		return yield(known{k, usage(k.Key, k.Accesses)})
	})
}

// slice calls look with the next n objects after a place. It returns the place of the last one, and
// whether there may be more. Without a warm tier there are no places, and all objects form one
// slice.
func (c *Catalog) slice(what akigw.Pattern, after string, n int, look func(known)) (next string, more bool, err error) {
	paged, seen := c.store.HasDisk(), 0
	next = after
	err = c.walk(what, after, func(k known) bool {
		look(k)
		seen++
		next, more = k.Place, paged && seen == n
		return !more
	})
	return next, more, err
}

// State summarises where the objects that a pattern matches are stored; all objects for a pattern
// without a bucket.
func (c *Catalog) State(ctx context.Context, what akigw.Pattern) (total State, err error) {
	err = c.Each(ctx, what, func(o *akigw.CatalogEntry) bool {
		total.add(o)
		return true
	})
	return total, err
}

// fewObjects is the number of objects up to which looking at them one by one is cheaper than taking
// stock of the tiers.
const fewObjects = 2000

// Each calls yield with each known object that a pattern matches (all objects for a pattern without
// a bucket), until yield returns false. They come in the order of bucket and key if Ordered. The
// argument of yield is valid during the call.
func (c *Catalog) Each(ctx context.Context, what akigw.Pattern, yield func(*akigw.CatalogEntry) bool) error {
	var held *tiers.Held // nil for a few objects, which are looked at one by one
	var o akigw.CatalogEntry
	seen := 0
	err := c.walk(what, "", func(k known) bool {
		if seen++; held == nil && (what.Prefix == "" || seen > fewObjects) {
			held = c.store.Held()
		}
		if held == nil {
			c.describeOne(&o, k)
		} else {
			memory, disk := held.Bytes(k.Known)
			c.describe(&o, k, memory, disk)
		}
		return ctx.Err() == nil && yield(&o)
	})
	return errors.Join(err, ctx.Err())
}

// Ordered reports whether Each and Objects go in the order of bucket and key.
func (c *Catalog) Ordered() bool { return c.store.Ordered() }

// Object returns what is known about one key. It sends no request to the upstream. The error is
// akigw.ErrNoSuchKey if nothing is known.
func (c *Catalog) Object(key akigw.Key) (o akigw.CatalogEntry, err error) {
	k, ok := c.store.Find(key)
	if !ok {
		return o, fmt.Errorf("%w: nothing is known about %s", akigw.ErrNoSuchKey, key)
	}
	c.describeOne(&o, known{k, c.usage.of(key)})
	return o, nil
}

// Objects returns up to limit known objects that a pattern matches, in the order of the catalog,
// starting after the token of an earlier call ("": at the first). next is the token for the
// following ones, "" if there are none.
func (c *Catalog) Objects(ctx context.Context, what akigw.Pattern, after string, limit int) (all []akigw.CatalogEntry, next string, err error) {
	all = []akigw.CatalogEntry{}
	err = c.walk(what, after, func(k known) bool {
		if len(all) == limit {
			next = after
			return false
		}
		var o akigw.CatalogEntry
		c.describeOne(&o, k)
		all, after = append(all, o), k.Place
		return ctx.Err() == nil
	})
	return all, next, errors.Join(err, ctx.Err())
}

// describe fills in the catalog entry of an object that has this many bytes in memory and on disk.
func (c *Catalog) describe(o *akigw.CatalogEntry, k known, memory, disk int64) {
	settings := c.store.Settings(k.Key)
	*o = akigw.CatalogEntry{Object: k.Object, ContentType: k.ContentType, Pinned: settings.Pin, LastAccess: k.usage.lastAccess(), Accesses: k.usage.total}
	o.Header = nil
	o.Recent = k.usage.within(settings.AccessWindow, time.Now())
	o.HotBytes, o.WarmBytes, o.Tier = memory, disk, tierOf(o.Size, memory, disk)
}

// describeOne is describe for a single object.
func (c *Catalog) describeOne(o *akigw.CatalogEntry, k known) {
	memory, disk := c.store.HeldOf(k.Known)
	c.describe(o, k, memory, disk)
}

// tierOf returns the fastest tier that has all of an object.
func tierOf(size, memory, disk int64) akigw.Outcome {
	switch {
	case size == 0: // an empty object has nothing to fetch
		return akigw.Warm
	case memory == size:
		return akigw.Hot
	case disk == size:
		return akigw.Warm
	}
	return akigw.Cold
}
