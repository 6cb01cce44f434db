package httpguard

import (
	"net/http"
	"sync"
)

// ownBuffer is the largest write that net/http makes from a buffer of its own;
// larger ones are the handler's slices.
const ownBuffer = 4 << 10

// copies is memory for what net/http writes from its own buffers: the headers
// of an answer and the beginning of its body.
var copies = sync.Pool{New: func() any { b := make([]byte, 0, 2*ownBuffer); return &b }}

// Hold has what is written to r's connection from now on wait for Release, so
// that headers and body go out by one system call. Slices of more than 4 KiB
// are not copied: until then they must not change. It reports whether it can:
// if not, writes go out as ever, and Release does nothing.
func Hold(r *http.Request) bool {
	c, ok := r.Context().Value(connKey{}).(*conn)
	if ok {
		c.holding = true
	}
	return ok
}

// Release sends what Hold kept. It is for the goroutine of the handler.
func Release(r *http.Request) error {
	c, ok := r.Context().Value(connKey{}).(*conn)
	if !ok || !c.holding {
		return nil
	}
	c.holding = false
	return c.release()
}

// release sends what is held.
func (c *conn) release() error {
	if c.waiting == 0 {
		return nil
	}
	all := c.pending
	defer c.drop()
	if err := c.renewDeadline(c.waiting); err != nil {
		return err
	}
	to := c.Conn
	if counted, ok := to.(*counted); ok {
		to = counted.Conn // which takes them all at once
	}
	_, err := all.WriteTo(to)
	return err
}

// drop forgets what is held.
func (c *conn) drop() {
	clear(c.pending)
	c.pending, c.waiting = c.pending[:0], 0
	if c.copied != nil {
		b := c.copied[:0]
		copies.Put(&b)
		c.copied = nil
	}
}

func (c *conn) hold(p []byte) {
	if len(p) == 0 {
		return
	}
	c.waiting += len(p)
	if len(p) > ownBuffer {
		c.pending = append(c.pending, p)
		return
	}
	if c.copied == nil {
		c.copied = *copies.Get().(*[]byte)
	}
	at := len(c.copied)
	c.copied = append(c.copied, p...) // if this moves, what is pending keeps the old bytes
	c.pending = append(c.pending, c.copied[at:])
}
