package journal

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw/internal/testing/crashfs"
	"github.com/akidb/akigw/internal/vfs"
)

// pendingOn reports whether nothing has come from a channel when all goroutines of the bubble wait.
func pendingOn(c <-chan error) bool {
	synctest.Wait()
	return len(c) == 0
}

// TestWaitForWhatReplacedIt: a write that was replaced before it was taken to the upstream
// is waited for until what replaced it is there: nothing less shows it.
//
// Scenarios: D5.
func TestWaitForWhatReplacedIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := open(t, testConfig(crashfs.New(), "/j"))
		defer j.Close()
		mustPut(t, j, "k", []byte("one"))
		waited := make(chan error, 1)
		go func() { waited <- j.Wait(t.Context(), key("k")) }()
		synctest.Wait()
		mustPut(t, j, "k", []byte("two"))
		e := j.Take(key("k"))
		mustPut(t, j, "k", []byte("three")) // while two is on its way, which fails
		j.Return(e, true)
		if !pendingOn(waited) {
			t.Fatal("the upstream has nothing of it")
		}
		if err := j.Done(t.Context(), j.Take(key("k"))); err != nil {
			t.Fatal(err)
		}
		if err := <-waited; err != nil {
			t.Error(err)
		}
	})
}

// replacedOnItsWay has k written, and written again while the first of the two goes upstream, where
// it is by now. It returns what somebody waits for who came before the second.
func replacedOnItsWay(t *testing.T, j *Journal) uint64 {
	t.Helper()
	mustPut(t, j, "k", []byte("one"))
	first, until := j.Take(key("k")), j.Until(key("k"))
	mustPut(t, j, "k", []byte("two"))
	if err := j.Done(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	return until
}

// TestHoldAfterATry: what was tried and may have been carried out is tried again before
// somebody else writes: else its repetition would undo that.
//
// Scenarios: D4.
func TestHoldAfterATry(t *testing.T) {
	j := open(t, testConfig(vfs.Disk{}, t.TempDir()))
	defer j.Close()
	until := replacedOnItsWay(t, j)
	j.Return(j.Take(key("k")), true) // nobody knows what became of it
	if wait, err := j.table.waiting(key("k"), until, true); wait == nil || err != nil || j.table.held[key("k")] > 0 {
		t.Errorf("held, %v", err)
	}
	if wait, err := j.table.waiting(key("k"), until, false); wait != nil || err != nil {
		t.Errorf("who only waits need not wait for a later one: %v", err)
	}
	if err := j.Done(t.Context(), j.Take(key("k"))); err != nil {
		t.Fatal(err)
	}
	if wait, err := j.table.waiting(key("k"), until, true); wait != nil || err != nil || j.table.held[key("k")] != 1 {
		t.Errorf("not held, %v", err)
	}
}

// TestHold: while a key is held nothing of it is on its way to the upstream, or gets there.
//
// Scenarios: D3.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := open(t, testConfig(crashfs.New(), "/j"))
		defer j.Close()
		mustPut(t, j, "k", []byte("one"))
		taken := j.Take(key("k"))
		mustPut(t, j, "k", []byte("two"))
		held := make(chan error, 1)
		go func() { held <- j.Hold(t.Context(), key("k")) }()
		if !pendingOn(held) {
			t.Fatal("held while it was on its way")
		}
		if err := j.Done(t.Context(), taken); err != nil {
			t.Fatal(err)
		}
		if err := j.Done(t.Context(), j.Take(key("k"))); err != nil {
			t.Fatal(err)
		}
		if err := <-held; err != nil {
			t.Fatal(err)
		}
		mustPut(t, j, "k", []byte("three"))
		if j.Take(key("k")) != nil {
			t.Error("taken though it is held")
		}
		if err := j.Hold(t.Context(), key("other")); err != nil || j.Release(key("other")) {
			t.Errorf("another key: %v", err)
		}
		if !j.Release(key("k")) || j.Take(key("k")) == nil {
			t.Error("released, and not to be had")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := j.Hold(ctx, key("k")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("held though it is on its way: %v", err)
		}
	})
}

// TestHoldBesideAPack: what was looked at, and what is in a pack, holds nobody up.
//
// Scenarios: D4.
func TestHoldBesideAPack(t *testing.T) {
	j := open(t, testConfig(vfs.Disk{}, t.TempDir()))
	defer j.Close()
	until := replacedOnItsWay(t, j)
	packed := j.Take(key("k"))
	p, end, err := j.Packs.Begin(t.Context(), key("pack"))
	if err == nil {
		err = j.Packs.Add(t.Context(), p, []*Entry{packed}, []int64{0})
	}
	if err != nil {
		t.Fatal(err)
	}
	end()
	j.Return(packed, false)
	if wait, err := j.table.waiting(key("k"), until, true); wait != nil || err != nil || j.table.held[key("k")] != 1 {
		t.Errorf("not held, %v", err)
	}
}

// TestCovers: an entry stands for those that it replaced before they were upstream, also after a
// restart, and for none that were there.
func TestCovers(t *testing.T) {
	dir := t.TempDir()
	j := open(t, testConfig(vfs.Disk{}, dir))
	mustPut(t, j, "k", []byte("one"))
	first := j.Last(key("k"))
	mustPut(t, j, "k", []byte("two"))
	failed := j.Take(key("k"))
	mustPut(t, j, "k", []byte("three"))
	j.Return(failed, true)
	mustPut(t, j, "l", []byte("another"))
	for range 2 {
		k, l := j.Last(key("k")), j.Last(key("l"))
		if j.Covers(k) != first.ID || j.Covers(l) != l.ID {
			t.Errorf("%d covers %d, want %d; %d covers %d", k.ID, j.Covers(k), first.ID, l.ID, j.Covers(l))
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = open(t, testConfig(vfs.Disk{}, dir))
	}
	sent := j.Take(key("k"))
	mustPut(t, j, "k", []byte("four"))
	if err := j.Done(t.Context(), sent); err != nil {
		t.Fatal(err)
	}
	if e := j.Last(key("k")); j.Covers(e) != e.ID || j.Covers(sent) != math.MaxUint64 {
		t.Errorf("%d covers %d, and what is gone %d", e.ID, j.Covers(e), j.Covers(sent))
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}
