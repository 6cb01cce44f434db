package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/vfs"
)

// body is a spool file that a live record needs.
type body struct {
	piece
	named string // the key
	err   error  // what is wrong with it, and could not be repaired
}

// dirs are the journal's directories, and fs the file system that they are in.
func (j *Journal) dirs() (fs vfs.FS, dirs []string) {
	if j.mirror != nil {
		return j.mirror.FS, j.mirror.dirs[:]
	}
	return j.config.FS, []string{j.config.Dir}
}

// checkSpool removes bodies that no record refers to, and finds those that are missing or have
// another length than their records say: they are repaired from the second directory, if there
// is one, or kept note of. What is in them is compared with its checksums when it is read.
func (j *Journal) checkSpool() error {
	wanted := j.wantedBodies()
	accepted, err := j.config.FS.List(filepath.Join(j.config.Dir, quarantineDir))
	if err != nil {
		return err
	}
	damaged := len(j.uncopied) > 0 || slices.ContainsFunc(accepted, func(name string) bool { return !strings.HasPrefix(name, acceptedMark) })
	top, err := j.removeUnwanted(wanted, damaged)
	if err != nil {
		return err
	}
	j.spent = nil
	j.checkBodies(wanted)
	for _, n := range slices.Sorted(maps.Keys(wanted)) {
		top = max(top, n)
		b := wanted[n]
		if errors.Is(b.err, errRepair) {
			if !j.mirror.current || !vfs.Unwritable(b.err) {
				return b.err
			}
			j.config.Log.Warn("a body in the journal could not be repaired for want of room; it is read from the other directory", "key", b.named, "error", b.err)
			continue
		}
		if b.err == nil || slices.Contains(accepted, acceptedMark+damagedBody(n)) {
			continue
		}
		j.config.Log.Error("the body of an acknowledged write is damaged", "key", b.named, "error", b.err)
		if err := j.aside(damagedBody(n), fmt.Append(nil, b.err)); err != nil {
			return err
		}
	}
	j.spools.Store(top)
	return nil
}

func (j *Journal) wantedBodies() map[uint64]*body {
	wanted := make(map[uint64]*body, len(j.ids))
	for _, it := range j.ids {
		if len(it.spools) > 0 {
			for _, p := range it.pieces() {
				wanted[p.spool] = &body{piece: p, named: it.entry.Key.String()}
			}
		}
	}
	return wanted
}

// removeUnwanted removes drafts, and bodies that no record refers to, unless records are damaged,
// which may be those of these bodies. It returns the highest number of a body that was there.
func (j *Journal) removeUnwanted(wanted map[uint64]*body, damaged bool) (top uint64, err error) {
	fs, dirs := j.dirs()
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
				return top, err // what stays on a read-only disk is removed by a later start
			}
		}
	}
	return top, nil
}

// checkers is how many bodies are looked at at a time at a start: a disk answers many questions
// at once faster than one after the other.
const checkers = 32

func (j *Journal) checkBodies(wanted map[uint64]*body) {
	next := make(chan *body, checkers)
	var workers sync.WaitGroup
	for range min(checkers, len(wanted)) {
		workers.Go(func() {
			for b := range next {
				b.err = j.checkBody(b)
			}
		})
	}
	for _, b := range wanted {
		next <- b
	}
	close(next)
	workers.Wait()
}

// checkBody looks at the copies of a body at a start.
func (j *Journal) checkBody(b *body) (err error) {
	fs, dirs := j.dirs()
	for i, dir := range dirs {
		err = errors.Join(err, j.checkCopy(fs, filepath.Join(dir, spoolDir, spoolBase(b.spool)), b, i))
	}
	if err == nil || j.mirror == nil {
		return err
	}
	return j.repairBody(b.piece, b.named)
}

// checkCopy looks at one of them: at its length, and at what it is if its directory was away, and
// may have another body of that number.
func (j *Journal) checkCopy(fs vfs.FS, name string, b *body, side int) error {
	size, err := fs.Size(name)
	if err != nil {
		return fmt.Errorf("body of %s: %w", b.named, err)
	}
	if size != b.length() {
		return damaged(b.named, "its file has %d bytes and not %d", size, b.length())
	}
	if m := j.mirror; m == nil || m.current || side == m.lead {
		return nil
	}
	return j.sameAsLead(b, side)
}

// sameAsLead reports whether a copy of a body is the one that the record, or the copy of the lead,
// says.
func (j *Journal) sameAsLead(b *body, side int) error {
	var tables [2][]byte
	for i := range tables {
		f, err := j.mirror.FS.Open(j.mirror.on(i, j.spoolName(b.spool)))
		if err == nil {
			tables[i], err = b.readTable(f)
			err = errors.Join(err, f.Close())
		}
		if err != nil && i == side {
			return err
		}
	}
	if !b.known && !slices.Equal(tables[0], tables[1]) {
		return damaged(b.named, "it is another one in the two directories")
	}
	return nil
}

// errRepair: a body is intact in one directory and could not be written to the other.
var errRepair = errors.New("a body could not be written again")

// errMending: somebody else is repairing the body, nobody can, or its entry has gone.
var errMending = errors.New("the body is not to be repaired")

// repairBody writes the copies of a body again that are damaged or missing, from what is intact
// in any copy, block by block. The error wraps akigw.ErrChecksum if a block is intact in none;
// then nothing is changed. Both copies are synced before one takes a damaged one's place.
func (j *Journal) repairBody(p piece, named string) (err error) {
	if !j.beginMending(p) {
		return errMending
	}
	defer j.endMending(p.spool)
	m := j.mirror
	var files [2]vfs.File
	for i := range files {
		f, err := m.FS.Open(m.on(i, j.spoolName(p.spool)))
		if err == nil {
			files[i] = f
			defer f.Close()
		}
	}
	r := bodyRepair{piece: p, files: files, lead: m.lead, trusted: m.current || p.known}
	if err := r.look(); err != nil {
		j.giveUp(p.spool)
		return fmt.Errorf("body of %s: %w", named, err)
	}
	var bad []string
	var sides []int
	for i, good := range r.good {
		if !good {
			bad, sides = append(bad, m.on(i, j.spoolName(p.spool))), append(sides, i)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	if err := r.replace(m, bad); err != nil {
		return fmt.Errorf("%w: %w", errRepair, err)
	}
	if !m.current && len(bad) == 1 && !r.good[1-m.lead] { // the copy is being built
		return nil
	}
	for _, i := range sides {
		m.repairs[i].add(1)
	}
	m.log.Warn("a body in the journal was damaged or missing, and is repaired from the other directory", "key", named, "files", bad)
	return nil
}

// replace puts whole copies in the place of others: all are synced before the first of them is
// renamed.
func (r *bodyRepair) replace(m *mirror, names []string) error {
	for _, name := range names {
		if err := r.write(m.FS, name+draftSuffix); err != nil {
			_ = m.FS.Remove(name + draftSuffix) // what there is of it takes room
			return err
		}
	}
	for _, name := range names {
		if err := m.FS.Rename(name+draftSuffix, name); err != nil {
			return err
		}
		if err := m.FS.SyncDir(filepath.Dir(name)); err != nil {
			return err
		}
	}
	return nil
}

// bodyRepair is the copies of a body and what is wrong with them.
type bodyRepair struct {
	piece
	files   [2]vfs.File // nil: missing
	lead    int
	trusted bool // the copy that is not the lead's is of the same body, if it is one at all
	sums    []byte
	good    [2]bool
}

// look finds the table, and which copies are intact. The error says that the body is not to be
// had.
func (r *bodyRepair) look() error {
	if err := r.findTable(); err != nil {
		return err
	}
	for i, f := range r.files {
		if f == nil {
			continue
		}
		sums, err := r.readTable(f)
		r.good[i] = err == nil && slices.Equal(sums, r.sums)
	}
	for i := range r.blocks() {
		if _, err := r.block(i, func(copy int, intact bool) { r.good[copy] = r.good[copy] && intact }); err != nil {
			return err
		}
	}
	return nil
}

// findTable finds the checksums of the blocks: whole in one copy, or with what is intact in each.
func (r *bodyRepair) findTable() error {
	err := error(os.ErrNotExist)
	for _, i := range []int{r.lead, 1 - r.lead} {
		if f := r.files[i]; f != nil && (i == r.lead || r.trusted) {
			if r.sums, err = r.readTable(f); err == nil {
				return nil
			}
		}
	}
	if r.files[0] == nil || r.files[1] == nil || !r.trusted {
		return err
	}
	if sums := r.mergeTables(); sums != nil {
		r.sums = sums
		return nil
	}
	return err
}

// mergeTables takes each checksum from the table whose one a copy of its block fits. It returns
// nil if the result is not what the record says, or the foot of either copy.
func (r *bodyRepair) mergeTables() []byte {
	var tables [2][]byte
	want := map[uint32]bool{r.check: r.known}
	for i, f := range r.files {
		tables[i] = make([]byte, 4*r.blocks()+spoolFoot)
		n, err := f.ReadAt(tables[i], r.size)
		if n < len(tables[i]) && err != io.EOF {
			return nil
		}
		if !r.known {
			want[binary.LittleEndian.Uint32(tables[i][4*r.blocks()+4:])] = true
		}
	}
	var merged []byte
	for i := range r.blocks() {
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
	if !want[crc32.Checksum(merged, castagnoli)] {
		return nil
	}
	return merged
}

// block returns a block from the first copy where it is intact. each is told of every copy that
// is there, if it is not nil.
func (r *bodyRepair) block(i int64, each func(copy int, intact bool)) ([]byte, error) {
	return r.blockOf(i, r.sums, each)
}

func (r *bodyRepair) blockOf(i int64, sums []byte, each func(copy int, intact bool)) (good []byte, err error) {
	from, to := r.piece.block(i)
	err = fmt.Errorf("%w: bytes %d to %d", akigw.ErrChecksum, from, to)
	for c, f := range r.files {
		if f == nil || good != nil && each == nil {
			continue
		}
		block := make([]byte, to-from)
		n, _ := f.ReadAt(block, from) // what cannot be read is damaged
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

// write writes and syncs a whole copy.
func (r *bodyRepair) write(fs vfs.FS, name string) error {
	f, err := fs.Create(name)
	if err != nil {
		return err
	}
	for i := range r.blocks() {
		block, err := r.block(i, nil)
		if err == nil {
			_, err = f.Write(block)
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
	}
	_, err = f.Write(appendFoot(slices.Clone(r.sums), r.size))
	if err == nil {
		err = unsynced(f.Sync())
	}
	return errors.Join(err, f.Close())
}

func spoolBase(n uint64) string { return strconv.FormatUint(n, 16) + ".body" }
