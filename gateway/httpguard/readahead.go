package httpguard

import (
	"io"
	"net"
	"sync"
)

// headBuffer is the size in bytes of a new buffer for heads.
const headBuffer = 4 << 10

// heads is the pool of buffers for heads. Each has at least headBuffer bytes.
var heads = sync.Pool{New: func() any { b := make([]byte, 0, headBuffer); return &b }}

// minRead is the smallest buffer of a caller into which a head is read.
const minRead = 1 << 10

// readAhead holds bytes of a connection that were read but not passed on. It has no buffer while
// there are none.
type readAhead struct {
	buf []byte
	at  int // how much of buf has been passed on
}

// held returns the bytes, valid until the next call of another method.
func (b *readAhead) held() []byte { return b.buf[b.at:] }

// take moves up to n bytes to p.
func (b *readAhead) take(p []byte, n int) int {
	n = copy(p, b.held()[:n])
	b.drop(n)
	return n
}

// drop drops n bytes, and with the last of them the buffer.
func (b *readAhead) drop(n int) {
	b.at += n
	if b.buf == nil || b.at < len(b.buf) {
		return
	}
	if buf := b.buf[:0]; cap(buf) >= headBuffer {
		heads.Put(&buf)
	}
	b.buf, b.at = nil, 0
}

// replace replaces the bytes by text, in the same buffer.
func (b *readAhead) replace(text string) { b.buf, b.at = append(b.buf[:0], text...), 0 }

// read reads once from a connection. With a scratch of at least minRead bytes an idle connection
// needs no buffer of its own.
func (b *readAhead) read(c net.Conn, scratch []byte) error {
	if b.buf == nil && len(scratch) >= minRead {
		n, err := c.Read(scratch)
		if n > 0 {
			b.buf = append((*heads.Get().(*[]byte))[:0], scratch[:n]...)
			return nil
		}
		return err
	}
	switch {
	case b.buf == nil:
		b.buf = (*heads.Get().(*[]byte))[:0]
	case len(b.buf) == cap(b.buf):
		b.buf, b.at = append(make([]byte, 0, 2*cap(b.buf)), b.held()...), 0
	}
	n, err := c.Read(b.buf[len(b.buf):cap(b.buf)])
	b.buf = b.buf[:len(b.buf)+n]
	if n > 0 {
		return nil
	}
	if err == io.EOF && len(b.held()) > 0 {
		err = io.ErrUnexpectedEOF
	}
	b.drop(0)
	return err
}
