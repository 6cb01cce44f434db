package writeback

import (
	"syscall"
	"testing"
)

// TestNoInodes: a disk without free inodes counts as full, however many bytes are free.
//
// Scenarios: C17.
func TestNoInodes(t *testing.T) {
	for _, c := range []struct {
		files, free uint64
		want        int64
	}{{1 << 20, 1 << 19, 4096 << 10}, {1 << 20, 10, 0}, {0, 0, 4096 << 10}} {
		if got := freeOf(&syscall.Statfs_t{Files: c.files, Ffree: c.free, Bavail: 4096, Bsize: 1024}); got != c.want {
			t.Errorf("%d of %d files free: %d bytes, want %d", c.free, c.files, got, c.want)
		}
	}
	if free(t.TempDir()) <= 0 {
		t.Error("the test disk has no free space")
	}
}
