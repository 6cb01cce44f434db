package embedded

import (
	"fmt"
	"syscall"
)

// openRoom is how many bytes must be free on the disk of the index. Badger writes it through memory
// maps, and without free space that causes a SIGBUS instead of an error.
const openRoom = 16 << 20

// roomFor returns an error if there is too little room in a directory to open an index there.
func roomFor(dir string) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return fmt.Errorf("embedded upstream: %s: %w", dir, err)
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free < openRoom {
		return fmt.Errorf("embedded upstream: %d bytes are free for %s, but %d are required: make room; it holds the objects themselves, so the gateway does not start without it", free, dir, openRoom)
	}
	return nil
}
