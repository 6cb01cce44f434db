// Package httpguard stands between the network and net/http. It reads the head of
// every request before net/http does, and refuses what that library accepts,
// joins or hides: both lengths at once, bare line feeds, folded lines, odd
// hosts, targets for another host than the Host header's. It counts connections, in all and by
// address, and ends those that stand still.
//
// It does not interpret requests: a head that it passes is net/http's to parse,
// byte for byte. A head that it refuses never gets there; in its place goes a
// request of its own, whose context has the Refusal that is to be answered.
package httpguard

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/internal/s3err"
)

// Limits bound connections. They are set for all of a listener's.
type Limits struct {
	// HeadBytes is the longest request line with headers, in bytes, and
	// HeadTime how long one may take from its first byte to its last.
	HeadBytes int
	HeadTime  time.Duration
	// Rate is the least number of bytes per second that a body has to bring,
	// and an answer has to be taken with, over any Window of waiting for the
	// client. 0 means no limit.
	Rate   int64
	Window time.Duration
}

var refusals = metrics.NewCounter("akigw_wire_refused_requests_total")

// substitute is what net/http gets in place of a refused head. Its target is one
// that no head which is passed can have.
const (
	substituteTarget = "*"
	substitute       = "GET " + substituteTarget + " HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n"
)

// conn is one connection. Read is for one goroutine at a time; SetReadDeadline
// may be called by another meanwhile, as net/http does.
type conn struct {
	net.Conn
	limits  Limits
	refusal atomic.Pointer[s3err.Error] // set before the substitute is passed

	buf  []byte // what was read ahead; nil while there is nothing
	at   int    // how much of buf has been passed on
	pass int    // how much of the rest may be
	body int64  // bytes of the present body that are to come; -1: all there is
	err  error  // sticky

	chunked bool // the present body is; it is the last one

	waited time.Duration // for the client, in the present window
	got    int64         // in the present window
	headBy time.Time     // when the present head has to be complete

	mu    sync.Mutex
	asked time.Time // deadline that net/http set; guarded by mu
	own   time.Time // deadline that is needed here; guarded by mu

	quick   Quick         // nil: all requests are net/http's
	idle    time.Duration // how long it may be idle
	remote  string        // address of the client
	known   bool          // net/http has had a request
	unlucky int           // requests in a row that were not answered quickly

	answering bool // a quick answer is under way; guarded by mu
	closed    bool // Close was called; guarded by mu

	writeBy time.Time // deadline of writes

	holding bool        // written bytes wait for Release
	pending net.Buffers // those
	waiting int         // how many they are
	copied  []byte      // those of them that had to be copied
}

type connKey struct{}

// ConnContext is for http.Server.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if c, ok := c.(*conn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// Refusal returns what r is to be answered with if it stands for a refused
// head, nil if it is a request that was passed.
func Refusal(r *http.Request) *s3err.Error {
	if r.RequestURI != substituteTarget {
		return nil
	}
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		return c.refusal.Load()
	}
	return nil
}

// headBuffer is the size in bytes of a new buffer for heads.
const headBuffer = 4 << 10

// heads is the pool of buffers for heads. None of them is smaller than headBuffer.
var heads = sync.Pool{New: func() any { b := make([]byte, 0, headBuffer); return &b }}

// scratch is the least buffer of the caller's that is worth reading a head into.
const scratch = 1 << 10

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	for len(p) > 0 {
		switch {
		case c.pass > 0:
			return c.give(p), nil
		case c.err != nil:
			return 0, c.err
		case c.body != 0:
			return c.readBody(p)
		}
		if err := c.readHead(p); err != nil {
			return 0, err
		}
		if c.pass > 0 && c.body == 0 && len(p) >= scratch && c.refusal.Load() == nil { // a shorter p is net/http's look at the connection while a handler runs
			answered, err := c.offer(c.held()[:c.pass])
			if err != nil {
				c.pass, c.err = 0, err
				return 0, err
			}
			if answered {
				c.at += c.pass
				c.pass = 0
				c.dropEmpty()
			}
		}
	}
	return 0, nil
}

// give passes held bytes on.
func (c *conn) give(p []byte) int {
	n := copy(p, c.held()[:c.pass])
	c.pass -= n
	c.at += n
	c.dropEmpty()
	return n
}

// held is what was read ahead and not passed on.
func (c *conn) held() []byte { return c.buf[c.at:] }

// dropEmpty gives the buffer back if nothing is held.
func (c *conn) dropEmpty() {
	if c.buf != nil && c.at == len(c.buf) {
		if b := c.buf[:0]; cap(b) >= headBuffer {
			heads.Put(&b)
		}
		c.buf, c.at = nil, 0
	}
}

// readHead reads until a whole head is held, and decides about it. The caller's
// buffer is where an idle connection waits, so that it needs none of its own.
func (c *conn) readHead(p []byte) error {
	end := headEnd(c.held())
	if end < 0 && len(c.held()) < c.limits.HeadBytes {
		if err := c.more(p); err != nil {
			return err
		}
		end = headEnd(c.held())
	}
	switch {
	case end > c.limits.HeadBytes || end < 0 && len(c.held()) >= c.limits.HeadBytes:
		c.refuse(tooLarge(c.limits.HeadBytes))
	case end < 0 && malformedSoFar(c.held()) != nil: // it may never end
		c.refuse(malformedSoFar(c.held()))
	case end < 0:
		if c.headBy.IsZero() {
			c.headBy = time.Now().Add(c.limits.HeadTime)
			c.setOwn(c.headBy)
		}
		return nil
	default:
		body, refusal := inspect(c.held()[:end])
		if refusal != nil {
			c.refuse(refusal)
			break
		}
		c.pass, c.body, c.chunked = end, body, body < 0
		c.waited, c.got = 0, 0
		if ahead := int64(len(c.held()) - end); body != 0 && ahead > 0 { // the body has begun
			if body > 0 {
				ahead = min(ahead, body)
				c.body -= ahead
			}
			c.pass += int(ahead)
		}
	}
	if !c.headBy.IsZero() {
		c.headBy = time.Time{}
		c.setOwn(time.Time{})
	}
	return nil
}

// more reads once.
func (c *conn) more(p []byte) error {
	if c.buf == nil && len(p) >= scratch {
		n, err := c.Conn.Read(p)
		if n > 0 {
			c.buf = append((*heads.Get().(*[]byte))[:0], p[:n]...)
			return nil
		}
		return err
	}
	switch {
	case c.buf == nil:
		c.buf = (*heads.Get().(*[]byte))[:0]
	case len(c.buf) == cap(c.buf):
		c.buf, c.at = append(make([]byte, 0, 2*cap(c.buf)), c.held()...), 0
	}
	n, err := c.Conn.Read(c.buf[len(c.buf):cap(c.buf)])
	c.buf = c.buf[:len(c.buf)+n]
	if n > 0 {
		return nil
	}
	if err == io.EOF && len(c.held()) > 0 {
		err = io.ErrUnexpectedEOF
	}
	c.dropEmpty()
	return err
}

// headEnd returns the length of a whole head, -1 if it is not whole. A bare
// line feed ends a head for others: it must not be able to hide a second one.
func headEnd(b []byte) int {
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		return i + 4
	}
	return -1
}

// refuse puts the substitute in the place of everything that came.
func (c *conn) refuse(refusal *s3err.Error) {
	refusals.Inc()
	c.refusal.Store(refusal)
	c.buf, c.at = append(c.buf[:0], substitute...), 0 // in the same buffer, which goes back to the pool
	c.pass, c.err = len(c.buf), io.EOF
}

// readBody reads from the network, and ends a body that comes too slowly.
func (c *conn) readBody(p []byte) (int, error) {
	if c.body > 0 {
		p = p[:min(int64(len(p)), c.body)]
	}
	if c.limits.Rate == 0 {
		n, err := c.Conn.Read(p)
		c.took(n)
		return n, err
	}
	began := time.Now()
	c.setOwn(began.Add(c.limits.Window - c.waited))
	n, err := c.Conn.Read(p)
	c.took(n)
	c.waited += time.Since(began)
	c.got += int64(n)
	if c.waited >= c.limits.Window {
		if c.got < c.limits.Rate*int64(c.limits.Window.Seconds()) {
			c.err = errTooSlow
			return n, c.err
		}
		c.waited, c.got = 0, 0
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) { // our deadline, and the window was well used
			return c.readBody(p)
		}
	}
	if c.body == 0 {
		c.setOwn(time.Time{})
	}
	return n, err
}

func (c *conn) took(n int) {
	if c.body > 0 {
		c.body -= int64(n)
	}
}

var errTooSlow = tooSlow{}

// tooSlow is a timeout in everybody's eyes.
type tooSlow struct{}

func (tooSlow) Error() string   { return "the client sends too slowly" }
func (tooSlow) Timeout() bool   { return true }
func (tooSlow) Temporary() bool { return false }
func (tooSlow) Unwrap() error   { return os.ErrDeadlineExceeded }

// SetReadDeadline implements net.Conn. The earlier of this and our own counts.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = t
	return c.applyDeadline()
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.Conn.SetWriteDeadline(t))
}

func (c *conn) setOwn(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.own = t
	_ = c.applyDeadline() // a closed connection says so to the next read
}

func (c *conn) applyDeadline() error { // needs mu
	t := c.asked
	if !c.own.IsZero() && (t.IsZero() || c.own.Before(t)) {
		t = c.own
	}
	return c.Conn.SetReadDeadline(t)
}

// Write implements net.Conn. It ends an answer that is taken too slowly.
func (c *conn) Write(p []byte) (int, error) {
	if c.holding {
		c.hold(p)
		return len(p), nil
	}
	if err := c.renewDeadline(len(p)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// renewDeadline gives the client time to take n bytes.
func (c *conn) renewDeadline(n int) error {
	if c.limits.Rate == 0 {
		return nil
	}
	now := time.Now()
	need := c.limits.Window + time.Duration(int64(n)*int64(time.Second)/c.limits.Rate)
	if c.writeBy.Sub(now) >= need { // renewed now and then, not each time
		return nil
	}
	c.writeBy = now.Add(2 * need)
	return c.Conn.SetWriteDeadline(c.writeBy)
}

// CloseWrite ends the sending direction, where the connection can.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

const (
	// lingerBytes and lingerTime bound what is read behind a request that was
	// the last to be looked at, so that its client sees the answer before the
	// connection is reset.
	lingerBytes = 256 << 10
	lingerTime  = time.Second
)

// Close implements net.Conn.
func (c *conn) Close() error {
	if c.postponed() {
		return nil // the next read ends, and net/http closes it once more
	}
	if (c.refusal.Load() != nil || c.chunked) && c.CloseWrite() == nil && c.Conn.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes) // best effort: the answer has been sent
	}
	return c.Conn.Close()
}
