package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/remote"
	"github.com/akidb/akigw/vectors/segment"
)

// flushCatalog writes the catalog object if there are changes, and removes what deleted indexes had.
func (s *flusher) flushCatalog(ctx context.Context) error {
	c := s.catalog
	if err := s.release(s.strays.take()); err != nil {
		return err
	}
	if err := c.flushing.take(ctx); err != nil {
		return err
	}
	defer c.flushing.release()
	r, err := s.session.writer()
	if err != nil {
		return err
	}
	if err := s.writeCatalog(ctx, r); err != nil {
		return s.session.failed(err)
	}
	return s.dropAll(ctx, r)
}

// writeCatalog writes the catalog object if there are changes. The turn is taken.
func (s *flusher) writeCatalog(ctx context.Context, r *remote.Remote) error {
	c := s.catalog
	doc, etag, records := c.document(s.now())
	if len(records) == 0 && c.written != nil && c.written.Writer == s.session.self {
		return nil
	}
	if c.written != nil {
		doc.Generation = c.written.Generation + 1
	}
	document, etag, err := r.CommitCatalog(ctx, doc, etag)
	failpoint.Here("vectors.afterCatalog")
	if errors.Is(err, remote.ErrStale) {
		err = errors.Join(err, c.reload(ctx, r))
	}
	if err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	c.flushed(doc, etag, len(records))
	c.kept = append(c.kept, records...)
	if err := s.local.save(s.local.catalogPath(), etag, document); err != nil {
		return err // the next change tries it again
	}
	records, c.kept = c.kept, nil
	return s.release(records)
}

// reload makes the next commit replace the catalog object that the upstream has. It is one whose commit this
// gateway had given up, or the previous owner: the journal has all changes since what was loaded, so nothing
// of it is needed. The turn is taken.
func (c *catalog) reload(ctx context.Context, r *remote.Remote) error {
	loaded, err := r.LoadCatalog(ctx, nil)
	if err != nil {
		return fmt.Errorf("it could not be loaded again: %w", err)
	}
	c.written = loaded.Catalog
	c.mu.Lock()
	defer c.mu.Unlock()
	c.etag = loaded.ETag
	return nil
}

// document returns the catalog as it is, the ETag of the object that it replaces, and the records of the
// changes that it has and the object does not.
func (c *catalog) document(now time.Time) (doc *segment.Catalog, etag string, records []uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.current.Load()
	doc = &segment.Catalog{Generation: 1, Applied: c.applied, Created: now}
	doc.Buckets = slices.SortedFunc(maps.Values(l.buckets), func(a, b vectors.Bucket) int { return cmp.Compare(a.Name, b.Name) })
	for _, e := range l.indexes {
		doc.Indexes = append(doc.Indexes, e.Index)
	}
	for _, d := range l.dropped {
		doc.Dropped = append(doc.Dropped, segment.Dropped{Bucket: d.Bucket, Index: d.Name, Incarnation: d.Incarnation})
	}
	slices.SortFunc(doc.Indexes, func(a, b vectors.Index) int {
		return cmp.Or(cmp.Compare(a.Bucket, b.Bucket), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(doc.Dropped, func(a, b segment.Dropped) int { return cmp.Compare(a.Incarnation, b.Incarnation) })
	return doc, c.etag, slices.Clone(c.records)
}

// flushed says that the catalog object is doc, so that the first n records are not needed any more.
func (c *catalog) flushed(doc *segment.Catalog, etag string, n int) {
	c.written = doc
	c.mu.Lock()
	defer c.mu.Unlock()
	c.etag, c.records = etag, c.records[n:]
}

// dropAll removes what deleted indexes have, here and in the upstream, once the catalog object says that
// they are deleted.
func (s *flusher) dropAll(ctx context.Context, r *remote.Remote) (err error) {
	for _, d := range s.catalog.written.Dropped {
		known, ok := s.catalog.current.Load().dropped[d.Incarnation]
		if !ok {
			continue
		}
		if known.collection != nil {
			err = errors.Join(err, s.dropLocal(ctx, known.collection))
		}
		failpoint.Here("vectors.beforeDrop")
		if failed := r.DropCollection(ctx, remote.Collection{Bucket: d.Bucket, Index: d.Index, Incarnation: d.Incarnation}); failed != nil {
			err = errors.Join(err, fmt.Errorf("objects of the deleted index %s in vector bucket %s: %w", d.Index, d.Bucket, failed))
			continue
		}
		failpoint.Here("vectors.afterDrop")
		s.catalog.forget(d.Incarnation)
	}
	return err
}

// forget says that nothing of a deleted index is left.
func (c *catalog) forget(i vectors.Incarnation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := *c.current.Load()
	l.dropped = maps.Clone(l.dropped)
	delete(l.dropped, i)
	c.current.Store(&l)
}

// dropLocal releases what a deleted collection has: records, memory, disk.
func (s *flusher) dropLocal(ctx context.Context, c *collection) error {
	if err := c.turn.take(ctx); err != nil {
		return err
	}
	defer c.turn.release()
	c.discard()
	before := c.state()
	records, bytes := c.empty()
	s.memory.releasePending(bytes)
	s.freeHot(before.parts)
	s.extents.drop(before.refs())
	return errors.Join(s.release(records), s.local.drop(c.index.Incarnation))
}

// empty takes everything out of a deleted collection, and returns the records and the memory of its
// memtables.
func (c *collection) empty() (records []uint64, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	records, bytes = c.active.records, c.active.bytes
	if c.frozen != nil {
		records, bytes = append(records, c.frozen.records...), bytes+c.frozen.bytes
	}
	records, c.kept = append(records, c.kept...), nil
	for _, u := range c.uploads { // the objects are removed with all others of the collection
		records = append(records, u.record)
	}
	c.active, c.frozen, c.uploads = newMemtable(), nil, nil
	c.parts, c.alive, c.snap, c.tier = nil, nil, nil, Cold
	return records, bytes
}
