package httpguard

import (
	"errors"
	"os"
	"time"
)

// readBody reads from the network, and ends a body that is sent too slowly.
func (c *conn) readBody(p []byte) (int, error) {
	if left := c.body.Load(); left > 0 {
		p = p[:min(int64(len(p)), left)]
	}
	if c.limits.Rate == 0 {
		n, err := c.Conn.Read(p)
		c.countBody(n)
		return n, err
	}
	began := time.Now()
	c.deadline.setOwn(began.Add(c.limits.Window - c.pace.waited))
	n, err := c.Conn.Read(p)
	c.countBody(n)
	c.pace.waited += time.Since(began)
	c.pace.got += int64(n)
	if c.pace.waited >= c.limits.Window {
		if c.pace.got < c.limits.Rate*int64(c.limits.Window.Seconds()) {
			c.err = tooSlow{}
			return n, c.err
		}
		c.pace = pace{}
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) { // the window ended, and enough was sent in it
			return c.readBody(p)
		}
	}
	if c.body.Load() == 0 {
		c.deadline.setOwn(time.Time{})
	}
	return n, err
}

// countBody counts bytes of a body of known length.
func (c *conn) countBody(n int) {
	if c.body.Load() > 0 {
		c.body.Add(-int64(n))
	}
}

// tooSlow implements net.Error with Timeout() == true.
type tooSlow struct{}

func (tooSlow) Error() string   { return "the client sends too slowly" }
func (tooSlow) Timeout() bool   { return true }
func (tooSlow) Temporary() bool { return false }
func (tooSlow) Unwrap() error   { return os.ErrDeadlineExceeded }

// renewWriteDeadline extends the deadline so that the client has time to accept n bytes.
func (c *conn) renewWriteDeadline(n int) error {
	if c.limits.Rate == 0 {
		return nil
	}
	now := time.Now()
	need := c.limits.Window + time.Duration(int64(n)*int64(time.Second)/c.limits.Rate)
	if c.out.deadline.Sub(now) >= need { // it is not renewed for every write
		return nil
	}
	c.out.deadline = now.Add(2 * need)
	return c.Conn.SetWriteDeadline(c.out.deadline)
}
