package httpguard

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// copyLimit is the largest write that net/http makes from a buffer of its own; larger ones are the
// handler's slices.
const copyLimit = 4 << 10

// copies is the pool of memory for what net/http writes from its own buffers: the headers of a
// response and the beginning of its body.
var copies = sync.Pool{New: func() any { b := make([]byte, 0, 2*copyLimit); return &b }}

// Hold has what is written to r's connection from now on wait for Release, so that headers and body
// go out by one system call. Slices of more than 4 KiB are not copied: until Release they must not
// change. It returns false if the connection cannot hold; then writes go out at once, and Release
// does nothing. It is for the goroutine of the handler.
func Hold(r *http.Request) bool {
	c := connOf(r)
	if c != nil {
		c.out.holding = true
	}
	return c != nil
}

// Release sends what Hold kept. It is for the goroutine of the handler.
func Release(r *http.Request) error {
	c := connOf(r)
	if c == nil || !c.out.holding {
		return nil
	}
	c.out.holding = false
	return c.sendHeld()
}

// sendHeld sends what is held.
func (c *conn) sendHeld() error {
	if c.out.size == 0 {
		return nil
	}
	all := c.out.buffers // WriteTo consumes its receiver
	defer c.out.drop()
	if err := c.renewWriteDeadline(c.out.size); err != nil {
		return err
	}
	to := c.Conn
	if counted, ok := to.(*countedConn); ok {
		to = counted.Conn // which sends all of them by one system call
	}
	_, err := all.WriteTo(to)
	return err
}

// heldWrites are the writes of a connection that wait to be sent together.
type heldWrites struct {
	holding  bool // writes of net/http are held
	buffers  net.Buffers
	size     int       // bytes of buffers
	copied   []byte    // the memory of those buffers that had to be copied
	deadline time.Time // of writes, held or not
}

// add holds p. A p of more than copyLimit bytes must not change until it was sent.
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

// lend holds p, which must not change until it was sent.
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

// drop forgets what is held.
func (h *heldWrites) drop() {
	clear(h.buffers)
	h.buffers, h.size = h.buffers[:0], 0
	if h.copied != nil {
		b := h.copied[:0]
		copies.Put(&b)
		h.copied = nil
	}
}
