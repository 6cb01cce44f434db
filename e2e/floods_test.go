package e2e

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// startSink starts an upstream that has one bucket and discards what it receives.
func startSink(t testing.TB) upstream {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sum := md5.New()
		if _, err := io.Copy(sum, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		if r.Method != http.MethodPut {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("ETag", `"`+hex.EncodeToString(sum.Sum(nil))+`"`)
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return upstream{"sink", "http://" + l.Addr().String()}
}

// flood is one kind of attack by many bad clients, and its results.
type flood struct {
	name string
	// atOnce is the number of clients at a time, in a run of full size.
	atOnce int
	// head is what each client sends first, drip what it sends every half second after that, and
	// much how many MiB it sends at once.
	head, drip string
	much       int
	// longest is how long it may take to reject a client.
	longest time.Duration

	turned atomic.Int64 // number of rejected clients
	worst  atomic.Int64 // longest time until a rejection
}

// bad runs one client after the other.
func (f *flood) bad(g *gateway, until time.Time) {
	for time.Now().Before(until) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(g.endpoint, "http://"))
		if err != nil {
			g.t.Errorf("%s: %v", f.name, err)
			return
		}
		began := time.Now()
		conn.SetDeadline(began.Add(2 * f.longest))
		ended := make(chan struct{})
		var writer sync.WaitGroup
		writer.Go(func() {
			_, err := io.WriteString(conn, f.head)
			piece := strings.Repeat("x", 1<<20)
			for n := 0; n < f.much && err == nil; n++ {
				_, err = io.WriteString(conn, piece)
			}
			for err == nil && f.drip != "" {
				select {
				case <-ended:
					return
				case <-time.After(500 * time.Millisecond):
					_, err = io.WriteString(conn, f.drip)
				}
			}
		})
		_, err = io.ReadAll(conn)
		if took := time.Since(began); os.IsTimeout(err) || took > f.longest {
			g.t.Errorf("%s: still connected after %v", f.name, took)
		} else {
			f.turned.Add(1)
			f.worst.Store(max(f.worst.Load(), int64(took)))
		}
		close(ended)
		conn.Close()
		writer.Wait()
		time.Sleep(100 * time.Millisecond) // the next client waits a moment, rather than reconnecting as fast as possible
	}
}

// TestT12_Floods: thousands of bad clients flood the gateway while many good ones upload a lot of
// data. Memory stays within its limit, bad clients are disconnected in time, and a good client gets
// its responses within a second.
func TestT12_Floods(t *testing.T) {
	t.Parallel()
	p := testkit.Prove(t, "T12")
	p.NotSmall()
	lasts, part := time.Duration(p.Amount(0, 45, 300))*time.Second, 1
	uploads, size := 200, 256<<20
	if p.Quick() {
		part, uploads, size = 10, 20, 32<<20
	}
	const limit = 512 << 20
	g := startGateway(t, options{plain: true, upstream: startSink(t), env: []string{"GOMEMLIMIT=512MiB", "AKIGW_CACHE_HOT_BYTES=64MiB", "AKIGW_CACHE_WARM_BYTES=256MiB"}})
	peak := g.watchMemory()
	const host = "Host: akigw\r\n"
	slow, err := g.signed("PUT", "/collection/slow")
	if err != nil {
		t.Fatal(err)
	}
	var slowHead strings.Builder
	fmt.Fprintf(&slowHead, "PUT /collection/slow HTTP/1.1\r\nHost: %s\r\nContent-Length: 1000000\r\n", slow.Host)
	if err := slow.Header.Write(&slowHead); err != nil {
		t.Fatal(err)
	}
	// 10 s for a head; then two windows of 30 s in which a body is too slow.
	floods := []*flood{
		{name: "slow heads", atOnce: 2000, head: "PUT /collection/k HTTP/1.1\r\n", drip: "x", longest: 12 * time.Second},
		{name: "slow bodies", atOnce: 500, head: slowHead.String() + "\r\n", drip: "x", longest: 62 * time.Second},
		{name: "large heads", atOnce: 20, head: "GET / HTTP/1.1\r\n" + host + "X-Large: ", much: 1, longest: 12 * time.Second},
		{name: "large documents", atOnce: 20, head: "POST /collection?delete= HTTP/1.1\r\n" + host + "Content-Length: 10485760\r\n\r\n<Delete>", much: 10, longest: 62 * time.Second},
	}
	until := time.Now().Add(lasts)
	var work sync.WaitGroup
	for _, f := range floods {
		for range max(2, f.atOnce/part) {
			work.Go(func() { f.bad(g, until) })
		}
	}
	block := testkit.Bytes(7, 1<<20)
	var stored atomic.Int64
	for n := range uploads {
		work.Go(func() {
			for time.Now().Before(until) {
				if status := g.do(t, "PUT", fmt.Sprintf("/collection/large-%d", n), &repeated{block: block, left: size}, size, nil); status == 200 {
					stored.Add(1)
				} else if status != 503 {
					t.Errorf("a large upload: %d", status)
				}
			}
		})
	}
	good := &s3client.Client{Endpoint: g.endpoint, HTTP: &http.Client{Transport: &http.Transport{}}}
	defer good.HTTP.CloseIdleConnections()
	var times []time.Duration
	for time.Now().Before(until) {
		began := time.Now()
		if a := good.Must(t, "PUT", "/collection/good", "", nil, block[:4096]); a.Status != 200 {
			t.Errorf("a good client: %d %s", a.Status, a.Body)
		}
		times = append(times, time.Since(began))
		time.Sleep(20 * time.Millisecond)
	}
	work.Wait()
	slices.Sort(times)
	p99 := times[len(times)*99/100]
	if peak() > limit+limit/5 {
		t.Errorf("%d MiB of memory", peak()>>20)
	}
	if p99 > time.Second || len(times) < 50 {
		t.Errorf("a good client: 99%% of %d requests within %v", len(times), p99)
	}
	if stored.Load() < 3 {
		t.Errorf("%d large uploads were stored", stored.Load())
	}
	for _, f := range floods {
		if f.turned.Load() == 0 {
			t.Errorf("no %s were rejected", f.name)
		}
		p.Figure(f.name, map[string]any{"turned away": f.turned.Load(), "after at most, ms": f.worst.Load() / 1e6})
	}
	p.Figure("large uploads", stored.Load())
	p.Figure("MiB each", size>>20)
	p.Figure("memory at most, MiB", peak()>>20)
	p.Figure("requests of a good client", len(times))
	p.Figure("99% of them within ms", p99.Milliseconds())
}
