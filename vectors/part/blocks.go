package part

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sort"
	"sync"

	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/meta"
	"github.com/akidb/akigw/vectors/search"
	"github.com/akidb/akigw/vectors/segment"
)

// Blocks is a part on disk: warm. In memory are the hashes, 16 bytes a row; a search reads the rest
// through buffers of some blocks. Errors of its methods are ErrMissing or that of a context.
type Blocks struct {
	tier   Tier
	extent uint64
	id     Identity
	head
	cursors sync.Pool // of *cursor that are not in use
	hashes  []vectors.Hash
	table   []uint32 // the first row of each text block, then of each filter block
}

// Open returns the part that Write has stored. The error is ErrMissing if a block that Open needs is not
// there or not that of the part with this identity. Other blocks may still be missing.
func Open(ctx context.Context, tier Tier, extent uint64, id Identity) (*Blocks, error) {
	p := &Blocks{tier: tier, extent: extent, id: id}
	var b block
	if err := p.load(&b, kindHead, 0); err != nil {
		return nil, err
	}
	if err := p.head.parse(b.data); err != nil {
		return nil, p.missing(kindHead, 0, err)
	}
	if err := p.loadArray(ctx, &b, kindHash, p.rows, hashesPer, 16, func(raw []byte) bool {
		p.hashes = append(p.hashes, vectors.Hash(raw))
		n := len(p.hashes)
		return n == 1 || n-1 == p.vectors || bytes.Compare(p.hashes[n-2][:], p.hashes[n-1][:]) <= 0
	}); err != nil {
		return nil, err
	}
	if err := p.loadArray(ctx, &b, kindTable, p.texts+p.filters, tablePer, 4, func(raw []byte) bool {
		first := binary.LittleEndian.Uint32(raw)
		p.table = append(p.table, first)
		n := len(p.table)
		if n == 1 || n-1 == p.texts {
			return first == 0
		}
		return p.table[n-2] < first && int64(first) < int64(p.rows)
	}); err != nil {
		return nil, err
	}
	p.hashes, p.table = trim(p.hashes), trim(p.table)
	return p, nil
}

// loadArray loads an array of n values, of which each block has per, and calls add with each value. It
// fails if add returns false.
func (p *Blocks) loadArray(ctx context.Context, b *block, k kind, n, per, size int, add func([]byte) bool) error {
	for i := 0; i*per < n; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.load(b, k, i); err != nil {
			return err
		}
		if want := min(n-i*per, per); b.first != i*per || b.count != want || len(b.data) != want*size {
			return p.missing(k, i, fmt.Errorf("it has %d of %d values from %d on", b.count, want, b.first))
		}
		for raw := range slices.Chunk(b.data, size) {
			if !add(raw) {
				return p.missing(k, i, errors.New("its values are not in order"))
			}
		}
	}
	return nil
}

func (p *Blocks) missing(k kind, index int, why error) error {
	return fmt.Errorf("%w: block %d of extent %d: %v", ErrMissing, number(k, index), p.extent, why)
}

// load reads a block, unless b has it.
func (p *Blocks) load(b *block, k kind, index int) error {
	if b.loaded && b.index == index {
		return nil
	}
	b.loaded = false
	if b.buffer == nil {
		b.buffer = make([]byte, 0, BlockBytes)
	}
	raw, ok := p.tier.Block(p.extent, number(k, index), b.buffer)
	if !ok {
		return fmt.Errorf("%w: block %d of extent %d is not there", ErrMissing, number(k, index), p.extent)
	}
	if err := b.parse(raw, p.id, k, index); err != nil {
		return p.missing(k, index, err)
	}
	b.index = index
	b.loaded = k == kindVector || k == kindText // a cursor has a block for each of these two
	return nil
}

// loadVectors loads and decodes the vector block of a row.
func (p *Blocks) loadVectors(b *block, row int) error {
	per := vectorsPer(p.dimension)
	index := row / per
	if b.loaded && b.index == index {
		return nil
	}
	err := p.load(b, kindVector, index)
	if err != nil {
		return err
	}
	if want := min(per, p.vectors-index*per); b.first != index*per || b.count != want {
		err = fmt.Errorf("it has %d of %d vectors from %d on", b.count, want, b.first)
	} else {
		err = b.decodeVectors(p.dimension)
	}
	if err != nil {
		b.loaded = false
		return p.missing(kindVector, index, err)
	}
	return nil
}

// loadRecords loads a text block or filter block.
func (p *Blocks) loadRecords(b *block, k kind, index int) error {
	if err := p.load(b, k, index); err != nil {
		return err
	}
	if first, end := p.recordRows(k, index); b.first != first || b.count != end-first {
		b.loaded = false
		return p.missing(k, index, fmt.Errorf("it has %d of %d rows from %d on", b.count, end-first, b.first))
	}
	return nil
}

// recordTable returns the first row of each text block or filter block, and how many rows these have.
func (p *Blocks) recordTable(k kind) (table []uint32, rows int) {
	if k == kindFilter {
		return p.table[p.texts:], p.vectors
	}
	return p.table[:p.texts], p.rows
}

// recordRows returns the first row of a text block or filter block and the one after its last.
func (p *Blocks) recordRows(k kind, index int) (first, end int) {
	table, rows := p.recordTable(k)
	if index+1 < len(table) {
		rows = int(table[index+1])
	}
	return int(table[index]), rows
}

// text returns the text of a row.
func (p *Blocks) text(i int, b *block) (seq uint64, key, metadata []byte, err error) {
	index := sort.Search(p.texts, func(n int) bool { return int(p.table[n]) > i }) - 1
	if err := p.loadRecords(b, kindText, index); err != nil {
		return 0, nil, nil, err
	}
	if seq, key, metadata, err = b.text(i); err != nil {
		b.loaded = false
		return 0, nil, nil, p.missing(kindText, index, err)
	}
	return seq, key, metadata, nil
}

// Len implements Part.
func (p *Blocks) Len() int { return p.rows }

// Vectors implements Part.
func (p *Blocks) Vectors() int { return p.vectors }

// Deleted implements Part.
func (p *Blocks) Deleted(i int) bool { return i >= p.vectors }

// Hashes implements Part.
func (p *Blocks) Hashes() []vectors.Hash { return p.hashes[:p.vectors:p.vectors] }

// Tombstones implements Part.
func (p *Blocks) Tombstones() []vectors.Hash { return p.hashes[p.vectors:] }

func (p *Blocks) all() []vectors.Hash { return p.hashes }

// Bytes implements Part.
func (p *Blocks) Bytes() int64 { return int64(16*cap(p.hashes) + 4*cap(p.table)) }

// Dimension returns how many values each vector has.
func (p *Blocks) Dimension() int { return p.dimension }

// Metric returns the metric of the collection.
func (p *Blocks) Metric() vectors.Metric { return p.metric }

// Drop removes all blocks. Searches that are under way end with ErrMissing.
func (p *Blocks) Drop() { p.tier.DropBlocks(p.extent) }

// borrow returns a cursor that the caller puts back into cursors.
func (p *Blocks) borrow() *cursor {
	c, ok := p.cursors.Get().(*cursor)
	if !ok {
		return new(cursor)
	}
	c.forget()
	return c
}

// Row implements Part.
func (p *Blocks) Row(i int) (segment.Row, error) {
	c := p.borrow()
	defer p.cursors.Put(c)
	r, err := p.row(i, c)
	r.Data, r.Metadata = slices.Clone(r.Data), slices.Clone(r.Metadata)
	return r, err
}

// Text implements Part.
func (p *Blocks) Text(i int) (segment.Row, error) {
	c := p.borrow()
	defer p.cursors.Put(c)
	r, err := p.textRow(i, c)
	r.Metadata = slices.Clone(r.Metadata)
	return r, err
}

func (p *Blocks) textRow(i int, c *cursor) (segment.Row, error) {
	seq, key, metadata, err := p.text(i, &c.text)
	if err != nil {
		return segment.Row{}, err
	}
	return segment.Row{Hash: p.hashes[i], Key: string(key), Seq: seq, Deleted: p.Deleted(i), Metadata: metadata}, nil
}

func (p *Blocks) row(i int, c *cursor) (segment.Row, error) {
	r, err := p.textRow(i, c)
	if err != nil || r.Deleted {
		return r, err
	}
	if err := p.loadVectors(&c.vector, i); err != nil {
		return segment.Row{}, err
	}
	at := (i - c.vector.first) * p.dimension
	r.Data = c.vector.floats[at : at+p.dimension : at+p.dimension]
	return r, nil
}

func (p *Blocks) key(i int, c *cursor) ([]byte, error) {
	_, key, _, err := p.text(i, &c.text)
	return key, err
}

// Find implements Part.
func (p *Blocks) Find(hash vectors.Hash, key string) (int, bool, error) {
	c := p.borrow()
	defer p.cursors.Put(c)
	return find(p, hash, key, c)
}

// Ascend implements Part.
func (p *Blocks) Ascend(ctx context.Context, from vectors.Hash, yield func(int, segment.Row) error) error {
	return ascend(ctx, p, from, yield)
}

// Search implements Part. It is exact: it reads all blocks with alive vectors; if there is a filter, those
// of the metadata first, and then only vectors that match.
func (p *Blocks) Search(ctx context.Context, q *search.Query, top *search.Top, number int, alive search.Bitmap, f *meta.Filter) error {
	c := p.borrow()
	defer p.cursors.Put(c)
	if f != nil {
		var err error
		if alive, err = p.matches(ctx, alive, f); err != nil {
			return err
		}
	}
	per := vectorsPer(p.dimension)
	for first := 0; first < p.vectors; first += per {
		if !anyOf(alive, first, min(first+per, p.vectors)) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.loadVectors(&c.vector, first); err != nil {
			return err
		}
		search.Scan(q, top, number, c.vector.floats, c.vector.norms, uint32(first), alive)
	}
	return nil
}

// matches returns the alive vectors that satisfy a filter. It reads the filter blocks, or the text blocks
// if there are none.
func (p *Blocks) matches(ctx context.Context, alive search.Bitmap, f *meta.Filter) (search.Bitmap, error) {
	c := p.borrow()
	defer p.cursors.Put(c)
	matches, k := search.NewBitmap(p.vectors), kindText
	if p.filters > 0 {
		k = kindFilter
	}
	table, _ := p.recordTable(k)
	for index := range table {
		first, end := p.recordRows(k, index)
		if end = min(end, p.vectors); first >= end || !anyOf(alive, first, end) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c.forget()
		if err := p.loadRecords(&c.text, k, index); err != nil {
			return nil, err
		}
		for i := first; i < end; i++ {
			if alive != nil && !alive.Get(uint32(i)) {
				continue
			}
			_, _, metadata, err := c.text.text(i)
			if err != nil {
				return nil, p.missing(k, index, err)
			}
			if f.Match(metadata) {
				matches.Set(uint32(i))
			}
		}
	}
	return matches, nil
}

// anyOf reports whether any row from first to end-1 is in a set; nil has all.
func anyOf(set search.Bitmap, first, end int) bool {
	if set == nil {
		return true
	}
	for at := first; at < end; at = (at | 63) + 1 {
		word := set[at/64] >> (at % 64)
		if word != 0 {
			return at+bits.TrailingZeros64(word) < end
		}
	}
	return false
}
