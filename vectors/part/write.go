package part

import (
	"context"
	"encoding/binary"
	"math"
	"slices"
	"strings"

	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/meta"
	"github.com/akidb/akigw/vectors/search"
	"github.com/akidb/akigw/vectors/segment"
)

// Write stores a part as the blocks of an extent, which must have none, and returns it. rows calls yield
// with each row in the order of hash and key, as segment.Read does, and stops if yield returns an error.
// After any error the extent has no blocks: ErrRefused if the tier has not stored one, otherwise that of
// rows or ctx.
//
// Write needs memory for some blocks, for the hashes, and for the keys of the tombstones.
func Write(ctx context.Context, tier Tier, extent uint64, id Identity, o Options, rows func(yield func(segment.Row) error) error) (*Blocks, error) {
	w := writer{
		sequence:      sequence{dimension: o.Dimension},
		texts:         records{kind: kindText},
		filters:       records{kind: kindFilter},
		nonFilterable: o.NonFilterable,
		p: &Blocks{tier: tier, extent: extent, id: id, head: head{dimension: o.Dimension, metric: o.Metric},
			hashes: make([]vectors.Hash, 0, o.Rows)},
	}
	err := rows(func(r segment.Row) error { return w.add(ctx, r) })
	if err == nil {
		err = w.finish(ctx)
	}
	if err != nil {
		tier.DropBlocks(extent)
		return nil, err
	}
	return w.p, nil
}

// writer writes the blocks of a part.
type writer struct {
	p          *Blocks
	sequence   sequence
	tombstones []tombstone
	block      []byte // scratch
	// What the blocks get that are being filled.
	norms  []float64
	floats []byte
	texts  records
	// The filter block, if there are keys that are not filterable: texts are often kept in these, which a
	// filter need not read.
	filters       records
	nonFilterable []string
	filterable    []byte // scratch
}

// records are the rows of a text block or filter block that is being filled.
type records struct {
	kind    kind
	offsets []uint32
	body    []byte
	rows    int      // of this block and those before
	table   []uint32 // the first row of each block before
}

func (w *writer) add(ctx context.Context, r segment.Row) error {
	if err := w.sequence.next(&r); err != nil {
		return err
	}
	if r.Deleted {
		w.tombstones = append(w.tombstones, tombstone{r.Hash, strings.Clone(r.Key), r.Seq})
		return nil
	}
	w.norms = append(w.norms, search.Norm(r.Data))
	for _, v := range r.Data {
		w.floats = binary.LittleEndian.AppendUint32(w.floats, math.Float32bits(v))
	}
	w.p.vectors++
	if len(w.norms) == vectorsPer(w.p.dimension) {
		if err := w.flushVectors(ctx); err != nil {
			return err
		}
	}
	if len(w.nonFilterable) > 0 {
		w.filterable = meta.AppendFilterable(w.filterable[:0], r.Metadata, w.nonFilterable)
		if err := w.record(ctx, &w.filters, 0, "", w.filterable); err != nil {
			return err
		}
	}
	return w.text(ctx, r.Hash, r.Key, r.Seq, r.Metadata)
}

// text adds what is not the vector of a row.
func (w *writer) text(ctx context.Context, hash vectors.Hash, key string, seq uint64, metadata []byte) error {
	w.p.hashes = append(w.p.hashes, hash)
	return w.record(ctx, &w.texts, seq, key, metadata)
}

func (w *writer) record(ctx context.Context, r *records, seq uint64, key string, metadata []byte) error {
	size := recordBytes + len(key) + len(metadata)
	if headerBytes+4*(len(r.offsets)+2)+len(r.body)+size > BlockBytes {
		if err := w.flushRecords(ctx, r); err != nil {
			return err
		}
	}
	r.offsets = append(r.offsets, uint32(len(r.body)))
	r.body = binary.LittleEndian.AppendUint64(r.body, seq)
	r.body = binary.LittleEndian.AppendUint16(r.body, uint16(len(key)))
	r.body = append(append(r.body, key...), metadata...)
	r.rows++
	return nil
}

// put stores the scratch block.
func (w *writer) put(ctx context.Context, k kind, index int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !w.p.tier.PutBlock(w.p.extent, number(k, index), w.block) {
		return ErrRefused
	}
	return nil
}

func (w *writer) flushVectors(ctx context.Context) error {
	n := len(w.norms)
	if n == 0 {
		return nil
	}
	per := vectorsPer(w.p.dimension)
	index := (w.p.vectors - 1) / per
	w.block = appendHeader(w.block[:0], w.p.id, kindVector, index, index*per, n)
	for _, norm := range w.norms {
		w.block = binary.LittleEndian.AppendUint64(w.block, math.Float64bits(norm))
	}
	w.block = append(w.block, w.floats...)
	w.norms, w.floats = w.norms[:0], w.floats[:0]
	return w.put(ctx, kindVector, index)
}

func (w *writer) flushRecords(ctx context.Context, r *records) error {
	n := len(r.offsets)
	if n == 0 {
		return nil
	}
	index, first := len(r.table), r.rows-n
	w.block = appendHeader(w.block[:0], w.p.id, r.kind, index, first, n)
	for _, offset := range append(r.offsets, uint32(len(r.body))) {
		w.block = binary.LittleEndian.AppendUint32(w.block, offset)
	}
	w.block = append(w.block, r.body...)
	r.table = append(r.table, uint32(first))
	r.offsets, r.body = r.offsets[:0], r.body[:0]
	return w.put(ctx, r.kind, index)
}

// finish writes the tombstones, and what a reader needs to find all other blocks.
func (w *writer) finish(ctx context.Context) error {
	if err := w.flushVectors(ctx); err != nil {
		return err
	}
	for _, t := range w.tombstones {
		if err := w.text(ctx, t.hash, t.key, t.seq, nil); err != nil {
			return err
		}
	}
	if err := w.flushRecords(ctx, &w.texts); err != nil {
		return err
	}
	if err := w.flushRecords(ctx, &w.filters); err != nil {
		return err
	}
	p := w.p
	p.hashes, p.table = trim(p.hashes), slices.Concat(w.texts.table, w.filters.table)
	p.rows, p.texts, p.filters = len(p.hashes), len(w.texts.table), len(w.filters.table)
	return w.finishArrays(ctx)
}

// finishArrays writes what Open reads.
func (w *writer) finishArrays(ctx context.Context) error {
	p := w.p
	for i := 0; i*hashesPer < p.rows; i++ {
		some := p.hashes[i*hashesPer : min(p.rows, (i+1)*hashesPer)]
		w.block = appendHeader(w.block[:0], p.id, kindHash, i, i*hashesPer, len(some))
		for _, hash := range some {
			w.block = append(w.block, hash[:]...)
		}
		if err := w.put(ctx, kindHash, i); err != nil {
			return err
		}
	}
	for i := 0; i*tablePer < len(p.table); i++ {
		some := p.table[i*tablePer : min(len(p.table), (i+1)*tablePer)]
		w.block = appendHeader(w.block[:0], p.id, kindTable, i, i*tablePer, len(some))
		for _, first := range some {
			w.block = binary.LittleEndian.AppendUint32(w.block, first)
		}
		if err := w.put(ctx, kindTable, i); err != nil {
			return err
		}
	}
	w.block = p.head.append(appendHeader(w.block[:0], p.id, kindHead, 0, 0, 0))
	return w.put(ctx, kindHead, 0)
}
