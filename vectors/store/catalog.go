package store

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/segment"
)

// catalog is what vector buckets and indexes there are. Readers see an immutable listing; one change at
// a time is journalled and applied.
type catalog struct {
	turn    turn // held while a change is journalled
	current atomic.Pointer[listing]

	mu      sync.Mutex
	next    uint64   // sequence of the next change
	records []uint64 // the journal's records of changes that the catalog object does not have
	applied uint64   // sequence of the last change in current
	etag    string   // of the catalog object, "" if there is none

	flushing turn             // held while the catalog object is written
	written  *segment.Catalog // what it has, nil if there is none; used by the holder of flushing
	kept     []uint64         // records that it has and its local copy does not; used by the holder of flushing
}

// listing is the content of a catalog. It does not change.
type listing struct {
	buckets map[string]vectors.Bucket
	indexes map[indexName]entry
	// dropped are deleted indexes whose objects may exist.
	dropped map[vectors.Incarnation]dropped
}

// dropped is a deleted index.
type dropped struct {
	vectors.Index
	collection *collection // nil if it was deleted in an earlier epoch
}

// entry is an index as it is now, and its collection.
type entry struct {
	vectors.Index
	collection *collection
}

func newCatalog() *catalog {
	c := &catalog{turn: newTurn(), flushing: newTurn(), next: 1}
	c.current.Store(&listing{buckets: map[string]vectors.Bucket{}, indexes: map[indexName]entry{}, dropped: map[vectors.Incarnation]dropped{}})
	return c
}

// with returns the listing after a change. A change that does not apply changes nothing: a replay may
// begin in the middle.
func (l *listing) with(ch *change) *listing {
	n := &listing{buckets: l.buckets, indexes: l.indexes, dropped: l.dropped}
	switch {
	case ch.CreateBucket != nil:
		n.setBucket(*ch.CreateBucket)
	case ch.SetBucket != nil:
		if old, ok := l.buckets[ch.SetBucket.Name]; ok && old.Incarnation == ch.SetBucket.Incarnation {
			n.setBucket(*ch.SetBucket)
		}
	case ch.DeleteBucket != "":
		n.buckets = maps.Clone(l.buckets)
		delete(n.buckets, ch.DeleteBucket)
	case ch.CreateIndex != nil:
		if _, ok := l.indexes[nameOf(*ch.CreateIndex)]; !ok {
			n.setIndex(entry{*ch.CreateIndex, newCollection(*ch.CreateIndex)})
		}
	case ch.SetIndex != nil:
		if old, ok := l.indexes[nameOf(*ch.SetIndex)]; ok && old.Incarnation == ch.SetIndex.Incarnation {
			n.setIndex(entry{*ch.SetIndex, old.collection})
		}
	case ch.DeleteIndex != nil:
		n.deleteIndex(*ch.DeleteIndex)
	}
	return n
}

func (l *listing) setBucket(b vectors.Bucket) {
	l.buckets = maps.Clone(l.buckets)
	l.buckets[b.Name] = b
}

func (l *listing) setIndex(e entry) {
	l.indexes = maps.Clone(l.indexes)
	l.indexes[nameOf(e.Index)] = e
}

func (l *listing) deleteIndex(name indexName) {
	e, ok := l.indexes[name]
	if !ok {
		return
	}
	e.collection.deleted.Store(true)
	l.indexes, l.dropped = maps.Clone(l.indexes), maps.Clone(l.dropped)
	delete(l.indexes, name)
	l.dropped[e.Incarnation] = dropped{e.Index, e.collection}
}

func nameOf(i vectors.Index) indexName { return indexName{i.Bucket, i.Name} }

// bucket returns a bucket, or a NotFoundException.
func (l *listing) bucket(name string) (vectors.Bucket, error) {
	b, ok := l.buckets[name]
	if !ok {
		return b, vectors.Errorf(vectors.NotFound, "The specified vector bucket could not be found: %s", name)
	}
	return b, nil
}

// index returns an index, or a NotFoundException.
func (l *listing) index(bucket, name string) (entry, error) {
	e, ok := l.indexes[indexName{bucket, name}]
	if !ok {
		if _, err := l.bucket(bucket); err != nil {
			return e, err
		}
		return e, vectors.Errorf(vectors.NotFound, "The specified index could not be found: %s in vector bucket %s", name, bucket)
	}
	return e, nil
}

// bucketsAfter returns up to limit buckets whose names begin with prefix and come after a name, in
// order, and whether there are more.
func (l *listing) bucketsAfter(prefix, after string, limit int) (page []vectors.Bucket, more bool) {
	names, more := pageOf(maps.Keys(l.buckets), prefix, after, limit)
	for _, name := range names {
		page = append(page, l.buckets[name])
	}
	return page, more
}

// indexesAfter is bucketsAfter for the indexes of a bucket.
func (l *listing) indexesAfter(bucket, prefix, after string, limit int) (page []vectors.Index, more bool) {
	names, more := pageOf(func(yield func(string) bool) {
		for name := range l.indexes {
			if name.Bucket == bucket && !yield(name.Name) {
				return
			}
		}
	}, prefix, after, limit)
	for _, name := range names {
		page = append(page, l.indexes[indexName{bucket, name}].Index)
	}
	return page, more
}

func pageOf(names func(func(string) bool), prefix, after string, limit int) (page []string, more bool) {
	for name := range names {
		if strings.HasPrefix(name, prefix) && name > after {
			page = append(page, name)
		}
	}
	slices.Sort(page)
	if len(page) > limit {
		return page[:limit], true
	}
	return page, false
}

// holds reports whether a bucket has an index.
func (l *listing) holds(bucket string) bool {
	for name := range l.indexes {
		if name.Bucket == bucket {
			return true
		}
	}
	return false
}
