package warm

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/vfs"
)

// Marks are files in the directory that say how its last use ended. They are not Badger keys,
// because those could reappear after a power failure.
const (
	cleanFile   = "CLEAN"   // the last epoch closed the directory in order
	crashFile   = "CRASHED" // an epoch did not, and the tier has not been emptied since
	missedFile  = "MISSED"  // an epoch did not use the tier, and changed objects that may be in it
	openingFile = "OPENING" // Badger is opening the directory
)

// marks are the marks of a directory.
type marks struct{ dir string }

func (m marks) path(file string) string { return filepath.Join(m.dir, file) }

// crashed reports whether the last epoch, or one before it, did not close the directory. Then keys
// may point to places in the value log that were lost and now hold other values, so Badger must
// verify checksums: where it reads nonsense, it keeps the file locked for good and can neither
// remove nor close it. A later clean close does not change that, because what that epoch did not
// read is as it was.
func (m marks) crashed() (bool, error) {
	if _, err := os.Stat(m.path(crashFile)); !errors.Is(err, os.ErrNotExist) {
		return err == nil, err
	}
	for _, mark := range []string{m.path(cleanFile), m.path(missedFile)} {
		if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
			return false, err
		}
	}
	logs, err := filepath.Glob(filepath.Join(m.dir, "*.vlog"))
	if err != nil || len(logs) == 0 {
		return false, err
	}
	return true, vfs.Replace(vfs.Disk{}, m.path(crashFile), nil)
}

// forgetCrash removes the mark of a crash: the tier is empty.
func (m marks) forgetCrash() error { return vfs.Remove(vfs.Disk{}, m.path(crashFile)) }

// takeClean removes the mark of a clean close, and reports whether it existed.
func (m marks) takeClean() (clean bool, err error) {
	if err := vfs.Remove(vfs.Disk{}, m.path(missedFile)); err != nil {
		return false, err
	}
	err = os.Remove(m.path(cleanFile))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, errors.Join(err, vfs.Disk{}.SyncDir(m.dir))
}

// markClean records that this epoch has closed the directory properly.
func (m marks) markClean() error {
	f, err := os.OpenFile(m.path(cleanFile), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), vfs.Disk{}.SyncDir(m.dir))
}

const errDiedOpening = akigw.Error("an earlier start did not survive opening it")

// beginOpening sets a mark that endOpening removes. If the mark exists, the last start died in
// between: then the directory is set aside instead of being tried again and again.
func (m marks) beginOpening() error {
	f, err := os.OpenFile(m.path(openingFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return errDiedOpening
	}
	if err != nil {
		return err
	}
	return f.Close()
}

func (m marks) endOpening() error { return os.Remove(m.path(openingFile)) }

// Distrust records that this epoch does not use the tier in a directory: everything in it must be
// validated before it is served again. An error means that this could not be recorded.
func Distrust(dir string) error {
	m := marks{dir}
	err := os.Rename(m.path(cleanFile), m.path(missedFile)) // takes no space
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return errors.Join(err, vfs.Disk{}.SyncDir(dir))
}
