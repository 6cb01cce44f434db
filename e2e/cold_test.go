package e2e

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// slow is an S3 service with one object of the given size in /coldbucket/. It limits the rate of
// each connection.
type slow struct {
	size  int64
	block []byte // the object is this block repeated
	rate  int64  // bytes a second
	sent  atomic.Int64
}

func (s *slow) start(t *testing.T) upstream {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s}
	var wait sync.WaitGroup
	wait.Go(func() { server.Serve(l) })
	t.Cleanup(func() {
		server.Close()
		wait.Wait()
	})
	return upstream{"slow", "http://" + l.Addr().String()}
}

// ServeHTTP answers GET and HEAD of any key.
func (s *slow) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Etag", `"slow-1"`)
	h.Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
	spec := akigw.ParseRange(r.Header.Get("Range"))
	part, err := spec.Resolve(s.size)
	if err != nil {
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return
	}
	h.Set("Content-Length", strconv.FormatInt(part.Length, 10))
	if !spec.Whole() {
		h.Set("Content-Range", part.ContentRange(s.size))
		w.WriteHeader(http.StatusPartialContent)
	}
	if r.Method == http.MethodHead {
		return
	}
	start := time.Now()
	for at := part.Start; at < part.End(); {
		from := s.block[at%int64(len(s.block)):]
		n := min(int64(len(from)), part.End()-at, 64<<10)
		time.Sleep(time.Until(start.Add(time.Duration(at-part.Start) * time.Second / time.Duration(s.rate))))
		if _, err := w.Write(from[:n]); err != nil {
			return
		}
		at += n
		s.sent.Add(n)
	}
}

// TestLongColdSpeed: an upstream limits each connection to 20 MiB/s. A cold 1 GiB object arrives at
// least six times faster through the gateway than directly, and each byte is fetched about once.
func TestLongColdSpeed(t *testing.T) {
	long(t)
	s := &slow{size: 1 << 30, block: testkit.Bytes(7, 1<<20), rate: 20 << 20}
	up := s.start(t)
	g := startGateway(t, options{upstream: up, plain: true})
	peak := g.watchMemory()
	read := func(g *gateway) time.Duration {
		start := time.Now()
		check := &comparing{block: s.block}
		if status := g.do(t, "GET", "/coldbucket/large", nil, 0, check); status != 200 || int64(check.n) != s.size || check.wrong {
			t.Fatalf("%d, %d bytes, wrong %t", status, check.n, check.wrong)
		}
		return time.Since(start)
	}
	through := read(g)
	fetched := s.sent.Load()
	direct := read(&gateway{t: t, endpoint: up.endpoint})
	text := fmt.Sprintf("%.1f times faster than directly, %.3f times the bytes, peak anonymous memory %d MiB", direct.Seconds()/through.Seconds(), float64(fetched)/float64(s.size), peak()>>20)
	t.Log(text)
	if direct < 6*through || float64(fetched) > 1.02*float64(s.size) || peak() > 450<<20 {
		t.Error(text)
	}
}
