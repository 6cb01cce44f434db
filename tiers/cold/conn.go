package cold

import (
	"io"
	"net"
	"sync"
	"time"
)

// conn is a connection to an upstream that may respond and close before it has read a body. net/http
// drops a response that has arrived when writing the body fails, so a failing Write is delayed until
// there is nothing left to read.
type conn struct {
	net.Conn
	drained chan struct{} // closed when nothing more will be read
	once    sync.Once
}

func newConn(c net.Conn) *conn { return &conn{Conn: c, drained: make(chan struct{})} }

// drainTimeout is how long a failed Write waits for the response to be read.
const drainTimeout = time.Second

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.markDrained()
	}
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		select {
		case <-c.drained:
		case <-time.After(drainTimeout):
		}
	}
	return n, err
}

// copyBytes is the size of the pieces in which a request body is sent. net/http's own have 32 KiB,
// which costs four times the system calls.
const copyBytes = 128 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copyBytes]byte) }}

// ReadFrom implements io.ReaderFrom, for large request bodies over plain HTTP.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	buffer := copyBuffers.Get().(*[copyBytes]byte)
	defer copyBuffers.Put(buffer)
	return io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{r}, buffer[:])
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.markDrained()
	return c.Conn.Close()
}

func (c *conn) markDrained() { c.once.Do(func() { close(c.drained) }) }
