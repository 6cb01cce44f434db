// Package rotate writes log files of bounded size. A full file is rotated: it is renamed, compressed in
// the background, and deleted when there are more rotated files than are to be kept.
//
// It is for logs, not for data: nothing is synced, and a file that cannot be compressed or deleted stays
// until the next rotation. Rotated files are named as by lumberjack, which earlier releases used:
// audit.jsonl becomes audit-2026-11-30T01-02-03.456.jsonl.gz, in UTC.
package rotate

import (
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options describe a log file.
type Options struct {
	Path string // its directory is created if need be
	// MaxBytes bounds the size of the file.
	MaxBytes int64
	// Keep is the number of rotated files that are kept.
	Keep int
}

// File is a log file that is rotated when it is full. Its methods may be called concurrently.
type File struct {
	o Options

	mu     sync.Mutex
	file   *os.File // nil until the first write; guarded by mu, as are the fields below
	size   int64
	last   time.Time // time in the name of the last rotated file
	closed bool

	tidying sync.Mutex // serialises tidy
	work    sync.WaitGroup
}

// New returns a File. The first Write opens or creates the file.
func New(o Options) *File { return &File{o: o} }

// Write appends p to the file; p is never split between two files. The error is os.ErrClosed after
// Close.
func (f *File) Write(p []byte) (n int, err error) {
	if int64(len(p)) > f.o.MaxBytes {
		return 0, fmt.Errorf("%s: a line of %d bytes is longer than the maximum size of the file", f.o.Path, len(p))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, os.ErrClosed
	}
	if f.file == nil {
		if err := f.openLocked(); err != nil {
			return 0, err
		}
		f.work.Go(f.tidy) // files that an earlier epoch has left
	}
	if f.size > 0 && f.size+int64(len(p)) > f.o.MaxBytes {
		if err := f.rotateLocked(); err != nil {
			return 0, err
		}
		f.work.Go(f.tidy)
	}
	n, err = f.file.Write(p)
	f.size += int64(n)
	return n, err
}

// Close closes the file and waits until rotated files are compressed.
func (f *File) Close() (err error) {
	f.mu.Lock()
	if f.file != nil {
		err = f.file.Close()
	}
	f.file, f.closed = nil, true
	f.mu.Unlock()
	f.work.Wait()
	return err
}

func (f *File) openLocked() error {
	if err := os.MkdirAll(filepath.Dir(f.o.Path), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(f.o.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	f.file, f.size = file, info.Size()
	return nil
}

// rotateLocked renames the file and starts a new one. If that fails, the next write tries again.
func (f *File) rotateLocked() error {
	err := f.file.Close()
	f.file = nil
	if now := time.Now(); now.Sub(f.last) < time.Millisecond {
		f.last = f.last.Add(time.Millisecond) // names are unique
	} else {
		f.last = now
	}
	if err == nil {
		err = os.Rename(f.o.Path, f.rotatedPath(f.last))
	}
	if err != nil {
		return err
	}
	return f.openLocked()
}

const (
	timeLayout = "2006-01-02T15-04-05.000"
	compressed = ".gz"
)

// split returns the parts of a rotated file's path before and after the time.
func (f *File) split() (front, ending string) {
	ending = filepath.Ext(f.o.Path)
	return strings.TrimSuffix(f.o.Path, ending) + "-", ending
}

// rotatedPath returns the path of a file that is rotated at some time.
func (f *File) rotatedPath(at time.Time) string {
	front, ending := f.split()
	return front + at.UTC().Format(timeLayout) + ending
}

// old is a rotated file.
type old struct {
	path string // without the extension of compressed files
	at   time.Time
}

// tidy deletes the oldest rotated files and compresses the others. It drops errors: the next run tries
// again.
func (f *File) tidy() {
	f.tidying.Lock()
	defer f.tidying.Unlock()
	for i, o := range f.old() {
		if i < f.o.Keep {
			_ = compress(o.path)
			continue
		}
		_ = os.Remove(o.path)
		_ = os.Remove(o.path + compressed)
	}
}

// old lists the rotated files, newest first.
func (f *File) old() (all []old) {
	front, ending := f.split()
	entries, err := os.ReadDir(filepath.Dir(f.o.Path))
	if err != nil {
		return nil // without the directory there is nothing to tidy
	}
	seen := map[string]bool{}
	for _, e := range entries {
		path := strings.TrimSuffix(filepath.Join(filepath.Dir(f.o.Path), e.Name()), compressed)
		rest, ours := strings.CutPrefix(path, filepath.Clean(front))
		rest, whole := strings.CutSuffix(rest, ending)
		at, err := time.Parse(timeLayout, rest)
		if ours && whole && err == nil && !seen[path] {
			seen[path] = true
			all = append(all, old{path, at})
		}
	}
	slices.SortFunc(all, func(a, b old) int { return b.at.Compare(a.at) })
	return all
}

// compress compresses a file unless it is compressed already.
func compress(path string) (err error) {
	from, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path+compressed, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	zip := gzip.NewWriter(to)
	_, err = io.Copy(zip, from)
	if err = cmp.Or(err, zip.Close()); err != nil {
		return errors.Join(err, to.Close(), os.Remove(path+compressed))
	}
	if err := to.Close(); err != nil {
		return errors.Join(err, os.Remove(path+compressed))
	}
	return os.Remove(path)
}
