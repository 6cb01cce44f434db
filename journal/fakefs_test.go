package journal

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/vfs"
)

// countingFS counts syncs.
type countingFS struct {
	vfs.FS
	syncs atomic.Int64
}

func (c *countingFS) Create(name string) (vfs.File, error) {
	f, err := c.FS.Create(name)
	return countingFile{f, c}, err
}

type countingFile struct {
	vfs.File
	fs *countingFS
}

func (f countingFile) Sync() error {
	f.fs.syncs.Add(1)
	return f.File.Sync()
}

// memory is Pebble's file system in memory, which can be cloned as a crash would
// leave it.
type memory struct{ fs *pebblevfs.MemFS }

func (m memory) MkdirAll(dir string) error         { return m.fs.MkdirAll(dir, 0o700) }
func (m memory) Rename(from, to string) error      { return m.fs.Rename(from, to) }
func (m memory) Remove(name string) error          { return m.fs.Remove(name) }
func (m memory) List(dir string) ([]string, error) { return m.fs.List(dir) }
func (m memory) Size(name string) (int64, error) {
	info, err := m.fs.Stat(name)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (m memory) Lock(name string) (io.Closer, error) {
	return m.fs.Lock(name)
}

func (m memory) ID(name string) (string, error) {
	_, err := m.fs.Stat(name)
	return "", err
}

// Reserve makes a file anew: nothing is ever in a reserve, and room is not counted here.
func (m memory) Reserve(name string, _ int64) (vfs.File, error) {
	if err := m.fs.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return m.Create(name)
}

func (m memory) Create(name string) (vfs.File, error) {
	f, err := m.fs.Create(name, "")
	if err != nil {
		return nil, err
	}
	return memoryFile{f}, nil
}

func (m memory) Open(name string) (vfs.File, error) {
	f, err := m.fs.Open(name)
	if err != nil {
		return nil, err
	}
	return memoryFile{f}, nil
}

func (m memory) SyncDir(dir string) error {
	d, err := m.fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

type memoryFile struct{ pebblevfs.File }

// Write passes a copy on: with the race detector Pebble's file system overwrites
// what it was given.
func (f memoryFile) Write(p []byte) (int, error) { return f.File.Write(bytes.Clone(p)) }

func (f memoryFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// stepFS counts the calls that change something, and does something before each:
// fail, or say that the machine dies now.
type stepFS struct {
	vfs.FS
	mu   sync.Mutex
	n    int                            // guarded by mu
	step func(n int, what string) error // called with mu
}

// stepping is a stepFS over fs.
func stepping(fs vfs.FS) *stepFS {
	s := &stepFS{}
	s.FS = vfs.Watched(fs, s.before)
	return s
}

// before has half of a write done that fails, as a full disk does.
func (s *stepFS) before(op akigw.DiskOp, name string, size int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if op == akigw.DiskOpen || op == akigw.DiskRead || op == akigw.DiskList {
		return size, nil
	}
	s.n++
	if s.step == nil {
		return size, nil
	}
	return size / 2, s.step(s.n, string(op)+" "+name)
}

func newMem() *pebblevfs.MemFS { return pebblevfs.NewCrashableMem() }
