package vfs

import (
	"os"
	"syscall"
)

// keepSize is FALLOC_FL_KEEP_SIZE: blocks are allocated, and the length of the file does not change.
const keepSize = 1

// allocate allocates size bytes of the disk to a file without changing its length, so that later writes
// do not run out of space.
func allocate(f *os.File, size int64) error {
	return os.NewSyscallError("fallocate", syscall.Fallocate(int(f.Fd()), keepSize, 0, size))
}
