package writeback

import (
	"math"
	"syscall"
)

// free returns how many bytes are free on the disk of a directory, for users other than root; 0 if
// it can hold hardly any more files.
func free(dir string) int64 {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return math.MaxInt64 // the write itself then reports the problem
	}
	return freeOf(&st)
}

// minFiles is how many more files a disk must have space for.
const minFiles = 1000

func freeOf(st *syscall.Statfs_t) int64 {
	if st.Files > 0 && st.Ffree < minFiles { // some file systems do not count files
		return 0
	}
	return int64(st.Bavail) * int64(st.Bsize)
}
