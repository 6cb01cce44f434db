package httpguard

import (
	"cmp"
	"errors"
	"net"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Strict returns a listener whose connections are strict.
func Strict(l net.Listener, limits Limits) net.Listener {
	return &strict{Listener: l, limits: limits, lingering: make(chan struct{}, maxLingering),
		refused: cmp.Or(limits.Metrics, metrics.NewSet()).GetOrCreateCounter("akigw_wire_refused_requests_total")}
}

type strict struct {
	net.Listener
	limits    Limits
	refused   *metrics.Counter
	lingering chan struct{} // the places of connections that linger
}

// Accept implements net.Listener.
func (s *strict) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newConn(c, s.limits, s.refused, s.lingering), nil
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.read(p)
	if c.linger.begun.Load() { // bytes in front of these may have been discarded
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *conn) read(p []byte) (int, error) {
	for len(p) > 0 {
		switch {
		case c.pass > 0:
			n := c.in.take(p, c.pass)
			c.pass -= n
			return n, nil
		case c.err != nil:
			return 0, c.err
		case c.body.Load() != 0:
			return c.readBody(p)
		}
		if err := c.readHead(p); err != nil {
			return 0, err
		}
		// A read with a short buffer is net/http's check of the connection while a handler runs.
		if c.pass == 0 || c.body.Load() != 0 || len(p) < minRead || c.refusal.Load() != nil {
			continue
		}
		answered, err := c.tryFast(c.in.held()[:c.pass])
		if err != nil {
			c.pass, c.err = 0, err
			return 0, err
		}
		if answered {
			c.in.drop(c.pass)
			c.pass = 0
		}
	}
	return 0, nil
}

// Write implements net.Conn. It fails if the client accepts a response too slowly.
func (c *conn) Write(p []byte) (int, error) {
	if c.out.holding {
		c.out.add(p)
		return len(p), nil
	}
	if err := c.renewWriteDeadline(len(p)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// SetReadDeadline implements net.Conn. An earlier deadline of the connection itself has precedence.
func (c *conn) SetReadDeadline(t time.Time) error { return c.deadline.set(t) }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.Conn.SetWriteDeadline(t))
}

// CloseWrite closes the sending direction. net/http calls it, and waits, before it closes a connection with
// more than 256 KiB of a body that nobody wants.
func (c *conn) CloseWrite() error {
	c.lingerOnce()
	return c.shutWrite()
}

// finishTimeout is how long a response on the fast path may continue once the connection is to be
// closed.
const finishTimeout = 10 * time.Second

// Close implements net.Conn.
func (c *conn) Close() error {
	if c.closing.close() {
		_ = c.Conn.SetWriteDeadline(time.Now().Add(finishTimeout)) // a broken connection ends by itself
		return nil                                                 // the next read fails, and net/http closes it again
	}
	c.lingerOnce()
	return c.Conn.Close()
}
