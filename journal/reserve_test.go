package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/crashfs"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/vfs"
)

func reserving(fs vfs.FS, dir string) Config {
	c := testConfig(fs, dir)
	c.InlineBytes, c.SegmentBytes, c.ReserveBytes = 512, 4<<10, 4<<10
	return c
}

// putMany writes until a write finds no room or n writes were acknowledged. It returns the names of
// the acknowledged ones.
func putMany(t *testing.T, j *Journal, from, n int) (names []string) {
	t.Helper()
	for i := from; i < from+n; i++ {
		name := fmt.Sprint("k", i)
		if err := put(t, j, key(name), bodyOf(name, i)); err != nil {
			if !errors.Is(err, ErrFull) && !errors.Is(err, errSpool) {
				t.Fatalf("%s: %v", name, err)
			}
			continue
		}
		names = append(names, name)
	}
	return names
}

// flush flushes what is pending, as the upload pool does.
func flush(t *testing.T, j *Journal) (n int) {
	t.Helper()
	for _, k := range j.Keys() {
		e := j.Take(k)
		if e == nil {
			t.Fatalf("%s cannot be taken: %+v", k, j.Stats())
		}
		if err := j.Uploading(t.Context(), e.ID, e.Key, "upload"); err != nil {
			t.Fatalf("%s: %v, %+v", k, err, j.Stats())
		}
		if err := j.Done(t.Context(), e); err != nil {
			t.Fatalf("%s: %v, %+v", k, err, j.Stats())
		}
		n++
	}
	return n
}

// dropped waits until the given number of segments is left.
func dropped(t *testing.T, j *Journal, left int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); j.Stats().Segments > left; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("segments were not removed: %+v, postponed %t, keep %t, failed %v", j.Stats(), j.compactor.postponed.Load(), j.compactor.keep, j.health.failure())
		}
	}
}

// accepting waits until the journal has checked the free space and accepts writes again.
func accepting(t *testing.T, j *Journal) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); j.Accepting() != nil; time.Sleep(time.Millisecond) {
		if j.committer.poke(); time.Now().After(end) {
			t.Fatalf("the journal does not accept writes: %v", j.Accepting())
		}
	}
}

// TestFlushGoesOnWithoutRoom: wherever the disk runs full, nothing acknowledged is lost, no refused
// write comes back, and the flush continues with the reserve. Once there is room, writes are
// acknowledged again.
//
// Scenarios: C2.
func TestFlushGoesOnWithoutRoom(t *testing.T) {
	step := int64(97)
	if testkit.Race { // make test takes the small steps without the race detector
		step *= 5
	}
	for _, test := range []struct{ second, full string }{{"", ""}, {"/k", ""}, {"/k", "/j"}, {"/k", "/k"}} {
		for free := int64(0); free < 6000; free += step {
			disk := crashfs.NewLimited(crashfs.New(), test.full, 1<<20)
			c := reserving(disk, "/j")
			c.SecondDir = test.second
			j := open(t, c)
			names := putMany(t, j, 0, 12)
			disk.Set(free, 1000)
			names = append(names, putMany(t, j, 12, 40)...)
			if err := j.Accepting(); !errors.Is(err, ErrFull) || !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("%d bytes free: %v", free, err)
			}
			if err := j.Stats().Stopped; err != nil {
				t.Fatalf("%d bytes free: %v", free, err)
			}
			for _, name := range names {
				read(t, j, key(name))
			}
			if j.Len() != len(names) {
				t.Fatalf("%d bytes free: %d entries of %d", free, j.Len(), len(names))
			}
			for i := range 52 { // refused writes are not visible, and readers need not wait for them
				if name := fmt.Sprint("k", i); !slices.Contains(names, name) {
					if err := j.Wait(t.Context(), key(name)); err != nil || j.Last(key(name)) != nil {
						t.Fatalf("%d bytes free: %s, which was refused: %v", free, name, err)
					}
				}
			}
			// A restart finds the same and does not use up the reserve.
			j = reopen(t, j)
			if j.Len() != len(names) {
				t.Fatalf("%d bytes free: %d entries of %d after a restart", free, j.Len(), len(names))
			}
			if n := flush(t, j); n != len(names) {
				t.Errorf("%d bytes free: %d flushed of %d", free, n, len(names))
			}
			dropped(t, j, 1) // the freed space is available again on the full disk
			if n := j.Stats().Repaired; n > 0 {
				t.Errorf("%+v, %d bytes free: %d records were repaired, and nothing was damaged", test, free, n)
			}
			disk.Set(1<<20, 1000)
			accepting(t, j)
			mustPut(t, j, "after", []byte("x"))
			j = reopen(t, j)
			if j.Len() != 1 || j.Accepting() != nil {
				t.Errorf("%d bytes free: %+v", free, j.Stats())
			}
			j.Close()
		}
	}
}

// TestDoubtWithoutAReserve: a write that found no room may be on the disk, in part or as a whole.
// Until the journal can write a record that cancels it, no later write of the key may overtake it.
//
// Scenarios: C2.
func TestDoubtWithoutAReserve(t *testing.T) {
	disk := crashfs.NewLimited(crashfs.New(), "", 1<<20)
	c := reserving(disk, "/j")
	c.ReserveBytes = 0
	j := open(t, c)
	defer func() { j.Close() }()
	mustPut(t, j, "before", []byte("x"))
	disk.Set(50, 1000)
	if err := put(t, j, key("k"), random(300, 1)); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	if err := j.Wait(t.Context(), key("k")); !errors.Is(err, ErrFull) {
		t.Errorf("a write overtook one that may be on the disk: %v", err)
	}
	disk.Set(1<<20, 1000)
	accepting(t, j)
	if err := j.Hold(t.Context(), key("k")); err != nil {
		t.Errorf("with room again: %v", err)
	}
	mustPut(t, j, "k", []byte("x"))
	if j.Take(key("k")) != nil {
		t.Error("the key was not held")
	}
	j.Release(key("k"))
	e := j.Take(key("k"))
	if e == nil {
		t.Fatal("the key is held forever")
	}
	if err := j.Done(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	j = reopen(t, j)
	if j.Last(key("k")) != nil || j.Last(key("before")) == nil {
		t.Error("a refused write is visible, or an acknowledged one is missing")
	}
}

// TestCrashWithoutRoom: a crash at any call while the disk fills up, the reserve is used and room
// returns loses no write and brings no refused write back.
//
// Scenarios: C2.
func TestCrashWithoutRoom(t *testing.T) {
	testkit.WithoutRace(t, "it tries every place, one after the other")
	p := testkit.Prove(t, "without-room")
	seed := p.Seed
	var trials atomic.Int64
	for free := int64(0); free < 12_000; free += int64(p.Amount(2011, 613, 97)) {
		full := []string{"", "/j", "/k"}[free/4000] // the disk of the only directory, or of one of two
		free := free % 4000
		disk := crashfs.New()
		x := &expectation{acked: map[string]seen{}, pending: map[string]seen{}}
		c := &crashRun{seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), dice: rand.New(rand.NewPCG(seed, uint64(free))), mutate: unchanged, trials: &trials, twice: full != ""}
		steps := crashfs.NewSteps(disk)
		var lost error
		steps.Before(func(_ int, what string) error {
			if lost == nil {
				lost = c.crash(disk, x, 0, what)
			}
			return nil
		})
		room := crashfs.NewLimited(steps, full, 1<<20)
		config := c.config(room, "/j")
		if c.twice {
			config.SecondDir = "/k"
		}
		config.ReserveBytes = 2 << 10
		j := open(t, config)
		version := 0
		write := func(k string) {
			version++
			old, had := x.acked[k]
			x.begin(k, seen(fmt.Sprint(version)))
			body := bodyOf(k, version)
			d := j.Receive(int64(len(body)))
			_, err := d.Write(body)
			if err == nil {
				err = j.Commit(t.Context(), d, Entry{Key: key(k), ETag: etag(body), Modified: time.Unix(int64(len(body)), 0)})
			}
			switch {
			case err == nil:
				x.end(k)
			case errors.Is(err, ErrFull) || errors.Is(err, errSpool):
				x.mu.Lock()
				delete(x.pending, k) // the write was refused and must not come back
				if x.acked[k] = old; !had {
					delete(x.acked, k)
				}
				x.mu.Unlock()
			default:
				t.Fatal(err)
			}
		}
		for i := range 20 {
			if i == 8 {
				room.Set(free, 1000)
			}
			write(fmt.Sprint("k", i%6))
		}
		for _, k := range j.Keys() {
			e := j.Take(k)
			x.begin(k.Name, seen("dated "+e.ETag))
			if err := j.FlushedNow(t.Context(), e, Stored{Modified: e.Modified.Add(time.Second)}); err != nil {
				t.Fatalf("%d bytes free: %v, %+v", free, err, j.Stats())
			}
			x.end(k.Name)
		}
		room.Set(1<<20, 1000)
		accepting(t, j)
		for i := range 4 {
			write(fmt.Sprint("k", i))
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		steps.Before(nil)
		if lost != nil {
			t.Fatalf("%d bytes free: %v", free, lost)
		}
	}
	t.Logf("%d crashes", trials.Load())
}

// TestStartWithoutRoom: a start on a full disk, or on one that accepts no more files, finds
// everything that was acknowledged and flushes it with the reserve of the previous epoch. Without a
// reserve, entries can be read, and are flushed once there is room.
//
// Scenarios: C2.
func TestStartWithoutRoom(t *testing.T) {
	for _, test := range []struct {
		name    string
		reserve bool
		files   int
		free    int64
	}{
		{"full, with a reserve", true, 1000, 0},
		{"full, without a reserve", false, 1000, 0},
		{"no more files, with a reserve", true, 0, 1 << 20},
		{"no more files, without a reserve", false, 0, 1 << 20},
		{"some bytes, without a reserve", false, 1000, 10},
		{"room for records, not for a reserve", false, 1000, 2000},
	} {
		t.Run(test.name, func(t *testing.T) {
			disk := crashfs.NewLimited(crashfs.New(), "", 1<<20)
			c := reserving(disk, "/j")
			if !test.reserve {
				c.ReserveBytes = 0
			}
			j := open(t, c)
			names := putMany(t, j, 0, 12)
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			disk.Set(test.free, test.files)
			c.ReserveBytes = 4 << 10
			j = open(t, c)
			defer func() { j.Close() }()
			for _, name := range names {
				read(t, j, key(name))
			}
			if err := put(t, j, key("new"), []byte("x")); !errors.Is(err, ErrFull) && test.free == 0 {
				t.Errorf("a write: %v", err)
			}
			told := make(chan akigw.Key, 1000)
			j.Notify(func(k akigw.Key) { told <- k })
			if stopped := j.Stats().Stopped; test.reserve || test.free > 1000 && test.files > 0 {
				if stopped != nil || flush(t, j) != len(names) {
					t.Errorf("%v, %+v", stopped, j.Stats())
				}
			} else if k := key(names[0]); !errors.Is(stopped, ErrFull) || j.Take(k) != nil || j.Wait(t.Context(), k) == nil {
				t.Errorf("%v: nothing can be flushed, but an entry was taken: %+v", stopped, j.Stats())
			}
			disk.Set(1<<20, 1000)
			accepting(t, j)
			if left := j.Len(); left > 0 {
				for range left { // the pool is notified of each entry
					<-told
				}
				if n := flush(t, j); n != len(names) {
					t.Errorf("%d flushed", n)
				}
			}
			mustPut(t, j, "after", []byte("x"))
			j = reopen(t, j)
			if j.Len() != 1 || j.Accepting() != nil {
				t.Errorf("%+v", j.Stats())
			}
		})
	}
}

// TestRestartsKeepTheReserve: while the upstream is unavailable, starts on a full disk have nothing
// to write. They leave the reserve untouched, however many there are and however long each epoch
// lasts.
//
// Scenarios: C2.
func TestRestartsKeepTheReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, second := range []string{"", "/k"} {
			disk := crashfs.NewLimited(crashfs.New(), "", 1<<20)
			c := reserving(disk, "/j")
			c.SecondDir = second
			j := open(t, c)
			names := putMany(t, j, 0, 12)
			for range reservePieces + 2 {
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
				disk.Set(0, 1000)
				j = open(t, c)
				time.Sleep(3 * lookEvery)
				synctest.Wait()
			}
			if err := j.Stats().Stopped; err != nil {
				t.Errorf("second %q: %v", second, err)
			} else if n := flush(t, j); n != len(names) {
				t.Errorf("second %q: %d flushed of %d", second, n, len(names))
			}
			if err := j.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestRefusedBodiesGo: when a write is refused because the disk became full while its body was
// received, the body is removed, whichever call found no room.
//
// Scenarios: C2.
func TestRefusedBodiesGo(t *testing.T) {
	for _, test := range []struct {
		name string
		sync func(t *testing.T, disk *crashfs.Limited, j *Journal) error // replaces the sync of the body's directory
		want error
	}{
		{"its record", func(_ *testing.T, disk *crashfs.Limited, _ *Journal) error {
			disk.Set(10, 1000)
			return nil
		}, ErrFull},
		{"the record of another write before it", func(t *testing.T, disk *crashfs.Limited, j *Journal) error {
			disk.Set(10, 1000)
			if err := put(t, j, key("other"), []byte("x")); !errors.Is(err, ErrFull) {
				t.Errorf("the other write: %v", err)
			}
			return nil
		}, ErrFull},
		{"the sync of its directory", func(*testing.T, *crashfs.Limited, *Journal) error { return syscall.ENOSPC }, errSpool},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := crashfs.NewLimited(crashfs.New(), "", 1<<20)
				var j *Journal
				c := reserving(vfs.Watched(disk, func(op akigw.DiskOp, name string, size int) (int, error) {
					if op == akigw.DiskSyncDir && name == "/j/"+spoolDir && j != nil {
						return size, test.sync(t, disk, j)
					}
					return size, nil
				}), "/j")
				j = open(t, c)
				if err := put(t, j, key("k"), random(5000, 1)); !errors.Is(err, test.want) {
					t.Errorf("%v", err)
				}
				synctest.Wait()
				if names, err := disk.List("/j/" + spoolDir); err != nil || len(names) > 0 {
					t.Errorf("%v, %v", names, err)
				}
				if err := j.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// smallDisks are real file systems of some MiB.
var smallDisks = map[string]func(testing.TB) *testkit.SmallDisk{
	"tmpfs": func(t testing.TB) *testkit.SmallDisk { return testkit.NewSmallDisk(t, 4<<20, 100) },
	"ext4":  func(t testing.TB) *testkit.SmallDisk { return testkit.NewSmallExt4(t, 16<<20, 100) },
}

// onSmallDisk opens a journal with a reserve on a small disk.
func onSmallDisk(disk *testkit.SmallDisk) Config {
	c := testConfig(vfs.Disk{}, filepath.Join(disk.Dir, "journal"))
	c.ReserveBytes = 256 << 10
	return c
}

// TestSmallDisk: the disk fills up while the journal runs or before it starts. The flush continues
// with the reserve.
//
// Scenarios: C2.
func TestSmallDisk(t *testing.T) {
	for kind, mount := range smallDisks {
		for name, fillUp := range map[string]func(*testkit.SmallDisk){
			"no bytes":      func(d *testkit.SmallDisk) { d.Fill(0) },
			"a few KiB":     func(d *testkit.SmallDisk) { d.Fill(12 << 10) },
			"no more files": func(d *testkit.SmallDisk) { d.FillFiles() },
		} {
			for _, restart := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, restart %t", kind, name, restart), func(t *testing.T) {
					disk := mount(t)
					c := onSmallDisk(disk)
					j := open(t, c)
					names := putMany(t, j, 0, 20)
					fillUp(disk)
					names = append(names, putMany(t, j, 20, 200)...)
					if err := j.Accepting(); name != "no more files" && (!errors.Is(err, ErrFull) || !strings.Contains(err.Error(), c.Dir)) {
						t.Errorf("%v", err)
					}
					for range 2 {
						if restart {
							j = reopen(t, j)
						}
						for _, name := range names {
							read(t, j, key(name))
						}
					}
					if n := flush(t, j); n != len(names) {
						t.Errorf("%d flushed of %d", n, len(names))
					}
					disk.Empty()
					accepting(t, j)
					for i := range reservePieces {
						if info, err := os.Stat(j.log.reserve.name(i)); err != nil || !vfs.Allocated(info, j.log.reserve.pieceBytes()) {
							t.Errorf("piece %d of the reserve is missing: %v", i, err)
						}
					}
					mustPut(t, j, "after", []byte("x"))
					j = reopen(t, j)
					if j.Len() != 1 {
						t.Errorf("%+v", j.Stats())
					}
					j.Close()
				})
			}
		}
	}
}

// TestBecomesReadOnly: nothing is acknowledged on a disk that has become read-only, neither a small
// record nor a body in a file. What was acknowledged before is found once the disk is writable
// again.
//
// Scenarios: C5.
func TestBecomesReadOnly(t *testing.T) {
	for _, size := range []int{10, 100_000} {
		disk := testkit.NewSmallExt4(t, 16<<20, 100)
		c := onSmallDisk(disk)
		j := open(t, c)
		names := putMany(t, j, 0, 20)
		disk.Break()
		for range 2 {
			if err := put(t, j, key("k"), random(size, 1)); err == nil {
				t.Errorf("a body of %d bytes was acknowledged", size)
			}
		}
		if err := j.Accepting(); !errors.Is(err, ErrFailed) {
			t.Errorf("%d bytes: %v", size, err)
		}
		for _, name := range names {
			read(t, j, key(name))
		}
		j.Close()
		j = open(t, c) // the journal opens anyway
		if err := j.Accepting(); !errors.Is(err, ErrFull) && !errors.Is(err, ErrFailed) {
			t.Errorf("%d bytes, after a restart: %v", size, err)
		}
		for _, name := range names {
			read(t, j, key(name))
		}
		j.Close()
	}
}

// TestDamageOnAReadOnlyDisk: damage counts as damage even when there is no room to copy it, and
// cannot be accepted before it was copied.
//
// Scenarios: C5.
func TestDamageOnAReadOnlyDisk(t *testing.T) {
	disk := testkit.NewSmallDisk(t, 4<<20, 0)
	c := onSmallDisk(disk)
	j := open(t, c)
	mustPut(t, j, "a", random(100, 1))
	mustPut(t, j, "b", random(100_000, 2))
	name, body := j.log.segmentName(1), j.spool.Name(1)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := errors.Join(os.WriteFile(name, raw, 0o600), os.WriteFile(body+".more", nil, 0o600), os.Truncate(body, 7)); err != nil {
		t.Fatal(err)
	}
	disk.ReadOnly(true)
	j = open(t, c)
	if err := j.Accepting(); !errors.Is(err, ErrDamaged) || j.Accept() == nil {
		t.Errorf("%v", err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	disk.ReadOnly(false)
	j = open(t, c)
	defer j.Close()
	if err := j.Accepting(); !errors.Is(err, ErrDamaged) {
		t.Errorf("%v", err)
	}
	if err := j.Accept(); err != nil || j.Accepting() != nil {
		t.Errorf("%v, %v", err, j.Accepting())
	}
}

// TestStartReadOnly: a journal on a read-only disk can be read, and resumes once the disk is
// writable again.
//
// Scenarios: C5.
func TestStartReadOnly(t *testing.T) {
	disk := testkit.NewSmallDisk(t, 4<<20, 0)
	c := testConfig(vfs.Disk{}, filepath.Join(disk.Dir, "journal"))
	c.ReserveBytes = 256 << 10
	j := open(t, c)
	names := putMany(t, j, 0, 20)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	disk.ReadOnly(true)
	j = open(t, c)
	if err := j.Accepting(); !errors.Is(err, ErrFull) || !errors.Is(err, syscall.EROFS) {
		t.Errorf("%v", err)
	}
	if _, err := Open(c); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second process: %v", err)
	}
	for range 2 {
		for _, name := range names {
			read(t, j, key(name))
		}
		j = reopen(t, j)
	}
	disk.ReadOnly(false)
	accepting(t, j)
	if n := flush(t, j); n != len(names) {
		t.Errorf("%d flushed of %d", n, len(names))
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// TestMovedAway: while its directory is missing, the journal acknowledges nothing, because the next
// start would not find those files. When the directory is back, everything is there.
func TestMovedAway(t *testing.T) {
	for name, part := range map[string]string{"all": "", "segments": segmentDir, "bodies": spoolDir} {
		t.Run(name, func(t *testing.T) {
			c := testConfig(vfs.Disk{}, filepath.Join(t.TempDir(), "journal"))
			j := open(t, c)
			names := putMany(t, j, 0, 10)
			from, away := filepath.Join(c.Dir, part), filepath.Join(t.TempDir(), "away")
			if err := os.Rename(from, away); err != nil {
				t.Fatal(err)
			}
			for _, dir := range []string{"", segmentDir, spoolDir, quarantineDir} { // as an unmounted file system leaves it
				if err := os.MkdirAll(filepath.Join(c.Dir, dir), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			j.committer.poke()
			for end := time.Now().Add(10 * time.Second); j.Accepting() == nil && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			if part != spoolDir {
				j.health.mu.Lock()
				j.health.failed = nil // the journal had noticed by itself; now a write has to notice
				j.health.mu.Unlock()
			}
			if err := put(t, j, key("k"), []byte("x")); !errors.Is(err, ErrFailed) || !errors.Is(err, ErrMoved) {
				t.Errorf("a write returned %v", err)
			}
			j.Close()
			if err := os.RemoveAll(from); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(away, from); err != nil {
				t.Fatal(err)
			}
			j = open(t, c)
			defer j.Close()
			for _, name := range names {
				read(t, j, key(name))
			}
		})
	}
}
