package part

import (
	"context"
	"slices"

	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/meta"
	"github.com/akidb/akigw/vectors/search"
	"github.com/akidb/akigw/vectors/segment"
)

// Memory is a part in memory: hot.
type Memory struct {
	dimension int
	vectors   int
	hashes    []vectors.Hash
	seqs      []uint64
	texts     texts
	data      []float32 // of the vectors, row by row
	norms     []float64
	index     *search.Index
	columns   *meta.Columns
}

// texts are the key and the metadata of each row, in chunks: growing one large slice would take twice its
// size.
type texts struct {
	chunks [][]byte
	places []uint64 // offset<<27 | bytes of the key<<16 | bytes of the metadata
}

const (
	chunkBits    = 18
	chunkBytes   = 1 << chunkBits // larger than any key and metadata together
	metadataBits = 16
	keyBits      = 11
)

func (t *texts) add(key string, metadata []byte) {
	last := len(t.chunks) - 1
	if size := len(key) + len(metadata); last < 0 || len(t.chunks[last])+size > chunkBytes {
		var chunk []byte
		if last >= 0 { // the part is not small
			chunk = make([]byte, 0, chunkBytes)
		}
		t.chunks = append(t.chunks, chunk)
		last++
	}
	offset := uint64(last)<<chunkBits | uint64(len(t.chunks[last]))
	t.places = append(t.places, offset<<(keyBits+metadataBits)|uint64(len(key))<<metadataBits|uint64(len(metadata)))
	t.chunks[last] = append(append(t.chunks[last], key...), metadata...)
}

// at returns the key and the metadata of a row, nil for none.
func (t *texts) at(i int) (key, metadata []byte) {
	place := t.places[i]
	offset := place >> (keyBits + metadataBits)
	key = t.chunks[offset>>chunkBits][offset%chunkBytes:]
	middle := place >> metadataBits % (1 << keyBits)
	if end := middle + place%(1<<metadataBits); end > middle {
		metadata = key[middle:end:end]
	}
	return key[:middle:middle], metadata
}

// trim returns memory that growing has left over.
func (t *texts) trim() {
	if last := len(t.chunks) - 1; last >= 0 {
		t.chunks[last] = slices.Clone(t.chunks[last])
	}
	t.places = trim(t.places)
}

// trim returns s in a slice without much room to grow.
func trim[T any](s []T) []T {
	if cap(s)-len(s) > len(s)/16 {
		return append(make([]T, 0, len(s)), s...)
	}
	return s
}

// Builder makes a Memory.
type Builder struct {
	m          *Memory
	options    Options
	sequence   sequence
	tombstones []tombstone
}

// NewBuilder returns a builder of an empty part.
func NewBuilder(o Options) *Builder {
	return &Builder{options: o, sequence: sequence{dimension: o.Dimension}, m: &Memory{
		dimension: o.Dimension,
		hashes:    make([]vectors.Hash, 0, o.Rows),
		seqs:      make([]uint64, 0, o.Rows),
		texts:     texts{places: make([]uint64, 0, o.Rows)},
		data:      make([]float32, 0, o.Rows*o.Dimension),
		norms:     make([]float64, 0, o.Rows),
	}}
}

// Add adds a row, which must follow the one before in the order of hash and key. It retains no slice.
func (b *Builder) Add(r segment.Row) error {
	if err := b.sequence.next(&r); err != nil {
		return err
	}
	if r.Deleted {
		b.tombstones = append(b.tombstones, tombstone{r.Hash, r.Key, r.Seq})
		return nil
	}
	b.m.add(r.Hash, r.Key, r.Seq, r.Metadata)
	b.m.data = append(b.m.data, r.Data...)
	b.m.norms = append(b.m.norms, search.Norm(r.Data))
	return nil
}

func (m *Memory) add(hash vectors.Hash, key string, seq uint64, metadata []byte) {
	m.hashes = append(m.hashes, hash)
	m.seqs = append(m.seqs, seq)
	m.texts.add(key, metadata)
}

// minColumns is what the columns of a part may take at least, in bytes; those of a large one may take a
// quarter of its vectors.
const minColumns = 1 << 20

// Finish builds the index and the columns and returns the part. The builder must not be used any more.
// The error is that of ctx.
func (b *Builder) Finish(ctx context.Context, o search.Options) (*Memory, error) {
	m := b.m
	m.vectors = len(m.hashes)
	for _, t := range b.tombstones {
		m.add(t.hash, t.key, t.seq, nil)
	}
	b.tombstones = nil
	m.hashes, m.seqs, m.data, m.norms = trim(m.hashes), trim(m.seqs), trim(m.data), trim(m.norms)
	m.texts.trim()
	budget := max(minColumns, int64(len(m.data)))
	m.columns = meta.NewColumns(m.vectors, m.metadata, b.options.NonFilterable, budget)
	var err error
	if m.index, err = search.Build(ctx, MetricOf(b.options.Metric), m.dimension, m.data, m.norms, o); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *Memory) metadata(i int) []byte {
	_, metadata := m.texts.at(i)
	return metadata
}

// Len implements Part.
func (m *Memory) Len() int { return len(m.hashes) }

// Vectors implements Part.
func (m *Memory) Vectors() int { return m.vectors }

// Deleted implements Part.
func (m *Memory) Deleted(i int) bool { return i >= m.vectors }

// Hashes implements Part.
func (m *Memory) Hashes() []vectors.Hash { return m.hashes[:m.vectors:m.vectors] }

// Tombstones implements Part.
func (m *Memory) Tombstones() []vectors.Hash { return m.hashes[m.vectors:] }

func (m *Memory) all() []vectors.Hash { return m.hashes }

// Bytes implements Part.
func (m *Memory) Bytes() int64 {
	n := int64(16*cap(m.hashes) + 8*cap(m.seqs) + 4*cap(m.data) + 8*cap(m.norms) + 8*cap(m.texts.places))
	for _, chunk := range m.texts.chunks {
		n += int64(cap(chunk))
	}
	return n + m.index.Bytes() + m.columns.Bytes()
}

// Row implements Part. The error is nil.
func (m *Memory) Row(i int) (segment.Row, error) { return m.row(i, nil) }

// Text implements Part. The error is nil.
func (m *Memory) Text(i int) (segment.Row, error) {
	key, metadata := m.texts.at(i)
	return segment.Row{Hash: m.hashes[i], Key: string(key), Seq: m.seqs[i], Deleted: m.Deleted(i), Metadata: metadata}, nil
}

func (m *Memory) row(i int, _ *cursor) (segment.Row, error) {
	r, err := m.Text(i)
	if !r.Deleted {
		r.Data = m.data[i*m.dimension : (i+1)*m.dimension : (i+1)*m.dimension]
	}
	return r, err
}

func (m *Memory) key(i int, _ *cursor) ([]byte, error) {
	key, _ := m.texts.at(i)
	return key, nil
}

// Find implements Part. The error is nil.
func (m *Memory) Find(hash vectors.Hash, key string) (int, bool, error) {
	return find(m, hash, key, nil)
}

// Ascend implements Part.
func (m *Memory) Ascend(ctx context.Context, from vectors.Hash, yield func(int, segment.Row) error) error {
	return ascend(ctx, m, from, yield)
}

// Search implements Part. It is exact if the index is, see search.Build.
func (m *Memory) Search(ctx context.Context, q *search.Query, top *search.Top, number int, alive search.Bitmap, f *meta.Filter) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if f != nil {
		matches := search.NewBitmap(m.vectors)
		m.columns.Bitmap(f, matches)
		if alive != nil {
			matches.And(alive)
		}
		alive = matches
	}
	m.index.Search(q, top, number, alive)
	return nil
}
