package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
	"github.com/akidb/akigw/internal/vfs"
)

// Replace renames complete drafts over the named files. It syncs all of them before it renames the
// first.
func (r *Repair) Replace(fs vfs.FS, names []string) error {
	for _, name := range names {
		if err := r.write(fs, name+DraftSuffix); err != nil {
			_ = fs.Remove(name + DraftSuffix) // an incomplete draft takes space
			return err
		}
	}
	for _, name := range names {
		if err := fs.Rename(name+DraftSuffix, name); err != nil {
			return err
		}
		if err := fs.SyncDir(filepath.Dir(name)); err != nil {
			return err
		}
	}
	return nil
}

// Repair holds the copies of a body and which of them are intact.
type Repair struct {
	Piece
	Files   [2]vfs.File // nil: missing
	Lead    int         // the copy that is trusted
	Trusted bool        // the other copy, if it is intact, is of the same body
	sums    []byte
	Good    [2]bool // set by Look
}

// Look reads the table and finds out which copies are intact. It returns an error if the body
// cannot be recovered.
func (r *Repair) Look() error {
	if err := r.findTable(); err != nil {
		return err
	}
	for i, f := range r.Files {
		if f == nil {
			continue
		}
		sums, err := r.ReadTable(f)
		r.Good[i] = err == nil && slices.Equal(sums, r.sums)
	}
	for i := range r.Blocks() {
		if _, err := r.block(i, func(copy int, intact bool) { r.Good[copy] = r.Good[copy] && intact }); err != nil {
			return err
		}
	}
	return nil
}

// findTable finds the block checksums: from one intact table, or by merging both.
func (r *Repair) findTable() error {
	err := error(os.ErrNotExist)
	for _, i := range []int{r.Lead, 1 - r.Lead} {
		if f := r.Files[i]; f != nil && (i == r.Lead || r.Trusted) {
			if r.sums, err = r.ReadTable(f); err == nil {
				return nil
			}
		}
	}
	if r.Files[0] == nil || r.Files[1] == nil || !r.Trusted {
		return err
	}
	if sums := r.mergeTables(); sums != nil {
		r.sums = sums
		return nil
	}
	return err
}

// mergeTables takes each checksum from the table that matches a copy of its block. It returns nil
// if the result does not match the record, or the footer of either copy.
func (r *Repair) mergeTables() []byte {
	var tables [2][]byte
	want := map[uint32]bool{r.Check: r.Known}
	for i, f := range r.Files {
		tables[i] = make([]byte, 4*r.Blocks()+foot)
		n, err := f.ReadAt(tables[i], r.Size)
		if n < len(tables[i]) && err != io.EOF {
			return nil
		}
		if !r.Known {
			want[binary.LittleEndian.Uint32(tables[i][4*r.Blocks()+4:])] = true
		}
	}
	var merged []byte
	for i := range r.Blocks() {
		found := false
		for _, table := range tables {
			if _, err := r.blockOf(i, table, nil); err == nil && !found {
				merged, found = append(merged, table[4*i:4*i+4]...), true
			}
		}
		if !found {
			return nil
		}
	}
	if !want[codec.Checksum(merged)] {
		return nil
	}
	return merged
}

// block returns a block from the first copy where it is intact. each, if not nil, is called for
// every existing copy.
func (r *Repair) block(i int64, each func(copy int, intact bool)) ([]byte, error) {
	return r.blockOf(i, r.sums, each)
}

func (r *Repair) blockOf(i int64, sums []byte, each func(copy int, intact bool)) (good []byte, err error) {
	from, to := r.Piece.block(i)
	err = fmt.Errorf("%w: bytes %d to %d", akigw.ErrChecksum, from, to)
	for c, f := range r.Files {
		if f == nil || good != nil && each == nil {
			continue
		}
		block := make([]byte, to-from)
		n, _ := f.ReadAt(block, from) // an unreadable block counts as damaged
		intact := n == len(block) && fits(block, sums, i)
		if intact {
			good, err = block, nil
		}
		if each != nil {
			each(c, intact)
		}
	}
	return good, err
}

// write writes and syncs a complete copy.
func (r *Repair) write(fs vfs.FS, name string) error {
	f, err := fs.Create(name)
	if err != nil {
		return err
	}
	for i := range r.Blocks() {
		block, err := r.block(i, nil)
		if err == nil {
			_, err = f.Write(block)
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
	}
	_, err = f.Write(appendFoot(slices.Clone(r.sums), r.Size))
	if err == nil {
		err = Unsynced(f.Sync())
	}
	return errors.Join(err, f.Close())
}
