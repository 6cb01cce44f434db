package journal

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"github.com/akidb/akigw/internal/vfs"
)

// quarantine is a directory with copies of damaged data. Files that an operator has accepted stay
// in it under another name.
type quarantine struct {
	fs       vfs.FS
	dir      string // of the journal
	logger   *slog.Logger
	uncopied []string // damage that could not be copied to the quarantine, because the disk is full
}

func (q *quarantine) path() string { return filepath.Join(q.dir, quarantineDir) }

// list returns the names of all files.
func (q *quarantine) list() ([]string, error) { return q.fs.List(q.path()) }

// add writes a file. If the disk accepts no data, the damaged data stays where it is, and the
// damage is remembered for this epoch.
func (q *quarantine) add(name string, data []byte) error {
	path := filepath.Join(q.path(), name)
	err := writeDraft(q.fs, path, data)
	if unwritten(err) {
		q.logger.Warn("damage could not be copied to the quarantine; the next start tries again", "file", path, "error", err)
		_ = q.fs.Remove(path) // an incomplete copy
		q.uncopied = append(q.uncopied, filepath.Join(quarantineDir, name))
		return nil
	}
	return err
}

// files returns the files that an operator has not accepted yet.
func (q *quarantine) files() (all []string, err error) {
	names, err := q.list()
	for _, name := range names {
		if !strings.HasPrefix(name, acceptedMark) {
			all = append(all, filepath.Join(quarantineDir, name))
		}
	}
	all = append(all, q.uncopied...)
	slices.Sort(all)
	return all, err
}

// accept renames files to mark them as accepted.
func (q *quarantine) accept(files []string) error {
	if len(q.uncopied) > 0 {
		return fmt.Errorf("%w: damage has not been copied to the quarantine; free some space and restart the gateway before you accept it", ErrFull)
	}
	for _, name := range files {
		dir, file := filepath.Split(filepath.Join(q.dir, name))
		if err := q.fs.Rename(filepath.Join(dir, file), filepath.Join(dir, acceptedMark+file)); err != nil {
			return err
		}
	}
	return q.fs.SyncDir(q.path())
}
