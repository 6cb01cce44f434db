package warm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// earlier does something to a directory as a release did that had its blocks in Badger, and that knew
// nothing of segments.
func earlier(t *testing.T, dir string, secret []byte, do func(d *database)) {
	t.Helper()
	values, err := newCodec(secret)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	config := &Config{Dir: dir, Quota: MinQuota, Format: "1" + values.format(), Secret: secret, Log: log}
	db, err := openBadger(config)
	if err != nil {
		t.Fatal(err)
	}
	h := &health{dir: dir, ballast: &ballast{path: filepath.Join(dir, ballastFile)}, log: log}
	if h.opened, err = os.Stat(dir); err != nil {
		t.Fatal(err)
	}
	d := &database{db: db, values: values, fault: config.fault, health: h, counters: newCounters(nil), log: log}
	if got, _ := d.get([]byte("mformat")); string(got) != config.Format {
		if err := errors.Join(db.DropAll(), d.write([]byte("mformat"), []byte(config.Format))); err != nil {
			t.Fatal(err)
		}
	}
	do(d)
	if err := errors.Join(d.close(), marks{dir}.markClean()); err != nil {
		t.Fatal(err)
	}
}

// putEarlier stores a block in Badger.
func putEarlier(t *testing.T, d *database, run Run, n int64, data []byte) {
	t.Helper()
	r, err := d.seal(blockKey(run, n), data, run.Compress)
	if err == nil {
		err = d.store(r)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestBlocksOfAnEarlierRelease are read, counted and removed like those in segments, in every form.
func TestBlocksOfAnEarlierRelease(t *testing.T) {
	for _, key := range [][]byte{nil, secret} {
		dir := filepath.Join(t.TempDir(), "warm")
		body := func(n int64) []byte { return text(1000 + int(n)) }
		run := func(id uint64) Run { return Run{ID: id, Object: 5, Handling: Handling{Compress: id%2 == 0}} }
		earlier(t, dir, key, func(d *database) {
			for _, id := range []uint64{2, 3, 7} {
				for n := range int64(5) {
					putEarlier(t, d, run(id), n, body(n))
				}
			}
		})
		tier := openSealed(t, dir, key)
		if !tier.Clean() {
			t.Error("it is taken for the remains of a crash")
		}
		for _, id := range []uint64{1, 3, 9} {
			for n := range int64(3) {
				tier.PutBlock(run(id), n+5, body(n+5))
			}
		}
		for id, blocks := range map[uint64][2]int64{1: {5, 8}, 2: {0, 5}, 3: {0, 8}, 7: {0, 5}, 9: {5, 8}} {
			for n := range int64(9) {
				want := n >= blocks[0] && n < blocks[1]
				got, ok := tier.Block(run(id), n, make([]byte, 0, 100))
				if ok != want || tier.HasBlock(run(id), n) != want || ok && !bytes.Equal(got, body(n)) {
					t.Errorf("block %d of %d: %d bytes, %t", n, id, len(got), ok)
				}
			}
		}
		runs := func() (all string) {
			tier.Runs(func(id uint64, n int64) bool {
				all += fmt.Sprint(id, ":", n, ":", tier.Blocks(id), " ")
				return true
			})
			return all
		}
		if got := runs(); got != "1:3:3 2:5:5 3:8:8 7:5:5 9:3:3 " || tier.NewestRun() != 9 {
			t.Errorf("extents %q, newest %d", got, tier.NewestRun())
		}
		if n := tier.DropBlocks(9) + tier.DropBlocks(3) + tier.DropBlocks(2); n != 16 {
			t.Errorf("%d blocks were removed", n)
		}
		for range 2 {
			if got := runs(); got != "1:3:3 7:5:5 " || tier.NewestRun() != 7 {
				t.Errorf("extents %q, newest %d", got, tier.NewestRun())
			}
			closeTier(t, tier)
			tier = openSealed(t, dir, key)
		}
		closeTier(t, tier)
	}
}

// TestEarlierBlocksGoInTime: what an earlier release left makes room for new blocks, within the quota,
// except for what is pinned.
//
// Scenarios: I7, D10.
func TestEarlierBlocksGoInTime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "warm")
	block, pinned := random(1, 256<<10), Run{ID: 1, Object: 1}
	k := akigw.Key{Bucket: "bucket", Name: "pinned"}
	earlier(t, dir, nil, func(d *database) {
		for n := range int64(4) {
			putEarlier(t, d, pinned, n, block)
		}
		for n := range int64(80) { // 20 of 28 MiB
			putEarlier(t, d, Run{ID: 2, Object: 2}, n, block)
		}
	})
	tier := open(t, dir, MinQuota, "1")
	tier.PutEntry(k, []byte("record"), []byte("summary"), Handling{})
	if !tier.Pin(k, pinned.ID, 1<<20) {
		t.Fatal("not pinned")
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tier.Run(ctx) }()
	peak := int64(0)
	left := func() int64 { return tier.Blocks(2) }
	for n, began := int64(0), time.Now(); left() > 0 || n < 400; n++ {
		before := tier.counters.refused.Get()
		tier.PutBlock(Run{ID: uint64(10 + n), Object: uint64(n), Handling: Handling{Wanted: true}}, 0, block)
		if tier.counters.refused.Get() > before {
			time.Sleep(5 * time.Millisecond)
		}
		if n%8 == 0 {
			peak = max(peak, size.OnDisk(dir))
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("%d blocks are left after a minute", left())
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if peak > MinQuota {
		t.Errorf("the directory took %d bytes", peak)
	}
	for n := range int64(4) {
		if got, ok := tier.Block(pinned, n, nil); !ok || !bytes.Equal(got, block) {
			t.Errorf("pinned block %d: %t", n, ok)
		}
	}
	closeTier(t, tier)
}

// TestThereAndBack: an earlier release works with a directory that has segments, and leaves them alone.
// Afterwards blocks of both are read. A database that it emptied has no segments any more, because
// it numbers its extents anew.
func TestThereAndBack(t *testing.T) {
	for _, key := range [][]byte{nil, secret} {
		dir := filepath.Join(t.TempDir(), "warm")
		tier := openSealed(t, dir, key)
		k, run := keyOf("bucket", "k"), Run{ID: 1 << 40, Object: 4}
		tier.PutEntry(k, []byte("record"), []byte("summary"), Handling{})
		tier.PutBlock(run, 0, text(5000))
		closeTier(t, tier)

		later := Run{ID: 2 << 40, Object: 4}
		earlier(t, dir, key, func(d *database) {
			if got, ok := d.get(d.values.entryKey(k)); !ok || string(got) != "record" {
				t.Errorf("the record is %q", got)
			}
			if d.has(blockKey(run, 0)) {
				t.Error("the block is in Badger")
			}
			putEarlier(t, d, later, 0, text(6000))
		})
		tier = openSealed(t, dir, key)
		if got, ok := tier.Block(run, 0, nil); !ok || !bytes.Equal(got, text(5000)) {
			t.Errorf("in segments: %d bytes, %t", len(got), ok)
		}
		if got, ok := tier.Block(later, 0, nil); !ok || !bytes.Equal(got, text(6000)) {
			t.Errorf("in Badger: %d bytes, %t", len(got), ok)
		}
		closeTier(t, tier)

		earlier(t, dir, key, func(d *database) { // it starts empty, for example because its key was another one
			if err := errors.Join(d.db.DropAll(), d.write([]byte("mformat"), []byte("1"+d.values.format()))); err != nil {
				t.Fatal(err)
			}
		})
		tier = openSealed(t, dir, key)
		if tier.HasBlock(run, 0) || tier.NewestRun() != 0 {
			t.Error("a block of a catalog that was emptied is there")
		}
		closeTier(t, tier)
		for name := range testkit.ReadTree(t, dir) {
			if filepath.Dir(name) == blocksDir {
				t.Errorf("%s is left", name)
			}
		}
	}
}

// TestSegmentsOfAnotherFormat: a tier of another format or secret starts without blocks.
func TestSegmentsOfAnotherFormat(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "warm")
	for _, key := range [][]byte{nil, secret, nil} {
		tier := openSealed(t, dir, key)
		if tier.blocks.Len() > 0 {
			t.Errorf("%d blocks of another format", tier.blocks.Len())
		}
		tier.PutBlock(Run{ID: 1}, 0, text(5000))
		closeTier(t, tier)
	}
}
