package tiers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// pattern is an upstream with one object. It limits the rate of each connection.
type pattern struct {
	size int64
	rate int64 // bytes a second, 0 for no limit
	deaf bool  // it ignores Range
	step int   // bytes at a time

	mu      sync.Mutex
	etag    string
	header  http.Header
	sent    int64 // bytes that were read from it
	now     int   // responses in progress
	most    int
	pieces  int64 // pieces that were read from it
	open    int64 // the sum, over pieces, of the responses in progress with each
	gets    int
	heads   int
	fail    error // the error at which bodies end
	failing int64 // after this many bytes
}

func newPattern(size int64) *pattern { return &pattern{size: size, step: 64 << 10, etag: `"one"`} }

// Do implements Upstream.
func (p *pattern) Do(ctx context.Context, r *cold.Request) (*http.Response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := http.Header{"Etag": {p.etag}, "Last-Modified": {"Mon, 02 Jan 2006 15:04:05 GMT"}}
	for name, values := range p.header {
		h[name] = values
	}
	if m := r.Header.Get("If-Match"); m != "" && m != p.etag {
		return s3mem.Response(http.StatusPreconditionFailed, nil, nil), nil
	}
	if r.Header.Get("If-None-Match") == p.etag {
		p.heads++
		return s3mem.Response(http.StatusNotModified, h, nil), nil
	}
	first, last, status := int64(0), p.size-1, http.StatusOK
	if text := r.Header.Get("Range"); text != "" && !p.deaf {
		got, err := akigw.ParseRange(text).Resolve(p.size)
		if err != nil {
			return s3mem.Response(http.StatusRequestedRangeNotSatisfiable, nil, nil), nil
		}
		first, last, status = got.Start, got.End()-1, http.StatusPartialContent
		h.Set("Content-Range", got.ContentRange(p.size))
	}
	resp := &http.Response{StatusCode: status, Header: h, ContentLength: last + 1 - first, Body: http.NoBody}
	if r.Method == http.MethodHead {
		p.heads++
		return resp, nil
	}
	p.gets++
	p.now++
	p.most = max(p.most, p.now)
	resp.Body = &patternBody{p: p, ctx: ctx, at: first, end: last + 1}
	return resp, nil
}

func (p *pattern) bytesSent() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent
}

func (p *pattern) Origin(string) uint64 { return 1 }

type patternBody struct {
	p       *pattern
	ctx     context.Context
	at, end int64
	closed  bool
}

func (b *patternBody) Read(p []byte) (int, error) {
	if b.at == b.end {
		return 0, io.EOF
	}
	n := min(int64(len(p)), b.end-b.at, int64(b.p.step))
	if b.p.rate > 0 {
		select {
		case <-time.After(time.Duration(n) * time.Second / time.Duration(b.p.rate)):
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		}
	}
	fillPattern(p[:n], b.at)
	b.at += n
	b.p.mu.Lock()
	defer b.p.mu.Unlock()
	b.p.sent += n
	b.p.pieces++
	b.p.open += int64(b.p.now)
	if b.p.fail != nil && b.p.sent > b.p.failing {
		return int(n), b.p.fail
	}
	return int(n), nil
}

func (b *patternBody) Close() error {
	b.p.mu.Lock()
	defer b.p.mu.Unlock()
	if !b.closed {
		b.p.now--
	}
	b.closed = true
	return nil
}

// period is a prime, so that a wrong offset gives wrong bytes.
var period = testkit.Bytes(1, 1_000_003)

// fillPattern writes the object's bytes from offset at.
func fillPattern(p []byte, at int64) {
	for len(p) > 0 {
		n := copy(p, period[at%int64(len(period)):])
		p, at = p[n:], at+int64(n)
	}
}

// read reads the range of r and checks each byte. It calls pause with the offset before each piece.
func (p *pattern) read(r *Reader, pause func(at int64)) error {
	want := make([]byte, block)
	for at := r.Range.Start; ; {
		if pause != nil {
			pause(at)
		}
		data, err := r.Next(context.Background())
		if err == io.EOF && at == r.Range.End() {
			return nil
		}
		if err != nil {
			return err
		}
		fillPattern(want[:len(data)], at)
		if !bytes.Equal(data, want[:len(data)]) {
			return fmt.Errorf("wrong bytes at %d", at)
		}
		at += int64(len(data))
	}
}

// parallelStore has blocks of 64 KiB in segments of 1 MiB, and eight connections.
func parallelStore(t *testing.T, up Upstream, memory size.Bytes) *Store {
	t.Helper()
	config := Config{HotBytes: 128 << 20, BlockBytes: block, SmallBytes: 4 << 10, FetchBytes: 1 << 20, ParallelFetches: 8, ReadAheadBytes: memory}
	s, err := New(Options{Config: config, Rules: rules.NewSet(nil, rules.Settings{Freshness: rules.Immutable, Memory: true, Block: block}), Upstream: up})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if used := s.fetcher.readAhead.Used(); used != 0 {
			t.Errorf("%d bytes of memory were not released", used)
		}
	})
	return s
}

func (s *Store) mustGet(t *testing.T, spec string) *Reader {
	t.Helper()
	r, err := s.Get(context.Background(), key("k"), akigw.ParseRange(spec), akigw.Conditions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestParallelFetch: a large cold object is fetched over several connections at once, each byte
// once. The data read ahead stays within its memory limit.
func TestParallelFetch(t *testing.T) {
	for _, c := range []struct {
		name        string
		spec        string
		known       bool
		memory      size.Bytes
		connections int64 // average number open while bytes arrive, at least
	}{
		{"unknown", "", false, 96 << 20, 6},
		{"known", "", true, 96 << 20, 6},
		{"a range", "bytes=1000000-150000000", true, 96 << 20, 6},
		{"little memory", "", false, 3 << 20, 2},
		{"no memory", "", false, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				up := newPattern(160<<20 + 12345)
				up.rate = 20 << 20
				s := parallelStore(t, up, c.memory)
				if c.known {
					if _, err := s.Head(context.Background(), key("k"), akigw.RangeSpec{}, akigw.Conditions{}); err != nil {
						t.Fatal(err)
					}
				}
				r := s.mustGet(t, c.spec)
				var most int64
				if err := up.read(r, func(int64) { most = max(most, s.fetcher.readAhead.Used()) }); err != nil {
					t.Fatal(err)
				}
				r.Close()
				if average := up.open / up.pieces; average < c.connections {
					t.Errorf("%d connections were open on average, want %d or more", average, c.connections)
				}
				if up.sent < r.Range.Length || up.sent > r.Range.Length+4*block {
					t.Errorf("%d bytes came for %d", up.sent, r.Range.Length)
				}
				if most > int64(c.memory) || c.memory > 0 && most == 0 || up.most > 9 { // one may be closing
					t.Errorf("%d bytes were read ahead, with %d connections", most, up.most)
				}
			})
		})
	}
}

// TestAClientsPartIsOneRequest: ranges of the size in which clients read a large object are fetched
// with one request each, and are not cut into segments.
func TestAClientsPartIsOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newPattern(200 << 20)
		up.rate = 20 << 20
		s := parallelStore(t, up, 96<<20)
		if _, err := s.Head(context.Background(), key("k"), akigw.RangeSpec{}, akigw.Conditions{}); err != nil {
			t.Fatal(err)
		}
		const part = 8 << 20
		for n := range int64(5) {
			r := s.mustGet(t, fmt.Sprintf("bytes=%d-%d", 2*n*part, (2*n+1)*part-1))
			if err := up.read(r, nil); err != nil {
				t.Fatal(err)
			}
			r.Close()
		}
		if up.gets != 5 || up.sent != 5*part {
			t.Errorf("%d requests and %d bytes for 5 ranges of %d", up.gets, up.sent, part)
		}
	})
}

// TestReadAheadStopsWithItsReader: nothing is read ahead for a reader that has left, and not too
// far ahead for a slow one.
func TestReadAheadStopsWithItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newPattern(512 << 20)
		up.rate = 20 << 20
		s := parallelStore(t, up, 96<<20)
		r := s.mustGet(t, "")
		gone := errors.New("gone")
		err := func() (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = p.(error)
				}
			}()
			return up.read(r, func(at int64) {
				if at >= 20<<20 {
					panic(gone)
				}
			})
		}()
		if err != gone {
			t.Fatal(err)
		}
		r.Close()
		synctest.Wait()
		time.Sleep(time.Minute)
		if up.sent > 30<<20 || up.now != 0 {
			t.Errorf("%d bytes came, and %d connections are open", up.sent, up.now)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		up := newPattern(96 << 20)
		up.rate = 20 << 20
		s := parallelStore(t, up, 96<<20)
		r := s.mustGet(t, "")
		defer r.Close()
		var ahead int64
		if err := up.read(r, func(at int64) {
			time.Sleep(block * time.Second / (2 << 20)) // 2 MiB a second
			ahead = max(ahead, up.bytesSent()-at)
		}); err != nil {
			t.Fatal(err)
		}
		if ahead > 4<<20 {
			t.Errorf("%d bytes were fetched before a slow client asked", ahead)
		}
	})
}

// TestManyReadersOfOneColdObject: the upstream sends each byte once, and every reader has the first
// byte while the rest is still being fetched.
func TestManyReadersOfOneColdObject(t *testing.T) {
	for _, size := range []int64{64 << 20, 80 << 20} {
		synctest.Test(t, func(t *testing.T) {
			up := newPattern(size)
			up.rate = 50 << 20
			up.step = block
			s := parallelStore(t, up, 96<<20)
			var wait sync.WaitGroup
			for i := range 12 {
				wait.Go(func() {
					time.Sleep(time.Duration(i) * 8 * time.Millisecond)
					r, err := s.Get(context.Background(), key("k"), akigw.RangeSpec{}, akigw.Conditions{})
					if err != nil {
						t.Error(err)
						return
					}
					defer r.Close()
					if up.bytesSent() == size {
						t.Error("a reader got the first byte only after the last was fetched")
					}
					if err := up.read(r, nil); err != nil {
						t.Error(err)
					}
				})
			}
			wait.Wait()
			if up.sent < size || up.sent > size+size/20 {
				t.Errorf("%d bytes came for %d", up.sent, size)
			}
		})
	}
}

// TestReplacedWhileParallel: a reader never gets bytes of two versions.
//
// Scenarios: A10.
func TestReplacedWhileParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newPattern(100 << 20)
		up.rate = 20 << 20
		s := parallelStore(t, up, 96<<20)
		r := s.mustGet(t, "")
		defer r.Close()
		err := up.read(r, func(at int64) {
			if at >= 50<<20 {
				up.mu.Lock()
				up.etag = `"two"`
				up.mu.Unlock()
			}
		})
		if !errors.Is(err, akigw.ErrChanged) {
			t.Errorf("after the replacement: %v", err)
		}
	})
}

// TestBodiesBreakOffWhileParallel: the rest of an interrupted body is fetched again.
//
// Scenarios: A7.
func TestBodiesBreakOffWhileParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newPattern(100 << 20)
		up.rate = 20 << 20
		s := parallelStore(t, up, 96<<20)
		r := s.mustGet(t, "")
		defer r.Close()
		up.fail, up.failing = io.ErrUnexpectedEOF, 30<<20
		broke := false
		if err := up.read(r, func(int64) {
			up.mu.Lock()
			defer up.mu.Unlock()
			if up.sent > 31<<20 {
				broke, up.fail = true, nil
			}
		}); err != nil || !broke {
			t.Errorf("%v; interrupted: %t", err, broke)
		}
	})
}

// TestReadersOfOneTransfer: a second reader that finds the same wrong digest in the same transfer
// does not prove the bytes right. A second transfer does: the upstream's checksum is then not that
// of the body.
//
// Scenarios: A8.
func TestReadersOfOneTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newPattern(70 << 20)
		up.rate = 100 << 20
		up.header = http.Header{"X-Amz-Checksum-Type": {"FULL_OBJECT"}, "X-Amz-Checksum-Crc32c": {"AAAAAA=="}}
		s := parallelStore(t, up, 96<<20)
		var wait sync.WaitGroup
		for range 5 {
			wait.Go(func() {
				r, err := s.Get(context.Background(), key("k"), akigw.RangeSpec{}, akigw.Conditions{})
				if err != nil {
					t.Error(err)
					return
				}
				defer r.Close()
				if err := up.read(r, nil); !errors.Is(err, akigw.ErrChecksum) {
					t.Errorf("in the first transfer: %v", err)
				}
			})
		}
		wait.Wait()
		r := s.mustGet(t, "")
		defer r.Close()
		if err := up.read(r, nil); err != nil {
			t.Errorf("in the second transfer: %v", err)
		}
	})
}

// TestParallelBodyWithAWrongChecksum: the last bytes are withheld, and nothing of the body stays
// cached.
//
// Scenarios: A8.
func TestParallelBodyWithAWrongChecksum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newPattern(70 << 20)
		up.header = http.Header{"X-Amz-Checksum-Type": {"FULL_OBJECT"}, "X-Amz-Checksum-Crc32c": {"AAAAAA=="}}
		s := parallelStore(t, up, 96<<20)
		r := s.mustGet(t, "")
		defer r.Close()
		var last int64
		if err := up.read(r, func(at int64) { last = at }); !errors.Is(err, akigw.ErrChecksum) || last != up.size-block {
			t.Errorf("%v after %d of %d bytes", err, last, up.size)
		}
		if e, _ := s.lookup(key("k")); e != nil || s.hot.Has(hotKey{extent: r.entry.extent, n: 1}) {
			t.Error("it is still cached")
		}
	})
}

// TestPromotionOfAParallelBody: a body that a promotion fetches in parallel parts is verified as well,
// and nothing of a damaged one stays.
//
// Scenarios: A8.
func TestPromotionOfAParallelBody(t *testing.T) {
	for _, header := range []string{"X-Amz-Checksum-Crc64nvme", "", "X-Amz-Checksum-Sha256"} {
		damaged := header == ""
		synctest.Test(t, func(t *testing.T) {
			up := newPattern(70 << 20)
			up.header = http.Header{"X-Amz-Checksum-Type": {"FULL_OBJECT"}, "X-Amz-Checksum-Sha256": {sumOf("X-Amz-Checksum-Sha256", nil)}}
			if !damaged {
				body := make([]byte, up.size)
				fillPattern(body, 0)
				up.header = http.Header{"X-Amz-Checksum-Type": {"FULL_OBJECT"}, header: {sumOf(header, body)}}
			}
			s := parallelStore(t, up, 96<<20)
			moved, _, err := s.ToMemory(t.Context(), key("k"))
			if moved == damaged || errors.Is(err, akigw.ErrChecksum) != damaged {
				t.Errorf("damaged %t: moved %t, %v", damaged, moved, err)
			}
			if n := up.gets; n < 10 {
				t.Errorf("it came in %d parts", n)
			}
			if e, _ := s.lookup(key("k")); (e == nil) != damaged {
				t.Errorf("damaged %t, and cached %t", damaged, e != nil)
			}
		})
	}
}

// TestUpstreamWithoutRanges: an upstream that answers range requests with whole objects is not
// asked for parts again and again.
//
// Scenarios: A9.
func TestUpstreamWithoutRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := newPattern(100 << 20)
		up.deaf = true
		s := parallelStore(t, up, 96<<20)
		for range 2 {
			r := s.mustGet(t, "")
			if err := up.read(r, nil); err != nil {
				t.Fatal(err)
			}
			r.Close()
			s.dropEntry(key("k"))
		}
		synctest.Wait() // needless responses are still being sent
		if up.gets > 12 || up.sent > 14*up.size {
			t.Errorf("%d requests and %d bytes for two reads of %d", up.gets, up.sent, up.size)
		}
		before := up.sent
		r := s.mustGet(t, "")
		defer r.Close()
		if err := up.read(r, nil); err != nil || up.sent-before > up.size {
			t.Errorf("%d bytes for a read, %v", up.sent-before, err)
		}
		if s.fetcher.inParts(r.entry) || !s.fetcher.inParts(&entry{origin: r.entry.origin + 1}) {
			t.Error("this upstream is still asked for parts, or another one no longer is")
		}
	})
}
