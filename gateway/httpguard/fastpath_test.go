package httpguard

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// quickRig is a server behind a pipe that answers paths that begin with /quick quickly.
type quickRig struct {
	client net.Conn
	reader *bufio.Reader
	server *http.Server
	quick  atomic.Int64 // requests that were answered quickly
	served sync.WaitGroup
}

// newQuickRig starts one. In a path, "wait" waits for a second, "cut" breaks off.
func newQuickRig(idle time.Duration) *quickRig {
	client, server := net.Pipe()
	l := testkit.ListenerOf(server)
	r := &quickRig{client: client, reader: bufio.NewReader(client)}
	answer := func(w http.ResponseWriter, q *http.Request, by string) {
		body := by + " " + q.URL.Path
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.Header().Set("X-Odd", "a\r\nb")
		if strings.Contains(q.URL.Path, "cut") {
			io.WriteString(w, body[:3])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, body[:3])
		if strings.Contains(q.URL.Path, "wait") {
			w.(http.Flusher).Flush()
			time.Sleep(time.Second)
		}
		io.WriteString(w, body[3:])
	}
	r.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, IdleTimeout: idle,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { answer(w, q, "slow") }),
		ConnContext: WithFastPath(func(w http.ResponseWriter, q *http.Request) bool {
			if !strings.HasPrefix(q.URL.Path, "/quick") {
				return false
			}
			r.quick.Add(1)
			answer(w, q, "quick")
			return true
		}, idle)}
	r.served.Go(func() { _ = r.server.Serve(Strict(l, limits)) })
	r.send("/quick/first") // is net/http's
	if got, err := r.next(); got != "slow /quick/first" || err != nil {
		panic(fmt.Sprint(got, err))
	}
	synctest.Wait()
	return r
}

func (r *quickRig) close() {
	r.server.Close()
	r.client.Close()
	r.served.Wait()
}

func (r *quickRig) send(paths ...string) {
	raw := ""
	for _, path := range paths {
		raw += "GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n"
	}
	go io.WriteString(r.client, raw)
}

// next reads an answer.
func (r *quickRig) next() (string, error) {
	resp, err := http.ReadResponse(r.reader, nil)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(resp.Body)
	if resp.Header.Get("Date") == "" || resp.Header.Get("X-Odd") != "a  b" && resp.Header.Get("X-Odd") != "a b" {
		return "", fmt.Errorf("headers %v", resp.Header)
	}
	return string(body), err
}

func (r *quickRig) want(t *testing.T, want string) {
	t.Helper()
	if got, err := r.next(); got != want || err != nil {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

// Answers come in the order of the requests, whoever gives them and however they come:
// also if the next request is there while a handler runs.
func TestQuickInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newQuickRig(time.Minute)
		defer r.close()
		r.send("/quick/1", "/quick/2", "/slow/3", "/quick/4", "/slow/wait", "/quick/5", "/quick/wait", "/slow/6", "/slow/7", "/quick/8")
		for _, want := range []string{"quick /quick/1", "quick /quick/2", "slow /slow/3"} {
			r.want(t, want)
		}
		for _, path := range []string{"/quick/4", "/slow/wait", "/quick/5", "/quick/wait", "/slow/6", "/slow/7", "/quick/8"} {
			got, err := r.next()
			if _, by, _ := strings.Cut(got, " "); by != path || err != nil {
				t.Errorf("%q, %v; want %s", got, err, path)
			}
		}
		r.send("/slow/wait")
		synctest.Wait()
		r.send("/quick/9") // net/http looks at the connection behind the handler
		r.want(t, "slow /slow/wait")
		if got, err := r.next(); !strings.HasSuffix(got, "/quick/9") || err != nil {
			t.Errorf("%q %v", got, err)
		}
		if r.quick.Load() < 2 {
			t.Error("nothing was answered quickly")
		}
	})
}

// A connection that is answered quickly may stay as long as one that is not: it is idle
// from its last answer on.
func TestQuickAndIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newQuickRig(time.Minute)
		defer r.close()
		for range 20 {
			r.send("/quick/k")
			r.want(t, "quick /quick/k")
			time.Sleep(50 * time.Second)
		}
		r.send("/slow/k")
		r.want(t, "slow /slow/k")
		synctest.Wait() // net/http has ended its look at the connection
		r.send("/quick/k")
		r.want(t, "quick /quick/k")
		started := time.Now()
		if _, err := r.next(); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) || time.Since(started) < 40*time.Second || time.Since(started) > time.Minute {
			t.Errorf("after %s idle: %v", time.Since(started), err)
		}
	})
}

// An answer that breaks off ends the connection, without another word.
func TestQuickIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newQuickRig(time.Minute)
		defer r.close()
		r.send("/quick/cut", "/slow/1")
		if got, err := r.next(); got != "qui" || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q %v", got, err)
		}
		if rest, _ := io.ReadAll(r.reader); len(rest) > 0 {
			t.Errorf("%q behind it", rest)
		}
	})
}

// A shutdown lets an answer come to its end; and a client that does not take it does not
// hold the connection for good.
func TestQuickAndShutdown(t *testing.T) {
	for _, taken := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r := newQuickRig(time.Minute)
			defer r.close()
			r.send("/quick/wait")
			time.Sleep(time.Millisecond)
			if taken {
				go func() {
					time.Sleep(100 * time.Millisecond)
					r.server.Shutdown(t.Context())
				}()
				r.want(t, "quick /quick/wait")
			} else {
				go r.server.Shutdown(t.Context())
			}
			started := time.Now()
			time.Sleep(time.Millisecond)
			r.served.Wait()
			for r.busy() {
				if time.Sleep(time.Second); time.Since(started) > 2*finishTimeout {
					t.Fatal("the connection is still there")
				}
			}
		})
	}
}

// busy reports whether the server's end of the pipe is open.
func (r *quickRig) busy() bool {
	r.client.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := r.client.Read(make([]byte, 0, 1))
	_, werr := r.client.Write(nil)
	return !errors.Is(err, io.EOF) && !errors.Is(werr, io.ErrClosedPipe)
}

// Requests that are not answered quickly over and over are not offered each time.
func TestLucklessConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		offered := 0
		c := newConn(server, limits, nil, nil)
		c.fast = fastPath{used: true, answer: func(http.ResponseWriter, *http.Request) bool {
			offered++
			return false
		}}
		for range 160 {
			if answered, err := c.tryFast([]byte("GET /k HTTP/1.1\r\nHost: h\r\n\r\n")); answered || err != nil {
				t.Fatal(answered, err)
			}
		}
		if offered < 10 || offered > 20 {
			t.Errorf("%d of 160 were offered", offered)
		}
		for _, head := range []string{"PUT /k HTTP/1.1", "GET /k HTTP/1.0", "GET /k HTTP/1.1\r\nConnection: close", "GET /k HTTP/1.1\r\nExpect: 100-continue", "GET /k HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c"} {
			c.fast.misses, offered = 0, 0
			if answered, err := c.tryFast([]byte(head + "\r\nHost: h\r\n\r\n")); answered || err != nil || offered > 0 {
				t.Errorf("%q was offered", head)
			}
		}
		server.Close()
	})
}

// BenchmarkOffer is a quick answer without the gateway: the head parsed, an answer of
// ten headers and 4 KiB sent.
func BenchmarkOffer(b *testing.B) {
	head := []byte("GET /bucket/some/key HTTP/1.1\r\nHost: 127.0.0.1:9000\r\nUser-Agent: Go-http-client/1.1\r\nAuthorization: AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=x\r\nX-Amz-Content-Sha256: UNSIGNED-PAYLOAD\r\nX-Amz-Date: 20260101T000000Z\r\n\r\n")
	values, body := []string{"value"}, make([]byte, 4<<10)
	c := newConn(discard{}, Limits{}, nil, nil)
	c.fast = fastPath{used: true, answer: func(w http.ResponseWriter, _ *http.Request) bool {
		for _, name := range [...]string{"A", "B", "C", "D", "E", "F", "G", "H", "I", "J"} {
			w.Header()[name] = values
		}
		_, err := w.Write(body)
		return err == nil
	}}
	b.ReportAllocs()
	for b.Loop() {
		if answered, err := c.tryFast(head); !answered || err != nil {
			b.Fatal(answered, err)
		}
	}
}

// discard is a connection that takes everything.
type discard struct{ net.Conn }

func (discard) Write(p []byte) (int, error)      { return len(p), nil }
func (discard) SetReadDeadline(time.Time) error  { return nil }
func (discard) SetWriteDeadline(time.Time) error { return nil }
