// Package httpguard stands between the network and net/http. It reads the head of every request
// before net/http does, and refuses what that library accepts, joins or hides: two lengths at once,
// bare line feeds, folded lines, invalid hosts, targets for another host than the Host header's. It
// bounds the number of connections, in all and by address, and closes connections that transfer too
// slowly. It also has the fast path, which answers a request without net/http.
//
// It does not interpret requests: net/http parses a head that passes, byte for byte. A refused head
// never gets there. net/http gets a substitute instead, whose context has the Refusal to answer
// with.
package httpguard

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/internal/s3err"
)

// Limits bound the connections of a listener.
type Limits struct {
	// HeadBytes is the longest request line with headers, in bytes, and HeadTime the longest time
	// from its first byte to its last.
	HeadBytes int
	HeadTime  time.Duration
	// Rate is how many bytes per second a client must at least send of a body, or accept of a
	// response, over any Window of waiting for it. 0 means no limit.
	Rate   int64
	Window time.Duration
	// Metrics counts refused requests; nil keeps the metric private.
	Metrics *metrics.Set
}

// Strict makes the connections of a listener strict ones.
func Strict(l net.Listener, limits Limits) net.Listener {
	return &strict{l, limits, cmp.Or(limits.Metrics, metrics.NewSet()).GetOrCreateCounter("akigw_wire_refused_requests_total")}
}

type strict struct {
	net.Listener
	limits  Limits
	refused *metrics.Counter
}

// Accept implements net.Listener.
func (s *strict) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newConn(c, s.limits, s.refused), nil
}

// conn is a strict connection. One goroutine at a time may read, and one may write; deadlines may be
// set and Close may be called at any time, as net/http does.
type conn struct {
	net.Conn
	limits  Limits
	refused *metrics.Counter
	refusal atomic.Pointer[s3err.Error] // set before the substitute is passed on

	in   readAhead // what was read and not passed on
	pass int       // how many bytes of it may be passed on
	body int64     // bytes of the current body still to be read; -1: all that follow
	err  error     // sticky error of reads

	chunked bool      // the current body is chunked; it is the last one
	headBy  time.Time // when the current head has to be complete, zero if none has begun
	pace    pace      // of the current body

	deadline readDeadline
	out      heldWrites
	fast     fastPath
	closing  closing
}

func newConn(c net.Conn, limits Limits, refused *metrics.Counter) *conn {
	return &conn{Conn: c, limits: limits, refused: refused, deadline: readDeadline{conn: c}}
}

type connKey struct{}

// ConnContext is for http.Server.ConnContext: Refusal, Hold and Release need it.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if c, ok := c.(*conn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// connOf returns the connection of a request, nil if it is not a strict one.
func connOf(r *http.Request) *conn {
	c, _ := r.Context().Value(connKey{}).(*conn)
	return c
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	for len(p) > 0 {
		switch {
		case c.pass > 0:
			n := c.in.take(p, c.pass)
			c.pass -= n
			return n, nil
		case c.err != nil:
			return 0, c.err
		case c.body != 0:
			return c.readBody(p)
		}
		if err := c.readHead(p); err != nil {
			return 0, err
		}
		// A read with a short buffer is net/http's look at the connection while a handler runs.
		if c.pass == 0 || c.body != 0 || len(p) < minRead || c.refusal.Load() != nil {
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

// SetReadDeadline implements net.Conn. An earlier deadline of the connection's own has precedence.
func (c *conn) SetReadDeadline(t time.Time) error { return c.deadline.set(t) }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.Conn.SetWriteDeadline(t))
}

// CloseWrite closes the sending direction, if the connection can do that.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

const (
	// lingerBytes and lingerTime bound what is read behind the last request that was inspected, so
	// that its client gets the response before the connection is reset.
	lingerBytes = 256 << 10
	lingerTime  = time.Second
	// finishTimeout is how long a response on the fast path may still take when the connection is to
	// be closed.
	finishTimeout = 10 * time.Second
)

// Close implements net.Conn.
func (c *conn) Close() error {
	if c.closing.close() {
		_ = c.Conn.SetWriteDeadline(time.Now().Add(finishTimeout)) // a broken connection ends by itself
		return nil                                                 // the next read fails, and net/http closes it again
	}
	if (c.refusal.Load() != nil || c.chunked) && c.CloseWrite() == nil && c.Conn.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes) // best effort: the response has been sent
	}
	return c.Conn.Close()
}

// closing postpones the closing of a connection while the fast path answers on it.
type closing struct {
	mu        sync.Mutex
	answering bool // guarded by mu
	closed    bool // guarded by mu
}

// begin says that the fast path answers: until end, close is postponed. It returns false if the
// connection is closed.
func (s *closing) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answering = !s.closed
	return s.answering
}

// end says that the response was sent, and reports whether the connection is to be closed.
func (s *closing) end() (closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answering = false
	return s.closed
}

// close marks the connection as closed, and reports whether that is postponed.
func (s *closing) close() (postponed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.answering
}
