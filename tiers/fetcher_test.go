package tiers

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
)

// stuckLook makes each look-up of a block of the object "stuck" block until release is called.
func stuckLook(s *Store) (release func()) {
	released := make(chan struct{})
	look := s.fetcher.look
	s.fetcher.look = func(e *entry, n int64) akigw.Outcome {
		if e.Key.Name == "stuck" {
			<-released
		}
		return look(e, n)
	}
	return func() { close(released) }
}

// know puts an object upstream and makes the store learn its entry, without its bytes.
func know(t *testing.T, s *Store, up *s3mem.Memory, k akigw.Key, body []byte) *entry {
	t.Helper()
	up.Put(k, body)
	r, err := s.Head(t.Context(), k, akigw.RangeSpec{}, akigw.Conditions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return r.entry
}

// TestASlowLookDelaysNoOtherFill: while a fill is stuck in a look-up on disk, other fills begin and
// end, readers attach to the fills in progress, and each block is fetched once.
func TestASlowLookDelaysNoOtherFill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Exclusive}, up)
		body := testkit.Bytes(1, block)
		e := know(t, s, up, key("stuck"), body)
		know(t, s, up, key("known"), body)
		up.Put(key("new"), body)
		release := stuckLook(s)

		const readers = 3
		var wait sync.WaitGroup
		for n := range readers {
			wait.Go(func() {
				if got, outcome, err := readAll(s, key("stuck"), ""); err != nil || outcome != akigw.Cold || !bytes.Equal(got, body) {
					t.Errorf("%d bytes from %s, %v", len(got), outcome, err)
				}
			})
			synctest.Wait() // the first one looks, the others wait for it
			if n == 0 && !s.fetcher.mu.TryLock() {
				release()
				wait.Wait()
				t.Fatal("the mutex is held while a fill looks")
			}
			if n == 0 {
				s.fetcher.mu.Unlock()
			}
		}
		began := time.Now()
		wantRead(t, s, key("known"), "", body, akigw.Cold) // a fill of missing blocks
		wantRead(t, s, key("new"), "", body, akigw.Cold)   // an opening fill
		if took := time.Since(began); took != 0 {
			t.Errorf("reads of other objects took %v", took)
		}
		wantCount(t, up, "GET", 2)
		s.fetcher.mu.Lock()
		fills := s.fetcher.fills[e.extent]
		s.fetcher.mu.Unlock()
		if len(fills) != 1 || fills[0].readers != readers {
			t.Errorf("%d fills of one block, want 1 that has all %d readers", len(fills), readers)
		}
		release()
		wait.Wait()
		wantCount(t, up, "GET", 3)
	})
}

// TestABlockThatComesMeanwhileIsNotFetched: a reader missed a block. Before it starts its own fill,
// another fill brings the block and ends. All readers of the late fill get that block, and the
// upstream is not asked again.
func TestABlockThatComesMeanwhileIsNotFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Exclusive}, up)
		body := testkit.Bytes(1, block)
		e := know(t, s, up, key("stuck"), body)
		release := stuckLook(s)
		var wait sync.WaitGroup
		for range 2 {
			wait.Go(func() { wantRead(t, s, key("stuck"), "", body, "") })
		}
		synctest.Wait()
		s.hot.Keep(hotKey{extent: e.extent, n: 0}, hotValue{block: newBlock(body, nil)})
		release()
		wait.Wait()
		wantCount(t, up, "GET", 0)
		if n := len(s.fetcher.fills); n != 0 {
			t.Errorf("%d fills in progress", n)
		}
	})
}

// TestABlockThatCannotBeReadIsFetched: a look-up finds a block that is damaged and cannot be read.
// The reader looks once more and then fetches the block without a look-up.
func TestABlockThatCannotBeReadIsFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Exclusive}, up)
		body := testkit.Bytes(1, 3*block)
		know(t, s, up, key("k"), body)
		s.fetcher.look = func(*entry, int64) akigw.Outcome { return akigw.Warm }
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r, err := s.Get(ctx, key("k"), akigw.RangeSpec{}, akigw.Conditions{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if got, err := drain(ctx, r); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		wantCount(t, up, "GET", 3)
	})
}
