package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// mirror is a file system that keeps a directory twice: each change is made in both
// places, a sync is one of both, and what fails in either has failed. Reads are of the
// first.
type mirror struct {
	FS
	dir, second string
}

// Mirrored is fs with a second copy of the directory dir, on another disk. At the start
// of a journal the second one is brought up to the first. The error says that it may be
// the better one of the two.
func Mirrored(fs FS, dir, second string) (FS, error) {
	m := &mirror{fs, filepath.Clean(dir), filepath.Clean(second)}
	return m, m.resync()
}

// twin is where the second copy of a file is.
func (m *mirror) twin(name string) string {
	rel, err := filepath.Rel(m.dir, name)
	if err != nil {
		return m.second // it is not in the directory: then it is its own name
	}
	return filepath.Join(m.second, rel)
}

// MkdirAll implements FS.
func (m *mirror) MkdirAll(dir string) error {
	return errors.Join(m.FS.MkdirAll(dir), m.FS.MkdirAll(m.twin(dir)))
}

// Create implements FS.
func (m *mirror) Create(name string) (File, error) {
	a, err := m.FS.Create(name)
	if err != nil {
		return nil, err
	}
	b, err := m.FS.Create(m.twin(name))
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return &mirrorFile{a, b}, nil
}

// Rename implements FS.
func (m *mirror) Rename(from, to string) error {
	if err := m.FS.Rename(from, to); err != nil {
		return err
	}
	return m.FS.Rename(m.twin(from), m.twin(to))
}

// Remove implements FS.
func (m *mirror) Remove(name string) error {
	err := m.FS.Remove(name)
	if second := m.FS.Remove(m.twin(name)); !errors.Is(second, os.ErrNotExist) {
		err = errors.Join(err, second)
	}
	return err
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
	File
	second File
}

// Write implements io.Writer.
func (f *mirrorFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	if err == nil {
		_, err = f.second.Write(p)
	}
	return n, err
}

// Sync implements File.
func (f *mirrorFile) Sync() error { return both(f.File.Sync, f.second.Sync) }

// Close implements io.Closer.
func (f *mirrorFile) Close() error { return errors.Join(f.File.Close(), f.second.Close()) }

// resync brings the second copy up to the first. What the first does not have was
// removed there when nobody needed it any more, and what differs is longer there, or
// cut short here. Each file is replaced as a whole, so that the second copy is good at
// any moment.
func (m *mirror) resync() error {
	for _, sub := range []string{segmentDir, spoolDir, quarantineDir, ""} {
		dir := filepath.Join(m.dir, sub)
		if err := m.MkdirAll(dir); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
		names, err := m.FS.List(dir)
		if err != nil {
			return err
		}
		copies, err := m.FS.List(m.twin(dir))
		if err != nil {
			return err
		}
		ahead, err := m.ahead(sub, names, copies)
		if err != nil {
			return err
		}
		if ahead {
			return fmt.Errorf("journal: %s is behind %s, which is to be its copy: if the disk of the first was lost, start with the second as dir and an empty directory as second_dir", m.dir, m.second)
		}
		for _, name := range names {
			if strings.HasSuffix(name, draftSuffix) || sub == "" && name != endFile {
				continue
			}
			if err := m.resyncFile(filepath.Join(dir, name), slices.Contains(copies, name)); err != nil {
				return fmt.Errorf("journal: copying to %s: %w", m.second, err)
			}
		}
		for _, name := range copies {
			if sub != "" && !slices.Contains(names, name) {
				if err := m.FS.Remove(filepath.Join(m.twin(dir), name)); err != nil && !errors.Is(err, os.ErrNotExist) { // a draft became a file
					return err
				}
			}
		}
		if err := m.FS.SyncDir(m.twin(dir)); err != nil {
			return err
		}
	}
	return nil
}

// ahead reports whether the copy has records in later segments than the first. A
// segment without any may be one whose creation a crash cut short: nothing is in a
// segment before it has a name in both places.
func (m *mirror) ahead(sub string, names, copies []string) (bool, error) {
	if sub != segmentDir {
		return false, nil
	}
	last := ""
	for _, name := range names {
		if strings.HasSuffix(name, ".seg") {
			last = max(last, name)
		}
	}
	for _, name := range copies {
		if !strings.HasSuffix(name, ".seg") || name <= last {
			continue
		}
		f, err := m.FS.Open(filepath.Join(m.second, segmentDir, name))
		if err != nil {
			return false, err
		}
		raw, err := io.ReadAll(io.NewSectionReader(f, 0, math.MaxInt64))
		if err = errors.Join(err, f.Close()); err != nil {
			return false, err
		}
		s := &scan{segment: &segment{}, size: int64(len(raw))}
		s.read(raw)
		if slices.ContainsFunc(s.records, func(r scanned) bool { return r.op.kind != kindSegment && r.op.kind != kindMark }) {
			return true, nil
		}
	}
	return false, nil
}

// resyncFile copies a file, unless its copy is like it. Bodies do not change: it is
// enough that they are as long.
func (m *mirror) resyncFile(name string, there bool) error {
	a, err := m.FS.Open(name)
	if err != nil {
		return err
	}
	defer a.Close()
	if there {
		b, err := m.FS.Open(m.twin(name))
		if err != nil {
			return err
		}
		same, err := alike(a, b, strings.HasSuffix(name, ".body"))
		if err = errors.Join(err, b.Close()); err != nil || same {
			return err
		}
	}
	draft := m.twin(name) + draftSuffix
	to, err := m.FS.Create(draft)
	if err != nil {
		return err
	}
	size, err := a.Size()
	if err == nil {
		_, err = io.Copy(to, io.NewSectionReader(a, 0, size))
	}
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return err
	}
	return m.FS.Rename(draft, m.twin(name))
}

// alike reports whether two files have the same length and, unless that is enough, the
// same bytes.
func alike(a, b File, lengthAlone bool) (bool, error) {
	n, err := a.Size()
	k, secondErr := b.Size()
	if err = errors.Join(err, secondErr); err != nil || n != k || lengthAlone {
		return n == k && err == nil, err
	}
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); at < n; at += int64(len(x)) {
		i, err := a.ReadAt(x, at)
		if err != nil && err != io.EOF {
			return false, err
		}
		if k, err := b.ReadAt(y, at); err != nil && err != io.EOF || k != i || !bytes.Equal(x[:i], y[:k]) {
			return false, nil // what cannot be read is replaced
		}
	}
	return true, nil
}
