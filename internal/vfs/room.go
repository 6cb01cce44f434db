package vfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// NoRoom reports whether an error says that a disk is full: no blocks, no inodes, or a quota.
func NoRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// Unwritable reports whether an error says that a disk takes nothing at present: it is full,
// or it is mounted read-only. What is on it can still be read.
func Unwritable(err error) bool { return NoRoom(err) || errors.Is(err, syscall.EROFS) }

// Lock takes a file for this process alone until it is closed, and makes it if need be. On a
// disk that takes nothing it locks the file as it is or, if there is none, its directory. The
// error of a lock that another process holds is syscall.EWOULDBLOCK.
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
