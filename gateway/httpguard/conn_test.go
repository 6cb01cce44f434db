package httpguard

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var limits = Limits{HeadBytes: 16 << 10, HeadTime: 10 * time.Second, Rate: 1 << 10, Window: 30 * time.Second}

// serve answers every request with what it understood, refused ones with the
// code of the refusal.
func serve(t testing.TB, l Limits, c Caps) (addr string, handled *atomic.Int64) {
	handled = new(atomic.Int64)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer Answered(r)
		if refusal := Refusal(r); refusal != nil {
			w.WriteHeader(refusal.Status)
			fmt.Fprint(w, refusal.Code)
			return
		}
		handled.Add(1)
		body, err := io.ReadAll(r.Body)
		if len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		fmt.Fprintf(w, "%s %s %d %v", r.Method, r.RequestURI, len(body), err)
	}))
	server.Config.ConnContext = ConnContext
	server.Config.ReadHeaderTimeout = l.HeadTime
	server.Listener = Strict(Capped(server.Listener, c), l)
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), handled
}

// talk sends raw bytes in pieces of n and returns everything that comes back.
func talk(t testing.TB, addr, raw string, n int) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		for i := 0; i < len(raw); i += n {
			if _, err := io.WriteString(c, raw[i:min(i+n, len(raw))]); err != nil {
				return
			}
		}
		c.(*net.TCPConn).CloseWrite()
	}()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	answer, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("%.60q: %v", raw, err)
	}
	return string(answer)
}

// TestHeads is what net/http would accept, join or hide.
//
// Scenarios: S2.
func TestHeads(t *testing.T) {
	addr, handled := serve(t, limits, Caps{})
	const host = "Host: h\r\n"
	for _, c := range []struct{ name, raw, status string }{
		{"good", "GET /b/k?x=%20 HTTP/1.1\r\n" + host + "\r\n", "200"},
		{"good, 1.0", "GET /b/k HTTP/1.0\r\n" + host + "\r\n", "200"},
		{"good body", "PUT /b/k HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\nabc", "200"},
		{"good chunked body", "PUT /b/k HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "200"},
		{"good: not in ASCII", "GET /b/k HTTP/1.1\r\n" + host + "X-Amz-Meta-A: \u00e4\r\n\r\n", "200"},
		{"both lengths", "PUT /b/k HTTP/1.1\r\n" + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
		{"both lengths, the other way", "PUT /b/k HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", "400"},
		{"two lengths", "PUT /b/k HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "400"},
		{"a list of lengths", "PUT /b/k HTTP/1.1\r\n" + host + "Content-Length: 3, 3\r\n\r\nabc", "400"},
		{"a signed length", "PUT /b/k HTTP/1.1\r\n" + host + "Content-Length: +3\r\n\r\nabc", "400"},
		{"a negative length", "PUT /b/k HTTP/1.1\r\n" + host + "Content-Length: -3\r\n\r\nabc", "400"},
		{"an endless length", "PUT /b/k HTTP/1.1\r\n" + host + "Content-Length: 99999999999999999999\r\n\r\nabc", "400"},
		{"another encoding", "PUT /b/k HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n", "400"},
		{"two encodings", "PUT /b/k HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n", "400"},
		{"chunked in 1.0", "PUT /b/k HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
		{"bare line feed in a header", "GET /b/k HTTP/1.1\r\n" + host + "A: b\nC: d\r\n\r\n", "400"},
		{"bare line feeds throughout", "GET /b/k HTTP/1.1\nHost: h\n\n", "400"},
		{"bare line feed behind the request line", "GET /b/k HTTP/1.1\n" + host + "\r\n", "400"},
		{"bare carriage return", "GET /b/k HTTP/1.1\r\n" + host + "A: b\rC: d\r\n\r\n", "400"},
		{"folded header", "GET /b/k HTTP/1.1\r\n" + host + "A: b\r\n c\r\n\r\n", "400"},
		{"folded first header", "GET /b/k HTTP/1.1\r\n Host: h\r\n\r\n", "400"},
		{"space before the colon", "GET /b/k HTTP/1.1\r\n" + host + "Content-Length : 3\r\n\r\nabc", "400"},
		{"no colon", "GET /b/k HTTP/1.1\r\n" + host + "nonsense\r\n\r\n", "400"},
		{"NUL in a value", "GET /b/k HTTP/1.1\r\n" + host + "A: b\x00\r\n\r\n", "400"},
		{"good: absolute form", "GET http://h/b/k?x=1 HTTP/1.1\r\n" + host + "\r\n", "200"},
		{"good: absolute form without a path", "GET http://h HTTP/1.1\r\n" + host + "\r\n", "200"},
		{"good: absolute form of an address", "GET https://[::1]:9000/b/k HTTP/1.1\r\nHost: [::1]:9000\r\n\r\n", "200"},
		{"absolute form of another host", "GET http://evil/k HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"absolute form of another port", "GET http://h:80/k HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"absolute form with another host in the query", "GET http://evil?http://h/k HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"absolute form with a user", "GET http://h@evil/k HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"absolute form with this host as the user", "GET http://h@h/k HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"absolute form with an encoded host", "GET http://%68/k HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"absolute form with a fragment for a host", "GET http://evil#h/k HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"absolute form with a backslash", "GET http://h\\@evil/k HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"absolute form without a host", "GET http:///k HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"absolute form, no host header", "GET http://h/k HTTP/1.1\r\n\r\n", "400"},
		{"absolute form, two host headers", "GET http://h/k HTTP/1.1\r\n" + host + host + "\r\n", "400"},
		{"another scheme", "GET ftp://h/k HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"a scheme without an authority", "GET http:/b/k HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"authority form", "CONNECT evil:80 HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"asterisk form", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"no host", "GET /b/k HTTP/1.1\r\n\r\n", "400"},
		{"empty host", "GET /b/k HTTP/1.1\r\nHost:\r\n\r\n", "400"},
		{"two hosts", "GET /b/k HTTP/1.1\r\n" + host + host + "\r\n", "400"},
		{"at sign in the host", "GET /b/k HTTP/1.1\r\nHost: a@b\r\n\r\n", "400"},
		{"space in the host", "GET /b/k HTTP/1.1\r\nHost: a b\r\n\r\n", "400"},
		{"two spaces in the request line", "GET  /b/k HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"space in the target", "GET /b/k l HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"no version", "GET /b/k\r\n" + host + "\r\n", "400"},
		{"version 2", "GET /b/k HTTP/2.0\r\n" + host + "\r\n", "505"},
		{"preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"},
		{"not a method", "G=T /b/k HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"good: another expectation", "GET /b/k HTTP/1.1\r\n" + host + "Expect: 200-ok\r\n\r\n", "200"},
		{"good: no expectation", "GET /b/k HTTP/1.1\r\n" + host + "Expect: \r\n\r\n", "200"},
		{"good: another expectation and a body", "PUT /b/k HTTP/1.1\r\n" + host + "Expect: 200\r\nContent-Length: 3\r\n\r\nabc", "200"},
		{"good: another expectation in 1.0", "GET /b/k HTTP/1.0\r\n" + host + "Expect: x100-continue\r\n\r\n", "200"},
		{"an expectation that is met", "PUT /b/k HTTP/1.1\r\n" + host + "Expect: 100-Continue\r\nContent-Length: 3\r\n\r\nabc", "100"},
		{"one of several expectations that is met", "PUT /b/k HTTP/1.1\r\n" + host + "Expect: other, 100-continue\r\nContent-Length: 3\r\n\r\nabc", "100"},
		{"E4 a head without end", "GET /b/k HTTP/1.1\r\n" + host + strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 1000), "431"},
		{"too many headers", "GET /b/k HTTP/1.1\r\n" + host + strings.Repeat("A: b\r\n", 200) + "\r\n", "400"},
		{"not HTTP", "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", "400"},
	} {
		for _, pieces := range []int{1 << 20, 7} {
			if len(c.raw) > 10000 && pieces < 100 {
				pieces = 999
			}
			before := handled.Load()
			got := talk(t, addr, c.raw, pieces)
			if !strings.HasPrefix(got, "HTTP/1.1 "+c.status) && !strings.HasPrefix(got, "HTTP/1.0 "+c.status) {
				t.Errorf("%s, in pieces of %d: got %.200q, want %s", c.name, pieces, got, c.status)
			}
			if n := handled.Load() - before; (c.status <= "200") != (n == 1) {
				t.Errorf("%s: handled %d times", c.name, n)
			}
		}
	}
}

// TestSmuggling: what follows a request on its connection is looked at as
// strictly, and what follows a refused or chunked one is not looked at at all.
//
// Scenarios: S2.
func TestSmuggling(t *testing.T) {
	addr, handled := serve(t, limits, Caps{})
	const next = "GET /next HTTP/1.1\r\nHost: h\r\n\r\n"
	const last = "GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
	for _, c := range []struct {
		name, raw string
		handled   int64
		ends      string
	}{
		{"three in a row", next + "PUT /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello" + last, 3, "GET /last 0 <nil>"},
		{"refused second", next + "GET /b HTTP/1.1\nHost: h\n\n" + last, 1, "InvalidRequest"},
		{"body that looks like a request", "PUT /b HTTP/1.1\r\nHost: h\r\nContent-Length: " + fmt.Sprint(len(next)) + "\r\n\r\n" + next + last, 2, "GET /last 0 <nil>"},
		{"chunked, then another", "PUT /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n" + last, 1, "PUT /b 1 <nil>"},
		{"both lengths, then another", "PUT /b HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + last, 0, "InvalidRequest"},
	} {
		for _, pieces := range []int{1 << 20, 3} {
			before := handled.Load()
			got := talk(t, addr, c.raw, pieces)
			if n := handled.Load() - before; n != c.handled || !strings.Contains(got[max(0, len(got)-200):], c.ends) {
				t.Errorf("%s, in pieces of %d: handled %d, want %d; got %.400q", c.name, pieces, n, c.handled, got)
			}
		}
	}
}

// TestKeepAlive sends many requests with bodies of all sizes over one
// connection, through an ordinary client.
func TestKeepAlive(t *testing.T) {
	addr, _ := serve(t, limits, Caps{})
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	for i := range 300 {
		size := i * i * 7 % 70_000
		if i%10 == 0 {
			size = 0
		}
		body := make([]byte, size)
		rand.Read(body)
		r, err := http.NewRequest("PUT", "http://"+addr+"/b", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := fmt.Sprintf("PUT /b %d <nil>", size); string(got) != want {
			t.Fatalf("%d: got %q, want %q", i, got, want)
		}
	}
}

// TestSlowHead: a head has to be complete in time, on a fresh connection and
// on one that was used.
//
// Scenarios: E1.
func TestSlowHead(t *testing.T) {
	short := limits
	short.HeadTime = 300 * time.Millisecond
	addr, _ := serve(t, short, Caps{})
	for _, used := range []bool{false, true} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		in := bufio.NewReader(c)
		if used {
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
		}
		go func() {
			for { // until the connection is cut
				if _, err := io.WriteString(c, "G"); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
		if n, err := io.Copy(io.Discard, in); n != 0 || err != nil && strings.Contains(err.Error(), "i/o timeout") {
			t.Errorf("used %t: %d bytes, %v", used, n, err)
		}
	}
}

// pair is both ends of a connection in memory, the server's a strict one.
func pair(l Limits) (client net.Conn, server *conn) {
	a, b := net.Pipe()
	return a, newConn(b, l, new(metrics.Counter), nil)
}

// TestSlowBody: a body that brings less than the rate over the window is
// ended; one that brings it, in whatever rhythm, is not.
//
// Scenarios: E2.
func TestSlowBody(t *testing.T) {
	for _, c := range []struct {
		name  string
		bytes int
		every time.Duration
		ok    bool
	}{
		{"1 byte a second", 1, time.Second, false},
		{"nothing", 0, time.Hour, false},
		{"1,023 bytes a second", 1023, time.Second, false},
		{"2 KiB a second", 2 << 10, time.Second, true},
		{"40 KiB all 25 seconds", 40 << 10, 25 * time.Second, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := pair(limits)
				defer server.Close()
				const total = 200 << 10
				var sender sync.WaitGroup
				defer sender.Wait()
				defer client.Close()
				sender.Go(func() {
					fmt.Fprintf(client, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", total)
					for sent := 0; sent < total; sent += c.bytes {
						if _, err := client.Write(make([]byte, min(c.bytes, total-sent))); err != nil {
							return
						}
						time.Sleep(c.every)
					}
				})
				start := time.Now()
				buf := make([]byte, 64<<10)
				got, err := 0, error(nil)
				for got < total+70 && err == nil { // the head comes along
					var n int
					n, err = server.Read(buf)
					got += n
					if got >= total {
						break
					}
				}
				if c.ok != (err == nil) {
					t.Errorf("%d bytes, %v", got, err)
				}
				if took := time.Since(start); !c.ok && (took < limits.Window || took > 2*limits.Window) {
					t.Errorf("ended after %v", took)
				}
			})
		})
	}
}

// TestSlowTaker: an answer that is not taken is ended.
//
// Scenarios: D15.
func TestSlowTaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(limits)
		defer client.Close()
		defer server.Close()
		start := time.Now()
		if _, err := server.Write(make([]byte, 64<<10)); err == nil || time.Since(start) > 5*time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// TestCaps: connections over a cap are closed, and places come back.
//
// Scenarios: E3.
func TestCaps(t *testing.T) {
	for _, c := range []Caps{{Connections: 3, Greeting: []byte("HTTP/1.1 503 full\r\n\r\n")}, {PerAddress: 3, Greeting: []byte("HTTP/1.1 503 full\r\n\r\n")}} {
		addr, _ := serve(t, limits, c)
		var open []net.Conn
		for range 3 {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
				t.Fatalf("%q %v", line, err)
			}
			open = append(open, conn)
		}
		if got := talk(t, addr, "", 1); !strings.Contains(got, "503") {
			t.Errorf("%+v: a fourth connection got %q", c, got)
		}
		open[0].Close()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			again, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(again, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
			line, _ := bufio.NewReader(again).ReadString('\n') // a refused connection may be reset
			again.Close()
			if strings.Contains(line, "200 OK") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%+v: the place did not come back", c)
			}
		}
	}
}

// FuzzInspect: what passes is read by net/http in the same way: one request,
// with the same body length.
func FuzzInspect(f *testing.F) {
	for _, s := range []string{"GET /b/k HTTP/1.1\r\nHost: h\r\n\r\n", "PUT /k HTTP/1.1\r\nHost: h:1\r\nContent-Length: 5\r\n\r\n",
		"PUT /k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", "GET /k HTTP/1.0\r\nHost: [::1]\r\nA:\tb\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n",
		"PUT /k HTTP/1.1\r\nHost: h\r\nExpect: 200-ok\r\nContent-Length: 5\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		raw = bytes.Clone(raw) // inspect writes to it
		end := headEnd(raw)
		if end < 0 {
			return
		}
		body, refusal := inspect(raw[:end])
		if refusal != nil {
			return
		}
		in := bufio.NewReader(bytes.NewReader(raw[:end]))
		r, err := http.ReadRequest(in)
		if err != nil {
			return // net/http is stricter in places: a bad percent-encoding
		}
		if in.Buffered() != 0 && body >= 0 {
			t.Fatalf("%q: net/http leaves %d bytes of the head", raw[:end], in.Buffered())
		}
		if r.ContentLength != body {
			t.Fatalf("%q: body of %d, net/http says %d", raw[:end], body, r.ContentLength)
		}
		if e := r.Header.Get("Expect"); e != "" && !strings.Contains(strings.ToLower(e), "100-continue") {
			t.Fatalf("%q: net/http sees the expectation %q", raw[:end], e)
		}
	})
}

func BenchmarkInspect(b *testing.B) {
	head := []byte("GET /bucket/a/typical/key.parquet HTTP/1.1\r\nHost: 127.0.0.1:9000\r\nUser-Agent: aws-sdk-go-v2/1.41.0 os/linux lang/go#1.26 md/GOOS#linux md/GOARCH#amd64 api/s3#1.97.0\r\nAccept-Encoding: identity\r\nAmz-Sdk-Invocation-Id: 01234567-89ab-cdef-0123-456789abcdef\r\nAmz-Sdk-Request: attempt=1; max=3\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261123/us-east-1/s3/aws4_request, SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41\r\nRange: bytes=0-65535\r\nX-Amz-Content-Sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\r\nX-Amz-Date: 20261123T000000Z\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if headEnd(head) < 0 {
			b.Fatal("no end")
		}
		if _, refusal := inspect(head); refusal != nil {
			b.Fatal(refusal)
		}
	}
}

// TestRefusalsLeaveBuffersAlone: the pool of buffers for heads has none that is too small
// for one, whatever was refused.
func TestRefusalsLeaveBuffersAlone(t *testing.T) {
	for range 200 { // the pool drops some of what it is given
		client, server := net.Pipe()
		go func() {
			defer client.Close()
			_, _ = io.WriteString(client, "GET / HTTP/1.1\nHost: h\n\n\r\n\r\n") // a refused head; the other side may have closed
		}()
		c := newConn(server, limits, new(metrics.Counter), nil)
		got, err := io.ReadAll(struct{ io.Reader }{c})
		if err != nil || string(got) != substitute {
			t.Fatalf("%q, %v", got, err)
		}
		_ = server.Close()
	}
	for range 200 {
		if b := heads.Get().(*[]byte); cap(*b) < headBuffer {
			t.Fatalf("the pool has a buffer of %d bytes, want at least %d", cap(*b), headBuffer)
		}
	}
}
