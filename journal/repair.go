package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal/internal/spool"

	"github.com/akidb/akigw/internal/vfs"
)

// repairer repairs damage in one of a journal's two directories from the other, in the background
// or at once.
type repairer struct {
	mirror *mirror
	spool  *spool.Spool
	table  *table
	log    *wal
	logger *slog.Logger
	wake   chan struct{}

	mu       sync.Mutex
	bodies   map[uint64]body          // waiting for a repair; guarded by mu
	segments map[*segment]struct{}    // likewise; guarded by mu
	busy     map[uint64]chan struct{} // bodies under repair; closed when the repair ends; guarded by mu
	lost     map[uint64]bool          // bodies damaged in both directories; guarded by mu
}

func newRepairer(m *mirror, s *spool.Spool, t *table, log *wal, logger *slog.Logger) *repairer {
	return &repairer{mirror: m, spool: s, table: t, log: log, logger: logger, wake: make(chan struct{}, 1), bodies: map[uint64]body{}, segments: map[*segment]struct{}{}, busy: map[uint64]chan struct{}{}, lost: map[uint64]bool{}}
}

// repairPause is the pause after a failed repair: the disk of that directory is probably full or
// missing.
const repairPause = time.Minute

// run repairs the damage that readers report. It does not wait for the scrub, which may take hours.
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
				r.logger.Error("the journal could not be repaired; it will be tried again", "after", repairPause, "error", err)
				wake = nil
				retry.Reset(repairPause)
			}
		case <-retry.C:
			wake = r.wake
		}
	}
}

// queueBody schedules the repair of a body with a damaged copy in the background. On a nil
// repairer, which means that there is no second directory, it does nothing.
func (r *repairer) queueBody(p spool.Piece, named string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	r.bodies[p.Number] = body{Piece: p, named: named}
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
	default: // a wake-up is already pending
	}
}

// begin claims a body for repair. It returns false if another goroutine is repairing it, it cannot
// be repaired, or its entry has left.
func (r *repairer) begin(p spool.Piece) bool {
	r.spool.Acquire(p) // so that it is not removed meanwhile
	r.mu.Lock()
	free := r.busy[p.Number] == nil && !r.lost[p.Number]
	if free {
		r.busy[p.Number] = make(chan struct{})
	}
	r.mu.Unlock()
	if !free {
		r.spool.Release(p)
		return false
	}
	if !r.table.needs(p) {
		r.end(p)
		return false
	}
	return true
}

func (r *repairer) end(p spool.Piece) {
	r.mu.Lock()
	close(r.busy[p.Number])
	delete(r.busy, p.Number)
	r.mu.Unlock()
	r.spool.Release(p)
}

// giveUp records that a body is intact in neither directory.
func (r *repairer) giveUp(file uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost[file] = true
}

// losses returns the number of bodies that are intact in neither directory.
func (r *repairer) losses() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.lost)
}

// await returns when no repair of a body is under way.
func (r *repairer) await(file uint64) {
	r.mu.Lock()
	over := r.busy[file]
	r.mu.Unlock()
	if over != nil {
		<-over
	}
}

// all repairs the damage that readers reported, up to the first repair that fails. The rest is
// found again by the next reader or the next scrub.
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

// one repairs a body unless its entry has left. It returns an error if a copy could not be written.
func (r *repairer) one(b body) error {
	err := r.body(b.Piece, b.named)
	if errors.Is(err, errRepair) {
		return err
	}
	if err != nil && !errors.Is(err, errNotRepaired) && r.table.needs(b.Piece) {
		r.logger.Error("a body in the journal is damaged in both directories", "key", b.named, "error", err)
	}
	return nil
}

// segment rewrites the copies of a segment that lack records which the other copy has.
func (r *repairer) segment(s *segment) error {
	if r.mirror.misplaced || !r.log.beginRepair(s) {
		return nil
	}
	defer r.log.endRepair(s)
	return r.mirror.repairSegment(s)
}

const (
	// errRepair: a body is intact in one directory and could not be written to the other.
	errRepair = akigw.Error("an intact body could not be copied to the other directory")
	// errNotRepaired: another goroutine is repairing the body, it cannot be repaired, or its entry
	// has left.
	errNotRepaired = akigw.Error("the body was not repaired")
)

// body is a spool file that a live record needs.
type body struct {
	spool.Piece
	named string // see item.named
	err   error  // damage that could not be repaired
}

// bodies returns the spool files of an item.
func (it *item) bodies() (all []body) {
	if len(it.spools) == 0 {
		return nil
	}
	for _, p := range it.pieces() {
		all = append(all, body{Piece: p, named: it.named()})
	}
	return all
}

// body rewrites damaged or missing copies of a body, block by block, from whichever copy is intact.
// The error wraps akigw.ErrChecksum if a block is intact in none; then nothing is changed. Both
// copies are synced before one replaces a damaged copy.
func (r *repairer) body(p spool.Piece, named string) (err error) {
	if !r.begin(p) {
		return errNotRepaired
	}
	defer r.end(p)
	m := r.mirror
	var files [2]vfs.File
	for i := range files {
		f, err := m.FS.Open(m.on(i, r.spool.Name(p.Number)))
		if err == nil {
			files[i] = f
			defer f.Close()
		}
	}
	b := spool.Repair{Piece: p, Files: files, Lead: m.lead, Trusted: m.current || p.Known}
	if err := b.Look(); err != nil {
		r.giveUp(p.Number)
		return fmt.Errorf("body of %s: %w", named, err)
	}
	var bad []string
	var sides []int
	for i, good := range b.Good {
		if !good {
			bad, sides = append(bad, m.on(i, r.spool.Name(p.Number))), append(sides, i)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	if err := b.Replace(m.FS, bad); err != nil {
		return fmt.Errorf("%w: %w", errRepair, err)
	}
	if !m.current && len(bad) == 1 && !b.Good[1-m.lead] { // that copy is still being built
		return nil
	}
	for _, i := range sides {
		m.repairs[i].add(1)
	}
	m.log.Warn("a body in the journal was damaged or missing and was repaired from the other directory", "key", named, "files", bad)
	return nil
}
