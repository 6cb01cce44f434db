// Package part is a part of a vector collection as the gateway keeps it: an immutable list of rows, some
// of them tombstones. A Memory part is hot, with an index for searches and columns for filters. A Blocks
// part is warm: its rows are blocks on disk, which a search reads from the first to the last, and little
// of it is in memory.
//
// Both are caches of a Parquet file in the upstream. Whatever is wrong with a block ends in ErrMissing;
// the caller then drops the part and makes it again from the file. The package does not know which parts
// belong together: it starts no goroutines, and the caller numbers parts and keeps their alive bitmaps.
package part

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"sort"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/meta"
	"github.com/akidb/akigw/vectors/search"
	"github.com/akidb/akigw/vectors/segment"
)

// The errors of this package.
const (
	// ErrMissing means that a block of a warm part is not there or not valid. The part is of no use any
	// more: its rows must be read from the upstream again.
	ErrMissing = akigw.Error("a block of a collection in the warm tier is missing or damaged")
	// ErrRefused means that the warm tier has not stored a block: it is full, or switched off after an
	// error of its disk.
	ErrRefused = akigw.Error("the warm tier does not store more blocks")
)

// Part is a part of a collection: a *Memory or a *Blocks. It is immutable and safe for concurrent use.
//
// Its rows are numbered from 0. The first Vectors() rows have vectors, the others are tombstones; both
// kinds are in the order of hash and key. A part has each key once. An alive bitmap of a part has a bit
// for each of its vectors, set unless a later part overrides the row; nil means that all are alive.
// It may have room for the tombstones, whose bits are clear.
type Part interface {
	// Len is the number of rows, with tombstones.
	Len() int
	// Vectors is the number of rows that are no tombstones.
	Vectors() int
	// Deleted reports whether row i is a tombstone.
	Deleted(i int) bool
	// Hashes returns the hash of each vector, Tombstones that of each tombstone; both ascend. The slices
	// are shared and must not be changed. The first tombstone is row Vectors().
	Hashes() []vectors.Hash
	Tombstones() []vectors.Hash
	// Row returns row i, Text the same without the vector, which is faster for a warm part. Their slices
	// are valid for as long as they are used, and must not be changed.
	Row(i int) (segment.Row, error)
	Text(i int) (segment.Row, error)
	// Find returns the number of the row with a key, whose hash is given.
	Find(hash vectors.Hash, key string) (i int, ok bool, err error)
	// Search offers to top the alive vectors that satisfy the filter (nil: all), as rows of the part with
	// this number. The query must have the metric and dimension of the part. ctx is looked at before
	// each block of a warm part.
	Search(ctx context.Context, q *search.Query, top *search.Top, number int, alive search.Bitmap, f *meta.Filter) error
	// Ascend calls yield with the number and the content of each row, by ascending hash and key, from the
	// first one whose hash is not less than from, until yield returns an error, which it returns. The
	// slices of a row are valid until yield returns, and must not be changed.
	Ascend(ctx context.Context, from vectors.Hash, yield func(i int, row segment.Row) error) error
	// Bytes is about how much memory the part takes.
	Bytes() int64

	// all returns the hashes of all rows.
	all() []vectors.Hash
	// key and row read a row, by way of a cursor, until whose next use they are valid.
	key(i int, c *cursor) ([]byte, error)
	row(i int, c *cursor) (segment.Row, error)
}

// Options say what a part consists of.
type Options struct {
	Dimension int
	Metric    vectors.Metric
	// Rows is how many rows are to be expected, 0 if that is unknown. A part in memory is built with less
	// memory if it is exact.
	Rows int
	// NonFilterable are the metadata keys that no filter names.
	NonFilterable []string
}

// MetricOf returns a metric as package search has it.
func MetricOf(m vectors.Metric) search.Metric {
	if m == vectors.Euclidean {
		return search.Euclidean
	}
	return search.Cosine
}

// sequence checks the rows of a part that is being written.
type sequence struct {
	dimension int
	rows      int
	hash      vectors.Hash
	key       string
}

// next returns an error if a row cannot follow those before.
func (s *sequence) next(r *segment.Row) error {
	after := cmp.Or(bytes.Compare(r.Hash[:], s.hash[:]), cmp.Compare(r.Key, s.key))
	switch {
	case s.rows > 0 && after <= 0:
		return fmt.Errorf("row %d, key %q: the rows of a part must be in the order of hash and key, each key once", s.rows, r.Key)
	case r.Key == "" || len(r.Key) > vectors.MaxKeyBytes || len(r.Metadata) > vectors.MaxMetadataBytes:
		return fmt.Errorf("row %d: a key of %d bytes and metadata of %d bytes are beyond the limits", s.rows, len(r.Key), len(r.Metadata))
	case !r.Deleted && len(r.Data) != s.dimension:
		return fmt.Errorf("row %d, key %q: the vector has %d values, those of the collection have %d", s.rows, r.Key, len(r.Data), s.dimension)
	case s.rows == math.MaxInt32:
		return errors.New("a part has at most 2,147,483,647 rows: divide the collection")
	}
	s.hash, s.key, s.rows = r.Hash, r.Key, s.rows+1
	return nil
}

// tombstone is a row of a deleted key. Tombstones are set aside while a part is written, because they
// follow the vectors.
type tombstone struct {
	hash vectors.Hash
	key  string
	seq  uint64
}

// lower returns the number of the first hash from start to end that is not less than hash, end if there
// is none. The search is fast if it is near start.
func lower(hashes []vectors.Hash, start, end int, hash vectors.Hash) int {
	step := 1
	for start+step < end && bytes.Compare(hashes[start+step][:], hash[:]) < 0 {
		start += step
		step *= 2
	}
	n := min(end, start+step+1) - start
	return start + sort.Search(n, func(i int) bool { return bytes.Compare(hashes[start+i][:], hash[:]) >= 0 })
}

// find implements Find.
func find(p Part, hash vectors.Hash, key string, c *cursor) (int, bool, error) {
	hashes := p.all()
	for _, list := range [...][2]int{{0, p.Vectors()}, {p.Vectors(), p.Len()}} {
		for i := lower(hashes, list[0], list[1], hash); i < list[1] && hashes[i] == hash; i++ {
			got, err := p.key(i, c)
			if err != nil {
				return 0, false, err
			}
			if string(got) == key {
				return i, true, nil
			}
		}
	}
	return 0, false, nil
}

// ascend implements Ascend: it merges vectors and tombstones.
func ascend(ctx context.Context, p Part, from vectors.Hash, yield func(int, segment.Row) error) error {
	hashes, middle, end := p.all(), p.Vectors(), p.Len()
	one, other := new(cursor), new(cursor)
	i, j := lower(hashes, 0, middle, from), lower(hashes, middle, end, from)
	for i < middle || j < end {
		next, c, counter := j, other, &j
		if i < middle && j < end {
			order, err := compare(p, i, one, p, j, other)
			if err != nil {
				return err
			}
			if order < 0 {
				next, c, counter = i, one, &i
			}
		} else if i < middle {
			next, c, counter = i, one, &i
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		row, err := p.row(next, c)
		if err != nil {
			return err
		}
		if err := yield(next, row); err != nil {
			return err
		}
		*counter++
	}
	return nil
}

// compare returns the order of row i of a and row j of b, by hash and key.
func compare(a Part, i int, ca *cursor, b Part, j int, cb *cursor) (int, error) {
	x, y := a.all()[i], b.all()[j]
	if x != y {
		return bytes.Compare(x[:], y[:]), nil
	}
	key, err := a.key(i, ca)
	if err != nil {
		return 0, err
	}
	other, err := b.key(j, cb)
	return bytes.Compare(key, other), err
}

// Override returns the alive bitmaps of older parts once a newer part is there: the bits of rows whose
// keys the newer part has, as vectors or tombstones, are cleared. alive are the bitmaps before; they are
// not changed, and one without a change is returned as it was.
func Override(older []Part, alive []search.Bitmap, newer Part) ([]search.Bitmap, error) {
	after := make([]search.Bitmap, len(older))
	one, other := new(cursor), new(cursor)
	for k, part := range older {
		one.forget()
		o := override{older: part, alive: alive[k], newer: newer, one: one, other: other}
		if err := o.list(0, newer.Vectors()); err != nil {
			return nil, err
		}
		if err := o.list(newer.Vectors(), newer.Len()); err != nil {
			return nil, err
		}
		after[k] = o.alive
	}
	return after, nil
}

// override clears the bits of one older part.
type override struct {
	older, newer Part
	alive        search.Bitmap
	owned        bool // alive is a copy
	one, other   *cursor
}

// list clears the bits of the keys of the newer part's rows from start to end.
func (o *override) list(start, end int) error {
	hashes, all, at := o.newer.all(), o.older.Hashes(), 0
	for j := start; j < end; j++ {
		at = lower(all, at, len(all), hashes[j])
		for i := at; i < len(all) && all[i] == hashes[j]; i++ {
			order, err := compare(o.older, i, o.one, o.newer, j, o.other)
			if err != nil {
				return err
			}
			if order == 0 {
				o.clear(i)
			}
		}
	}
	return nil
}

func (o *override) clear(i int) {
	if !o.owned {
		if o.alive == nil {
			o.alive = search.FullBitmap(o.older.Vectors())
		} else {
			o.alive = o.alive.Clone()
		}
		o.owned = true
	}
	o.alive.Clear(uint32(i))
}

// Keys finds the keys of rows for a search.Top, and remembers them: ties in a warm part would otherwise
// read a block each time. It is for one search, and for one goroutine.
type Keys struct {
	parts  []Part
	cursor *cursor
	known  map[[2]int][]byte
	err    error
}

// maxKnown is how many keys Keys remembers.
const maxKnown = 4096

// NewKeys returns the keys of parts, which are numbered by their place in the slice. The caller must call
// Release.
func NewKeys(parts []Part) *Keys {
	return &Keys{parts: parts, cursor: new(cursor), known: map[[2]int][]byte{}}
}

// Key returns the key of a row, as search.NewTop needs it; nil after an error. The bytes are never
// changed.
func (k *Keys) Key(part int, row uint32) []byte {
	id := [2]int{part, int(row)}
	if key, ok := k.known[id]; ok {
		return key
	}
	k.cursor.forget() // it may have been that of another part
	key, err := k.parts[part].key(int(row), k.cursor)
	if err != nil {
		k.err = cmp.Or(k.err, err)
		return nil
	}
	if len(k.known) == maxKnown {
		clear(k.known)
	}
	key = bytes.Clone(key)
	k.known[id] = key
	return key
}

// Err returns the first error of Key. The search has no valid result if there is one.
func (k *Keys) Err() error { return k.err }

// Release ends the use of k and frees its blocks. Keys that it returned remain valid.
func (k *Keys) Release() { k.cursor = nil }
