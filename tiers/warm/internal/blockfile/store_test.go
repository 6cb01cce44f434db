package blockfile

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/akidb/akigw/internal/testing/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var storeID = [16]byte{1, 2, 3}

func open(t testing.TB, dir string, segment int64) *Store {
	t.Helper()
	s, err := Open(Options{Dir: dir, Store: storeID, SegmentBytes: segment})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// end closes a store, or leaves it as the end of the process does.
func end(t testing.TB, s *Store, cleanly bool) {
	t.Helper()
	err := error(nil)
	if cleanly {
		err = s.Close()
	} else {
		err = s.Abandon()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, s *Store, id ID, payload []byte) {
	t.Helper()
	if err := s.Put(id, byte(len(payload)), payload); err != nil {
		t.Fatal(err)
	}
}

func anywhere(byte, int) []byte { return nil }

// wantBlock checks that the store has a block.
func wantBlock(t testing.TB, s *Store, id ID, want []byte) {
	t.Helper()
	encoding, got, err := s.Get(id, anywhere)
	if err != nil || !bytes.Equal(got, want) || encoding != byte(len(want)) || !s.Has(id) {
		t.Errorf("%v: %d bytes, encoding %d, %v", id, len(got), encoding, err)
	}
}

// wantNone checks that the store does not have a block.
func wantNone(t testing.TB, s *Store, id ID) {
	t.Helper()
	if _, got, err := s.Get(id, anywhere); !errors.Is(err, ErrAbsent) {
		t.Errorf("%v: %d bytes, %v", id, len(got), err)
	}
}

// block is what the tests store under an ID.
func block(id ID, length int) []byte {
	return testkit.Bytes(id.Extent<<32|uint64(id.N)|1, length)
}

func evictAll(s *Store) int64 { return s.Sweep(math.MaxInt64, func(ID, int64) bool { return false }) }

func compact(t testing.TB, s *Store, share float64) {
	t.Helper()
	if _, _, err := s.Compact(share, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
}

// TestBlocksComeBack: whatever their size, before and after the store was closed or the process ended.
func TestBlocksComeBack(t *testing.T) {
	for _, cleanly := range []bool{true, false} {
		dir := t.TempDir()
		s := open(t, dir, 64<<10)
		lengths := []int{0, 1, 63, 64, 65, 4095, 4096, 100_000, 1, maxPayload}
		for n, length := range lengths {
			id := ID{Extent: uint64(n%3 + 1), N: int64(n) << 20, Object: uint64(n)}
			put(t, s, id, block(id, length))
		}
		for range 3 {
			for n, length := range lengths {
				id := ID{Extent: uint64(n%3 + 1), N: int64(n) << 20, Object: uint64(n)}
				wantBlock(t, s, id, block(id, length))
				wantNone(t, s, ID{Extent: id.Extent, N: id.N + 1, Object: id.Object})
				wantNone(t, s, ID{Extent: id.Extent, N: id.N, Object: 99})
			}
			wantNone(t, s, ID{Extent: 1, N: 1 << 40})
			wantNone(t, s, ID{Extent: 1, N: -1})
			var extents []string
			s.Extents(func(extent uint64, n int64) bool {
				extents = append(extents, fmt.Sprint(extent, ":", n, ":", s.Count(extent)))
				return true
			})
			if want := []string{"1:4:4", "2:3:3", "3:3:3"}; !slices.Equal(extents, want) || s.Newest() != 3 {
				t.Errorf("extents %q, newest %d", extents, s.Newest())
			}
			end(t, s, cleanly)
			s = open(t, dir, 64<<10)
		}
		end(t, s, true)
	}
}

// TestIntoTheCallersMemory: a payload is read into what the caller offers, if it is large enough.
func TestIntoTheCallersMemory(t *testing.T) {
	s := open(t, t.TempDir(), 1<<20)
	defer end(t, s, true)
	id := ID{Extent: 1}
	put(t, s, id, block(id, 1000))
	for _, capacity := range []int{0, 999, 1000, 5000} {
		buffer := make([]byte, 0, capacity)
		_, got, err := s.Get(id, func(_ byte, length int) []byte {
			if length != 1000 {
				t.Errorf("%d bytes were announced", length)
			}
			return buffer
		})
		if shared := capacity >= 1000; err != nil || !bytes.Equal(got, block(id, 1000)) || shared != (capacity > 0 && &got[0] == &buffer[:1][0]) {
			t.Errorf("capacity %d: %d bytes, %v", capacity, len(got), err)
		}
	}
}

// TestNotABlock: what a segment cannot hold is refused, and nothing is written.
func TestNotABlock(t *testing.T) {
	s := open(t, t.TempDir(), 1<<20)
	defer end(t, s, true)
	for _, id := range []ID{{N: -1}, {N: maxN + 1}} {
		if err := s.Put(id, 0, nil); !errors.Is(err, errBlock) {
			t.Errorf("%v: %v", id, err)
		}
	}
	if err := s.Put(ID{}, 0, make([]byte, maxPayload+1)); !errors.Is(err, errBlock) || s.Stats().Segments != 0 {
		t.Errorf("%v, %+v", err, s.Stats())
	}
}

// TestFreedStaysFreed: blocks of an extent that was freed do not come back, whatever is compacted and
// however the process ends; those that were put later stay.
//
// Scenarios: C16.
func TestFreedStaysFreed(t *testing.T) {
	for _, cleanly := range []bool{true, false} {
		dir := t.TempDir()
		s := open(t, dir, 8<<10)
		for extent := range uint64(10) {
			for n := range int64(10) {
				id := ID{Extent: extent, N: n}
				put(t, s, id, block(id, 1000))
			}
		}
		for extent := uint64(0); extent < 10; extent += 2 {
			if n, err := s.Free(extent); n != 10 || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
			if n, err := s.Free(extent); n != 0 || err != nil {
				t.Fatalf("%d the second time, %v", n, err)
			}
		}
		again := ID{Extent: 4, N: 3}
		put(t, s, again, block(again, 1000))
		for round := range 6 {
			for extent := range uint64(10) {
				for n := range int64(10) {
					id := ID{Extent: extent, N: n}
					if extent%2 == 1 || id == again {
						wantBlock(t, s, id, block(id, 1000))
					} else {
						wantNone(t, s, id)
					}
				}
			}
			compact(t, s, []float64{0.6, 0.3, 0, 0, 0.1, 0}[round])
			end(t, s, cleanly)
			s = open(t, dir, 8<<10)
		}
		if left := len(s.freed); left != 0 {
			t.Errorf("%d extents are known as freed although nothing is left of them", left)
		}
		end(t, s, true)
	}
}

// TestSweepAndCompact: what is kept stays readable, what is evicted goes, and the space of both comes
// back when segments are compacted, at most as fast as the budget allows.
func TestSweepAndCompact(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 64<<10)
	defer func() { end(t, s, true) }()
	const blocks, length = 500, 4000
	for n := range int64(blocks) {
		put(t, s, ID{Extent: 7, N: n}, block(ID{Extent: 7, N: n}, length))
	}
	before := s.Stats()
	if before.Blocks != blocks || before.Live != blocks*Size(length) || before.Size < before.Live {
		t.Errorf("%+v", before)
	}
	kept := func(id ID) bool { return id.N%5 == 0 }
	half := s.Sweep(before.Live/2, func(id ID, size int64) bool {
		if size != Size(length) {
			t.Errorf("%d bytes", size)
		}
		return kept(id)
	})
	if half < before.Live/2 || half > before.Live/2+before.Live/8 {
		t.Errorf("evicted %d of %d bytes", half, before.Live)
	}
	s.Sweep(math.MaxInt64, func(id ID, _ int64) bool { return kept(id) })
	if copied, removed, err := s.Compact(0.5, 0); err != nil || copied+removed != 0 {
		t.Errorf("without a budget %d bytes were copied and %d removed, %v", copied, removed, err)
	}
	var copied int64
	for steps := 0; ; steps++ {
		now, removed, err := s.Compact(0.5, 2*Size(length))
		if err != nil {
			t.Fatal(err)
		}
		if now+removed == 0 {
			if steps < 10 {
				t.Errorf("all was compacted in %d steps", steps)
			}
			break
		}
		if now > 3*Size(length) {
			t.Errorf("%d bytes were copied in one step", now)
		}
		copied += now
	}
	after := s.Stats()
	if after.Size > before.Size/2 || copied < after.Live/2 || copied > after.Live {
		t.Errorf("%+v became %+v, %d bytes were copied", before, after, copied)
	}
	var onDisk int64
	testkit.EachFile(t, dir, func(_, path string) error {
		info, err := os.Stat(path)
		if err == nil {
			onDisk += info.Size()
		}
		return err
	})
	if onDisk > after.Size {
		t.Errorf("%d bytes on disk, %d are known", onDisk, after.Size)
	}
	for n := range int64(blocks) {
		id := ID{Extent: 7, N: n}
		if kept(id) {
			wantBlock(t, s, id, block(id, length))
		} else if s.Has(id) {
			t.Errorf("%v was evicted and is there", id)
		}
	}
	evictAll(s)
	compact(t, s, 0)
	if now := s.Stats(); now.Segments > 2 {
		t.Errorf("%+v after all was evicted", now)
	}
}

// TestAgainstAModel does at random what the tier does, with ends of the process in between. A block that
// is there has its bytes; one that was put and neither freed nor evicted is there; one that was freed is not. Those
// that were freed or evicted may be back after a restart.
func TestAgainstAModel(t *testing.T) {
	random := testkit.Random(t)
	dir := t.TempDir()
	s := open(t, dir, 16<<10)
	type state int
	const gone, there, evicted = state(0), state(1), state(2)
	model := map[ID]state{}
	freed := map[ID]bool{}
	id := func() ID { return ID{Extent: random.Uint64N(20) + 1, N: random.Int64N(12)} }
	length := func(id ID) int { return int(id.Extent*97+uint64(id.N)*31) % 3000 }
	steps := map[string]int{}
	for range 6000 {
		switch p := random.IntN(1000); {
		case p < 700:
			k := id()
			put(t, s, k, block(k, length(k)))
			model[k] = there
		case p < 740:
			k := id()
			if _, err := s.Free(k.Extent); err != nil {
				t.Fatal(err)
			}
			for other := range model {
				if other.Extent == k.Extent {
					freed[other] = true
					delete(model, other)
				}
			}
			steps["free"]++
		case p < 780:
			s.Sweep(random.Int64N(20_000), func(k ID, _ int64) bool {
				if random.IntN(3) == 0 {
					return true
				}
				model[k] = evicted
				return false
			})
			steps["sweep"]++
		case p < 850:
			if _, _, err := s.Compact(random.Float64(), random.Int64N(30_000)); err != nil {
				t.Fatal(err)
			}
		case p < 855:
			end(t, s, random.IntN(2) == 0)
			s = open(t, dir, 16<<10)
			for k := range freed {
				if model[k] == gone {
					model[k] = evicted
				}
			}
			steps["restart"]++
		case p < 900:
			if err := s.Seal(); err != nil {
				t.Fatal(err)
			}
		default:
			k := id()
			_, got, err := s.Get(k, anywhere)
			switch was := model[k]; {
			case err == nil && !bytes.Equal(got, block(k, length(k))):
				t.Fatalf("%v has other bytes", k)
			case err == nil && was == gone, err != nil && (was == there || !errors.Is(err, ErrAbsent)):
				t.Fatalf("%v, which is %d: %v", k, was, err)
			}
		}
	}
	live := int64(0)
	for k, was := range model {
		if was == there {
			wantBlock(t, s, k, block(k, length(k)))
		}
		if s.Has(k) {
			live += Size(length(k))
		}
	}
	if st := s.Stats(); st.Live != live {
		t.Errorf("%d bytes live, counted %d", live, st.Live)
	}
	t.Log(steps, s.Stats())
	end(t, s, true)
}

// TestReadersWhileSegmentsAreRemoved: each read of a block that is kept gets its bytes, although the
// segments that have it are removed all the time.
func TestReadersWhileSegmentsAreRemoved(t *testing.T) {
	s := open(t, t.TempDir(), 32<<10)
	const keep = 40
	for n := range int64(keep) {
		put(t, s, ID{Extent: 1, N: n}, block(ID{Extent: 1, N: n}, 2000))
	}
	var stop atomic.Bool
	var work sync.WaitGroup
	var reads atomic.Int64
	for g := range 4 {
		work.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 0))
			for !stop.Load() {
				id := ID{Extent: 1, N: random.Int64N(keep)}
				_, got, err := s.Get(id, anywhere)
				if err != nil || !bytes.Equal(got, block(id, 2000)) {
					t.Errorf("%v: %d bytes, %v", id, len(got), err)
					return
				}
				reads.Add(1)
			}
		})
	}
	for g := range uint64(2) {
		work.Go(func() {
			for n := uint64(0); !stop.Load(); n++ {
				if s.Stats().Segments > 50 {
					runtime.Gosched()
					continue
				}
				id := ID{Extent: 2 + n%50*2 + g, N: int64(n % 100)}
				if err := s.Put(id, 0, block(id, 1500)); err != nil {
					t.Error(err)
					return
				}
				if n%200 == 0 {
					if _, err := s.Free(id.Extent); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	removed := 0
	for rounds := 0; rounds < 100 || reads.Load() < 1000 || removed < 20; rounds++ {
		before := s.Stats().Segments
		s.Sweep(400_000, func(id ID, _ int64) bool { return id.Extent == 1 })
		compact(t, s, 0.1)
		removed += max(0, before-s.Stats().Segments)
		if err := s.Seal(); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			break
		}
	}
	stop.Store(true)
	work.Wait()
	end(t, s, true)
}

// TestFullDisk: what finds no space is refused, what is there is served, and writes go on when there is
// space again.
//
// Scenarios: C3.
func TestFullDisk(t *testing.T) {
	disk := testkit.NewSmallDisk(t, 16<<20, 0)
	s := open(t, filepath.Join(disk.Dir, "blocks"), 256<<10)
	id := ID{Extent: 1}
	put(t, s, id, block(id, 100_000))
	for name, take := range map[string][2]func(){
		"full":      {func() { disk.Fill(0) }, disk.Empty},
		"read-only": {func() { disk.ReadOnly(true) }, func() { disk.ReadOnly(false) }},
	} {
		if name == "read-only" { // a disk becomes read-only when no file is open for writing
			end(t, s, true)
			take[0]()
			s = open(t, filepath.Join(disk.Dir, "blocks"), 256<<10)
		} else {
			take[0]()
		}
		refused := 0
		for n := range int64(20) {
			if s.Put(ID{Extent: 2, N: n}, 0, block(id, 50_000)) != nil {
				refused++
			}
		}
		if refused == 0 {
			t.Errorf("%s: nothing was refused", name)
		}
		wantBlock(t, s, id, block(id, 100_000))
		take[1]()
		put(t, s, ID{Extent: 3}, block(ID{Extent: 3}, 1000))
		compact(t, s, 0)
		wantBlock(t, s, ID{Extent: 3}, block(ID{Extent: 3}, 1000))
		wantBlock(t, s, id, block(id, 100_000))
	}
	end(t, s, true)
}

// TestDirectoryThatIsGone: reads go on with the files that are open, and writes are refused.
//
// Scenarios: C3.
func TestDirectoryThatIsGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blocks")
	s := open(t, dir, 4<<10)
	id := ID{Extent: 1}
	put(t, s, id, block(id, 10_000))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	wantBlock(t, s, id, block(id, 10_000))
	if err := s.Put(ID{Extent: 2}, 0, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	evictAll(s)
	compact(t, s, 0)
	wantNone(t, s, id)
	end(t, s, true)
}
