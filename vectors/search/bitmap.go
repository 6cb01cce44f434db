package search

import (
	"iter"
	"math/bits"
)

// Bitmap is a set of rows of one part: row r is bit r%64 of word r/64. Rows beyond its end are not in the
// set. The zero value is the empty set, which cannot grow: see NewBitmap. Its methods don't lock.
type Bitmap []uint64

// NewBitmap returns an empty set with room for the rows 0 to n-1.
func NewBitmap(n int) Bitmap { return make(Bitmap, (n+63)/64) }

// FullBitmap returns the set of the rows 0 to n-1.
func FullBitmap(n int) Bitmap {
	b := NewBitmap(n)
	for i := range b {
		b[i] = ^uint64(0)
	}
	if n%64 != 0 {
		b[len(b)-1] = 1<<(n%64) - 1
	}
	return b
}

// Get reports whether row is in the set.
func (b Bitmap) Get(row uint32) bool {
	word := int(row / 64)
	return word < len(b) && b[word]>>(row%64)&1 != 0
}

// Set adds row, for which the bitmap must have room.
func (b Bitmap) Set(row uint32) { b[row/64] |= 1 << (row % 64) }

// Clear removes row, for which the bitmap must have room.
func (b Bitmap) Clear(row uint32) { b[row/64] &^= 1 << (row % 64) }

// Count returns the number of rows in the set.
func (b Bitmap) Count() int {
	n := 0
	for _, word := range b {
		n += bits.OnesCount64(word)
	}
	return n
}

// And removes the rows that are not in other.
func (b Bitmap) And(other Bitmap) {
	n := min(len(b), len(other))
	for i := range n {
		b[i] &= other[i]
	}
	clear(b[n:])
}

// Clone returns a copy.
func (b Bitmap) Clone() Bitmap { return append(make(Bitmap, 0, len(b)), b...) }

// Between yields the rows of the set from first to end-1, in order.
func (b Bitmap) Between(first, end uint32) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for at := first; at < end && int(at/64) < len(b); {
			word := b[at/64] >> (at % 64)
			if word == 0 {
				if at |= 63; at == ^uint32(0) {
					return
				}
				at++
				continue
			}
			at += uint32(bits.TrailingZeros64(word))
			if at >= end || !yield(at) || at == ^uint32(0) {
				return
			}
			at++
		}
	}
}
