package httpguard

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Quick answers a request that has no body, and is not the first of its connection, by
// writing to w, or returns false and has done nothing: then it is net/http's. What is written is not copied, and must not
// change until Flush or the return of Quick. A panic ends the connection.
//
// It is for what needs no more of a server than to read a head and to write an answer:
// net/http's reading of the connection behind a handler's back, its timers and its
// buffers cost more than such an answer does.
type Quick func(w http.ResponseWriter, r *http.Request) bool

// Quickly makes the ConnContext of an http.Server whose idle connections end after idle.
func Quickly(quick Quick, idle time.Duration) func(context.Context, net.Conn) context.Context {
	return func(ctx context.Context, c net.Conn) context.Context {
		if c, ok := c.(*conn); ok {
			c.quick, c.idle, c.remote = quick, idle, c.RemoteAddr().String()
		}
		return ConnContext(ctx, c)
	}
}

// After luckless requests in a row that were not answered quickly, only one of
// so many is offered: each costs its head to be read twice.
const (
	luckless = 4
	offerOne = 16
)

// offer has the request whose head was read answered quickly, if it can be. The error
// says that the connection is over.
func (c *conn) offer(head []byte) (answered bool, err error) {
	if !c.known { // net/http closes a new connection at a shutdown only after five seconds
		c.known = true
		return false, nil
	}
	if c.quick == nil || !bytes.HasPrefix(head, []byte("GET ")) {
		return false, nil
	}
	if c.unlucky++; c.unlucky > luckless && c.unlucky%offerOne != 0 {
		return false, nil
	}
	kit := kits.Get().(*kit)
	defer kit.giveBack()
	r, err := kit.parse(head)
	if err != nil || !ordinary(r) {
		return false, nil
	}
	r.RemoteAddr = c.remote
	if !c.begin() {
		return false, io.EOF
	}
	w := &response{conn: c, kit: kit}
	answered, err = w.answer(c.quick, r)
	if closing := c.end(answered); closing || err != nil {
		return false, io.EOF
	}
	return answered, nil
}

// ordinary reports whether a request asks nothing of the connection but to stay.
func ordinary(r *http.Request) bool {
	for _, v := range r.Header["Connection"] {
		if !strings.EqualFold(v, "keep-alive") {
			return false
		}
	}
	return !r.Close && r.ProtoAtLeast(1, 1) && len(r.Header["Expect"])+len(r.Header["Upgrade"]) == 0
}

// begin says that an answer is under way: until end, Close waits for it. It returns false
// if the connection is closed.
func (c *conn) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.answering = true
	return true
}

// end ends an answer, and reports whether the connection is to be closed. One that was
// answered may be idle from then on, as net/http would have it.
func (c *conn) end(answered bool) (closing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answering = false
	if !answered {
		return c.closed
	}
	c.unlucky = 0
	if now := time.Now(); c.asked.Sub(now) < c.idle*3/4 && !c.closed {
		c.asked = now.Add(c.idle)
		_ = c.applyDeadline() // a closed connection says so to the next read
	}
	return c.closed
}

// finishing is how long an answer may take that is under way when the connection is to
// be closed.
const finishing = 10 * time.Second

// postponed reports whether the connection is closed by its answer that is under way.
func (c *conn) postponed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.answering {
		_ = c.Conn.SetWriteDeadline(time.Now().Add(finishing)) // a broken connection ends by itself
	}
	return c.answering
}

// kit is what an answer needs and the next one can use again: of the connection's goroutine
// while offer runs.
type kit struct {
	bytes  bytes.Reader
	buffer *bufio.Reader
	header http.Header // of the response
	second int64       // that date is of
	date   []byte      // as a header has it
}

var kits = sync.Pool{New: func() any {
	k := &kit{header: make(http.Header, 16)}
	k.buffer = bufio.NewReaderSize(&k.bytes, 4<<10)
	return k
}}

func (k *kit) parse(head []byte) (*http.Request, error) {
	k.bytes.Reset(head)
	k.buffer.Reset(&k.bytes)
	r, err := http.ReadRequest(k.buffer)
	k.bytes.Reset(nil)
	return r, err
}

// now is the time as a header has it, made once a second.
func (k *kit) now() []byte {
	if now := time.Now(); now.Unix() != k.second {
		k.second, k.date = now.Unix(), now.UTC().AppendFormat(k.date[:0], http.TimeFormat)
	}
	return k.date
}

func (k *kit) giveBack() {
	clear(k.header)
	kits.Put(k)
}

// response is an answer as an http.ResponseWriter. What is written is held until Flush,
// and goes out by one system call.
type response struct {
	conn  *conn
	kit   *kit
	wrote bool // the header
	err   error
	most  int64 // bytes that may be held; 0: as many as come
}

// answer has quick answer r. The error says that the answer is not whole.
func (w *response) answer(quick Quick, r *http.Request) (answered bool, err error) {
	defer func() {
		if p := recover(); p != nil { // the handler has said why
			w.conn.drop()
			err = http.ErrAbortHandler
		}
	}()
	if !quick(w, r) {
		return false, nil
	}
	w.Flush()
	return true, w.err
}

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header { return w.kit.header }

// HoldAtMost bounds what is held, in bytes.
func (w *response) HoldAtMost(n int64) { w.most = n }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	if w.wrote || status < http.StatusOK {
		return
	}
	w.wrote = true
	c := w.conn
	if c.copied == nil {
		c.copied = *copies.Get().(*[]byte)
	}
	b := append(c.copied, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(append(append(b, ' '), http.StatusText(status)...), "\r\nDate: "...)
	b = append(b, w.kit.now()...)
	b = append(b, "\r\n"...)
	for name, values := range w.kit.header {
		for _, v := range values {
			b = append(append(b, name...), ": "...)
			b = append(append(b, oneLine(v)...), "\r\n"...)
		}
	}
	b = append(b, "\r\n"...)
	c.copied = b
	c.pending = append(c.pending, b)
	c.waiting += len(b)
}

// oneLine keeps a value from ending its line.
func oneLine(v string) string {
	if strings.ContainsAny(v, "\r\n") {
		return strings.NewReplacer("\r", " ", "\n", " ").Replace(v)
	}
	return v
}

// Write implements http.ResponseWriter.
func (w *response) Write(p []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	c := w.conn
	if len(p) > 0 {
		c.pending = append(c.pending, p)
		c.waiting += len(p)
	}
	if w.most > 0 && int64(c.waiting) >= w.most {
		w.Flush()
	}
	return len(p), w.err
}

// Flush implements http.Flusher.
func (w *response) Flush() {
	if w.err == nil {
		w.err = w.conn.release()
	} else {
		w.conn.drop()
	}
}
