package cold

import (
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

// Close implements net.Conn.
func (c *conn) Close() error {
	c.markDrained()
	return c.Conn.Close()
}

func (c *conn) markDrained() { c.once.Do(func() { close(c.drained) }) }
