package warm

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestDamagedBlocks are dropped and counted, and too many of them switch the tier off: damaged on disk, or
// on a disk that does not read them.
//
// Scenarios: C8.
func TestDamagedBlocks(t *testing.T) {
	for _, how := range []string{"bits", "EIO"} {
		dir, broken := filepath.Join(t.TempDir(), "warm"), atomic.Bool{}
		tier, err := Open(Config{Dir: dir, Quota: 64 << 20, Format: "1", Log: slog.New(slog.DiscardHandler), Fault: func(op akigw.DiskOp, _ string, size int) (int, error) {
			if broken.Load() && op == akigw.DiskRead {
				return 0, syscall.EIO
			}
			return size, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		run := Run{ID: 1, Object: 2}
		for n := range int64(maxCorrupt + 10) {
			tier.PutBlock(run, n, random(uint64(n), 1000))
		}
		if how == "EIO" {
			broken.Store(true)
		} else {
			flipAll(t, filepath.Join(dir, blocksDir))
		}
		for n := range int64(maxCorrupt) {
			if tier.health.off.Load() {
				t.Fatalf("%s: off after %d blocks", how, n)
			}
			if _, ok := tier.Block(run, n, nil); ok || tier.HasBlock(run, n) {
				t.Errorf("%s: block %d is there", how, n)
			}
		}
		broken.Store(false)
		if !tier.health.off.Load() || tier.counters.corrupt.Get() != maxCorrupt || tier.HasBlock(run, maxCorrupt+1) {
			t.Errorf("%s: %d damaged, off %t", how, tier.counters.corrupt.Get(), tier.health.off.Load())
		}
		closeTier(t, tier)
	}
}

// flipAll flips one bit of each 512 bytes of each file behind its head.
func flipAll(t *testing.T, dir string) {
	t.Helper()
	testkit.EachFile(t, dir, func(_, path string) error {
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for at := 300; at < len(raw); at += 512 {
			raw[at] ^= 4
		}
		return os.WriteFile(path, raw, 0o600)
	})
}

// TestBlocksWithoutTheDirectory: a tier whose directory is gone takes no block and fails nothing.
//
// Scenarios: C3.
func TestBlocksWithoutTheDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "warm")
	tier := open(t, dir, 64<<20, "1")
	run := Run{ID: 1}
	tier.PutBlock(run, 0, random(1, 1000))
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if got, ok := tier.Block(run, 0, nil); !ok || !bytes.Equal(got, random(1, 1000)) {
		t.Error("it could still be read")
	}
	if tier.health.intact() {
		t.Error("not noticed")
	}
	tier.PutBlock(run, 1, random(1, 1000))
	if tier.HasBlock(run, 0) || tier.HasBlock(run, 1) || tier.DropBlocks(1) != 0 {
		t.Error("it is used")
	}
	closeTier(t, tier)
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if err := tier.data.db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAnIndexWithBounds: blocks that compress to nothing do not fill the memory.
func TestAnIndexWithBounds(t *testing.T) {
	tier := open(t, filepath.Join(t.TempDir(), "warm"), MinQuota, "1")
	defer closeTier(t, tier)
	run := Run{ID: 1, Handling: Handling{Compress: true, Wanted: true}}
	zeros := make([]byte, 64<<10)
	for n := range int64(6000) {
		tier.PutBlock(run, n, zeros)
	}
	if n := int64(tier.blocks.Len()); n < 3000 || n > tier.blocks.most {
		t.Errorf("%d blocks", n)
	}
	e := newEvictor(tier)
	for range 50 {
		e.step()
	}
	if n := int64(tier.blocks.Len()); n > tier.blocks.most*9/10 || n < tier.blocks.most/2 {
		t.Errorf("%d blocks of %d after eviction", n, tier.blocks.most)
	}
}
