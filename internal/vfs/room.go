package vfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// NoRoom reports whether an error means that a disk is full: no free blocks or inodes, or a quota.
func NoRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// Unwritable reports whether an error means that a disk cannot be written at present, because it is
// full or mounted read-only. It can still be read.
func Unwritable(err error) bool { return NoRoom(err) || errors.Is(err, syscall.EROFS) }

// Lock locks a file exclusively for this process until it is closed, and creates the file if need be.
// On a disk that cannot be written it locks the existing file or, if there is none, its directory. The
// error is syscall.EWOULDBLOCK if another process holds the lock.
func Lock(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if Unwritable(err) {
		if f, err = os.Open(name); errors.Is(err, os.ErrNotExist) {
			f, err = os.Open(filepath.Dir(name))
		}
	}
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
	}
	return f, nil
}
