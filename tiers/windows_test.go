package tiers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// TestFillMemoryIsBounded: readers that do not read hold all the memory for fills. Others get
// memory after a moment, and the slow ones still get every byte. When the queue is full, new reads
// are refused at once.
//
// Scenarios: E7.
func TestFillMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		config := testConfig(rules.Immutable)
		config.WarmBytes, config.HotBytes = 0, 0
		config.FillBytes = 4 * (window + 2) * block // enough for four readers
		s := inMemoryWith(t, config, rules.Settings{Freshness: rules.Immutable}, up)
		body := testkit.Bytes(1, 20*block)
		for n := range 100 {
			up.Put(key(fmt.Sprint(n)), body)
		}
		ctx := context.Background()
		before := s.counters.yields.Get()
		var slow []*Reader
		for n := range 4 {
			r, err := s.Get(ctx, key(fmt.Sprint(n)), akigw.RangeSpec{}, akigw.Conditions{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			slow = append(slow, r)
		}
		synctest.Wait()
		started := time.Now()
		for n := range 4 { // each takes the memory of a slow one
			wantRead(t, s, key(fmt.Sprint(10+n)), "", body, akigw.Cold)
		}
		if waited := time.Since(started); waited < yieldAfter || waited > 2*yieldAfter+time.Second {
			t.Errorf("a quick reader waited %v for slow ones", waited)
		}
		if s.counters.yields.Get() == before {
			t.Error("no fill yielded: the path was not exercised")
		}
		for n, r := range slow {
			if got, err := drain(ctx, r); err != nil || !bytes.Equal(got, body) {
				t.Errorf("slow reader %d: %d bytes, %v", n, len(got), err)
			}
			r.Close()
		}
		synctest.Wait() // fills release their memory when they end, after their last reader has left
		if used := s.fetcher.windows.waiting.Load(); used != 0 {
			t.Errorf("waiting readers want %d bytes", used)
		}
		if !s.fetcher.windows.free.TryAcquire(s.fetcher.windows.limit) {
			t.Fatal("not all memory was released")
		}
		var refused, served atomic.Int64 // from now on no memory is released
		var wait sync.WaitGroup
		for n := range 50 {
			wait.Go(func() {
				_, _, err := readAll(s, key(fmt.Sprint(50+n)), "")
				switch {
				case errors.Is(err, ErrBusy):
					refused.Add(1)
				case err == nil:
					served.Add(1)
				default:
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		if n := refused.Load(); n < 40 {
			t.Errorf("%d reads were refused at once", n)
		}
		s.fetcher.windows.free.Release(s.fetcher.windows.limit)
		wait.Wait()
		if served.Load() < 4 {
			t.Errorf("%d of those that waited were served", served.Load())
		}
	})
}

// TestCopiesFromDiskAreBounded: copies of blocks from disk have a memory limit of their own. A
// reader that finds no memory is refused, and the memory is released afterwards.
//
// Scenarios: E7.
func TestCopiesFromDiskAreBounded(t *testing.T) {
	up := s3mem.New()
	config := testConfig(rules.Immutable)
	config.HotBytes, config.FillBytes = 0, 6*block
	s := newStore(t, config, up)
	body := testkit.Bytes(1, 20*block)
	up.Put(key("k"), body)
	wantRead(t, s, key("k"), "", body, akigw.Cold)
	wantRead(t, s, key("k"), "", body, akigw.Warm)
	open := func(wait time.Duration) (*Reader, error) {
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		return s.Get(ctx, key("k"), akigw.RangeSpec{}, akigw.Conditions{})
	}
	var slow []*Reader
	for held := int64(0); held < 6*block; {
		r, err := open(time.Minute)
		if err != nil || r.Hold < block {
			t.Fatalf("reader %d: %v", len(slow), err)
		}
		slow, held = append(slow, r), held+r.Hold
	}
	if len(slow) < 2 {
		t.Fatal("one reader has all the memory")
	}
	if _, err := open(50 * time.Millisecond); !errors.Is(err, ErrBusy) {
		t.Errorf("a reader beyond the limit: %v", err)
	}
	for _, r := range slow {
		if got, err := drain(context.Background(), r); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		r.Close()
	}
	if !s.source.copies.free.TryAcquire(s.source.copies.limit) {
		t.Error("not all memory was released")
	}
	s.source.copies.free.Release(s.source.copies.limit)
	wantRead(t, s, key("k"), "", body, akigw.Warm)
}

// oneStalls is two upstreams; the one with the bucket "stalls" sends no body.
type oneStalls struct{ *s3mem.Memory }

func (oneStalls) Owner(bucket string) string { return "of " + bucket }
func (oneStalls) Names() []string            { return []string{"of bucket", "of stalls"} }

func (u oneStalls) Do(ctx context.Context, r *cold.Request) (*http.Response, error) {
	resp, err := u.Memory.Do(ctx, r)
	if err == nil && r.Key.Bucket == "stalls" && r.Method == http.MethodGet {
		resp.Body = stalledBody{resp.Body, ctx}
	}
	return resp, err
}

type stalledBody struct {
	io.ReadCloser
	ctx context.Context
}

func (b stalledBody) Read([]byte) (int, error) {
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

// TestStalledUpstreamLeavesFillMemory: readers of a stalled upstream, both those that hold memory
// and those that wait for it, leave enough for readers of another upstream, for fills and for
// read-ahead.
func TestStalledUpstreamLeavesFillMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := oneStalls{s3mem.New()}
		config := testConfig(rules.Immutable)
		config.WarmBytes, config.HotBytes = 0, 64<<20
		config.FillBytes = 8 * (window + 2) * block
		config.ReadAheadBytes = 16 * block
		s, err := New(Options{Config: config, Rules: rules.NewSet(nil, rules.Settings{Freshness: rules.Immutable, Memory: true, Block: block}), Upstream: up})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		body := testkit.Bytes(1, 20*block)
		stalls := func(n int) akigw.Key { return akigw.Key{Bucket: "stalls", Name: fmt.Sprint(n)} }
		const readers = 60
		for n := range readers {
			up.Put(stalls(n), body)
		}
		for n := range 20 {
			up.Put(key(fmt.Sprint(n)), body)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		for n := range readers {
			wait.Go(func() {
				if r, err := s.Get(ctx, stalls(n), akigw.RangeSpec{}, akigw.Conditions{}); err == nil {
					_, _ = drain(ctx, r) // until the test ends
					r.Close()
				}
			})
		}
		synctest.Wait()
		if s.fetcher.windows.parts["of stalls"].waiting.Load() == 0 {
			t.Fatal("no reader waits for memory: it was not exhausted")
		}
		for n := range 20 {
			began := time.Now()
			wantRead(t, s, key(fmt.Sprint(n)), "", body, akigw.Cold)
			if took := time.Since(began); took != 0 {
				t.Fatalf("a read from the other upstream took %v", took)
			}
		}
		ahead := s.fetcher.readAheadFor("stalls")
		for ahead.Acquire(block) {
			defer ahead.Release(block)
		}
		if other := s.fetcher.readAheadFor("bucket"); !other.Acquire(4 * block) {
			t.Error("no memory is left for read-ahead")
		} else {
			other.Release(4 * block)
		}
		cancel()
		wait.Wait()
	})
}
