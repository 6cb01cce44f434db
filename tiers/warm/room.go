package warm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/internal/vfs"
)

// Badger writes through memory maps of files that are longer than the blocks they have. On a disk
// without free space that is a SIGBUS, which ends the process, and not an error that can be handled.
// So there has to be space before Badger is opened, before anything is removed from it, and before it
// is closed. Without space the tier is not used: it is only a cache.

// errNoRoom: the disk has no space for what Badger writes by itself, or is read-only. The directory
// is unchanged.
const errNoRoom = akigw.Error("its disk accepts no more data")

const (
	// openRoom is how many bytes have to be free when the tier is opened, and openFiles how
	// many files.
	openRoom  = mostBallast
	openFiles = 100
	// removeRoom is how many bytes have to be free when values are removed, which writes a
	// little, and when the tier is closed.
	removeRoom = 4 << 20
	// readOnly is ST_RDONLY, or MNT_RDONLY, among the flags of statfs(2).
	readOnly = 1
)

// roomToOpen returns errNoRoom if a directory cannot be opened now.
func roomToOpen(dir string) error {
	err := roomFor(dir, openRoom)
	if err != nil && os.Truncate(filepath.Join(dir, ballastFile), 0) == nil { // that is what the ballast is for
		err = roomFor(dir, openRoom)
	}
	return err
}

// roomFor returns errNoRoom if a number of bytes cannot be written below a directory, which need
// not exist yet.
func roomFor(dir string, bytes int64) error {
	var st syscall.Statfs_t
	err := syscall.Statfs(dir, &st)
	for at := dir; errors.Is(err, syscall.ENOENT) && at != filepath.Dir(at); err = syscall.Statfs(at, &st) {
		at = filepath.Dir(at)
	}
	switch free := int64(st.Bavail) * int64(st.Bsize); {
	case err != nil:
		return fmt.Errorf("%s: %w", dir, err)
	case st.Flags&readOnly != 0:
		return fmt.Errorf("%w: %s is on a read-only disk", errNoRoom, dir)
	case free < bytes:
		return fmt.Errorf("%w: %s are free for %s, which needs %s", errNoRoom, size.Human(free), dir, size.Human(bytes))
	case st.Files > 0 && st.Ffree < openFiles:
		return fmt.Errorf("%w: the disk of %s has space for only %d more files", errNoRoom, dir, st.Ffree)
	}
	return nil
}

// noRoom wraps an error in errNoRoom if it says that the disk is full or read-only.
func noRoom(err error) error {
	if vfs.Unwritable(err) {
		return fmt.Errorf("%w: %w", errNoRoom, err)
	}
	return err
}

// panicked returns the error for a panic in Badger. It wraps errNoRoom if a memory map failed and
// the disk has no space.
func panicked(dir string, r any) error {
	err := fmt.Errorf("badger: %v", r)
	if _, ok := r.(interface {
		runtime.Error
		Addr() uintptr
	}); ok {
		if room := roomFor(dir, openRoom); room != nil {
			err = fmt.Errorf("%w: %w", room, err)
		}
	}
	return err
}
