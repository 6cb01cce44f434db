package journal

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/akidb/akigw/journal/internal/spool"

	"github.com/akidb/akigw/internal/vfs"
)

// checkSpool removes bodies that no record refers to, and finds bodies that are missing or whose
// length differs from their record. Those are repaired from the second directory, if there is one,
// or reported. The content of a body is verified when it is read.
func (r *recovery) checkSpool() error {
	wanted := r.wantedBodies()
	accepted, err := r.quarantine.list()
	if err != nil {
		return err
	}
	damaged := len(r.quarantine.uncopied) > 0 || slices.ContainsFunc(accepted, func(name string) bool { return !strings.HasPrefix(name, acceptedMark) })
	top, err := r.removeUnwanted(wanted, damaged)
	if err != nil {
		return err
	}
	r.checkBodies(wanted)
	for _, n := range slices.Sorted(maps.Keys(wanted)) {
		top = max(top, n)
		if err := r.judgeBody(wanted[n], accepted); err != nil {
			return err
		}
	}
	r.spool.SetLast(top)
	return nil
}

// judgeBody reports a damaged body. accepted holds the names of what is in the quarantine.
func (r *recovery) judgeBody(b *body, accepted []string) error {
	if errors.Is(b.err, errRepair) {
		if !r.mirror.current || !vfs.Unwritable(b.err) {
			return b.err
		}
		r.logger.Warn("a body in the journal could not be repaired because the disk is full; it is read from the other directory", "key", b.named, "error", b.err)
		return nil
	}
	if b.err == nil || slices.Contains(accepted, acceptedMark+damagedBody(b.Number)) {
		return nil
	}
	r.logger.Error("the body of an acknowledged write is damaged", "key", b.named, "error", b.err)
	return r.quarantine.add(damagedBody(b.Number), fmt.Append(nil, b.err))
}

func damagedBody(n uint64) string { return fmt.Sprintf("%x.body.damaged", n) }

func (r *recovery) wantedBodies() map[uint64]*body {
	wanted := map[uint64]*body{}
	r.table.read(func(s *state) {
		for _, it := range s.items {
			for _, b := range it.bodies() {
				wanted[b.Number] = &b
			}
		}
	})
	return wanted
}

// removeUnwanted removes drafts, and bodies that no record refers to. If records are damaged, it
// keeps the bodies, because they may belong to those records. It returns the highest number of a
// body that it found.
func (r *recovery) removeUnwanted(wanted map[uint64]*body, damaged bool) (top uint64, err error) {
	fs, dirs := r.side.fs, r.side.dirs
	for _, dir := range dirs {
		dir = filepath.Join(dir, spoolDir)
		names, err := fs.List(dir)
		if err != nil {
			return top, err
		}
		for _, name := range names {
			n, err := strconv.ParseUint(strings.TrimSuffix(name, ".body"), 16, 64)
			if err == nil {
				top = max(top, n)
			}
			if _, ok := wanted[n]; err == nil && (ok || damaged) {
				continue
			}
			if err := fs.Remove(filepath.Join(dir, name)); err != nil && !vfs.Unwritable(err) {
				return top, err // a later start removes what stays on a read-only disk
			}
		}
	}
	return top, nil
}

// checkers is the number of bodies that are checked in parallel at startup: a disk handles many
// parallel requests faster than the same requests one by one.
const checkers = 32

func (r *recovery) checkBodies(wanted map[uint64]*body) {
	next := make(chan *body, checkers)
	var workers sync.WaitGroup
	for range min(checkers, len(wanted)) {
		workers.Go(func() {
			for b := range next {
				b.err = r.checkBody(b)
			}
		})
	}
	for _, b := range wanted {
		next <- b
	}
	close(next)
	workers.Wait()
}

// checkBody checks the copies of a body at startup.
func (r *recovery) checkBody(b *body) (err error) {
	fs, dirs := r.side.fs, r.side.dirs
	for i, dir := range dirs {
		err = errors.Join(err, r.checkCopy(fs, filepath.Join(dir, spoolDir, spool.Base(b.Number)), b, i))
	}
	if err == nil || r.mirror == nil {
		return err
	}
	return r.repair.body(b.Piece, b.named)
}

// checkCopy checks the length of one copy. If its directory was detached, it also checks that the
// copy is not a different body with the same number.
func (r *recovery) checkCopy(fs vfs.FS, name string, b *body, side int) error {
	size, err := fs.Size(name)
	if err != nil {
		return fmt.Errorf("body of %s: %w", b.named, err)
	}
	if size != b.Length() {
		return spool.Damaged(b.named, "its file has %d bytes instead of %d", size, b.Length())
	}
	if m := r.mirror; m == nil || m.current || side == m.lead {
		return nil
	}
	return r.sameAsLead(b, side)
}

// sameAsLead reports whether a copy of a body is the one that the record describes, or else the
// same as the lead's copy.
func (r *recovery) sameAsLead(b *body, side int) error {
	var tables [2][]byte
	for i := range tables {
		f, err := r.mirror.FS.Open(r.mirror.on(i, r.spool.Name(b.Number)))
		if err == nil {
			tables[i], err = b.ReadTable(f)
			err = errors.Join(err, f.Close())
		}
		if err != nil && i == side {
			return err
		}
	}
	if !b.Known && !slices.Equal(tables[0], tables[1]) {
		return spool.Damaged(b.named, "the two directories hold different bodies")
	}
	return nil
}
