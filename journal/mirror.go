package journal

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/akidb/akigw/internal/vfs"
)

// mirror is a file system that keeps the journal's directory twice: each change is made in both
// directories, a sync is one of both, and what fails in either has failed. A file is read from
// the first directory that can deliver it. Whoever can tell good bytes from bad ones reads with
// spool.ReadIntact, which tries both copies.
type mirror struct {
	vfs.FS
	dirs [2]string
	log  *slog.Logger

	// How the two directories were found; not changed any more when the start is over.
	lead    int  // the directory that decides which segments count
	current bool // both were written in the last epoch that acknowledged anything, or are whole again

	repairs [2]repairs // records and bodies that were written again from the other directory

	// What a start could not put right for want of room; it is not changed any more either.
	merged    map[uint64][]byte // what the copies of a segment hold together
	misplaced bool              // some of them are in files with other names
	ignored   map[uint64]bool   // segments that do not count and are still there
}

func newMirror(fs vfs.FS, first, second string, log *slog.Logger) *mirror {
	return &mirror{FS: fs, dirs: [2]string{filepath.Clean(first), filepath.Clean(second)}, log: log}
}

// on is the path of a file in one of the two directories. Names are those of the first.
func (m *mirror) on(side int, name string) string {
	if side == 0 {
		return name
	}
	rel, err := filepath.Rel(m.dirs[0], name)
	if err != nil {
		return m.dirs[1] // it is not in the directory: then it is its own name
	}
	return filepath.Join(m.dirs[1], rel)
}

func (m *mirror) twin(name string) string { return m.on(1, name) }

// MkdirAll implements FS.
func (m *mirror) MkdirAll(dir string) error {
	return errors.Join(m.FS.MkdirAll(dir), m.FS.MkdirAll(m.twin(dir)))
}

// Create implements FS.
func (m *mirror) Create(name string) (vfs.File, error) {
	a, err := m.FS.Create(name)
	if err != nil {
		return nil, err
	}
	b, err := m.FS.Create(m.twin(name))
	if err != nil {
		return nil, errors.Join(err, a.Close(), m.FS.Remove(name)) // the caller sees no file, so it cannot remove it
	}
	return &mirrorFile{files: [2]vfs.File{a, b}}, nil
}

// Open implements FS. It opens what is there: the error is that of the first directory if the
// file is in neither.
func (m *mirror) Open(name string) (vfs.File, error) {
	a, err := m.FS.Open(name)
	b, second := m.FS.Open(m.twin(name))
	f := &mirrorFile{}
	if err == nil {
		f.files[0] = a
	}
	if second == nil {
		f.files[1] = b
	}
	if err != nil && second != nil {
		return nil, err
	}
	return f, nil
}

// Size implements FS.
func (m *mirror) Size(name string) (int64, error) {
	n, err := m.FS.Size(name)
	if err != nil {
		return m.FS.Size(m.twin(name))
	}
	return n, nil
}

// Rename implements FS. If the second directory refuses it, the file has its old name in both.
func (m *mirror) Rename(from, to string) error {
	if err := m.FS.Rename(from, to); err != nil {
		return err
	}
	err := m.FS.Rename(m.twin(from), m.twin(to))
	if err != nil {
		_ = m.FS.Rename(to, from) // so that it can be tried again
	}
	return err
}

// Remove implements FS. The file may be in one of the two alone.
func (m *mirror) Remove(name string) error {
	first, second := m.FS.Remove(name), m.FS.Remove(m.twin(name))
	if first == nil && errors.Is(second, os.ErrNotExist) || second == nil && errors.Is(first, os.ErrNotExist) {
		return nil
	}
	return errors.Join(first, second)
}

// List implements FS: names that are in either.
func (m *mirror) List(dir string) ([]string, error) {
	first, err := m.FS.List(dir)
	second, secondErr := m.FS.List(m.twin(dir))
	all := slices.Concat(first, second)
	slices.Sort(all)
	return slices.Compact(all), errors.Join(err, secondErr)
}

// SyncDir implements FS.
func (m *mirror) SyncDir(dir string) error {
	return both(func() error { return m.FS.SyncDir(dir) }, func() error { return m.FS.SyncDir(m.twin(dir)) })
}

// Lock implements FS.
func (m *mirror) Lock(name string) (io.Closer, error) {
	a, err := m.FS.Lock(name)
	if err != nil {
		return nil, err
	}
	b, err := m.FS.Lock(m.twin(name))
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return closers{a, b}, nil
}

// Reserve implements FS.
func (m *mirror) Reserve(name string, size int64) (vfs.File, error) {
	a, err := m.FS.Reserve(name, size)
	if err != nil {
		return nil, err
	}
	b, err := m.FS.Reserve(m.twin(name), size)
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return &mirrorFile{files: [2]vfs.File{a, b}}, nil
}

// ID implements FS.
func (m *mirror) ID(name string) (string, error) {
	a, err := m.FS.ID(name)
	if err != nil {
		return "", err
	}
	b, err := m.FS.ID(m.twin(name))
	return a + " " + b, err
}

type closers []io.Closer

// Close implements io.Closer.
func (c closers) Close() (err error) {
	for _, one := range c {
		err = errors.Join(err, one.Close())
	}
	return err
}

// both does two things at the same time.
func both(a, b func() error) error {
	var second error
	var wait sync.WaitGroup
	wait.Go(func() { second = b() })
	first := a()
	wait.Wait()
	return errors.Join(first, second)
}

// mirrorFile is a file with its second copy.
type mirrorFile struct {
	mu      sync.Mutex
	files   [2]vfs.File // nil: it could not be opened; guarded by mu
	retired []vfs.File  // were replaced, and may still be read; guarded by mu
	merged  []byte      // what both copies hold together, if neither could be repaired; else nil
}

// Copies are the copies that there are, the first directory's first.
func (f *mirrorFile) Copies() []vfs.File {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]vfs.File, 0, 2)
	for _, one := range f.files {
		if one != nil {
			all = append(all, one)
		}
	}
	return all
}

// Whole reports whether both copies could be opened.
func (f *mirrorFile) Whole() bool { return len(f.Copies()) == len(f.files) }

// Merged is what both copies hold together, if neither could be repaired; else nil.
func (f *mirrorFile) Merged() []byte { return f.merged }

// replace has a copy read from another file from now on.
func (f *mirrorFile) replace(side int, by vfs.File) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.files[side]; old != nil {
		f.retired = append(f.retired, old)
	}
	f.files[side] = by
}

// Write implements io.Writer.
func (f *mirrorFile) Write(p []byte) (int, error) {
	n, err := f.files[0].Write(p)
	if err == nil {
		_, err = f.files[1].Write(p)
	}
	return n, err
}

// ReadAt implements io.ReaderAt.
func (f *mirrorFile) ReadAt(p []byte, at int64) (n int, err error) {
	for i, one := range f.Copies() {
		k, e := one.ReadAt(p, at)
		if i == 0 || k > n {
			n, err = k, e
		}
		if n == len(p) {
			return n, nil
		}
	}
	return n, err
}

// Sync implements File.
func (f *mirrorFile) Sync() error {
	switch all := f.Copies(); len(all) {
	case 0:
		return nil
	case 1:
		return all[0].Sync()
	default:
		return both(all[0].Sync, all[1].Sync)
	}
}

// Size implements File.
func (f *mirrorFile) Size() (int64, error) {
	var size int64
	for _, one := range f.Copies() {
		n, err := one.Size()
		if err != nil {
			return 0, err
		}
		size = max(size, n)
	}
	return size, nil
}

// Close implements io.Closer.
func (f *mirrorFile) Close() (err error) {
	f.mu.Lock()
	all := append(f.retired, f.files[:]...)
	f.mu.Unlock()
	for _, one := range all {
		if one != nil {
			err = errors.Join(err, one.Close())
		}
	}
	return err
}
