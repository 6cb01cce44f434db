package tiers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testkit"
	"github.com/akidb/akigw/rules"
)

// TestE7_FillMemoryIsBounded: readers that do not read hold all the memory for
// fills; others get theirs after a moment, and the slow ones still get every
// byte. When more waits than there is, new reads are refused at once.
func TestE7_FillMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := testkit.NewMemory()
		config := testConfig(rules.Immutable)
		config.WarmBytes, config.HotBytes = 0, 0
		config.FillBytes = 4 * (window + 2) * block // four readers
		s := inMemoryWith(t, config, rules.Settings{Freshness: rules.Immutable}, up)
		body := testkit.Bytes(1, 20*block)
		for n := range 100 {
			up.Put(key(fmt.Sprint(n)), body)
		}
		ctx := context.Background()
		before := yields.Get()
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
		for n := range 4 { // one after the other takes the place of a slow one
			wantRead(t, s, key(fmt.Sprint(10+n)), "", body, akigw.Cold)
		}
		if waited := time.Since(started); waited < yieldAfter || waited > 2*yieldAfter+time.Second {
			t.Errorf("a quick reader waited %v for slow ones", waited)
		}
		if yields.Get() == before {
			t.Error("no fill yielded: the path was not exercised")
		}
		for n, r := range slow {
			if got, err := drain(ctx, r); err != nil || !bytes.Equal(got, body) {
				t.Errorf("slow reader %d: %d bytes, %v", n, len(got), err)
			}
			r.Close()
		}
		if used := s.windows.waiting.Load(); used != 0 {
			t.Errorf("%d bytes wait", used)
		}
		if !s.windows.free.TryAcquire(s.windows.limit) {
			t.Fatal("not all memory came back")
		}
		var refused, served atomic.Int64 // nobody gives anything back now
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
		s.windows.free.Release(s.windows.limit)
		wait.Wait()
		if served.Load() < 4 {
			t.Errorf("%d of those that waited were served", served.Load())
		}
	})
}

// TestE7_CopiesFromDiskAreBounded: blocks that readers have from disk are their
// own memory; who finds none is refused, and it comes back.
func TestE7_CopiesFromDiskAreBounded(t *testing.T) {
	up := testkit.NewMemory()
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
		t.Fatal("one reader has it all")
	}
	if _, err := open(50 * time.Millisecond); !errors.Is(err, ErrBusy) {
		t.Errorf("one reader too many: %v", err)
	}
	for _, r := range slow {
		if got, err := drain(context.Background(), r); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		r.Close()
	}
	if !s.copies.free.TryAcquire(s.copies.limit) {
		t.Error("not all memory came back")
	}
	s.copies.free.Release(s.copies.limit)
	wantRead(t, s, key("k"), "", body, akigw.Warm)
}
