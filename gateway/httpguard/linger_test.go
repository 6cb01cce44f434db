package httpguard

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// TestRefusedWhileSending: a client that sends all of its request before it reads gets the answer to a request
// that is refused by its head, and not a reset.
func TestRefusedWhileSending(t *testing.T) {
	const size = 12 << 20 // more than any buffer in between
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer Answered(r)
		if len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		if r.URL.Path == "/begun" {
			_, _ = io.ReadFull(r.Body, make([]byte, 1<<20)) // so that the body was begun
		}
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "no")
	}))
	server.Config.ConnContext = ConnContext
	server.Listener = Strict(Capped(server.Listener, Caps{}), limits)
	server.Start()
	t.Cleanup(server.Close)
	body := strings.Repeat("x", size)
	for name, raw := range map[string]string{
		"kept open":         fmt.Sprintf("PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", size, body),
		"to be closed":      fmt.Sprintf("PUT /b/k HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", size, body),
		"begun":             fmt.Sprintf("PUT /begun HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", size, body),
		"without a go":      fmt.Sprintf("PUT /b/k HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n%s", size, body),
		"chunked":           fmt.Sprintf("PUT /b/k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", size, body),
		"version 1.0":       fmt.Sprintf("PUT /b/k HTTP/1.0\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", size, body),
		"a small one":       "PUT /b/k HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
		"more than it says": "PUT /b/k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + body,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, raw); err != nil {
				t.Fatalf("sending: %v", err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatalf("reading the answer: %v", err)
			}
			defer resp.Body.Close()
			if said, err := io.ReadAll(resp.Body); resp.StatusCode != http.StatusForbidden || string(said) != "no" || err != nil {
				t.Errorf("%d %q %v", resp.StatusCode, said, err)
			}
		})
	}
}

// TestLingering: a connection lingers only after an answer to a request whose body was not read, for a fixed
// time and number of bytes, and only while there is a place.
func TestLingering(t *testing.T) {
	const head = "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n"
	for _, c := range []struct {
		name   string
		raw    string
		answer bool
		places int
		taken  int           // places that others have
		chunk  int           // bytes that the client sends at a time
		every  time.Duration // and how often; 0: as fast as possible
		took   time.Duration
	}{
		{"a byte every second", head, true, 1, 0, 1, time.Second, lingerTime},
		{"nothing more", head, true, 1, 0, 0, time.Hour, lingerTime},
		{"as fast as possible", head, true, 1, 0, 1 << 20, 0, 0},
		{"no place", head, true, 1, 1, 1, time.Second, 0},
		{"not answered", head, false, 1, 0, 1, time.Second, 0},
		{"no body", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", true, 1, 0, 1, time.Second, 0},
		{"chunked", "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", true, 1, 0, 1, time.Second, lingerTime},
		{"a refused head", "GET / HTTP/1.1\nHost: h\n\n\r\n\r\n", true, 1, 0, 1, time.Second, lingerTime},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				defer client.Close()
				places := make(chan struct{}, c.places)
				for range c.taken {
					places <- struct{}{}
				}
				conn := newConn(server, limits, new(metrics.Counter), places)
				sent := make(chan int)
				go func() {
					_, _ = io.WriteString(client, c.raw)
					n := 0
					for {
						time.Sleep(c.every)
						m, err := client.Write(make([]byte, c.chunk))
						if n += m; err != nil {
							sent <- n
							return
						}
					}
				}()
				if _, err := conn.Read(make([]byte, 4<<10)); err != nil {
					t.Fatal(err)
				}
				conn.linger.answered.Store(c.answer)
				began := time.Now()
				_ = conn.Close()
				if took := time.Since(began); took != c.took {
					t.Errorf("closed after %v, want %v", took, c.took)
				}
				if _, err := conn.Read(make([]byte, 4<<10)); err == nil || errors.Is(err, io.EOF) {
					t.Errorf("%v from a closed connection", err)
				}
				if len(places) != c.taken {
					t.Errorf("%d places are taken, want %d", len(places), c.taken)
				}
				if n := <-sent; n > lingerBytes+c.chunk {
					t.Errorf("%d bytes were read", n)
				}
			})
		})
	}
}
