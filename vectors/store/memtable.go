package store

import (
	"bytes"
	"cmp"
	"strings"
	"time"

	"github.com/tidwall/btree"

	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/search"
	"github.com/akidb/akigw/vectors/segment"
)

// row is an acknowledged change of one key: a vector, or a deletion. It must not be changed after it
// was applied.
type row struct {
	hash     vectors.Hash
	key      string
	seq      uint64
	deleted  bool
	data     []float32
	norm     float64
	metadata []byte
}

// newRow returns a row without a sequence. It retains data and metadata.
func newRow(key string, data []float32, metadata []byte, deleted bool) *row {
	return &row{hash: vectors.HashKey(key), key: key, deleted: deleted, data: data, norm: search.Norm(data), metadata: metadata}
}

// size is the memory that a row takes, in bytes.
func (r *row) size() int64 {
	return int64(4*len(r.data)+len(r.metadata)+len(r.key)) + rowOverhead
}

// rowOverhead is what a row takes besides its content: the struct, and its place in the tree.
const rowOverhead = 160

func (r *row) segment() segment.Row {
	return segment.Row{Hash: r.hash, Key: r.key, Seq: r.seq, Deleted: r.deleted, Data: r.data, Metadata: r.metadata}
}

func (r *row) vector() vectors.Vector {
	return vectors.Vector{Key: r.key, Data: r.data, Metadata: r.metadata}
}

// before is the order of a collection.
func before(a, b *row) bool { return compare(a, b) < 0 }

func compare(a, b *row) int {
	return cmp.Or(bytes.Compare(a.hash[:], b.hash[:]), strings.Compare(a.key, b.key))
}

// tree holds rows in the order of the collection, each key once. A copy shares the nodes until one
// of both changes.
type tree = *btree.BTreeG[*row]

// memtable holds the rows of a collection that no part has. Its owner locks it.
type memtable struct {
	rows tree
	// bytes is the memory of all rows that were put into it, also of those that were replaced: it is
	// released when the memtable is.
	bytes   int64
	records []uint64  // the journal's records of its calls
	last    uint64    // sequence of the last call in it, 0 for none
	oldest  time.Time // when the first call was acknowledged, zero for none
}

func newMemtable() *memtable {
	return &memtable{rows: btree.NewBTreeGOptions(before, btree.Options{NoLocks: true})}
}

// call is a call of PutVectors or DeleteVectors whose record is durable.
type call struct {
	seq    uint64
	record uint64
	at     time.Time
	rows   []*row
	bytes  int64 // memory of the rows
}

func (m *memtable) apply(c call) {
	for _, r := range c.rows {
		m.rows.Set(r)
	}
	m.bytes += c.bytes
	m.records = append(m.records, c.record)
	m.last = max(m.last, c.seq)
	if m.oldest.IsZero() {
		m.oldest = c.at
	}
}

// find returns the row of a key in a tree, nil if there is none.
func find(t tree, hash vectors.Hash, key string) *row {
	r, _ := t.Get(&row{hash: hash, key: key})
	return r
}
