package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/akidb/akigw/internal/testing/crashfs"
	"github.com/akidb/akigw/internal/vfs"
)

func openMirrored(t *testing.T, dir, second string) (*Journal, error) {
	t.Helper()
	c := testConfig(vfs.Disk{}, dir)
	c.SecondDir = second
	return Open(c)
}

// TestSecondDirectory: the second directory is a complete journal with everything that was
// acknowledged. A start brings it up to date. A first directory that is behind it is refused.
func TestSecondDirectory(t *testing.T) {
	dir, second := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	j, err := openMirrored(t, dir, second)
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, j, "small", []byte("small"))
	mustPut(t, j, "large", random(200_000, 1))
	u := begin(t, j, "parts", "id")
	mustAddPart(t, j, u, 1, random(70_000, 2))
	if _, err := openMirrored(t, filepath.Join(t.TempDir(), "c"), second); !errors.Is(err, syscall.EWOULDBLOCK) || !strings.Contains(err.Error(), second+" is in use by another process") {
		t.Fatalf("the second directory of an open journal: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	alone := open(t, testConfig(vfs.Disk{}, second))
	if !bytes.Equal(read(t, alone, key("small")), []byte("small")) || !bytes.Equal(read(t, alone, key("large")), random(200_000, 1)) || alone.Uploads.Find("id") == nil || alone.Accepting() != nil {
		t.Errorf("the copy: %+v", alone.Stats())
	}
	mustPut(t, alone, "later", nil)
	alone.Close()
	if _, err := openMirrored(t, dir, second); err == nil || !strings.Contains(err.Error(), "behind") {
		t.Errorf("opening a first directory that is behind: %v", err)
	}
	if _, err := openMirrored(t, filepath.Join(t.TempDir(), "new"), second); err == nil || !strings.Contains(err.Error(), "behind") {
		t.Errorf("opening an empty first directory: %v", err)
	}
	// Do what the error says, with a new disk for the copy.
	fresh := filepath.Join(t.TempDir(), "fresh")
	j, err = openMirrored(t, second, fresh)
	if err != nil {
		t.Fatal(err)
	}
	j.Close()
	alone = open(t, testConfig(vfs.Disk{}, fresh))
	defer alone.Close()
	if !bytes.Equal(read(t, alone, key("large")), random(200_000, 1)) || alone.Last(key("later")) == nil {
		t.Errorf("the new copy: %+v", alone.Stats())
	}
}

// failSecond fails writes or syncs below a directory.
type failSecond struct {
	vfs.FS
	dir         string
	write, sync atomic.Bool
}

type failSecondFile struct {
	vfs.File
	fs *failSecond
}

func (f *failSecond) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	if err != nil || !strings.HasPrefix(name, f.dir) {
		return file, err
	}
	return &failSecondFile{file, f}, nil
}

func (f *failSecondFile) Write(p []byte) (int, error) {
	if f.fs.write.Load() {
		return 0, os.ErrInvalid
	}
	return f.File.Write(p)
}

func (f *failSecondFile) Sync() error {
	if f.fs.sync.Load() {
		return os.ErrInvalid
	}
	return f.File.Sync()
}

// TestSecondDiskFails: nothing is acknowledged that is not on both disks.
//
// Scenarios: C6.
func TestSecondDiskFails(t *testing.T) {
	for _, write := range []bool{true, false} {
		dir, second := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
		disk := &failSecond{FS: vfs.Disk{}, dir: second}
		c := testConfig(disk, dir)
		c.SecondDir = second
		j := open(t, c)
		mustPut(t, j, "before", []byte("x"))
		disk.write.Store(write)
		disk.sync.Store(!write)
		if err := put(t, j, key("k"), []byte("x")); !errors.Is(err, ErrFailed) {
			t.Errorf("write %t: %v", write, err)
		}
		if err := j.Accepting(); !errors.Is(err, ErrFailed) {
			t.Errorf("write %t, afterwards: %v", write, err)
		}
		j.Close()
	}
}

// TestSecondDirectory_RebuildKeepsNothing: rebuilding a second directory does not keep the segments
// in memory, because their number is unbounded.
func TestSecondDirectory_RebuildKeepsNothing(t *testing.T) {
	disk := crashfs.New()
	c := testConfig(disk, "/j")
	j := open(t, c)
	for n := range 200 {
		mustPut(t, j, fmt.Sprint(n), random(4000, uint64(n)))
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	c.SecondDir = "/k"
	m := newMirror(c.FS, c.Dir, c.SecondDir, c.Log)
	r := reconciler{mirror: m}
	var sides [2]*side
	err := errors.Join(m.MkdirAll("/j/"+segmentDir), m.MkdirAll("/j/"+spoolDir))
	for i := range sides {
		if err == nil {
			sides[i], err = r.readSide(i)
		}
	}
	if err == nil {
		err = r.decide(sides)
	}
	if err != nil || m.current {
		t.Fatalf("%v, current %t", err, m.current)
	}
	all, err := r.repairSegments(r.live(sides, 0))
	if err != nil || len(all) < 10 || len(m.merged) > 0 {
		t.Errorf("%v: %d segments written, %d in memory", err, len(all), len(m.merged))
	}
}

// TestSecondDirectory_NoFilesLeft: a body that does not fit on the second disk leaves no file on
// the first.
func TestSecondDirectory_NoFilesLeft(t *testing.T) {
	disk := crashfs.New()
	c := testConfig(unwritable(disk, "/k/"+spoolDir, syscall.ENOSPC, false), "/j")
	c.SecondDir = "/k"
	j := open(t, c)
	if err := put(t, j, key("k"), random(10_000, 1)); !errors.Is(err, errSpool) {
		t.Errorf("%v", err)
	}
	if names, err := disk.List("/j/" + spoolDir); err != nil || len(names) > 0 {
		t.Errorf("%v, %v", names, err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}
