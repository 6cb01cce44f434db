package writeback

import (
	"math"
	"syscall"
)

// free is how many bytes are free on the disk of a directory, for who is not root; 0 if
// it can hold no more files to speak of.
func free(dir string) int64 {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return math.MaxInt64 // then the write itself says what is wrong
	}
	return freeOf(&st)
}

// minFiles is how many more files a disk has to have room for.
const minFiles = 1000

func freeOf(st *syscall.Statfs_t) int64 {
	if st.Files > 0 && st.Ffree < minFiles { // some file systems do not count them
		return 0
	}
	return int64(st.Bavail) * int64(st.Bsize)
}
