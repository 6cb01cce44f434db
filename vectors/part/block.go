package part

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/akidb/akigw/vectors"
)

// BlockBytes is the size of the largest block, in bytes.
const BlockBytes = 256 << 10

// Identity tells the blocks of a part from those of any other, should the tier ever use the number of an
// extent again. The first 16 bytes of the SHA-256 of the part's file are one.
type Identity [16]byte

// kind is what a block has. The number of a block in its extent is kind + kinds*index, with the index
// counted per kind.
type kind uint8

const (
	kindHead   kind = iota // one: what the part consists of; it is written last
	kindHash               // the hashes of all rows
	kindTable              // the first row of each text block and, after those, of each filter block
	kindVector             // norms and vectors
	kindText               // sequence numbers, keys, metadata
	kindFilter             // metadata without the keys that are not filterable
	kinds      = 8
)

// A block is a header and a payload. All numbers are little endian.
//
//	0  "akvb"  4  version  5  kind  6  0 0  8  index  12  first row  16  rows  20  0 0 0 0  24  identity
const (
	blockVersion = 1
	headerBytes  = 40
	hashesPer    = (BlockBytes - headerBytes) / 16 // hashes of a block
	tablePer     = (BlockBytes - headerBytes) / 4  // entries of a block of the table
	headBytes    = 24
	recordBytes  = 10 // of a text besides key and metadata
)

// vectorsPer returns how many vectors are in a block.
func vectorsPer(dimension int) int { return (BlockBytes - headerBytes) / (8 + 4*dimension) }

func number(k kind, index int) int64 { return int64(index)*kinds + int64(k) }

// appendHeader begins a block.
func appendHeader(b []byte, id Identity, k kind, index, first, count int) []byte {
	b = append(b, 'a', 'k', 'v', 'b', blockVersion, byte(k), 0, 0)
	for _, n := range [...]int{index, first, count, 0} {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return append(b, id[:]...)
}

// block is a block that was read. The zero value has none.
type block struct {
	loaded bool
	index  int
	buffer []byte
	data   []byte // the payload, in buffer
	first  int    // the first row
	count  int    // of rows
	// floats and norms are those of a vector block.
	floats []float32
	norms  []float64
}

// parse checks the header of a block and sets data, first and count.
func (b *block) parse(raw []byte, id Identity, k kind, index int) error {
	if len(raw) < headerBytes || len(raw) > BlockBytes || string(raw[:4]) != "akvb" {
		return fmt.Errorf("%d bytes are no block of a part", len(raw))
	}
	if raw[4] != blockVersion {
		return fmt.Errorf("the version is %d, this program writes %d", raw[4], blockVersion)
	}
	if kind(raw[5]) != k || binary.LittleEndian.Uint32(raw[8:]) != uint32(index) || Identity(raw[24:headerBytes]) != id {
		return fmt.Errorf("it is another block: kind %d, index %d", raw[5], binary.LittleEndian.Uint32(raw[8:]))
	}
	first, count := binary.LittleEndian.Uint32(raw[12:]), binary.LittleEndian.Uint32(raw[16:])
	if first > math.MaxInt32 || count > BlockBytes {
		return fmt.Errorf("it has %d rows from %d", count, first)
	}
	b.first, b.count, b.data = int(first), int(count), raw[headerBytes:]
	return nil
}

// decodeVectors sets floats and norms.
func (b *block) decodeVectors(dimension int) error {
	if want := b.count * (8 + 4*dimension); len(b.data) != want {
		return fmt.Errorf("%d vectors in %d bytes, which should be %d", b.count, len(b.data), want)
	}
	b.norms, b.floats = resize(b.norms, b.count), resize(b.floats, b.count*dimension)
	for i := range b.norms {
		b.norms[i] = math.Float64frombits(binary.LittleEndian.Uint64(b.data[8*i:]))
	}
	decodeFloats(b.floats, b.data[8*b.count:])
	return nil
}

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// decodeFloats decodes len(out) values, eight at a time: it takes as long as the distances of them do.
func decodeFloats(out []float32, in []byte) {
	for ; len(out) >= 8 && len(in) >= 32; out, in = out[8:], in[32:] {
		to, from := (*[8]float32)(out), (*[32]byte)(in)
		to[0] = math.Float32frombits(binary.LittleEndian.Uint32(from[0:]))
		to[1] = math.Float32frombits(binary.LittleEndian.Uint32(from[4:]))
		to[2] = math.Float32frombits(binary.LittleEndian.Uint32(from[8:]))
		to[3] = math.Float32frombits(binary.LittleEndian.Uint32(from[12:]))
		to[4] = math.Float32frombits(binary.LittleEndian.Uint32(from[16:]))
		to[5] = math.Float32frombits(binary.LittleEndian.Uint32(from[20:]))
		to[6] = math.Float32frombits(binary.LittleEndian.Uint32(from[24:]))
		to[7] = math.Float32frombits(binary.LittleEndian.Uint32(from[28:]))
	}
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(in[4*i:]))
	}
}

// text returns what a text block has of row i of the part. The slices are those of the block.
func (b *block) text(i int) (seq uint64, key, metadata []byte, err error) {
	i -= b.first
	body := 4 * (b.count + 1)
	if i < 0 || i >= b.count || body > len(b.data) {
		return 0, nil, nil, fmt.Errorf("row %d is not among its %d rows in %d bytes", b.first+i, b.count, len(b.data))
	}
	start := uint64(binary.LittleEndian.Uint32(b.data[4*i:]))
	end := uint64(binary.LittleEndian.Uint32(b.data[4*i+4:]))
	if start+recordBytes > end || end > uint64(len(b.data)-body) {
		return 0, nil, nil, fmt.Errorf("row %d is from %d to %d of %d bytes", b.first+i, start, end, len(b.data)-body)
	}
	record := b.data[body:][start:end]
	length := int(binary.LittleEndian.Uint16(record[8:]))
	if recordBytes+length > len(record) {
		return 0, nil, nil, fmt.Errorf("row %d has a key of %d bytes in %d", b.first+i, length, len(record))
	}
	key = record[recordBytes : recordBytes+length]
	if metadata = record[recordBytes+length:]; len(metadata) == 0 {
		metadata = nil
	}
	return binary.LittleEndian.Uint64(record), key, metadata, nil
}

// head is the payload of the first block.
type head struct {
	dimension, rows, vectors int
	texts, filters           int // how many blocks there are of these kinds
	metric                   vectors.Metric
}

func (h *head) append(b []byte) []byte {
	for _, n := range [...]int{h.dimension, h.rows, h.vectors, h.texts, h.filters, int(MetricOf(h.metric))} {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return b
}

// parse sets what the payload says.
func (h *head) parse(payload []byte) error {
	if len(payload) != headBytes {
		return fmt.Errorf("the head has %d bytes", len(payload))
	}
	var n [headBytes / 4]int
	for i := range n {
		n[i] = int(binary.LittleEndian.Uint32(payload[4*i:]))
	}
	*h = head{dimension: n[0], rows: n[1], vectors: n[2], texts: n[3], filters: n[4], metric: vectors.Cosine}
	if n[5] == int(MetricOf(vectors.Euclidean)) {
		h.metric = vectors.Euclidean
	}
	valid := h.dimension >= 1 && h.dimension <= vectors.MaxDimension && h.rows <= math.MaxInt32 && h.vectors <= h.rows && n[5] == int(MetricOf(h.metric)) &&
		h.texts <= h.rows && (h.texts == 0) == (h.rows == 0) && h.filters <= h.vectors
	if !valid {
		return fmt.Errorf("the head says %+v", *h)
	}
	return nil
}
