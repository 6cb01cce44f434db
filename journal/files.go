package journal

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/journal/internal/spool"
)

// Directories and files in Config.Dir.
const (
	segmentDir    = "segments"
	spoolDir      = "spool"
	quarantineDir = "quarantine"
	lockFile      = "lock"
	draftSuffix   = spool.DraftSuffix
	acceptedMark  = "accepted-"
)

// segmentBase returns the base name of a segment file.
func segmentBase(id uint64) string { return fmt.Sprintf("%016x.seg", id) }

// segmentID parses the ID from a base name. It returns false if the name is not that of a segment.
func segmentID(name string) (uint64, bool) {
	base, ok := strings.CutSuffix(name, ".seg")
	id, err := strconv.ParseUint(base, 16, 64)
	return id, ok && err == nil
}

// checkID returns ErrMoved if a name no longer refers to the file with that ID.
func checkID(fs vfs.FS, name, id string) error {
	switch now, err := fs.ID(name); {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrMoved, err)
	case now != id:
		return fmt.Errorf("%w: %s has been replaced by another file", ErrMoved, name)
	}
	return nil
}

// writeFile replaces the content of a file durably; after a crash the file has the old content or
// the new.
func writeFile(fs vfs.FS, name string, data []byte) error {
	draft := name + draftSuffix
	if err := writeDraft(fs, draft, data); err != nil {
		return err
	}
	if err := fs.Rename(draft, name); err != nil {
		return err
	}
	return spool.Unsynced(fs.SyncDir(filepath.Dir(name)))
}

// writeDraft writes and syncs a file that is renamed later, or that a crash may leave incomplete.
func writeDraft(fs vfs.FS, name string, data []byte) error {
	f, err := fs.Create(name)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return finishDraft(f, data)
}

func finishDraft(f vfs.File, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = spool.Unsynced(f.Sync())
	}
	return errors.Join(err, f.Close())
}
