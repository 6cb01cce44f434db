package warm

import (
	"os"
	"syscall"
)

// allocate takes n bytes of disk for a file, whether they are written or not.
func allocate(f *os.File, n int64) error { return syscall.Fallocate(int(f.Fd()), 0, 0, n) }
