package httpguard

import (
	"net/http"
)

// Hold makes later writes to r's connection wait for Release, so that headers and body are sent
// with one system call. Slices of more than 4 KiB are not copied: they must not change until
// Release. It returns false if the connection cannot hold; then writes are sent at once, and
// Release does nothing. It is for the goroutine of the handler.
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
		to = counted.Conn // which sends all of them with one system call
	}
	_, err := all.WriteTo(to)
	return err
}
