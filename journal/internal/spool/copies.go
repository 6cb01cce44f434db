package spool

import (
	"errors"
	"io"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/vfs"
)

// Copied is a file that is kept several times.
type Copied interface {
	// Copies are the copies that could be opened.
	Copies() []vfs.File
	// Whole reports whether those are all of them.
	Whole() bool
	// Merged is what the copies hold together, if none of them is as it should be; else nil.
	Merged() []byte
}

// Copies are the copies of an open file: one, unless it is Copied.
func Copies(f vfs.File) []vfs.File {
	if c, ok := f.(Copied); ok {
		return c.Copies()
	}
	return []vfs.File{f}
}

// Whole reports whether all copies of a file that should be there could be opened.
func Whole(f vfs.File) bool {
	c, ok := f.(Copied)
	return !ok || c.Whole()
}

// ReadIntact fills p with the bytes from offset at on, from the first copy of f whose bytes are
// intact. damaged says that a copy is damaged or missing. The error is that of the first copy if
// none is intact, and wraps akigw.ErrChecksum if it could be read.
func ReadIntact(f vfs.File, p []byte, at int64, intact func([]byte) bool) (damaged bool, err error) {
	for i, one := range Copies(f) {
		n, readErr := one.ReadAt(p, at)
		switch {
		case n == len(p) && intact(p):
			return i > 0 || !Whole(f), nil
		case n == len(p):
			readErr = akigw.ErrChecksum
		case readErr == nil:
			readErr = io.ErrUnexpectedEOF
		}
		if err == nil {
			err = readErr
		}
	}
	if c, ok := f.(Copied); ok && at+int64(len(p)) <= int64(len(c.Merged())) {
		if copy(p, c.Merged()[at:]); intact(p) {
			return true, nil
		}
	}
	return true, err
}

// ErrUnsynced: a sync failed. Whatever the reason, it is not for want of room: the content of the
// disk is unknown.
const ErrUnsynced = akigw.Error("sync")

// Unsynced makes the error of a sync ErrUnsynced as well.
func Unsynced(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(ErrUnsynced, err)
}
