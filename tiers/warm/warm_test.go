package warm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/internal/testing/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testkit.BadgerLeaks()...) }

func open(t testing.TB, dir string, quota int64, format string) *Tier {
	t.Helper()
	tier, err := Open(Config{Dir: dir, Quota: quota, Format: format, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return tier
}

func closeTier(t testing.TB, tier *Tier) {
	t.Helper()
	if err := tier.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestValuesSurviveARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "warm")
	tier := open(t, dir, 64<<20, "1")
	k := akigw.Key{Bucket: "bucket", Name: "a//b"}
	data := bytes.Repeat([]byte("x"), 100_000)
	tier.PutEntry(k, []byte("entry"), []byte("summary"), Handling{})
	tier.PutBlock(Run{ID: 7}, 3, data)
	if tier.Clean() {
		t.Error("a new directory does not count as cleanly closed")
	}
	closeTier(t, tier)
	tier = open(t, dir, 64<<20, "1")
	defer closeTier(t, tier)
	if got, ok := tier.Entry(k); !ok || string(got) != "entry" {
		t.Errorf("entry: %q %t", got, ok)
	}
	if got, ok := tier.Block(Run{ID: 7}, 3, nil); !ok || !bytes.Equal(got, data) {
		t.Errorf("block: %d bytes, %t", len(got), ok)
	}
	if !tier.Clean() {
		t.Error("the directory counts as cleanly closed")
	}
}

func TestAnotherFormatStartsEmpty(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "warm")
	tier := open(t, dir, 64<<20, "1")
	tier.PutBlock(Run{ID: 1}, 1, []byte("old"))
	closeTier(t, tier)
	if err := os.Remove(filepath.Join(dir, "CLEAN")); err != nil {
		t.Fatal(err)
	}
	closeTier(t, open(t, dir, 64<<20, "1"))
	if _, err := os.Stat(marks{tier.config.Dir}.path(crashFile)); err != nil {
		t.Errorf("after a crash and a clean epoch: %v", err)
	}
	tier = open(t, dir, 64<<20, "2")
	if _, err := os.Stat(marks{tier.config.Dir}.path(crashFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after a start with an empty directory: %v", err)
	}
	defer closeTier(t, tier)
	if tier.HasBlock(Run{ID: 1}, 1) {
		t.Error("a value of another format was kept")
	}
}

// TestPlaceThatWasLost: after a crash, a key may point to a place in the value log that now holds
// other bytes. It reads as absent, and the tier can still be closed; Badger itself would keep the
// file locked.
//
// Scenarios: B22.
func TestPlaceThatWasLost(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "warm")
	tier := open(t, dir, 64<<20, "1")
	value := bytes.Repeat([]byte("value"), 2000)
	k := func(n int) akigw.Key { return keyOf("bucket", fmt.Sprint(n)) }
	for n := range 10 {
		tier.PutEntry(k(n), value, []byte("summary"), Handling{})
	}
	closeTier(t, tier)
	closeTier(t, open(t, dir, 64<<20, "1")) // starts another file: Badger itself checks the last one
	if err := os.Remove(filepath.Join(dir, "CLEAN")); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*.vlog"))
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for _, name := range logs {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for at := 20; at < len(raw); { // 20: the head of the file
			next := bytes.Index(raw[at:], value)
			if next < 0 {
				break
			}
			copy(raw[at+2:], "\xff\xff\xff\x0f\xff\xff\xff\x0f") // impossible lengths in the head of the entry
			at += next + len(value) + 4                          // after the checksum
			lost++
		}
		if err := os.WriteFile(name, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if lost != 10 {
		t.Fatalf("%d entries were found", lost)
	}
	for restart := range 2 { // damage that the first epoch does not read, the second finds
		tier = open(t, dir, 64<<20, "1")
		for n := restart * 5; n < restart*5+5; n++ {
			if got, ok := tier.Entry(k(n)); ok {
				t.Errorf("entry %d is %d bytes", n, len(got))
			}
		}
		began := time.Now()
		if closeTier(t, tier); time.Since(began) > closePatience/2 {
			t.Errorf("restart %d: it did not close", restart)
		}
	}
}

// TestEveryByteOfATable: any damaged byte causes an error before Badger opens the directory. Some
// of them would make Badger end the process.
//
// Scenarios: C13.
func TestEveryByteOfATable(t *testing.T) {
	testkit.WithoutRace(t, "it tries every place, one after the other")
	dir := filepath.Join(t.TempDir(), "warm")
	tier := open(t, dir, 64<<20, "1")
	for n := range 20 {
		tier.PutEntry(keyOf("bucket", fmt.Sprint(n)), []byte("record"), []byte("summary"), Handling{})
	}
	closeTier(t, tier)
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("%v, %v", tables, err)
	}
	if err := verifyTables(dir); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 1 << (at % 8)
		if err := os.WriteFile(tables[0], damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if verifyTables(dir) == nil {
			t.Errorf("byte %d of %d: not noticed", at, len(whole))
		}
	}
}

// TestDirectoryThatDoesNotOpenIsSetAside covers every file of the directory: whatever is damaged,
// the tier opens and serves no wrong bytes.
//
// Scenarios: C13.
func TestDirectoryThatDoesNotOpenIsSetAside(t *testing.T) {
	source := filepath.Join(t.TempDir(), "warm")
	tier := open(t, source, 64<<20, "1")
	values := map[int64][]byte{}
	for n := range int64(50) {
		values[n] = bytes.Repeat([]byte{byte(n)}, 30_000)
		tier.PutBlock(Run{ID: 1}, n, values[n])
	}
	closeTier(t, tier)
	var files []string
	testkit.EachFile(t, source, func(name, _ string) error {
		files = append(files, name)
		return nil
	})
	seed := testSeed(t)
	random := rand.New(rand.NewPCG(seed, 0))
	aside := 0
	for _, f := range files {
		for _, how := range []string{"truncate", "flip", "garbage"} {
			dir := filepath.Join(t.TempDir(), "warm")
			if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
				t.Fatal(err)
			}
			damage(t, random, filepath.Join(dir, f), how)
			tier := open(t, dir, 64<<20, "1")
			for n, want := range values {
				if got, ok := tier.Block(Run{ID: 1}, n, nil); ok && !bytes.Equal(got, want) {
					t.Errorf("seed %d: %s of %s: block %d has wrong bytes", seed, how, f, n)
				}
			}
			closeTier(t, tier)
			if broken, _ := filepath.Glob(dir + ".broken-*"); len(broken) > 0 {
				aside++
			}
		}
	}
	if aside == 0 {
		t.Error("no damage led to a directory being set aside: the path was not exercised")
	}
}

// testSeed is random, or the value of AKIGW_SEED.
func testSeed(t *testing.T) uint64 {
	seed := rand.Uint64()
	if s := os.Getenv("AKIGW_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("AKIGW_SEED=%d", seed)
	return seed
}

func damage(t *testing.T, random *rand.Rand, path, how string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case len(raw) == 0:
		return
	case how == "truncate":
		raw = raw[:len(raw)/2]
	case how == "flip":
		raw[random.IntN(len(raw))] ^= 1 << random.IntN(8)
	default:
		for i := range raw {
			raw[i] = byte(random.Uint32())
		}
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDiskStaysWithinTheQuota writes ten times the quota, with the real background work running,
// and checks the directory all the time.
//
// Scenarios: I7, C15.
func TestDiskStaysWithinTheQuota(t *testing.T) {
	const quota = MinQuota
	dir := filepath.Join(t.TempDir(), "warm")
	tier := open(t, dir, quota, "1")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tier.Run(ctx) }()
	data := bytes.Repeat([]byte("0123456789abcdef"), 16<<10) // 256 KiB
	written, peak := 0, int64(0)
	deadline := time.Now().Add(60 * time.Second)
	for n := 0; written < 6*quota && time.Now().Before(deadline); n++ {
		before := tier.counters.refused.Get()
		tier.PutBlock(Run{ID: uint64(n / 16)}, int64(n%16), data)
		if tier.counters.refused.Get() == before {
			written += len(data)
		} else {
			time.Sleep(10 * time.Millisecond)
		}
		if n%16 == 0 {
			peak = max(peak, size.OnDisk(dir))
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	live := tier.blocks.Len()
	closeTier(t, tier)
	peak = max(peak, size.OnDisk(dir))
	t.Logf("wrote %d MiB, peak %d MiB of %d, %d values live at the end", written>>20, peak>>20, quota>>20, live)
	if peak > quota {
		t.Errorf("the directory took %d bytes, quota %d", peak, quota)
	}
	if written < 6*quota {
		t.Errorf("only %d bytes could be written in a minute: space does not come back", written)
	}
	if live < 20 {
		t.Errorf("only %d of %d blocks that would fit are kept", live, quota/len(data))
	}
}

// TestFrequentlyUsedValuesSurviveAScan: values that are read between sweeps stay.
func TestFrequentlyUsedValuesSurviveAScan(t *testing.T) {
	tier := open(t, filepath.Join(t.TempDir(), "warm"), 256<<20, "1")
	defer closeTier(t, tier)
	value := bytes.Repeat([]byte("v"), 10_000)
	for n := range int64(200) {
		tier.PutBlock(Run{ID: 1}, n, value)
	}
	e := newEvictor(tier)
	for range 3 {
		for n := range int64(20) {
			for range 3 {
				tier.Block(Run{ID: 1}, n, nil)
			}
		}
		e.sweep(100 * 10_000)
	}
	kept, others := 0, 0
	for n := range int64(200) {
		if tier.HasBlock(Run{ID: 1}, n) {
			if n < 20 {
				kept++
			} else {
				others++
			}
		}
	}
	if kept != 20 || others > 100 {
		t.Errorf("kept %d of 20 values in use and %d others", kept, others)
	}
}

// TestNoWritesWithoutHeadroom: writes stop before the disk is full, because Badger's memory maps
// cannot handle a full disk.
//
// Scenarios: C3.
func TestNoWritesWithoutHeadroom(t *testing.T) {
	tier := open(t, filepath.Join(t.TempDir(), "warm"), 64<<20, "1")
	defer closeTier(t, tier)
	tier.space.free.Store(tier.space.headroom - 1)
	tier.PutBlock(Run{ID: 1}, 1, []byte("x"))
	if tier.HasBlock(Run{ID: 1}, 1) {
		t.Error("wrote with less than the headroom free")
	}
}

func TestRepeatedCorruptionSwitchesTheTierOff(t *testing.T) {
	tier := open(t, filepath.Join(t.TempDir(), "warm"), 64<<20, "1")
	defer closeTier(t, tier)
	tier.PutBlock(Run{ID: 1}, 0, []byte("good"))
	for n := range maxCorrupt {
		tier.data.dropDamaged(fmt.Appendf(nil, "b%d", n), akigw.ErrChecksum)
	}
	if _, ok := tier.Block(Run{ID: 1}, 0, nil); ok {
		t.Error("still serving from a disk that returned damaged data again and again")
	}
	tier.PutBlock(Run{ID: 1}, 1, []byte("x"))
	if tier.HasBlock(Run{ID: 1}, 1) {
		t.Error("still writing to it")
	}
}

func BenchmarkBlock(b *testing.B) {
	tier := open(b, filepath.Join(b.TempDir(), "warm"), 256<<20, "1")
	defer closeTier(b, tier)
	data := bytes.Repeat([]byte("0123456789abcdef"), 16<<10)
	for n := range int64(64) {
		tier.PutBlock(Run{ID: 1}, n, data)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for n := int64(0); b.Loop(); n++ {
		if _, ok := tier.Block(Run{ID: 1}, n%64, nil); !ok {
			b.Fatal("lost a block")
		}
	}
}

// TestSmallBodiesStayOutOfTables: data in Badger's tables is rewritten at every compaction. A body
// of 2,000 bytes should not be.
func TestSmallBodiesStayOutOfTables(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "warm")
	tier := open(t, dir, 256<<20, "1")
	const objects = 4000
	for n := range objects {
		if !tier.PutEntry(akigw.Key{Bucket: "bucket", Name: fmt.Sprint(n)}, random(uint64(n), 2000), random(2, 150), Handling{}) {
			t.Fatal("not stored")
		}
	}
	closeTier(t, tier) // memtables become tables
	files, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d tables, %v", len(files), err)
	}
	var tables int64
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		tables += info.Size()
	}
	if tables > objects*2000/2 {
		t.Errorf("%d bytes in tables, of %d objects of 2,000", tables, objects)
	}
}

// BenchmarkPutEntry stores records with their summaries, as the first read of each small object
// does, in a tier with room for all and in one that evicts most of them. Most of the work is
// Badger's, in the background: see cpu-ns/op.
func BenchmarkPutEntry(b *testing.B) {
	for _, of := range []struct {
		name   string
		record int
		quota  int64
	}{{"600", 600, 1 << 30}, {"2000", 2000, 1 << 30}, {"2000/dropped", 2000, 64 << 20}} {
		b.Run(of.name, func(b *testing.B) {
			tier := open(b, filepath.Join(b.TempDir(), "warm"), of.quota, "1")
			defer closeTier(b, tier)
			ctx, stop := context.WithCancel(b.Context())
			done := make(chan error, 1)
			go func() { done <- tier.Run(ctx) }()
			record, summary := random(1, of.record), random(2, 150)
			b.ReportAllocs()
			began, refused := usage(b).cpu, 0
			for n := uint32(0); b.Loop(); n++ {
				if !tier.PutEntry(akigw.Key{Bucket: "bucket", Name: fmt.Sprintf("%08x", n*2654435761)}, record, summary, Handling{Wanted: true}) {
					refused++
				}
			}
			b.ReportMetric(float64((usage(b).cpu-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(refused)/float64(b.N), "refused/op")
			b.ReportMetric(float64(tier.Used())/(1<<20), "used-MiB")
			stop()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		})
	}
}
