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

// WithFastPath returns an http.Server.ConnContext with a fast path; nil means none. idle is how long
// a connection may be idle, the server's IdleTimeout.
func WithFastPath(answer FastPath, idle time.Duration) func(context.Context, net.Conn) context.Context {
	return func(ctx context.Context, c net.Conn) context.Context {
		if c, ok := c.(*conn); ok {
			c.fast = fastPath{answer: answer, idle: idle, remote: c.RemoteAddr().String()}
		}
		return ConnContext(ctx, c)
	}
}

// tryFast answers the request with this head on the fast path, if possible. After an error the
// connection cannot be used.
func (c *conn) tryFast(head []byte) (answered bool, err error) {
	if !c.fast.wants(head) {
		return false, nil
	}
	memory := fastMemories.Get().(*fastMemory)
	defer memory.free()
	r, err := memory.parse(head)
	if err != nil || !ordinary(r) {
		return false, nil
	}
	r.RemoteAddr = c.fast.remote
	if !c.closing.begin() {
		return false, io.EOF
	}
	w := &response{conn: c, memory: memory}
	answered, err = w.answer(c.fast.answer, r)
	if closed := c.closing.end(); closed || err != nil {
		return false, io.EOF
	}
	if answered { // the connection may be idle from now on, as after a response of net/http
		c.fast.misses = 0
		c.deadline.extend(c.fast.idle)
	}
	return answered, nil
}

// ordinary reports whether a request asks nothing of its connection except to stay open.
func ordinary(r *http.Request) bool {
	for _, v := range r.Header["Connection"] {
		if !strings.EqualFold(v, "keep-alive") {
			return false
		}
	}
	return !r.Close && r.ProtoAtLeast(1, 1) && len(r.Header["Expect"])+len(r.Header["Upgrade"]) == 0
}

// fastMemory is the memory for a response on the fast path, which the next one can reuse.
type fastMemory struct {
	bytes  bytes.Reader
	buffer *bufio.Reader
	header http.Header // of the response
	second int64       // Unix time of date
	date   []byte      // as in a header
}

var fastMemories = sync.Pool{New: func() any {
	m := &fastMemory{header: make(http.Header, 16)}
	m.buffer = bufio.NewReaderSize(&m.bytes, 4<<10)
	return m
}}

func (m *fastMemory) parse(head []byte) (*http.Request, error) {
	m.bytes.Reset(head)
	m.buffer.Reset(&m.bytes)
	r, err := http.ReadRequest(m.buffer)
	m.bytes.Reset(nil)
	return r, err
}

// now returns the time formatted for a header. It is formatted once a second.
func (m *fastMemory) now() []byte {
	if now := time.Now(); now.Unix() != m.second {
		m.second, m.date = now.Unix(), now.UTC().AppendFormat(m.date[:0], http.TimeFormat)
	}
	return m.date
}

func (m *fastMemory) free() {
	clear(m.header)
	fastMemories.Put(m)
}

// response is a response on the fast path as an http.ResponseWriter. What is written is held until
// Flush, and sent with one system call.
type response struct {
	conn   *conn
	memory *fastMemory
	wrote  bool // the header has been written
	err    error
	most   int64 // bytes that may be held; 0: no limit
}

// answer answers r on the fast path. After an error the response is incomplete.
func (w *response) answer(fast FastPath, r *http.Request) (answered bool, err error) {
	defer func() {
		if p := recover(); p != nil { // the handler has logged it
			w.conn.out.drop()
			err = http.ErrAbortHandler
		}
	}()
	if !fast(w, r) {
		return false, nil
	}
	w.Flush()
	return true, w.err
}

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header { return w.memory.header }

// HoldAtMost limits how many bytes are held.
func (w *response) HoldAtMost(n int64) { w.most = n }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	if w.wrote || status < http.StatusOK {
		return
	}
	w.wrote = true
	held := &w.conn.out
	b := append(held.memory(), "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(append(append(b, ' '), http.StatusText(status)...), "\r\nDate: "...)
	b = append(b, w.memory.now()...)
	b = append(b, "\r\n"...)
	for name, values := range w.memory.header {
		for _, v := range values {
			b = append(append(b, name...), ": "...)
			b = append(append(b, oneLine(v)...), "\r\n"...)
		}
	}
	b = append(b, "\r\n"...)
	held.copied = b
	held.lend(b)
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
	if len(p) > 0 {
		w.conn.out.lend(p)
	}
	if w.most > 0 && int64(w.conn.out.size) >= w.most {
		w.Flush()
	}
	return len(p), w.err
}

// Flush implements http.Flusher.
func (w *response) Flush() {
	if w.err == nil {
		w.err = w.conn.sendHeld()
	} else {
		w.conn.out.drop()
	}
}
