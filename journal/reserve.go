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

// A disk that is full stops acknowledgements, not the flush, which is what makes room. For
// that the journal keeps a reserve: a few files whose blocks are allocated and that nothing is
// in. When a write finds no room, the segment that it was for is sealed: its records up to the
// last sync count, and what the failed write left behind them does not. A piece of the reserve
// then becomes the next segment, by a rename, which needs neither blocks nor an inode. It takes
// only records that release something: what is upstream, dead letters, upload ids, and
// live entries of the oldest segment, so that that can be removed. The other pieces are for
// when it is used up, and for the segments of later starts.
//
// Once a second the committer looks whether there is room to make the reserve whole again. When
// there is, a new segment is begun, and writes are acknowledged again. If there was no reserve,
// because the disk was full already, or if it is used up, nothing can be written at all: what
// the journal holds is read, and stays.
//
// All of that is about room alone. After a sync that failed the content of the disk is unknown,
// and the journal fails for good.

const (
	// reserveFile is what the names of the reserve's pieces begin with, in Config.Dir. Each is
	// empty and has its part of Config.ReserveBytes in blocks.
	reserveFile = "reserve"
	// reservePieces is how many there are.
	reservePieces = 4
	// lookEvery is how often the journal looks whether its files are where they were and,
	// while there is no room, whether there is some.
	lookEvery = time.Second
)

// reserve is disk room that is kept for records that release something. It is for the goroutine
// that writes the log.
type reserve struct {
	fs     vfs.FS
	dir    string
	bytes  int64 // of all pieces; 0: there is to be none
	log    *slog.Logger
	health *health

	pieces     [reservePieces]vfs.File // nil for a piece that is not there
	impossible bool                    // there can be none on this disk
}

// keep makes the pieces that are not there. It reports whether acknowledgements may go on: the
// reserve is whole, or there can be none on such a disk.
func (r *reserve) keep() bool {
	if r.bytes <= 0 || r.impossible {
		return true
	}
	switch err := r.fill(); {
	case err == nil:
		return true
	case vfs.Unwritable(err):
		_ = r.health.noRoom(fmt.Errorf("no room for its reserve of %d bytes: %w", r.bytes, err), false)
		return false
	default:
		r.impossible = true
		r.log.Warn("the journal has no reserve: when its disk is full, nothing is flushed before there is room again", "dir", r.dir, "error", err)
		return true
	}
}

// fill makes the pieces that are not there, as far as it can.
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
			full = err // others may be there
		default:
			return err
		}
	}
	if made {
		return errors.Join(full, r.fs.SyncDir(r.dir))
	}
	return full
}

// take renames a piece, so that it is something else. The error is errNoReserve if there is none.
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

// available reports whether there is a piece.
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
