package tiers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/warm"
)

// Counts are numbers of objects.
type Counts struct {
	Objects int   `json:"objects"` // that are known
	Bytes   int64 `json:"bytes"`
	// By the fastest tier that has all of an object.
	Hot    int `json:"hot_objects"`
	Warm   int `json:"warm_objects"`
	Cold   int `json:"cold_objects"`
	Pinned int `json:"pinned_objects"`
}

// add counts an object.
func (c *Counts) add(size int64, tier akigw.Outcome, pinned bool) {
	c.Objects++
	c.Bytes += size
	switch tier {
	case akigw.Hot:
		c.Hot++
	case akigw.Warm:
		c.Warm++
	default:
		c.Cold++
	}
	if pinned {
		c.Pinned++
	}
}

// State is what the tiers hold of some objects.
type State struct {
	Counts
	HotBytes   int64     `json:"hot_bytes"`
	WarmBytes  int64     `json:"warm_bytes"`
	LastAccess time.Time `json:"last_access,omitzero"`
	Recent     int       `json:"recent_accesses"` // in the policy's window, about
}

// add counts an object.
func (t *State) add(c *akigw.CatalogEntry) {
	t.Counts.add(c.Size, c.Tier, c.Pinned)
	t.HotBytes += c.HotBytes
	t.WarmBytes += c.WarmBytes
	if c.LastAccess.After(t.LastAccess) {
		t.LastAccess = c.LastAccess
	}
	t.Recent += int(c.Recent)
}

// State sums up what the tiers hold of what a pattern names; of everything for one without
// a bucket.
func (s *Store) State(ctx context.Context, what akigw.Pattern) (total State, err error) {
	err = s.Catalog(ctx, what, func(c *akigw.CatalogEntry) bool {
		total.add(c)
		return true
	})
	return total, err
}

// Catalog calls yield with each object that is known and that a pattern names, of all for one
// without a bucket, until it returns false. They come in the order of bucket and key, if
// Ordered. What yield gets is valid while it runs.
func (s *Store) Catalog(ctx context.Context, what akigw.Pattern, yield func(*akigw.CatalogEntry) bool) error {
	var where *whereabouts // for many; a few are looked at one by one
	var c akigw.CatalogEntry
	seen := 0
	err := s.catalog(what, "", func(k known) bool {
		if seen++; where == nil && (what.Prefix == "" || seen > fewObjects) {
			where = s.whereabouts()
		}
		if where == nil {
			s.describeOne(&c, k)
		} else {
			hot, onDisk := where.bytes(k.summary)
			s.describe(&c, k, hot, onDisk)
		}
		return ctx.Err() == nil && yield(&c)
	})
	return errors.Join(err, ctx.Err())
}

// fewObjects is how many objects are looked at one by one before it is worth to look at all that
// is held at once.
const fewObjects = 2000

// Ordered reports whether Catalog gives objects in the order of bucket and key.
func (s *Store) Ordered() bool { return s.warm != nil && !s.warm.HidesNames() }

// describe makes the catalog entry of an object, and of how many of its bytes are in memory
// and on disk.
func (s *Store) describe(c *akigw.CatalogEntry, k known, hot, onDisk int64) {
	settings := s.settings(k.Key)
	*c = akigw.CatalogEntry{Object: k.Object, ContentType: k.contentType, Pinned: settings.Pin, LastAccess: k.usage.lastAccess(), Accesses: k.usage.total}
	c.Header = nil
	c.Recent = k.usage.within(settings.AccessWindow, time.Now())
	c.HotBytes, c.WarmBytes, c.Tier = hot, onDisk, tierOf(c.Size, hot, onDisk)
}

// ObjectState says what is known of one key. Nobody is asked. The error is
// akigw.ErrNoSuchKey if nothing is.
func (s *Store) ObjectState(key akigw.Key) (c akigw.CatalogEntry, err error) {
	sum := s.peekSummary(key)
	if sum == nil {
		return c, fmt.Errorf("%w: nothing is known of %s", akigw.ErrNoSuchKey, key)
	}
	s.describeOne(&c, known{summary: sum, usage: s.accesses.of(key)})
	return c, nil
}

// describeOne is describe of an object that is looked for alone.
func (s *Store) describeOne(c *akigw.CatalogEntry, k known) {
	hot, onDisk := s.bytesOf(k.summary)
	s.describe(c, k, hot, onDisk)
}

// Objects are some of those that are known and that a pattern names, at most limit, in the
// order of the catalog, from behind a token of an earlier call on. next is the token for
// those that follow, "" if there are none.
func (s *Store) Objects(ctx context.Context, what akigw.Pattern, after string, limit int) (all []akigw.CatalogEntry, next string, err error) {
	all = []akigw.CatalogEntry{}
	err = s.catalog(what, warm.Place(after), func(k known) bool {
		if len(all) == limit {
			next = after
			return false
		}
		var c akigw.CatalogEntry
		s.describeOne(&c, k)
		all, after = append(all, c), string(k.place)
		return ctx.Err() == nil
	})
	return all, next, errors.Join(err, ctx.Err())
}

// Worker says what the worker is at; nil if there is none.
func (s *Store) Worker() *WorkerReport {
	if s.worker == nil {
		return nil
	}
	s.worker.mu.Lock()
	defer s.worker.mu.Unlock()
	r := s.worker.report
	return &r
}
