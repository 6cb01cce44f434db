package warm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/internal/vfs"
)

// Badger writes through memory maps of files that are longer than the blocks they have. On a
// disk without room that is a SIGBUS, which ends the process, and no error that anybody can
// handle. So there has to be room before it is opened, before anything is removed from it, and
// before it is closed. Where there is none the tier is not used: it is only a cache.

// ErrNoRoom: the disk has no room for what Badger writes by itself, or is read-only. The
// directory is as it was.
var ErrNoRoom = errors.New("its disk takes nothing more")

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

// roomToOpen returns ErrNoRoom if a directory cannot be opened now.
func roomToOpen(dir string) error {
	err := roomFor(dir, openRoom)
	if err != nil && os.Truncate(filepath.Join(dir, ballastFile), 0) == nil { // that is what it is for
		err = roomFor(dir, openRoom)
	}
	return err
}

// roomFor returns ErrNoRoom if so many bytes cannot be written below a directory, which need
// not be there yet.
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
		return fmt.Errorf("%w: %s is on a disk that is read-only", ErrNoRoom, dir)
	case free < bytes:
		return fmt.Errorf("%w: %s are free for %s, and it takes %s", ErrNoRoom, size.Human(free), dir, size.Human(bytes))
	case st.Files > 0 && st.Ffree < openFiles:
		return fmt.Errorf("%w: the disk of %s has room for %d more files", ErrNoRoom, dir, st.Ffree)
	}
	return nil
}

// noRoom makes an error ErrNoRoom if it says that the disk takes nothing.
func noRoom(err error) error {
	if vfs.Unwritable(err) {
		return fmt.Errorf("%w: %w", ErrNoRoom, err)
	}
	return err
}

// panicked is the error of a panic: a memory map that there was no room for, or that the disk did
// not give, is akin to ErrNoRoom if there is none.
func (t *Tier) panicked(r any) error {
	err := fmt.Errorf("badger: %v", r)
	if _, ok := r.(interface {
		runtime.Error
		Addr() uintptr
	}); ok {
		if room := roomFor(t.config.Dir, openRoom); room != nil {
			err = fmt.Errorf("%w: %w", room, err)
		}
	}
	return err
}

// missedMark takes the place of the clean mark when a run does not use the tier: what was
// changed meanwhile it did not hear of.
func missedMark(dir string) string { return filepath.Join(dir, "MISSED") }

// Distrust says that a run does not use the tier in a directory: whatever is in it has to be
// validated before it is served again. An error says that this could not be written down.
func Distrust(dir string) error {
	err := os.Rename(filepath.Join(dir, cleanFile), missedMark(dir)) // needs no room
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return errors.Join(err, vfs.Disk{}.SyncDir(dir))
}

// switchOff ends all use of the tier until the next start, which finds it as after a crash.
func (t *Tier) switchOff(why string, args ...any) {
	if t.off.Load() {
		return
	}
	t.why.CompareAndSwap(nil, &why)
	if !t.off.Swap(true) {
		t.config.Log.Error("the warm tier is switched off until restart: "+why, append([]any{"dir", t.config.Dir}, args...)...)
	}
}

// whole reports whether the directory is the one that was opened. If not the tier is switched
// off: Badger waits for ever for a file that it cannot make.
func (t *Tier) whole() bool {
	if t.away.Load() {
		return false
	}
	info, err := os.Stat(t.config.Dir)
	if err == nil && os.SameFile(info, t.self) {
		return true
	}
	t.away.Store(true)
	t.switchOff("its directory was removed, unmounted or replaced", "error", err)
	return false
}

// removable reports whether something can be removed. If not the tier is switched off, and with
// it all that is in it.
func (t *Tier) removable() bool {
	if t.off.Load() {
		return false
	}
	if !t.whole() {
		return false
	}
	if err := roomFor(t.config.Dir, removeRoom); err != nil {
		t.space.ballast.release()
		if err = roomFor(t.config.Dir, removeRoom); err != nil {
			t.switchOff("something has to be removed from it, and that takes some room", "error", err)
			return false
		}
	}
	return true
}
