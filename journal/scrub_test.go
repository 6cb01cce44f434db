package journal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw/journal/internal/spool"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/crashfs"
	"github.com/akidb/akigw/internal/vfs"
)

// flip flips a bit of a file in memory.
func flip(t *testing.T, m *crashfs.FS, name string, at int) {
	t.Helper()
	raw, err := vfs.ReadFile(m, name)
	if err == nil {
		raw[at] ^= 1
		err = writeFile(m, name, raw)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestScrub: the scrub verifies what nobody reads, at the configured rate, from the start on and
// again an hour after each pass. It repairs what is damaged.
func TestScrub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := crashfs.New()
		c := testConfig(disk, "/j")
		c.SecondDir, c.ScrubRate = "/k", spool.Block // a block a second
		j := open(t, c)
		body := random(3<<20, 1)
		mustPut(t, j, "k", body)
		good, err := vfs.ReadFile(disk, j.spool.Name(1))
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = open(t, c)
		second := j.mirror.on(1, j.spool.Name(1))
		repaired := func() bool {
			t.Helper()
			synctest.Wait()
			raw, err := vfs.ReadFile(disk, second)
			if err != nil {
				t.Fatal(err)
			}
			return bytes.Equal(raw, good)
		}
		synctest.Wait() // the first MiB is read at once; the file has six, and each takes 16 s
		flip(t, disk, second, 3<<20-1)
		if time.Sleep(70 * time.Second); repaired() {
			t.Error("the scrub is faster than its rate")
		}
		if time.Sleep(20 * time.Second); !repaired() {
			t.Error("the damage is not repaired in time")
		}
		flip(t, disk, second, 5)
		if time.Sleep(scrubPause / 2); repaired() {
			t.Error("the scrub does not pause after a pass")
		}
		if time.Sleep(scrubPause); !repaired() {
			t.Error("the scrub does not begin another pass")
		}
		if s := j.Stats(); s.Repaired != 2 || s.Lost != 0 {
			t.Errorf("%+v", s)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// full is a disk that rejects new files below a directory while it is full.
type full struct {
	vfs.FS
	dir string
	on  bool // set before the journal is open, and changed while nothing runs
}

func (f *full) Create(name string) (vfs.File, error) {
	if rel, err := filepath.Rel(f.dir, name); f.on && err == nil && filepath.IsLocal(rel) {
		return nil, syscall.ENOSPC
	}
	return f.FS.Create(name)
}

// TestScrub_FullDisk: a copy that cannot be rewritten does not keep readers from the other copy.
// The repair is not attempted for each reader, and succeeds once there is room.
func TestScrub_FullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &full{FS: crashfs.New(), dir: "/k/" + spoolDir}
		c := testConfig(disk, "/j")
		c.SecondDir = "/k"
		j := open(t, c)
		mustPut(t, j, "k", random(100_000, 1))
		if err := disk.Remove("/k/" + spoolDir + "/1.body"); err != nil {
			t.Fatal(err)
		}
		disk.on = true
		for range 10 {
			read(t, j, key("k"))
			synctest.Wait()
		}
		disk.on = false
		read(t, j, key("k"))
		if synctest.Wait(); j.Stats().Repaired > 0 {
			t.Error("the repair is retried at once")
		}
		time.Sleep(repairPause)
		synctest.Wait()
		if _, err := disk.Size("/k/" + spoolDir + "/1.body"); err != nil || j.Stats().Repaired != 1 {
			t.Errorf("%v, %+v", err, j.Stats())
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestScrub_DamagedInBoth: a body that is intact in neither directory is counted once, however
// often and by whom it is read, and is refused.
func TestScrub_DamagedInBoth(t *testing.T) {
	dir, second := twoDirs(t)
	j, err := openMirrored(t, dir, second)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	mustPut(t, j, "k", random(100_000, 1))
	for _, name := range []string{j.spool.Name(1), j.mirror.on(1, j.spool.Name(1))} {
		if err := os.Truncate(name, 10); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if _, err := j.Body(j.Last(key("k")), 0, 100_000); err == nil || errors.Is(err, ErrGone) {
			t.Errorf("%v", err)
		}
	}
	if s := j.Stats(); s.Lost != 1 || s.Repaired != 0 {
		t.Errorf("%+v", s)
	}
}

// TestScrub_DoesNotDelayRepairs: damage that a reader finds is repaired while a scrub, which may
// take days, is running.
func TestScrub_DoesNotDelayRepairs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := crashfs.New()
		c := testConfig(disk, "/j")
		c.SecondDir, c.ScrubRate = "/k", 1 // a byte a second
		j := open(t, c)
		mustPut(t, j, "k", random(3<<20, 1))
		j = reopen(t, j)
		synctest.Wait() // the scrub waits in the middle of the body
		flip(t, disk, j.spool.Name(1), 5)
		read(t, j, key("k"))
		synctest.Wait()
		if s := j.Stats(); s.Repaired != 1 {
			t.Errorf("%+v", s)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestScrub_ReaderWaitsForARepair: the table of a body is damaged in both directories, at different
// places. A reader does not report the body as lost while another goroutine repairs it.
func TestScrub_ReaderWaitsForARepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, goOn := crashfs.New(), make(chan struct{})
		draft := "/j/" + spoolDir + "/" + spool.Base(1) + draftSuffix
		var creates atomic.Int64
		c := testConfig(vfs.Watched(disk, func(op akigw.DiskOp, name string, size int) (int, error) {
			if op == akigw.DiskCreate && name == draft && creates.Add(1) == 2 { // the first create is the writer's
				<-goOn
			}
			return size, nil
		}), "/j")
		c.SecondDir = "/k"
		j := open(t, c)
		body := random(200_000, 1)
		mustPut(t, j, "k", body)
		flip(t, disk, j.spool.Name(1), len(body)+1)
		flip(t, disk, j.mirror.on(1, j.spool.Name(1)), len(body)+9)
		var readers sync.WaitGroup
		for range 2 {
			readers.Go(func() {
				if got, err := stretch(j, j.Last(key("k")), 0, int64(len(body))); err != nil || !bytes.Equal(got, body) {
					t.Errorf("%d bytes: %v", len(got), err)
				}
			})
		}
		synctest.Wait()
		close(goOn)
		readers.Wait()
		if s := j.Stats(); s.Repaired != 2 || s.Lost != 0 {
			t.Errorf("%+v", s)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
