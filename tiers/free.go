package tiers

import (
	"math"
	"syscall"
)

// free is how many bytes are free on the disk of a directory, for who is not root.
func free(dir string) int64 {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return math.MaxInt64 // then the write itself says what is wrong
	}
	return int64(st.Bavail) * int64(st.Bsize)
}
