//go:build linux

package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/vfs"
)

// hasty is a disk without syncs, for journals that are written only to be read again.
type hasty struct{ vfs.Disk }

type hastyFile struct{ vfs.File }

func (hastyFile) Sync() error { return nil }

func (hasty) SyncDir(string) error { return nil }

func (h hasty) Create(name string) (vfs.File, error) {
	f, err := h.Disk.Create(name)
	return hastyFile{f}, err
}

// looking counts the calls that look at bodies.
type looking struct {
	vfs.FS
	sizes, opens atomic.Int64
}

func (l *looking) Size(name string) (int64, error) {
	if strings.HasSuffix(name, ".body") {
		l.sizes.Add(1)
	}
	return l.FS.Size(name)
}

func (l *looking) Open(name string) (vfs.File, error) {
	if strings.HasSuffix(name, ".body") {
		l.opens.Add(1)
	}
	return l.FS.Open(name)
}

// TestStart_ManyBodies: a start asks for the length of each spooled body once and reads none of
// them, however many there are. The long run has 200,000 bodies of 4 KiB, on a disk whose cache was
// dropped.
func TestStart_ManyBodies(t *testing.T) {
	p := testkit.Prove(t, "start")
	bodies := p.Amount(300, 5000, 200_000)
	for _, second := range []bool{false, true} {
		t.Run(fmt.Sprintf("second directory %t", second), func(t *testing.T) {
			c := testConfig(hasty{}, filepath.Join(t.TempDir(), "a"))
			c.InlineBytes, c.SegmentBytes = 512, 64<<20
			dirs := []string{c.Dir}
			if second {
				c.SecondDir = filepath.Join(t.TempDir(), "b")
				dirs = append(dirs, c.SecondDir)
			}
			fill(t, c, bodies)
			for _, dir := range dirs {
				dropCache(t, dir)
			}
			disk := &looking{FS: vfs.Disk{}}
			c.FS = disk
			began := time.Now()
			j := open(t, c)
			p.Figure(fmt.Sprintf("seconds to open %d bodies, second directory %t", bodies, second), time.Since(began).Seconds())
			defer j.Close()
			if s := j.Stats(); s.Pending != bodies || s.Problem != nil || s.Repaired > 0 {
				t.Errorf("%+v", s)
			}
			if n := int(disk.sizes.Load()); n != bodies*len(dirs) || disk.opens.Load() != 0 {
				t.Errorf("%d lengths, %d opened", n, disk.opens.Load())
			}
		})
	}
}

// fill makes a journal with the given number of spooled bodies.
func fill(t *testing.T, c Config, bodies int) {
	t.Helper()
	j := open(t, c)
	var next atomic.Int64
	var writers sync.WaitGroup
	body := random(4<<10, 1)
	for range 64 {
		writers.Go(func() {
			for n := next.Add(1); n <= int64(bodies); n = next.Add(1) {
				if err := put(t, j, key(fmt.Sprint(n)), body); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// dropCache makes the kernel drop the cached pages of a directory's files.
func dropCache(t *testing.T, dir string) {
	t.Helper()
	syscall.Sync()
	if os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0o200) == nil {
		return
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		const dontNeed = 4 // POSIX_FADV_DONTNEED
		if _, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, dontNeed, 0, 0); errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
