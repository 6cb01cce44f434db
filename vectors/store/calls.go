package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/meta"
	"github.com/akidb/akigw/vectors/part"
)

// Put stores vectors: each replaces the vector of its key whole (PutVectors). It retains them. All or
// none are stored. When it returns nil, they are synced to the journal, and visible.
func (s *calls) Put(ctx context.Context, bucket, index string, vs []vectors.Vector) error {
	rows := make([]*row, len(vs))
	for i, v := range vs {
		rows[i] = newRow(v.Key, v.Data, v.Metadata, false)
	}
	return s.call(ctx, bucket, index, rows)
}

// Delete deletes the vectors of keys; keys that have none are no error (DeleteVectors).
func (s *calls) Delete(ctx context.Context, bucket, index string, keys []string) error {
	rows := make([]*row, len(keys))
	for i, key := range keys {
		rows[i] = newRow(key, nil, nil, true)
	}
	return s.call(ctx, bucket, index, rows)
}

// call journals a call, and returns when it is durable and visible.
func (s *calls) call(ctx context.Context, bucket, index string, rows []*row) error {
	c, err := s.writable(bucket, index, slices.ContainsFunc(rows, func(r *row) bool { return !r.deleted }))
	if err != nil {
		return err
	}
	bytes := int64(0)
	for i, r := range rows {
		if !r.deleted && len(r.data) != c.index.Dimension {
			return vectors.Invalid(dataPath(i), "has %d values; the index has dimension %d", len(r.data), c.index.Dimension)
		}
		bytes += r.size()
	}
	c.use.count(s.now(), false)
	if !s.memory.acquirePending(bytes) {
		return &vectors.Error{Code: vectors.TooManyRequests, Message: "Too many vectors wait to be uploaded. Try again later.", RetryAfter: 1}
	}
	return s.append(ctx, c, call{rows: rows, bytes: bytes})
}

// append journals a call, which has its memory, and waits until it is durable.
func (s *calls) append(ctx context.Context, c *collection, made call) error {
	prepared, err := s.prepare(encodeCall(c.index.Dimension, made.rows))
	if err != nil {
		s.memory.releasePending(made.bytes)
		return err
	}
	done := make(chan error, 1)
	made.at = s.now()
	c.mu.Lock()
	made.seq = c.next
	for _, r := range made.rows {
		r.seq = made.seq
	}
	err = prepared.Append(stream{kind: callStream, incarnation: c.index.Incarnation, seq: made.seq}.String(), made.at, func(r journal.Record, err error) {
		switch {
		case err != nil:
			s.memory.releasePending(made.bytes)
		case c.deleted.Load(): // by a record before this one
			s.memory.releasePending(made.bytes)
			s.strays.add(r.ID)
			err = vectors.Errorf(vectors.NotFound, "The specified index could not be found: %s in vector bucket %s", c.index.Name, c.index.Bucket)
		default:
			made.record = r.ID
			c.queue.add(made)
		}
		done <- err
	})
	if err == nil {
		c.next++
	}
	c.mu.Unlock()
	if err != nil {
		s.memory.releasePending(made.bytes)
		return errJournal(err)
	}
	if err := wait(ctx, done); err != nil {
		return err
	}
	s.flushIfDue(c)
	return nil
}

// strays are records of calls that came too late, after their index was deleted.
type strays struct {
	mu      sync.Mutex
	records []uint64
}

func (s *strays) add(record uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = append(s.records, record)
}

func (s *strays) take() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	records := s.records
	s.records = nil
	return records
}

// prepare writes the body of a record.
func (s *core) prepare(body []byte) (*journal.Prepared, error) {
	d := s.journal.Receive(int64(len(body)))
	defer d.Discard()
	if _, err := d.Write(body); err != nil {
		return nil, errJournal(err)
	}
	prepared, err := s.journal.Records.Prepare(d)
	if err != nil {
		return nil, errJournal(err)
	}
	return prepared, nil
}

// wait waits for the result of a record.
func wait(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return errJournal(err)
	case <-ctx.Done():
		return errTime(context.Cause(ctx))
	}
}

// errTime is the answer to a call whose time is over. Whether it was carried out is not known.
func errTime(cause error) error {
	return &vectors.Error{Code: vectors.Unavailable, Message: "The request could not be completed in time.", RetryAfter: 1, Cause: cause}
}

// errJournal is the answer to a call that the journal did not take.
func errJournal(err error) error {
	var api *vectors.Error
	switch {
	case err == nil, errors.As(err, &api):
		return err
	case errors.Is(err, journal.ErrFull):
		return &vectors.Error{Code: vectors.TooManyRequests, Message: "The gateway's journal is full. Try again later.", RetryAfter: 5, Cause: err}
	}
	return &vectors.Error{Code: vectors.Unavailable, Message: "The gateway's journal does not accept writes.", RetryAfter: 5, Cause: err}
}

// Get returns the vectors of keys, those that exist, in the order of keys (GetVectors). Their slices
// must not be changed.
func (s *calls) Get(ctx context.Context, bucket, index string, keys []string) (found []vectors.Vector, err error) {
	err = s.read(ctx, bucket, index, false, func(snap *snapshot) error {
		found = found[:0]
		for _, key := range keys {
			v, ok, err := snap.get(key)
			if err != nil {
				return err
			}
			if ok {
				found = append(found, v)
			}
		}
		return nil
	})
	return found, err
}

// List yields the vectors whose hashes are above after (nil: all) and at most last, in order, at most limit
// of them, until yield returns false: that vector counts as not yielded. more says whether there are
// further ones (ListVectors). The slices must not be changed.
func (s *calls) List(ctx context.Context, bucket, index string, after *vectors.Hash, last vectors.Hash, limit int, yield func(vectors.Vector) bool) (more bool, err error) {
	err = s.read(ctx, bucket, index, false, func(snap *snapshot) error {
		places := snap.after(after, last, limit+1)
		more = len(places) > limit
		for _, p := range places[:min(limit, len(places))] {
			v, err := snap.at(p)
			if err != nil {
				return err
			}
			if !yield(v) {
				more = true
				return nil
			}
			after, limit = &p.hash, limit-1 // a second attempt continues behind it
		}
		return nil
	})
	return more, err
}

// Query returns the nearest vectors to a vector that pass a filter (nil: all), at most topK, by distance and
// key (QueryVectors). Their slices must not be changed.
func (s *calls) Query(ctx context.Context, bucket, index string, vector []float32, topK int, filter *meta.Filter) (hits []vectors.Hit, err error) {
	err = s.read(ctx, bucket, index, true, func(snap *snapshot) (err error) {
		if len(vector) != snap.index.Dimension {
			return vectors.Invalid("/queryVector/float32", "has %d values; the index has dimension %d", len(vector), snap.index.Dimension)
		}
		hits, err = snap.query(ctx, vector, topK, filter)
		return err
	})
	return hits, err
}

// readAttempts is how often a read is tried whose blocks were evicted meanwhile.
const readAttempts = 3

// read calls f with the state of a collection that is hot or warm: a cold one is promoted first. It
// calls it again with the next state if blocks of the first one are gone.
func (s *calls) read(ctx context.Context, bucket, index string, search bool, f func(*snapshot) error) error {
	if err := s.session.ready(); err != nil {
		return err
	}
	e, err := s.catalog.current.Load().index(bucket, index)
	if err != nil {
		return err
	}
	c := e.collection
	c.use.count(s.now(), search)
	for range readAttempts {
		snap, err := s.readable(ctx, c)
		if err == nil {
			err = f(snap)
		}
		if !errors.Is(err, part.ErrMissing) {
			return errRead(err)
		}
		s.lost(c, snap, err)
	}
	return &vectors.Error{Code: vectors.Unavailable, Message: "The index is being loaded. Try again later.", RetryAfter: 1}
}

func errRead(err error) error {
	var api *vectors.Error
	switch {
	case err == nil, errors.As(err, &api):
		return err
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return errTime(err)
	}
	return &vectors.Error{Code: vectors.InternalFailure, Message: "The index could not be read.", Cause: err}
}

// dataPath is the path of the values of a vector in a PutVectors request.
func dataPath(i int) string { return "/vectors/" + itoa(i) + "/data/float32" }

// usage is when a collection was used: the tiering policy decides by it.
type usage struct {
	window
}

// count counts a request.
func (u *usage) count(now time.Time, search bool) {
	if search {
		u.window.add(now)
		return
	}
	u.window.touch(now)
}
