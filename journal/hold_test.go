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

// pendingOn reports whether a channel is still empty when all other goroutines of the bubble are
// blocked.
func pendingOn(c <-chan error) bool {
	synctest.Wait()
	return len(c) == 0
}

// TestWaitForWhatReplacedIt: a caller that waits for a write that was replaced before its flush
// waits until the replacement is upstream, because nothing less makes the write visible.
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
		mustPut(t, j, "k", []byte("three")) // while two is being uploaded, which fails
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

// replacedOnItsWay writes k, writes it again during the first upload, and completes that upload. It
// returns the number that a caller waits for who came before the second write.
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

// TestHoldAfterATry: an upload that failed but may have been carried out is repeated before a
// forwarded write goes ahead. Otherwise the repetition would undo that write.
//
// Scenarios: D4.
func TestHoldAfterATry(t *testing.T) {
	j := open(t, testConfig(vfs.Disk{}, t.TempDir()))
	defer j.Close()
	until := replacedOnItsWay(t, j)
	j.Return(j.Take(key("k")), true) // the outcome of the upload is unknown
	if wait, err := j.table.waiting(key("k"), until, true); wait == nil || err != nil || j.table.held[key("k")] > 0 {
		t.Errorf("held, %v", err)
	}
	if wait, err := j.table.waiting(key("k"), until, false); wait != nil || err != nil {
		t.Errorf("a caller that only waits must not wait for a later write: %v", err)
	}
	if err := j.Done(t.Context(), j.Take(key("k"))); err != nil {
		t.Fatal(err)
	}
	if wait, err := j.table.waiting(key("k"), until, true); wait != nil || err != nil || j.table.held[key("k")] != 1 {
		t.Errorf("not held, %v", err)
	}
}

// TestHold: while a key is held, none of its entries is being uploaded or taken for upload.
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
			t.Fatal("held during its upload")
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
			t.Error("taken while held")
		}
		if err := j.Hold(t.Context(), key("other")); err != nil || j.Release(key("other")) {
			t.Errorf("another key: %v", err)
		}
		if !j.Release(key("k")) || j.Take(key("k")) == nil {
			t.Error("released, but cannot be taken")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := j.Hold(ctx, key("k")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("held during its upload: %v", err)
		}
	})
}

// TestHoldBesideAPack: entries that were only looked at, and entries in a pack, delay no caller.
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

// TestCovers: an entry covers those that it replaced before they were upstream, also after a
// restart, but none that were upstream already.
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
		t.Errorf("%d covers %d, and the one that is upstream %d", e.ID, j.Covers(e), j.Covers(sent))
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}
