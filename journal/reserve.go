package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/akidb/akigw/internal/vfs"
)

// A full disk stops acknowledgements, but not the flush, which frees space. For that the journal
// keeps a reserve: a few empty files with preallocated blocks. When a write finds the disk full,
// its segment is sealed: the records up to the last sync count, and what the failed write left
// after them does not. One file of the reserve then becomes the next segment, by a rename, which
// needs neither blocks nor an inode. That segment accepts only records that release something:
// flushed entries, dead letters, upload IDs, and live entries of the oldest segment, so that that
// segment can be removed. The other files are for when it is full, and for the segments of later
// starts.
//
// Once a second the committer checks whether there is space to restore the whole reserve. If there
// is, a new segment is begun and writes are acknowledged again. If there was no reserve, because
// the disk was full from the beginning, or if it is used up, nothing can be written at all: the
// entries of the journal are readable and stay.
//
// All of this applies to a full disk only. After a failed sync the content of the disk is unknown,
// and the journal fails for good.

const (
	// reserveFile is the name prefix of the reserve's files in Config.Dir. Each file is empty and
	// has an equal share of Config.ReserveBytes preallocated.
	reserveFile = "reserve"
	// reservePieces is the number of files of the reserve.
	reservePieces = 4
	// lookEvery is how often the journal checks that its files are still in place and, while the
	// disk is full, whether there is space again.
	lookEvery = time.Second
)

// reserve is disk space kept for records that release something. It belongs to the goroutine that
// writes the log.
type reserve struct {
	fs     vfs.FS
	dir    string
	bytes  int64 // of all pieces; 0: no reserve is wanted
	log    *slog.Logger
	health *health

	pieces     [reservePieces]vfs.File // nil for a missing piece
	impossible bool                    // this disk does not support a reserve
}

// keep creates the missing pieces. It reports whether acknowledgements may continue: the reserve is
// complete, or the disk does not support one.
func (r *reserve) keep() bool {
	if r.bytes <= 0 || r.impossible {
		return true
	}
	switch err := r.fill(); {
	case err == nil:
		return true
	case vfs.Unwritable(err):
		_ = r.health.noRoom(fmt.Errorf("no space for its reserve of %d bytes: %w", r.bytes, err), false)
		return false
	default:
		r.impossible = true
		r.log.Warn("the journal has no reserve: when its disk is full, nothing is flushed until there is free space again", "dir", r.dir, "error", err)
		return true
	}
}

// fill creates the missing pieces, as far as possible.
func (r *reserve) fill() error {
	made := false
	var full error
	for i, f := range r.pieces {
		if f != nil {
			continue
		}
		f, err := r.fs.Reserve(r.name(i), r.pieceBytes())
		if err == nil {
			if err = f.Sync(); err != nil {
				err = errors.Join(err, f.Close())
			}
		}
		switch {
		case err == nil:
			r.pieces[i], made = f, true
		case vfs.Unwritable(err):
			full = err // there may be space for others
		default:
			return err
		}
	}
	if made {
		return errors.Join(full, r.fs.SyncDir(r.dir))
	}
	return full
}

// take renames a piece, so that it becomes another file. The error is errNoReserve if there is
// none.
func (r *reserve) take(name string) (vfs.File, error) {
	i := slices.IndexFunc(r.pieces[:], func(f vfs.File) bool { return f != nil })
	if i < 0 {
		return nil, errNoReserve
	}
	if err := r.fs.Rename(r.name(i), name); err != nil {
		return nil, err
	}
	f := r.pieces[i]
	r.pieces[i] = nil
	return f, nil
}

// available reports whether there is a piece left.
func (r *reserve) available() bool {
	return slices.ContainsFunc(r.pieces[:], func(f vfs.File) bool { return f != nil })
}

func (r *reserve) name(i int) string { return filepath.Join(r.dir, fmt.Sprint(reserveFile, i+1)) }

func (r *reserve) pieceBytes() int64 { return r.bytes / reservePieces }

func (r *reserve) close() (err error) {
	for _, f := range r.pieces {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}
