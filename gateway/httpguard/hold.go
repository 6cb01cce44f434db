package httpguard

import (
	"net/http"
)

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
