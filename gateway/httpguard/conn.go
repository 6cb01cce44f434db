// Package httpguard stands between the network and net/http. It reads the head of every request
// before net/http does, and refuses what net/http accepts, merges or hides: two lengths, bare line
// feeds, folded lines, invalid hosts, a target for a host other than the Host header's. It limits
// the number of connections, in total and by address, and closes connections that transfer too
// slowly. It also has the fast path, which answers a request without net/http.
//
// It does not interpret requests: a head that passes is given to net/http byte for byte. A refused
// head never gets there. Instead net/http gets a substitute, whose context has the Refusal to
// answer with.
package httpguard

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/internal/s3err"
)

// Limits apply to the connections of a listener.
type Limits struct {
	// HeadBytes is the maximum size of the request line with headers, in bytes, and HeadTime the
	// maximum time from its first byte to its last.
	HeadBytes int
	HeadTime  time.Duration
	// Rate is the minimum number of bytes per second that a client must send of a body, or accept
	// of a response, over any Window in which the server waits for it. 0 means no limit.
	Rate   int64
	Window time.Duration
	// Metrics counts refused requests; nil keeps the metric private.
	Metrics *metrics.Set
}

// conn is a strict connection. One goroutine at a time may read, and one may write; deadlines may be
// set and Close may be called at any time, as net/http does.
type conn struct {
	net.Conn
	limits  Limits
	refused *metrics.Counter
	refusal atomic.Pointer[s3err.Error] // set before the substitute is passed on

	in   readAhead // bytes read but not passed on
	pass int       // how many bytes of it may be passed on
	err  error     // sticky error of reads

	// body is how many bytes of the current body are still to be read; -1: all following bytes, because it is
	// chunked, and so the last one. It is for the reader, except that Close looks at it.
	body   atomic.Int64
	headBy time.Time // deadline of the current head, zero if none has begun
	pace   pace      // of the current body

	deadline readDeadline
	out      heldWrites
	fast     fastPath
	closing  closing
	linger   lingering
}

func newConn(c net.Conn, limits Limits, refused *metrics.Counter, places chan struct{}) *conn {
	return &conn{Conn: c, limits: limits, refused: refused, deadline: readDeadline{conn: c}, linger: lingering{places: places}}
}

type connKey struct{}

// ConnContext is for http.Server.ConnContext. Refusal, Hold, Release and Answered need it.
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

// closing postpones the closing of a connection while the fast path answers on it.
type closing struct {
	mu        sync.Mutex
	answering bool // guarded by mu
	closed    bool // guarded by mu
}

// begin marks the beginning of a response on the fast path: until end, close is postponed. It
// returns false if the connection is closed.
func (s *closing) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answering = !s.closed
	return s.answering
}

// end marks the end of the response, and reports whether the connection must be closed.
func (s *closing) end() (closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answering = false
	return s.closed
}

// close marks the connection as closed, and reports whether closing is postponed.
func (s *closing) close() (postponed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.answering
}

// FastPath answers a GET request by writing to w, or returns false and has sent nothing: then
// net/http handles the request. It gets requests without a body that are not the first of their
// connection. What is written is not copied, and must not change until Flush or until FastPath
// returns. A panic closes the connection.
//
// It is for responses that only need the head to be read and the response to be written. For these,
// net/http's background read of the connection, its timers and its buffers cost more than the
// response itself.
type FastPath func(w http.ResponseWriter, r *http.Request) bool

// fastPath is the fast path of one connection.
type fastPath struct {
	answer FastPath // nil: none
	idle   time.Duration
	remote string // address of the client
	used   bool   // net/http has had a request
	misses int    // consecutive requests that were not answered
}

// After missLimit consecutive misses only one of missInterval requests is tried, because after a
// miss the head is parsed a second time.
const (
	missLimit    = 4
	missInterval = 16
)

// wants reports whether to try a request.
func (f *fastPath) wants(head []byte) bool {
	if !f.used { // at a shutdown net/http waits five seconds for a connection without any request
		f.used = true
		return false
	}
	if f.answer == nil || !bytes.HasPrefix(head, []byte("GET ")) {
		return false
	}
	f.misses++
	return f.misses <= missLimit || f.misses%missInterval == 0
}

// pace measures how fast the client sends a body in the current window.
type pace struct {
	waited time.Duration // time spent waiting for the client
	got    int64         // bytes received
}
