package spool

import (
	"errors"
	"io"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/vfs"
)

// Copied is a file that is stored more than once.
type Copied interface {
	// Copies are the copies that could be opened.
	Copies() []vfs.File
	// Whole reports whether all copies could be opened.
	Whole() bool
	// Merged is the combined content of the copies if none of them is complete, else nil.
	Merged() []byte
}

// Copies returns the copies of an open file: the file itself unless it is Copied.
func Copies(f vfs.File) []vfs.File {
	if c, ok := f.(Copied); ok {
		return c.Copies()
	}
	return []vfs.File{f}
}

// Whole reports whether all copies of a file could be opened.
func Whole(f vfs.File) bool {
	c, ok := f.(Copied)
	return !ok || c.Whole()
}

// ReadIntact fills p from offset at with the first copy of f for which intact returns true. damaged
// means that a copy is damaged or missing. If no copy is intact, the error is that of the first
// copy; it wraps akigw.ErrChecksum if that copy could be read.
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

// ErrUnsynced: a sync failed. It is never treated as a full disk, because the content of the disk
// is unknown.
const ErrUnsynced = akigw.Error("sync")

// Unsynced wraps the error of a sync in ErrUnsynced.
func Unsynced(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(ErrUnsynced, err)
}
