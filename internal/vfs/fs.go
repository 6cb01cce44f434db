// Package vfs is the seam between akigw and the file system, for files that must not be lost. It has
// the interface FS, its implementation on disk, fault points in front of it, and the atomic replacement
// of a file, which survives a power cut as a whole or not at all.
package vfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// FS has the operations that akigw needs for files that it must not lose. Tests pass a file system that
// loses unsynced data or fails some calls. Names are paths.
type FS interface {
	MkdirAll(dir string) error
	// Create creates a file for writing and reading. It replaces an existing file.
	Create(name string) (File, error)
	// Open opens a file for reading. The error is os.ErrNotExist if there is none.
	Open(name string) (File, error)
	// Size returns the length of a file in bytes without opening it. The error is os.ErrNotExist if
	// there is none.
	Size(name string) (int64, error)
	// Reserve opens or creates an empty file for writing and reading to which size bytes of the disk
	// are allocated. It replaces a file that is not empty. The error is ENOSPC if the disk has too
	// little space, and errors.ErrUnsupported or another one if it cannot allocate.
	Reserve(name string, size int64) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	// List returns the names in a directory, in any order.
	List(dir string) ([]string, error)
	// SyncDir makes the names in a directory durable: files that were created, renamed and removed.
	SyncDir(dir string) error
	// ID identifies the file or directory that a name refers to. If the name later refers to another
	// one, the ID differs.
	ID(name string) (string, error)
	// Lock locks a file exclusively for this process until the result is closed.
	Lock(name string) (io.Closer, error)
}

// File is an open file. Writes append.
type File interface {
	io.Writer
	io.ReaderAt
	io.Closer
	// Sync makes the file's bytes and its length durable.
	Sync() error
	// Size returns the length of the file in bytes.
	Size() (int64, error)
}

// Disk is the file system of this machine. Files are accessible to this user only.
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
