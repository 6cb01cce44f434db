// Package vfs is the seam between akigw and the file system: the operations that precious files
// need, the disk that does them, fault points in front of it, and the replacement of a file that
// survives a power cut or did not happen.
package vfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// FS is what akigw asks of a file system for files that it must not lose. Tests pass one that forgets what
// was not synced, or fails any call. Names are paths.
type FS interface {
	MkdirAll(dir string) error
	// Create makes a file for writing and reading; it replaces one of that name.
	Create(name string) (File, error)
	// Open opens a file for reading. The error of one that is not there is
	// os.ErrNotExist.
	Open(name string) (File, error)
	// Size is the length of a file in bytes, without opening it. The error of one that is not
	// there is os.ErrNotExist.
	Size(name string) (int64, error)
	// Reserve makes an empty file for writing and reading that has size bytes of the disk, or
	// opens the one that is there; it replaces one that is not empty. A disk without that much
	// room is ENOSPC, one that cannot do it errors.ErrUnsupported or another error.
	Reserve(name string, size int64) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	// List returns the names in a directory, in any order.
	List(dir string) ([]string, error)
	// SyncDir makes names in a directory durable: what was created, renamed and
	// removed.
	SyncDir(dir string) error
	// ID names the file or directory that is found by a name: if another one is found by it
	// later, it has another ID.
	ID(name string) (string, error)
	// Lock takes a file for this process alone until it is closed.
	Lock(name string) (io.Closer, error)
}

// File is an open file. Writes append.
type File interface {
	io.Writer
	io.ReaderAt
	io.Closer
	// Sync makes the file's bytes and its length
	Sync() error
	// Size is the length of the file in bytes.
	Size() (int64, error)
}

// Disk is the file system of this machine. Files are for this user alone.
type Disk struct{}

// MkdirAll implements FS.
func (Disk) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

// Create implements FS.
func (Disk) Create(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

// Open implements FS.
func (Disk) Open(name string) (File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

// Size implements FS.
func (Disk) Size(name string) (int64, error) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Rename implements FS.
func (Disk) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements FS.
func (Disk) Remove(name string) error { return os.Remove(name) }

// List implements FS.
func (Disk) List(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

// SyncDir implements FS.
func (Disk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Lock implements FS.
func (Disk) Lock(name string) (io.Closer, error) {
	f, err := Lock(name)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("%s is in use by another process: %w", filepath.Dir(name), err)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

type diskFile struct{ *os.File }

// Sync implements File.
func (f diskFile) Sync() error { return datasync(f.File) }

// Size implements File.
func (f diskFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
