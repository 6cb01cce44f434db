//go:build !linux

package vfs

import (
	"errors"
	"os"
)

// allocate gives a file size bytes of the disk without making it longer. Only Linux can.
func allocate(*os.File, int64) error { return errors.ErrUnsupported }
