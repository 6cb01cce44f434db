package store

import (
	"bytes"
	"context"
	"errors"
	"iter"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/part"
	"github.com/akidb/akigw/vectors/segment"
)

const (
	// mergePart is the inverse of the share of its base that a collection may have in later parts.
	mergePart = 4
	// maxParts is how many parts a collection may have.
	maxParts = 16
)

// mergeDue reports whether the parts of a collection should be merged into one.
func (c *collection) mergeDue() bool {
	refs := c.state().refs()
	if len(refs) < 2 || c.problem() != "" {
		return false
	}
	deltas := int64(0)
	for _, ref := range refs[1:] {
		deltas += ref.Rows
	}
	return deltas*mergePart >= refs[0].Rows || len(refs) > maxParts
}

// merge replaces all parts of a collection by one. c's turn is taken.
func (s *flusher) merge(ctx context.Context, c *collection) error {
	if c.deleted.Load() {
		return errDeleted
	}
	r, err := s.session.writer()
	if err != nil {
		return err
	}
	if c.state().tier == Cold {
		if err := s.toWarm(ctx, c); err != nil {
			return err
		}
	}
	before := c.state()
	ref, err := s.upload(ctx, r, c, segment.Base, mergedRows(ascends(ctx, before.parts)))
	if err != nil {
		return err
	}
	var refs []segment.Part
	if ref != nil {
		refs = []segment.Part{*ref}
	}
	if err := s.commit(ctx, r, c, refs, before.refs(), before.applied()); err != nil {
		return err
	}
	failpoint.Here("vectors.afterMerge")
	s.merges.Inc()
	return s.replace(ctx, c, before, refs)
}

// ascend calls yield with the rows of a part in order, until yield returns an error, which it returns. A
// row is valid until yield returns.
type ascend func(yield func(segment.Row) error) error

// ascending returns the rows of a part.
func ascending(ctx context.Context, p part.Part) ascend {
	return func(yield func(segment.Row) error) error {
		return p.Ascend(ctx, vectors.Hash{}, func(_ int, r segment.Row) error { return yield(r) })
	}
}

func ascends(ctx context.Context, parts []held) (all []ascend) {
	for _, p := range parts {
		all = append(all, ascending(ctx, p.Part))
	}
	return all
}

// rows are rows in the order of a collection. They end with the first error.
type rows iter.Seq2[segment.Row, error]

// ascend implements the function type of that name.
func (all rows) ascend(yield func(segment.Row) error) error {
	for r, err := range all {
		if err == nil {
			err = yield(r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mergedRows returns the rows of all parts in order: of each key the row of the last part that has it,
// unless it is a tombstone.
func mergedRows(parts []ascend) rows {
	return func(yield func(segment.Row, error) bool) {
		sources := make([]*source, len(parts))
		for i, p := range parts {
			sources[i] = newSource(p)
			defer sources[i].stop()
		}
		for {
			var least *source
			for _, s := range sources {
				if s.err != nil {
					yield(segment.Row{}, s.err)
					return
				}
				if s.ok && (least == nil || bytes.Compare(s.row.Hash[:], least.row.Hash[:]) <= 0) {
					least = s // a later part overrides an earlier one
				}
			}
			if least == nil {
				return
			}
			if !least.row.Deleted && !yield(least.row, nil) {
				return
			}
			hash := least.row.Hash
			for _, s := range sources {
				if s.ok && s.row.Hash == hash {
					s.advance()
				}
			}
		}
	}
}

// errEnough ends the reading of a part whose rest is not wanted.
const errEnough = akigw.Error("enough rows were read")

// source is the next row of a part.
type source struct {
	next func() (segment.Row, error, bool)
	stop func()
	row  segment.Row // valid if ok, until advance is called
	ok   bool
	err  error
}

func newSource(p ascend) *source {
	s := &source{}
	s.next, s.stop = iter.Pull2(func(yield func(segment.Row, error) bool) {
		err := p(func(r segment.Row) error {
			if !yield(r, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(segment.Row{}, err)
		}
	})
	s.advance()
	return s
}

func (s *source) advance() {
	s.row, s.err, s.ok = s.next()
	if s.err != nil {
		s.ok = false
	}
}
