package tiers

import (
	"math/bits"
	"sync"
)

// buffers is a pool of memory for blocks that only one reader sees, by size. The zero value is
// ready to use.
type buffers struct {
	pools [64]sync.Pool // by power of two
}

// get returns an empty slice with a capacity of size bytes, a power of two.
func (b *buffers) get(size int64) []byte {
	if buffer, ok := b.pools[bits.Len64(uint64(size))&63].Get().(*[]byte); ok {
		return *buffer
	}
	return make([]byte, 0, size)
}

// put takes back what get returned.
func (b *buffers) put(buffer []byte) {
	if cap(buffer) == 0 {
		return
	}
	buffer = buffer[:0]
	b.pools[bits.Len64(uint64(cap(buffer)))&63].Put(&buffer)
}
