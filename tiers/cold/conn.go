package cold

import (
	"net"
	"sync"
	"time"
)

// conn is a connection to an upstream that may answer and close before it has
// read a body. net/http drops the answer that has arrived when it fails to
// write, so a failing Write is held until there is nothing left to read.
type conn struct {
	net.Conn
	mute chan struct{} // closed when nothing more will be read
	once sync.Once
}

func newConn(c net.Conn) *conn { return &conn{Conn: c, mute: make(chan struct{})} }

// lastWords is how long a failed Write waits for the answer to be read.
const lastWords = time.Second

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.silence()
	}
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		select {
		case <-c.mute:
		case <-time.After(lastWords):
		}
	}
	return n, err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.silence()
	return c.Conn.Close()
}

func (c *conn) silence() { c.once.Do(func() { close(c.mute) }) }
