//go:build linux && !arm

package blockfile

import (
	"os"
	"syscall"
)

// syncFileRangeWrite is SYNC_FILE_RANGE_WRITE.
const syncFileRangeWrite = 2

// startWriteback has the kernel begin to write a file to disk, so that its pages can be reclaimed. It
// does not wait, and it is best effort.
func startWriteback(f *os.File) {
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _ = syscall.SyncFileRange(int(fd), 0, 0, syncFileRangeWrite) })
	}
}
