package httpguard

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// A request may be refused before its body was read: for its signature, its length, or a field of a form.
// The kernel answers with a reset when a connection is closed that has unread bytes, or that gets some
// later, and a reset destroys what the client has not read yet of the response. A client that sends its
// whole request before it reads, as many simple ones do, would never learn why it was refused. So such a
// connection is closed for writing first, and then read for a while (RFC 9112 §9.6).
//
// net/http does not do that: it reads up to 256 KiB before it responds, or, if the client wants no
// further request, nothing. Then it closes, at most half a second later.
//
// An attacker gains nothing from this. A lingering connection holds no memory but a small buffer, and no
// place in any queue. It counts for Caps as before. Its time is fixed and nothing that the client sends renews
// it; it is shorter than the time for a head, and than that of an idle connection. The bytes are the
// client's own, and they are not parsed. Connections beyond maxLingering are closed at once.
const (
	// lingerBytes is how much is read: more than the largest form that is held in memory, and than the parts
	// of uploads that SDKs make.
	lingerBytes = 32 << 20
	// lingerTime is how long a connection is read at most.
	lingerTime = 5 * time.Second
	// maxLingering is how many connections of a listener are read at a time.
	maxLingering = 128
)

// lingering is the last phase of a connection.
type lingering struct {
	places   chan struct{} // of the listener, one for each connection that lingers; nil: none does
	answered atomic.Bool   // the handler of the last request has returned
	begun    atomic.Bool   // what is read from now on belongs to nobody
}

// Answered tells the connection of r that the handler of r is done. If the body of r has not been read to its
// end when the connection is closed, the client gets a bounded time to read the response. It is for
// the goroutine of the handler.
func Answered(r *http.Request) {
	if c := connOf(r); c != nil {
		c.linger.answered.Store(true)
	}
}

// lingerOnce closes the sending direction and reads what the client still sends, if it may not have read
// the response yet.
func (c *conn) lingerOnce() {
	l := &c.linger
	if !l.answered.Load() || c.refusal.Load() == nil && c.body.Load() == 0 || l.begun.Swap(true) {
		return
	}
	if c.shutWrite() != nil || c.Conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return // the connection is broken
	}
	select {
	case l.places <- struct{}{}:
		_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes) // best effort: the response has been sent
		<-l.places
	default:
	}
}

// shutWrite closes the sending direction, if the connection can do that.
func (c *conn) shutWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
