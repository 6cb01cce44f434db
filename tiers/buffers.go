package tiers

import (
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

// buffers is a pool of memory for blocks and records, by size. The zero value is ready to use.
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

// put takes back what get returned. Memory of other sizes, such as what has grown from it, is left to the
// garbage collector.
func (b *buffers) put(buffer []byte) {
	if bits.OnesCount(uint(cap(buffer))) != 1 {
		return
	}
	buffer = buffer[:0]
	spoil(buffer[:cap(buffer)])
	b.pools[bits.Len64(uint64(cap(buffer)))&63].Put(&buffer)
}

// sharedBlock is the bytes of a block, which are shared and must not be changed. Those who use them count
// as its users: whoever creates a block, whoever calls share, and whoever got true from hold. When the
// last of them has called release, the memory of a whole block is used again. A user may keep its
// memory for ever by not calling release: then it is left to the garbage collector.
type sharedBlock struct {
	data    []byte
	buffers *buffers // that data came from; nil: it is not used again
	users   atomic.Int32
}

// newBlock returns a block with one user, the caller. from is where data came from, nil for memory
// that is not to be used again.
func newBlock(data []byte, from *buffers) *sharedBlock {
	b := &sharedBlock{data: data, buffers: from}
	b.users.Store(1)
	return b
}

// trim returns a block with the same bytes that takes no more memory than they need. The caller must
// be the only user of b, which it must no longer use, and is then the only user of the result.
func (b *sharedBlock) trim() *sharedBlock {
	if len(b.data) == cap(b.data) {
		return b
	}
	defer b.release()
	return newBlock(slices.Clip(slices.Clone(b.data)), nil)
}

// share adds a user, on behalf of one that there is.
func (b *sharedBlock) share() { b.users.Add(1) }

// hold adds a user, unless the last one has left meanwhile: then the bytes are gone.
func (b *sharedBlock) hold() bool {
	for {
		switch n := b.users.Load(); {
		case n == 0:
			return false
		case b.users.CompareAndSwap(n, n+1):
			return true
		}
	}
}

// release removes a user.
func (b *sharedBlock) release() {
	if b.users.Add(-1) == 0 && b.buffers != nil {
		b.buffers.put(b.data)
	}
}
