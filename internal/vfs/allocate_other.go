//go:build !linux

package vfs

import (
	"errors"
	"os"
)

// allocate would allocate disk space to a file without changing its length, which only Linux can do.
func allocate(*os.File, int64) error { return errors.ErrUnsupported }
