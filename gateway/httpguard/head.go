package httpguard

import (
	"bytes"
	"io"
	"net/http"
	"time"

	"github.com/akidb/akigw/internal/s3err"
)

// substitute is what net/http gets in place of a refused head. A head that passes cannot have its
// target.
const (
	substituteTarget = "*"
	substitute       = "GET " + substituteTarget + " HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n"
)

// Refusal returns the error to answer r with if r stands for a refused head, nil if r passed.
func Refusal(r *http.Request) *s3err.Error {
	if r.RequestURI != substituteTarget {
		return nil
	}
	if c := connOf(r); c != nil {
		return c.refusal.Load()
	}
	return nil
}

// readHead reads until there is a complete head, and decides about it. It returns earlier if more
// has to be read. p is scratch memory.
func (c *conn) readHead(p []byte) error {
	end := headEnd(c.in.held())
	if end < 0 && len(c.in.held()) < c.limits.HeadBytes {
		if err := c.in.read(c.Conn, p); err != nil {
			return err
		}
		end = headEnd(c.in.held())
	}
	head := c.in.held()
	switch {
	case end > c.limits.HeadBytes || end < 0 && len(head) >= c.limits.HeadBytes:
		c.refuse(tooLarge(c.limits.HeadBytes))
	case end < 0 && malformedSoFar(head) != nil: // it may never end
		c.refuse(malformedSoFar(head))
	case end < 0:
		if c.headBy.IsZero() {
			c.headBy = time.Now().Add(c.limits.HeadTime)
			c.deadline.setOwn(c.headBy)
		}
		return nil
	default:
		if body, refusal := inspect(head[:end]); refusal != nil {
			c.refuse(refusal)
		} else {
			c.passHead(end, len(head)-end, body)
		}
	}
	if !c.headBy.IsZero() {
		c.headBy = time.Time{}
		c.deadline.setOwn(time.Time{})
	}
	return nil
}

// passHead passes on a head of end bytes, and what was read of its body.
func (c *conn) passHead(end, ahead int, body int64) {
	c.pass, c.pace = end, pace{}
	if body > 0 {
		ahead = int(min(int64(ahead), body))
	}
	if body != 0 {
		c.pass += ahead
	}
	c.linger.answered.Store(false)
	c.body.Store(body)
	c.countBody(ahead)
}

// headEnd returns the length of a complete head, -1 if it is incomplete. A bare line feed ends a
// head for other servers, so it must not be able to hide a second head.
func headEnd(b []byte) int {
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		return i + 4
	}
	return -1
}

// refuse replaces everything that was read by the substitute.
func (c *conn) refuse(refusal *s3err.Error) {
	c.refused.Inc()
	c.refusal.Store(refusal)
	c.in.replace(substitute) // in the same buffer, which goes back to the pool
	c.pass, c.err = len(substitute), io.EOF
}
