package writeback

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/uploadpool"
	"github.com/akidb/akigw/writeback/buckets"
	"github.com/akidb/akigw/writeback/overlay"
)

var testConfig = Config{MaxPendingBytes: 1 << 20, MaxPending: 3, MaxPendingSecs: 3600, InlineBytes: 16 << 10, SegmentBytes: 1 << 20, SyncTimeoutSecs: 10}

func key(name string) akigw.Key { return akigw.Key{Bucket: "bucket", Name: name} }

// open makes a cache with write-back for all keys. Nothing is flushed.
func open(t *testing.T, c Config) *WriteBack {
	t.Helper()
	w, _ := openOver(t, c, rules.Exclusive, s3mem.New())
	return w
}

// openOver is open with a given upstream.
func openOver(t *testing.T, c Config, freshness rules.Freshness, up *s3mem.Memory) (*WriteBack, *tiers.Store) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	book := rules.NewSet(nil, rules.Settings{Freshness: freshness, Memory: true, Back: true, Block: 64 << 10})
	c.Dir = t.TempDir()
	pending, err := Open(c, up, log)
	if err != nil {
		t.Fatal(err)
	}
	store, err := tiers.New(tiers.Options{Config: tiers.Config{HotBytes: 1 << 20, BlockBytes: 64 << 10, SmallBytes: 4 << 10}, Rules: book, Upstream: up, Overlay: pending})
	if err != nil {
		t.Fatal(errors.Join(err, pending.Close()))
	}
	w := New(Options{Config: c, Parallel: uploadpool.ParallelConfig{Enabled: true, Concurrency: 4, MaxRetries: 5, BackoffBaseMs: 100, MaxAgeSecs: 3600, ConfirmAfterMs: 5000}, Batch: uploadpool.BatchConfig{Enabled: true, BatchSize: 10}, Overlay: pending, Cache: store, Upstream: up, Rules: book, Log: log})
	t.Cleanup(func() {
		if err := errors.Join(w.Close(), store.Close(), pending.Close()); err != nil {
			t.Error(err)
		}
	})
	return w, store
}

// put acknowledges an object of a few bytes.
func put(t *testing.T, w *WriteBack, k akigw.Key) {
	t.Helper()
	write, err := w.Accept(t.Context(), k, 4, nil)
	if err != nil || write == nil {
		t.Fatalf("%s is not accepted: %v", k, err)
	}
	defer write.Discard()
	if _, err := write.Write([]byte("body")); err != nil {
		t.Fatal(err)
	}
	if _, err := write.Commit(t.Context(), `"841a2d689ad86bd1611447453c22c6fc"`, nil); err != nil {
		t.Fatal(err)
	}
}

// TestOff: a WriteBack without a journal accepts nothing, has nothing pending, and says why.
func TestOff(t *testing.T) {
	w := New(Options{Overlay: overlay.Off("the disk is broken")})
	ctx := t.Context()
	if write, err := w.Accept(ctx, key("k"), 1, nil); write != nil || err != nil {
		t.Errorf("Accept: %v, %v", write, err)
	}
	if done, err := w.Remove(ctx, []akigw.Key{key("k")}); done || err != nil {
		t.Errorf("Remove: %t, %v", done, err)
	}
	if id, err := w.Uploads.Begin(ctx, key("k"), nil); id != "" || err != nil {
		t.Errorf("Begin: %q, %v", id, err)
	}
	if _, err := w.Uploads.Find(key("k"), "akigw-1"); !errors.Is(err, ErrNoUpload) {
		t.Errorf("Find: %v", err)
	}
	if err := w.Drain(ctx, key("k")); err != nil {
		t.Errorf("Drain: %v", err)
	}
	release, err := w.Hold(ctx, key("k"))
	if err != nil {
		t.Fatalf("Hold: %v", err)
	}
	release()
	w.DrainAll(ctx)
	w.ChangeBucket("bucket")(true, false)
	w.Resume("default")
	if w.WritesBack("bucket") || w.Overlay.Pending(key("k")) != nil || w.Overlay.Promise(key("k")) != nil || w.Overlay.Translation(key("k")) != nil {
		t.Error("something is pending")
	}
	if err := w.DeadLetters.Retry(ctx, 1); !errors.Is(err, ErrNoDeadLetter) || len(w.DeadLetters.List()) > 0 {
		t.Errorf("dead letters: %v", err)
	}
	if err := w.ResumeFlush("bucket", false); !errors.Is(err, ErrNotPaused) {
		t.Errorf("ResumeFlush: %v", err)
	}
	if st := w.Status(); st.Problem == nil || st.Pending > 0 || len(w.Warnings()) != 1 {
		t.Errorf("%+v, %q", st, w.Warnings())
	}
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	if err := errors.Join(w.Run(stopped), w.Close(), w.Overlay.Close()); err != nil {
		t.Error(err)
	}
}

// TestLimits: beyond each limit of the journal, writes are written through. Writes that never
// arrived are not counted.
func TestLimits(t *testing.T) {
	t.Run("bytes", func(t *testing.T) {
		w := open(t, testConfig)
		first, err := w.Accept(t.Context(), key("a"), 1<<20, nil)
		if first == nil || err != nil {
			t.Fatal(err)
		}
		if more, err := w.Accept(t.Context(), key("b"), 1, nil); more != nil || err != nil {
			t.Errorf("a write beyond the byte limit is accepted: %v", err)
		}
		first.Discard()
		put(t, w, key("b"))
		if n := w.counters.through[buckets.Full].Get(); n != 1 {
			t.Errorf("%d writes were counted", n)
		}
	})
	t.Run("writes", func(t *testing.T) {
		w := open(t, testConfig)
		for _, name := range []string{"a", "b", "c"} {
			put(t, w, key(name))
		}
		if more, err := w.Accept(t.Context(), key("d"), 1, nil); more != nil || err != nil {
			t.Errorf("a write beyond the count limit is accepted: %v", err)
		}
	})
	for what, records := range map[string][]int{"number of records of streams": {1, 1, 1}, "bytes of records of streams": {600_000, 448_576}} {
		t.Run(what, func(t *testing.T) {
			w := open(t, testConfig)
			done := make(chan error, 1)
			for _, size := range records {
				d := w.journal.Receive(-1)
				if _, err := d.Write(make([]byte, size)); err != nil {
					t.Fatal(err)
				}
				if err := w.journal.Records.Append(d, "s", time.Now(), func(_ journal.Record, err error) { done <- err }); err != nil {
					t.Fatal(err)
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}
			if more, err := w.Accept(t.Context(), key("d"), 1, nil); more != nil || err != nil {
				t.Errorf("a write beyond the limit is accepted: %v", err)
			}
		})
	}
	t.Run("disk", func(t *testing.T) {
		c := testConfig
		var full atomic.Bool
		c.Fault = func(op akigw.DiskOp, _ string, size int) (int, error) {
			if full.Load() && op == akigw.DiskFree {
				return 0, errors.New("no space")
			}
			return size, nil
		}
		c.MinFreeBytes = 1
		w := open(t, c)
		put(t, w, key("a"))
		full.Store(true)
		if more, err := w.Accept(t.Context(), key("b"), 1, nil); more != nil || err != nil {
			t.Errorf("a write to a full disk is accepted: %v", err)
		}
	})
}

// TestOverlayOfAWrite: reads find what was acknowledged.
func TestOverlayOfAWrite(t *testing.T) {
	w := open(t, testConfig)
	put(t, w, key("a"))
	put(t, w, key("b"))
	if done, err := w.Remove(t.Context(), []akigw.Key{key("b")}); !done || err != nil {
		t.Fatalf("%t, %v", done, err)
	}
	if n, ok := w.Overlay.Size(key("a")); n != 4 || !ok {
		t.Errorf("%d bytes, %t", n, ok)
	}
	if p := w.Overlay.Pending(key("b")); p == nil || p.Object() != nil {
		t.Error("the deletion is not pending")
	}
	versioned := key("a")
	versioned.Version = "v"
	if w.Overlay.Pending(versioned) != nil || w.Overlay.Pending(key("c")) != nil {
		t.Error("a key that was not written is pending")
	}
	changes, more := w.Overlay.Changes("bucket", "", "", 1)
	if len(changes) != 1 || changes[0].Name != "a" || !more {
		t.Errorf("%+v, more: %t", changes, more)
	}
	if n := w.Overlay.Bytes("bucket"); n != 4 {
		t.Errorf("the bucket has %d pending bytes", n)
	}
}
