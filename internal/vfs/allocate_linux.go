package vfs

import (
	"os"
	"syscall"
)

// keepSize is FALLOC_FL_KEEP_SIZE: blocks are allocated, and the file stays as long as it is.
const keepSize = 1

// allocate gives a file size bytes of the disk without making it longer: what is written to
// it later finds its room.
func allocate(f *os.File, size int64) error {
	return os.NewSyscallError("fallocate", syscall.Fallocate(int(f.Fd()), keepSize, 0, size))
}
