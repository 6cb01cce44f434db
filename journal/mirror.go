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

// mirror is a file system that keeps the journal's directory in two places. It makes each change
// and each sync in both, and an operation that fails in either has failed. It reads a file from the
// first directory that can deliver it. Callers that can verify what they read use spool.ReadIntact,
// which tries both copies.
type mirror struct {
	vfs.FS
	dirs [2]string
	log  *slog.Logger

	// How startup found the two directories; not changed after it.
	lead    int  // the directory that decides which segments count
	current bool // both took part in the last epoch that acknowledged anything, or are complete again

	repairs [2]repairs // records and bodies that were restored from the other directory

	// What startup could not repair because the disk was full; not changed after it either.
	merged    map[uint64][]byte // the combined records of the copies of a segment
	misplaced bool              // some segments are in files with other names
	ignored   map[uint64]bool   // segments that do not count but still exist
}

func newMirror(fs vfs.FS, first, second string, log *slog.Logger) *mirror {
	return &mirror{FS: fs, dirs: [2]string{filepath.Clean(first), filepath.Clean(second)}, log: log}
}

// on maps a path in the first directory to the same path in one of the two.
func (m *mirror) on(side int, name string) string {
	if side == 0 {
		return name
	}
	rel, err := filepath.Rel(m.dirs[0], name)
	if err != nil {
		return m.dirs[1] // a path outside the directory stays as it is
	}
	return filepath.Join(m.dirs[1], rel)
}

func (m *mirror) twin(name string) string { return m.on(1, name) }

// segment returns the path of a segment in one of the two directories.
func (m *mirror) segment(i int, id uint64) string {
	return filepath.Join(m.dirs[i], segmentDir, segmentBase(id))
}

// openMerged opens the existing copies of a segment that could not be repaired.
func (m *mirror) openMerged(name string, raw []byte) vfs.File {
	merged := &mirrorFile{merged: raw}
	for i := range merged.files {
		if f, err := m.FS.Open(m.on(i, name)); err == nil {
			merged.files[i] = f
		}
	}
	return merged
}

// unrepaired returns the combined records of a segment that could not be repaired because the disk
// is full, nil if the segment is intact. The mirror may be nil.
func (m *mirror) unrepaired(id uint64) []byte {
	if m == nil {
		return nil
	}
	return m.merged[id]
}

// ignores reports whether a segment does not count. The mirror may be nil.
func (m *mirror) ignores(id uint64) bool { return m != nil && m.ignored[id] }

// MkdirAll implements vfs.FS.
func (m *mirror) MkdirAll(dir string) error {
	return errors.Join(m.FS.MkdirAll(dir), m.FS.MkdirAll(m.twin(dir)))
}

// Create implements vfs.FS.
func (m *mirror) Create(name string) (vfs.File, error) {
	a, err := m.FS.Create(name)
	if err != nil {
		return nil, err
	}
	b, err := m.FS.Create(m.twin(name))
	if err != nil {
		return nil, errors.Join(err, a.Close(), m.FS.Remove(name)) // the caller gets no file that it could remove
	}
	return &mirrorFile{files: [2]vfs.File{a, b}}, nil
}

// Open implements vfs.FS. It opens the copies that exist. If neither does, it returns the first
// directory's error.
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

// Size implements vfs.FS.
func (m *mirror) Size(name string) (int64, error) {
	n, err := m.FS.Size(name)
	if err != nil {
		return m.FS.Size(m.twin(name))
	}
	return n, nil
}

// Rename implements vfs.FS. If it fails in the second directory, the first one keeps the old name
// as well.
func (m *mirror) Rename(from, to string) error {
	if err := m.FS.Rename(from, to); err != nil {
		return err
	}
	err := m.FS.Rename(m.twin(from), m.twin(to))
	if err != nil {
		_ = m.FS.Rename(to, from) // so that the caller can try again
	}
	return err
}

// Remove implements vfs.FS. The file may exist in only one directory.
func (m *mirror) Remove(name string) error {
	first, second := m.FS.Remove(name), m.FS.Remove(m.twin(name))
	if first == nil && errors.Is(second, os.ErrNotExist) || second == nil && errors.Is(first, os.ErrNotExist) {
		return nil
	}
	return errors.Join(first, second)
}

// List implements vfs.FS. It returns the names found in either directory.
func (m *mirror) List(dir string) ([]string, error) {
	first, err := m.FS.List(dir)
	second, secondErr := m.FS.List(m.twin(dir))
	all := slices.Concat(first, second)
	slices.Sort(all)
	return slices.Compact(all), errors.Join(err, secondErr)
}

// SyncDir implements vfs.FS.
func (m *mirror) SyncDir(dir string) error {
	return both(func() error { return m.FS.SyncDir(dir) }, func() error { return m.FS.SyncDir(m.twin(dir)) })
}

// Lock implements vfs.FS.
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

// Reserve implements vfs.FS.
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

// ID implements vfs.FS.
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

// both runs two functions in parallel.
func both(a, b func() error) error {
	var second error
	var wait sync.WaitGroup
	wait.Go(func() { second = b() })
	first := a()
	wait.Wait()
	return errors.Join(first, second)
}

// mirrorFile is an open file with a copy in each directory.
type mirrorFile struct {
	mu      sync.Mutex
	files   [2]vfs.File // nil if a copy could not be opened; guarded by mu
	retired []vfs.File  // replaced copies that may still have readers; guarded by mu
	merged  []byte      // combined content of both copies if neither could be repaired, else nil
}

// Copies returns the copies that could be opened, the first directory's first.
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

// Merged returns the combined content of both copies if neither could be repaired, else nil.
func (f *mirrorFile) Merged() []byte { return f.merged }

// replace reads one copy from another file from now on.
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

// Sync implements vfs.File.
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

// Size implements vfs.File.
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
