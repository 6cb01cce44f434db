package journal

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// countingFS counts syncs.
type countingFS struct {
	FS
	syncs atomic.Int64
}

func (c *countingFS) Create(name string) (File, error) {
	f, err := c.FS.Create(name)
	return countingFile{f, c}, err
}

type countingFile struct {
	File
	fs *countingFS
}

func (f countingFile) Sync() error {
	f.fs.syncs.Add(1)
	return f.File.Sync()
}

// memory is Pebble's file system in memory, which can be cloned as a crash would
// leave it.
type memory struct{ fs *vfs.MemFS }

func (m memory) MkdirAll(dir string) error         { return m.fs.MkdirAll(dir, 0o700) }
func (m memory) Rename(from, to string) error      { return m.fs.Rename(from, to) }
func (m memory) Remove(name string) error          { return m.fs.Remove(name) }
func (m memory) List(dir string) ([]string, error) { return m.fs.List(dir) }
func (m memory) Lock(name string) (io.Closer, error) {
	return m.fs.Lock(name)
}

func (m memory) Create(name string) (File, error) {
	f, err := m.fs.Create(name, "")
	if err != nil {
		return nil, err
	}
	return memoryFile{f}, nil
}

func (m memory) Open(name string) (File, error) {
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

type memoryFile struct{ vfs.File }

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
	FS
	mu   sync.Mutex
	n    int                            // guarded by mu
	step func(n int, what string) error // called with mu
}

func (s *stepFS) before(what string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	if s.step == nil {
		return nil
	}
	return s.step(s.n, what)
}

func (s *stepFS) MkdirAll(dir string) error {
	if err := s.before("mkdir " + dir); err != nil {
		return err
	}
	return s.FS.MkdirAll(dir)
}

func (s *stepFS) Create(name string) (File, error) {
	if err := s.before("create " + name); err != nil {
		return nil, err
	}
	f, err := s.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return &stepFile{f, s, name}, nil
}

func (s *stepFS) Open(name string) (File, error) {
	f, err := s.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return &stepFile{f, s, name}, nil
}

func (s *stepFS) Rename(from, to string) error {
	if err := s.before("rename " + from); err != nil {
		return err
	}
	return s.FS.Rename(from, to)
}

func (s *stepFS) Remove(name string) error {
	if err := s.before("remove " + name); err != nil {
		return err
	}
	return s.FS.Remove(name)
}

func (s *stepFS) SyncDir(dir string) error {
	if err := s.before("syncdir " + dir); err != nil {
		return err
	}
	return s.FS.SyncDir(dir)
}

type stepFile struct {
	File
	fs   *stepFS
	name string
}

func (f *stepFile) Write(p []byte) (int, error) {
	if err := f.fs.before("write " + f.name); err != nil {
		n := len(p) / 2 // as a full disk does
		if k, err := f.File.Write(p[:n]); err != nil {
			return k, err
		}
		return n, err
	}
	return f.File.Write(p)
}

func (f *stepFile) Sync() error {
	if err := f.fs.before("sync " + f.name); err != nil {
		return err
	}
	return f.File.Sync()
}
