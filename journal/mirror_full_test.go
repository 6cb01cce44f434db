package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/time/rate"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/crashfs"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/vfs"
)

// unwritable is a file system on which every call that changes something below a directory fails,
// or below any directory. syncs says whether syncs fail too.
func unwritable(fs vfs.FS, under string, failure error, syncs bool) vfs.FS {
	return vfs.Watched(fs, func(op akigw.DiskOp, name string, size int) (int, error) {
		switch op {
		case akigw.DiskOpen, akigw.DiskRead, akigw.DiskList, akigw.DiskMkdir: // the directories exist already
			return size, nil
		case akigw.DiskSync, akigw.DiskSyncDir:
			if !syncs {
				return size, nil
			}
		}
		if !strings.HasPrefix(name, under) {
			return size, nil
		}
		return 0, failure
	})
}

// legible reports keys that do not read as they were acknowledged.
func legible(j *Journal, want allowed) error {
	for k, states := range want {
		found, err := observe(j, k)
		if err != nil {
			return fmt.Errorf("key %s: %w", k, err)
		}
		if found != states[0] {
			return fmt.Errorf("key %s is %q and should be %q", k, found, states[0])
		}
	}
	return nil
}

// limitedTwin returns the configuration of a journal in two directories, /j and /k, and its disk.
// The disk has 1 MiB of room below the given path and no limit elsewhere.
func limitedTwin(under string) (*crashfs.Limited, Config) {
	disk := crashfs.NewLimited(crashfs.New(), under, 1<<20)
	c := reserving(disk, "/j")
	c.SecondDir = "/k"
	return disk, c
}

// TestSecondDirectory_NoRoomForRepair: a start with damage in both directories while one disk or
// both reject writes finds everything that is intact in either directory. It acknowledges nothing
// and changes nothing that the next start needs. Once there is room, the next start repairs both
// directories.
//
// Scenarios: C2.
func TestSecondDirectory_NoRoomForRepair(t *testing.T) {
	seed := testkit.Seed(t)
	base, want := mirroredSample(t, seed, 2)
	trials := 0
	for n := range 60 {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		damaged := base.clone()
		var blots [2][]blot
		names := slices.DeleteFunc(base.precious(0, false), func(name string) bool { return !strings.HasSuffix(name, ".seg") })
		if n%3 == 0 && len(names) > 1 { // swap two segments, and damage the other directory's copy of one of them
			i := rng.IntN(len(names) - 1)
			one, other := names[i], names[i+1]
			damaged[one], damaged[other] = damaged[other], damaged[one]
			hit := "1" + names[i+rng.IntN(2)][1:]
			damaged[hit][rng.IntN(len(damaged[hit]))] ^= 1
		} else {
			for range 1 + rng.IntN(4) {
				side := rng.IntN(2)
				names := damaged.precious(side, false)
				if len(names) == 0 { // everything was removed before the damage
					continue
				}
				blots[side] = append(blots[side], hurt(rng, damaged, names[rng.IntN(len(names))]))
			}
		}
		if !intactSomewhere(base, blots) {
			continue
		}
		trials++
		under := []string{"/j", "/k", ""}[rng.IntN(3)]
		failure := []error{syscall.ENOSPC, syscall.EROFS}[rng.IntN(2)]
		syncs := failure == syscall.EROFS && rng.IntN(2) == 0
		what := fmt.Sprintf("seed %d/%d, %q: %v, syncs %t, %v", seed, n, under, failure, syncs, blots)
		disk := crashfs.New()
		damaged.load(t, disk)
		for range 2 {
			j, err := openTwin(unwritable(disk, under, failure, syncs))
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if err := legible(j, want); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if err := put1(j, "new"); err == nil || errors.Is(err, ErrDamaged) {
				t.Errorf("%s: a write: %v", what, err)
			}
			_ = j.Close() // it may report that it could not write
		}
		if err := survives(t, dump(t, disk), want); err != nil {
			t.Fatalf("%s, with room again: %v", what, err)
		}
	}
	if trials < 20 {
		t.Errorf("only %d trials", trials)
	}
}

// TestSecondDirectory_GoesOn: a journal that was opened while one disk rejected writes resumes by
// itself once the disk accepts them. Its side files then record an epoch of both directories.
//
// Scenarios: C2.
func TestSecondDirectory_GoesOn(t *testing.T) {
	for _, under := range []string{"/j", "/k"} {
		disk, c := limitedTwin(under)
		j := open(t, c)
		names := putMany(t, j, 0, 12)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"reserve1", "reserve2", "reserve3", "reserve4", sideFile + draftSuffix} { // no reserve was kept
			if err := disk.Remove(under + "/" + name); err != nil {
				t.Fatal(err)
			}
		}
		disk.Set(0, 1000)
		j = open(t, c)
		for _, name := range names {
			read(t, j, key(name))
		}
		if err := put(t, j, key("new"), []byte("x")); !errors.Is(err, ErrFull) {
			t.Errorf("%s: %v", under, err)
		}
		disk.Set(1<<20, 1000)
		accepting(t, j)
		for _, dir := range []string{"/j", "/k"} {
			if s := readSide(disk, dir); s == nil || !slices.Contains(s.epochs, j.log.epoch) {
				t.Errorf("%s is full: the side file of %s does not have the epoch", under, dir)
			}
		}
		if n := flush(t, j); n != len(names) {
			t.Errorf("%s: %d flushed", under, n)
		}
		mustPut(t, j, "after", []byte("x"))
		dropped(t, j, 2)
		j = reopen(t, j)
		if s := j.Stats(); s.Pending != 1 || s.Problem != nil || s.Repaired != 0 {
			t.Errorf("%s: %+v", under, s)
		}
		j.Close()
	}
}

// TestSecondDirectory_SegmentsWait: segments are kept as long as there is no room for a side file.
//
// Scenarios: C2.
func TestSecondDirectory_SegmentsWait(t *testing.T) {
	disk, c := limitedTwin("/k")
	j := open(t, c)
	putMany(t, j, 0, 20)
	if err := disk.Remove("/k/" + sideFile + draftSuffix); err != nil {
		t.Fatal(err)
	}
	disk.Set(-(1 << 20), 1000) // the space freed by removing bodies is not enough
	flush(t, j)
	if n := j.Stats().Segments; n < 2 {
		t.Fatalf("%d segments", n)
	}
	if err := j.Stats().Stopped; err != nil {
		t.Error(err)
	}
	disk.Set(1<<20, 1000)
	accepting(t, j)
	mustPut(t, j, "k", []byte("x"))
	dropped(t, j, 2)
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// TestSecondDirectory_NoRoomToRebuild: a second directory that was missing is not rebuilt on a full
// disk, and the start reports it. Once there is room it is rebuilt and holds everything.
//
// Scenarios: C2.
func TestSecondDirectory_NoRoomToRebuild(t *testing.T) {
	base, want := staleSample(t, testkit.Seed(t))
	for _, failure := range []error{syscall.ENOSPC, syscall.EROFS} {
		disk := crashfs.New()
		base.load(t, disk)
		j, err := openTwin(unwritable(disk, "/k", failure, false))
		if err == nil {
			_ = j.Close()
		}
		if !errors.Is(err, failure) || !strings.Contains(err.Error(), "/k cannot be rebuilt from /j") {
			t.Errorf("%v", err)
		}
		if err := survives(t, dump(t, disk), want); err != nil {
			t.Errorf("%v, with room again: %v", failure, err)
		}
	}
}

// TestSecondDirectory_SmallDisk: the disk of either directory fills up while the journal runs. The
// flush continues, even after a restart, and old segments are removed although the only room is
// what that removal frees.
//
// Scenarios: C2.
func TestSecondDirectory_SmallDisk(t *testing.T) {
	for kind, mount := range smallDisks {
		for _, full := range []string{"first", "second"} {
			t.Run(kind+", "+full, func(t *testing.T) {
				disk := mount(t)
				c := onSmallDisk(disk)
				c.SegmentBytes = 16 << 10
				c.SecondDir = filepath.Join(t.TempDir(), "second")
				if full == "second" {
					c.Dir, c.SecondDir = c.SecondDir, c.Dir
				}
				j := open(t, c)
				names := putMany(t, j, 0, 50)
				disk.Fill(0)
				names = append(names, putMany(t, j, 50, 200)...)
				if err := j.Accepting(); !errors.Is(err, ErrFull) {
					t.Errorf("%v", err)
				}
				j = reopen(t, j)
				for _, name := range names {
					read(t, j, key(name))
				}
				before := j.Stats().Segments
				disk.Fill(0) // use up the space that a restart frees
				if n := flush(t, j); n != len(names) {
					t.Errorf("%d flushed of %d", n, len(names))
				}
				dropped(t, j, 2)
				if s := j.Stats(); s.Repaired != 0 || before < 3 {
					t.Errorf("%d segments, %+v", before, s)
				}
				disk.Empty()
				accepting(t, j)
				mustPut(t, j, "after", []byte("x"))
				j = reopen(t, j)
				if j.Len() != 1 || j.Accepting() != nil {
					t.Errorf("%+v", j.Stats())
				}
				j.Close()
			})
		}
	}
}

// fullAmidRecord fills the disk in the middle of a record, then frees space again.
func fullAmidRecord(t *testing.T, j *Journal, disk *crashfs.Limited) {
	t.Helper()
	disk.Set(100, 1000) // a part of a record
	if err := put(t, j, key("k"), random(400, 1)); !errors.Is(err, ErrFull) {
		t.Errorf("on a full disk: %v", err)
	}
	disk.Set(1<<20, 1000)
	accepting(t, j)
}

// TestSecondDirectory_SegmentsGo: on a completely full disk old segments are removed. That is the
// only way to free space when all bodies are in segments. The remains of a refused write in one
// directory only are not taken for damage.
//
// Scenarios: C2.
func TestSecondDirectory_SegmentsGo(t *testing.T) {
	for _, under := range []string{"", "/j", "/k"} {
		disk, c := limitedTwin(under)
		j := open(t, c)
		for i := range 40 {
			mustPut(t, j, fmt.Sprint(i), random(400, uint64(i)))
		}
		fullAmidRecord(t, j, disk)
		j = reopen(t, j)
		if s := j.Stats(); s.Repaired != 0 || s.Pending != 40 || s.Segments < 4 {
			t.Errorf("%q: %+v", under, s)
		}
		disk.Set(0, 1000)
		if err := put(t, j, key("k"), random(400, 1)); !errors.Is(err, ErrFull) {
			t.Errorf("%q: %v", under, err)
		}
		disk.Set(0, 1000)
		flush(t, j)
		dropped(t, j, 2)
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSecondDirectory_SealedTail: a record that was refused because the other disk was full does
// not count as damage in the directory that has it, not even for a scrub after a restart.
//
// Scenarios: C2.
func TestSecondDirectory_SealedTail(t *testing.T) {
	for _, under := range []string{"/j", "/k"} {
		disk, c := limitedTwin(under)
		j := open(t, c)
		mustPut(t, j, "a", random(400, 1))
		fullAmidRecord(t, j, disk)
		for _, when := range []string{"before", "after"} {
			err := j.scrubber.all(t.Context(), rate.NewLimiter(rate.Inf, scrubChunk))
			if s := j.Stats(); err != nil || s.Repaired != 0 {
				t.Errorf("%q, %s a restart: %v, %+v", under, when, err, s)
			}
			j = reopen(t, j)
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSecondDirectory_OnlyCopyMisplaced: on a full disk, where files can be removed but not
// created, the only copy of a segment is kept even though its file has the wrong name.
//
// Scenarios: C2.
func TestSecondDirectory_OnlyCopyMisplaced(t *testing.T) {
	base, want := mirroredSample(t, 3, 2)
	for _, name := range base.precious(0, false) {
		if !strings.HasSuffix(name, ".seg") {
			continue
		}
		damaged := base.clone()
		damaged["0/segments/000000000000ffff.seg"] = damaged[name]
		delete(damaged, name)
		delete(damaged, "1"+name[1:])
		disk := crashfs.New()
		damaged.load(t, disk)
		for range 2 {
			j, err := openTwin(vfs.Watched(disk, func(op akigw.DiskOp, _ string, size int) (int, error) {
				if op == akigw.DiskCreate || op == akigw.DiskWrite {
					return 0, syscall.ENOSPC
				}
				return size, nil
			}))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := legible(j, want); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			_ = j.Close() // it may report that it could not write
		}
		if err := survives(t, dump(t, disk), want); err != nil {
			t.Errorf("%s, with room again: %v", name, err)
		}
	}
}
