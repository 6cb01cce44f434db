package httpguard

import (
	"net"
	"sync"
	"time"
)

// copyLimit is the largest write that net/http makes from its own buffers; larger ones are the
// handler's slices.
const copyLimit = 4 << 10

// copies is the pool of memory for what net/http writes from its own buffers: the headers of a
// response and the beginning of its body.
var copies = sync.Pool{New: func() any { b := make([]byte, 0, 2*copyLimit); return &b }}

// heldWrites holds the writes of a connection that are to be sent together.
type heldWrites struct {
	holding  bool // writes of net/http are held
	buffers  net.Buffers
	size     int       // total size of buffers
	copied   []byte    // the memory of those buffers that had to be copied
	deadline time.Time // of writes, held or not
}

// add holds p. A p of more than copyLimit bytes must not change until it has been sent.
func (h *heldWrites) add(p []byte) {
	if len(p) == 0 {
		return
	}
	if len(p) > copyLimit {
		h.lend(p)
		return
	}
	b := h.memory()
	at := len(b)
	h.copied = append(b, p...) // if this moves, earlier buffers keep the old memory
	h.lend(h.copied[at:])
}

// lend holds p, which must not change until it has been sent.
func (h *heldWrites) lend(p []byte) {
	h.buffers = append(h.buffers, p)
	h.size += len(p)
}

// memory returns the memory for copies.
func (h *heldWrites) memory() []byte {
	if h.copied == nil {
		h.copied = *copies.Get().(*[]byte)
	}
	return h.copied
}

// drop discards what is held.
func (h *heldWrites) drop() {
	clear(h.buffers)
	h.buffers, h.size = h.buffers[:0], 0
	if h.copied != nil {
		b := h.copied[:0]
		copies.Put(&b)
		h.copied = nil
	}
}
