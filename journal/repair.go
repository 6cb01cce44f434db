package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/vfs"
)

// repairer repairs what is damaged in one of the two directories of a journal from the other
// one, in the background or at once.
type repairer struct {
	mirror *mirror
	spool  *spool
	table  *table
	log    *wal
	logger *slog.Logger
	wake   chan struct{}

	mu       sync.Mutex
	bodies   map[uint64]body          // to be repaired; guarded by mu
	segments map[*segment]struct{}    // likewise; guarded by mu
	busy     map[uint64]chan struct{} // bodies that are being repaired; closed when that is over; guarded by mu
	lost     map[uint64]bool          // bodies that are damaged in both directories; guarded by mu
}

func newRepairer(m *mirror, s *spool, t *table, log *wal, logger *slog.Logger) *repairer {
	return &repairer{mirror: m, spool: s, table: t, log: log, logger: logger, wake: make(chan struct{}, 1), bodies: map[uint64]body{}, segments: map[*segment]struct{}{}, busy: map[uint64]chan struct{}{}, lost: map[uint64]bool{}}
}

// repairPause is how long nothing is repaired after a repair that failed: the disk of the
// directory is full, or has gone.
const repairPause = time.Minute

// run repairs what readers have found. It does not wait for the scrub, which may take hours.
func (r *repairer) run(ctx context.Context) {
	retry := time.NewTimer(0)
	defer retry.Stop()
	wake := r.wake
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
			if err := r.all(); err != nil {
				r.logger.Error("the journal could not be repaired; it is tried again", "after", repairPause, "error", err)
				wake = nil
				retry.Reset(repairPause)
			}
		case <-retry.C:
			wake = r.wake
		}
	}
}

// queueBody has a body repaired in the background: a copy of it was found damaged. Without a
// second directory, which makes a nil repairer, it does nothing.
func (r *repairer) queueBody(p piece, named string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	r.bodies[p.spool] = body{piece: p, named: named}
	r.mu.Unlock()
	r.poke()
}

// queueSegment is queueBody for a segment.
func (r *repairer) queueSegment(s *segment) {
	if r == nil {
		return
	}
	r.mu.Lock()
	r.segments[s] = struct{}{}
	r.mu.Unlock()
	r.poke()
}

func (r *repairer) poke() {
	select {
	case r.wake <- struct{}{}:
	default: // it is going to look anyway
	}
}

// begin takes a body for a repair. It returns false if another goroutine has it, nobody can
// repair it, or its entry has left.
func (r *repairer) begin(p piece) bool {
	r.spool.acquire(p) // it is not removed meanwhile
	r.mu.Lock()
	free := r.busy[p.spool] == nil && !r.lost[p.spool]
	if free {
		r.busy[p.spool] = make(chan struct{})
	}
	r.mu.Unlock()
	if !free {
		r.spool.release(p)
		return false
	}
	if !r.table.needs(p) {
		r.end(p)
		return false
	}
	return true
}

func (r *repairer) end(p piece) {
	r.mu.Lock()
	close(r.busy[p.spool])
	delete(r.busy, p.spool)
	r.mu.Unlock()
	r.spool.release(p)
}

// giveUp notes that a body is intact in neither directory.
func (r *repairer) giveUp(spool uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost[spool] = true
}

// losses is how many bodies are intact in neither directory.
func (r *repairer) losses() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.lost)
}

// await returns when a repair of a body that is under way is over.
func (r *repairer) await(spool uint64) {
	r.mu.Lock()
	over := r.busy[spool]
	r.mu.Unlock()
	if over != nil {
		<-over
	}
}

// all repairs what readers have found, up to the first repair that fails. What is left is found
// again by the next reader, or the next scrub.
func (r *repairer) all() error {
	r.mu.Lock()
	bodies, segments := slices.Collect(maps.Values(r.bodies)), slices.Collect(maps.Keys(r.segments))
	clear(r.bodies)
	clear(r.segments)
	r.mu.Unlock()
	for _, b := range bodies {
		if err := r.one(b); err != nil {
			return err
		}
	}
	for _, s := range segments {
		if err := r.segment(s); err != nil {
			return err
		}
	}
	return nil
}

// one repairs a body unless its entry has left. The error says that a copy of it could not be
// written.
func (r *repairer) one(b body) error {
	err := r.body(b.piece, b.named)
	if errors.Is(err, errRepair) {
		return err
	}
	if err != nil && !errors.Is(err, errNotRepaired) && r.table.needs(b.piece) {
		r.logger.Error("a body in the journal is damaged in both directories", "key", b.named, "error", err)
	}
	return nil
}

// segment writes the copies of a segment again that lack records that the other one has.
func (r *repairer) segment(s *segment) error {
	if r.mirror.misplaced || !r.log.beginRepair(s) {
		return nil
	}
	defer r.log.endRepair(s)
	return r.mirror.repairSegment(s)
}

var (
	// errRepair: a body is intact in one directory and could not be written to the other.
	errRepair = errors.New("a body could not be written again")
	// errNotRepaired: another goroutine is repairing the body, nobody can, or its entry has left.
	errNotRepaired = errors.New("the body is not to be repaired")
)

// body is a spool file that a live record needs.
type body struct {
	piece
	named string // the key
	err   error  // what is wrong with it and could not be repaired
}

// bodies are the spool files of an item.
func (it *item) bodies() (all []body) {
	if len(it.spools) == 0 {
		return nil
	}
	for _, p := range it.pieces() {
		all = append(all, body{piece: p, named: it.entry.Key.String()})
	}
	return all
}

// body writes the copies of a body again that are damaged or missing, from what is intact
// in any copy, block by block. The error wraps akigw.ErrChecksum if a block is intact in none;
// then nothing is changed. Both copies are synced before one takes a damaged one's place.
func (r *repairer) body(p piece, named string) (err error) {
	if !r.begin(p) {
		return errNotRepaired
	}
	defer r.end(p)
	m := r.mirror
	var files [2]vfs.File
	for i := range files {
		f, err := m.FS.Open(m.on(i, r.spool.name(p.spool)))
		if err == nil {
			files[i] = f
			defer f.Close()
		}
	}
	b := bodyRepair{piece: p, files: files, lead: m.lead, trusted: m.current || p.known}
	if err := b.look(); err != nil {
		r.giveUp(p.spool)
		return fmt.Errorf("body of %s: %w", named, err)
	}
	var bad []string
	var sides []int
	for i, good := range b.good {
		if !good {
			bad, sides = append(bad, m.on(i, r.spool.name(p.spool))), append(sides, i)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	if err := b.replace(m, bad); err != nil {
		return fmt.Errorf("%w: %w", errRepair, err)
	}
	if !m.current && len(bad) == 1 && !b.good[1-m.lead] { // the copy is being built
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
