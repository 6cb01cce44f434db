package tiers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
)

// TestSharedBlock: the memory of a block is used again after its last user has left, not before, and
// nobody can join then.
func TestSharedBlock(t *testing.T) {
	var from buffers
	data := append(from.get(block), testkit.Bytes(1, block)...)
	b := newBlock(data, &from)
	if b.trim() != b {
		t.Error("a whole block was copied")
	}
	b.share()
	if !b.hold() {
		t.Error("a block with users cannot be held")
	}
	for range 2 {
		b.release()
		if !bytes.Equal(data, testkit.Bytes(1, block)) {
			t.Fatal("the memory is used again while the block has users")
		}
	}
	b.release()
	if b.hold() {
		t.Error("a block without users can be held")
	}
	short := newBlock(append(from.get(block), 1, 2, 3), &from)
	if got := short.trim(); !bytes.Equal(got.data, []byte{1, 2, 3}) || cap(got.data) > 16 || short.hold() {
		t.Errorf("a short block takes %d bytes, or its former memory is not free", cap(got.data))
	}
}

// TestReadersOfMemoryThatIsUsedAgain: objects are read while new ones push them out of memory and disk.
// Slow readers, which hold what they were lent for a while, see the right bytes. (With the race
// detector, free memory is overwritten.)
func TestReadersOfMemoryThatIsUsedAgain(t *testing.T) {
	const objects, blocks, rounds = 12, 4, 60
	up := s3mem.New()
	s := newStore(t, Config{HotBytes: 16 * block, WarmBytes: 64 << 20, BlockBytes: block, SmallBytes: 4 << 10, Freshness: rules.Exclusive}, up)
	body := func(n int) []byte { return testkit.Bytes(uint64(n), blocks*block-n) }
	write := func(n int) error { return put(s, up, key(fmt.Sprint(n)), body(n)) }
	for n := range objects {
		if err := write(n); err != nil {
			t.Fatal(err)
		}
	}
	var hot atomic.Int64
	var wait sync.WaitGroup
	for reader := range 4 {
		wait.Go(func() {
			for i := range rounds {
				n := (i*7 + reader*3) % objects
				if i%2 == 0 {
					n = 0 // stays in memory
				}
				outcome, err := readSlowly(s, key(fmt.Sprint(n)), body(n))
				if err != nil {
					t.Errorf("object %d, read from %s: %v", n, outcome, err)
				}
				if outcome == akigw.Hot {
					hot.Add(1)
				}
			}
		})
	}
	wait.Go(func() {
		for i := range rounds {
			if err := write(objects + i%objects); err != nil {
				t.Error(err)
			}
		}
	})
	wait.Wait()
	if hot.Load() == 0 || hot.Load() == 4*rounds {
		t.Errorf("%d of %d reads came from memory alone; the test needs both kinds", hot.Load(), 4*rounds)
	}
}

// TestWritesUseMemoryAgain: the bodies of large objects go through memory and disk, and what they
// allocate is no share of their bytes.
func TestWritesUseMemoryAgain(t *testing.T) {
	const objects, blocks = 20, 64
	s := newStore(t, Config{HotBytes: 16 * block, WarmBytes: 64 << 20, BlockBytes: block, SmallBytes: 4 << 10, Freshness: rules.Exclusive}, s3mem.New())
	piece := testkit.Bytes(1, block/2)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for n := range objects {
		w := s.Begin(key(fmt.Sprint(n)))
		for range 2 * blocks {
			w.Body(piece)
		}
		w.Written(nil, http.Header{"Etag": {`"e"`}}, nil)
	}
	runtime.ReadMemStats(&after)
	// With the race detector, sync.Pool loses some of what it is given.
	if share := float64(after.TotalAlloc-before.TotalAlloc) / (objects * blocks * block); share > 0.6 {
		t.Errorf("%.2f bytes were allocated for each byte", share)
	} else if bytes := s.Usage().HotBytes; bytes < 8*block {
		t.Errorf("memory holds only %d bytes", bytes)
	} else {
		t.Logf("%.3f bytes were allocated for each byte", share)
	}
}

// readSlowly reads an object as the gateway does, but compares the bytes only when it has several of
// them.
func readSlowly(s *Store, k akigw.Key, want []byte) (outcome akigw.Outcome, err error) {
	ctx := context.Background()
	r, err := s.Get(ctx, k, akigw.RangeSpec{}, akigw.Conditions{})
	if err != nil {
		return "", err
	}
	defer r.Close()
	r.Borrow = true
	var held [][]byte
	n := 0
	for {
		data, err := r.Next(ctx)
		if err == nil {
			held = append(held, data)
			runtime.Gosched()
		}
		if err == io.EOF || len(held) == 3 {
			for _, data := range held {
				if !bytes.HasPrefix(want[n:], data) {
					return r.Outcome, errors.New("the bytes have changed")
				}
				n += len(data)
			}
			r.Sent()
			held = held[:0]
		}
		if err == io.EOF && n != len(want) {
			err = io.ErrUnexpectedEOF
		}
		if err == io.EOF {
			return r.Outcome, nil
		}
		if err != nil {
			return r.Outcome, err
		}
	}
}
