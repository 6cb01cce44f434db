package store

import (
	"context"
	"maps"

	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/vectors"
)

// maxBuckets is how many vector buckets there may be.
const maxBuckets = 10_000

// CreateBucket creates a vector bucket with b's Name, SSE and Tags (CreateVectorBucket).
func (s *changes) CreateBucket(ctx context.Context, b vectors.Bucket) (vectors.Bucket, error) {
	b.Incarnation, b.Created = vectors.NewIncarnation(), s.now()
	return b, s.change(ctx, func(l *listing) (*change, error) {
		if _, ok := l.buckets[b.Name]; ok {
			return nil, vectors.Errorf(vectors.Conflict, "A vector bucket with the specified name already exists: %s", b.Name)
		}
		if len(l.buckets) >= maxBuckets {
			return nil, vectors.Errorf(vectors.QuotaExceeded, "There are %d vector buckets, which is the limit. Delete one first.", maxBuckets)
		}
		return &change{CreateBucket: &b}, nil
	})
}

// Bucket returns a vector bucket. The error is a NotFoundException if there is none.
func (s *changes) Bucket(name string) (vectors.Bucket, error) {
	if err := s.session.ready(); err != nil {
		return vectors.Bucket{}, err
	}
	return s.catalog.current.Load().bucket(name)
}

// Buckets returns up to limit vector buckets whose names begin with prefix and come after a name, in
// order, and whether there are more.
func (s *changes) Buckets(prefix, after string, limit int) (page []vectors.Bucket, more bool, err error) {
	if err := s.session.ready(); err != nil {
		return nil, false, err
	}
	page, more = s.catalog.current.Load().bucketsAfter(prefix, after, limit)
	return page, more, nil
}

// DeleteBucket deletes a vector bucket without indexes (DeleteVectorBucket).
func (s *changes) DeleteBucket(ctx context.Context, name string) error {
	return s.change(ctx, func(l *listing) (*change, error) {
		if _, err := l.bucket(name); err != nil {
			return nil, err
		}
		if l.holds(name) {
			return nil, vectors.Errorf(vectors.Conflict, "The vector bucket %s has indexes. Delete them first.", name)
		}
		return &change{DeleteBucket: name}, nil
	})
}

// SetPolicy sets the policy of a vector bucket; "" deletes it, which is a NotFoundException if there
// is none.
func (s *changes) SetPolicy(ctx context.Context, bucket, policy string) error {
	return s.change(ctx, func(l *listing) (*change, error) {
		b, err := l.bucket(bucket)
		if err == nil && policy == "" && b.Policy == "" {
			err = vectors.Errorf(vectors.NotFound, "The vector bucket %s has no policy", bucket)
		}
		b.Policy = policy
		return &change{SetBucket: &b}, err
	})
}

// CreateIndex creates an index with the Bucket, Name, Dimension, Metric, NonFilterable, SSE and Tags of
// an index (CreateIndex).
func (s *changes) CreateIndex(ctx context.Context, i vectors.Index) (vectors.Index, error) {
	i.Incarnation, i.Created = vectors.NewIncarnation(), s.now()
	return i, s.change(ctx, func(l *listing) (*change, error) {
		if _, err := l.bucket(i.Bucket); err != nil {
			return nil, err
		}
		if _, ok := l.indexes[nameOf(i)]; ok {
			return nil, vectors.Errorf(vectors.Conflict, "An index with the specified name already exists: %s in vector bucket %s", i.Name, i.Bucket)
		}
		if len(l.indexes) >= s.config.MaxCollections {
			return nil, vectors.Errorf(vectors.QuotaExceeded, "There are %d indexes, which is the limit. Delete one first.", len(l.indexes))
		}
		return &change{CreateIndex: &i}, nil
	})
}

// Index returns an index. The error is a NotFoundException if there is none.
func (s *changes) Index(bucket, name string) (vectors.Index, error) {
	if err := s.session.ready(); err != nil {
		return vectors.Index{}, err
	}
	e, err := s.catalog.current.Load().index(bucket, name)
	return e.Index, err
}

// Indexes returns up to limit indexes of a vector bucket whose names begin with prefix and come after
// a name, in order, and whether there are more.
func (s *changes) Indexes(bucket, prefix, after string, limit int) (page []vectors.Index, more bool, err error) {
	if err := s.session.ready(); err != nil {
		return nil, false, err
	}
	l := s.catalog.current.Load()
	if _, err := l.bucket(bucket); err != nil {
		return nil, false, err
	}
	page, more = l.indexesAfter(bucket, prefix, after, limit)
	return page, more, nil
}

// DeleteIndex deletes an index with its vectors (DeleteIndex).
func (s *changes) DeleteIndex(ctx context.Context, bucket, name string) error {
	return s.change(ctx, func(l *listing) (*change, error) {
		_, err := l.index(bucket, name)
		return &change{DeleteIndex: &indexName{bucket, name}}, err
	})
}

// Tag sets and removes tags of an index, or of a vector bucket if index is "" (TagResource and
// UntagResource).
func (s *changes) Tag(ctx context.Context, bucket, index string, set map[string]string, remove []string) error {
	return s.change(ctx, func(l *listing) (*change, error) {
		if index != "" {
			e, err := l.index(bucket, index)
			if err == nil {
				e.Tags, err = tagged(e.Tags, set, remove)
			}
			return &change{SetIndex: &e.Index}, err
		}
		b, err := l.bucket(bucket)
		if err == nil {
			b.Tags, err = tagged(b.Tags, set, remove)
		}
		return &change{SetBucket: &b}, err
	})
}

func tagged(old, set map[string]string, remove []string) (map[string]string, error) {
	tags := maps.Clone(old)
	if tags == nil {
		tags = map[string]string{}
	}
	maps.Copy(tags, set)
	for _, key := range remove {
		delete(tags, key)
	}
	if len(tags) > vectors.MaxTags {
		return nil, vectors.Invalid("/tags", "may have at most %d tags, and would have %d", vectors.MaxTags, len(tags))
	}
	return tags, nil
}

// change journals a change of the catalog, and returns when it is durable and visible. build says what
// to change, or why it cannot be changed.
func (s *changes) change(ctx context.Context, build func(*listing) (*change, error)) error {
	if err := s.session.accepting(); err != nil {
		return err
	}
	c := s.catalog
	if err := c.turn.take(ctx); err != nil {
		return errTime(err)
	}
	ch, err := build(c.current.Load())
	if err != nil {
		c.turn.release()
		return err
	}
	prepared, err := s.prepare(encodeJSON(ch))
	if err != nil {
		c.turn.release()
		return err
	}
	done := make(chan error, 1)
	err = prepared.Append(stream{kind: catalogStream, seq: c.sequence()}.String(), s.now(), func(r journal.Record, err error) {
		if err == nil {
			c.apply(ch, r)
		}
		c.turn.release()
		done <- err
	})
	if err != nil {
		c.turn.release()
		return errJournal(err)
	}
	if err := wait(ctx, done); err != nil {
		return err
	}
	s.poke()
	return nil
}

// sequence takes the next sequence of the catalog.
func (c *catalog) sequence() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	return c.next - 1
}

// apply applies a durable change.
func (c *catalog) apply(ch *change, r journal.Record) {
	st, err := parseStream(r.Stream)
	if err != nil {
		return // the stream was made by change
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current.Store(c.current.Load().with(ch))
	c.records = append(c.records, r.ID)
	c.applied, c.next = st.seq, max(c.next, st.seq+1)
}
