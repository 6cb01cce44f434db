package journal

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/akidb/akigw/journal/internal/spool"

	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/vfs"
)

// recovery opens a journal: it reads the segments, applies their records, and starts a new epoch.
// It drops writes that never became durable; it keeps and reports what was durable and is damaged.
// A crash at any point changes nothing for the next start.
type recovery struct {
	fs         vfs.FS
	dir        string
	logger     *slog.Logger
	mirror     *mirror // nil without a second directory
	health     *health
	log        *wal
	table      *table
	spool      *spool.Spool
	repair     *repairer
	side       *sideFiles
	compactor  *compactor
	quarantine *quarantine

	ids   []uint64 // segments that have a file
	scans []*scan
}

// run reads the directory, or both of them, and makes their entries live.
func (r *recovery) run() error {
	for _, sub := range []string{segmentDir, spoolDir, quarantineDir} {
		if err := r.fs.MkdirAll(filepath.Join(r.dir, sub)); err != nil {
			return err
		}
	}
	if r.mirror != nil {
		return r.both()
	}
	if _, err := r.fs.Size(filepath.Join(r.dir, unfinishedFile)); err == nil {
		return fmt.Errorf("it is an unfinished copy of another directory: start with that one as dir, or, if it is lost, remove the file %s to continue with what was copied", unfinishedFile)
	}
	r.side.state = readSide(r.fs, r.dir)
	return r.recover()
}

// both is run for two locked directories.
func (r *recovery) both() error {
	c := reconciler{mirror: r.mirror}
	err := c.reconcile()
	r.side.state, r.compactor.keep = c.side, r.mirror.misplaced
	if err == nil {
		err = r.recover()
	}
	if m := r.mirror; c.side != nil && !m.current && vfs.Unwritable(err) {
		return fmt.Errorf("%s cannot be rebuilt from %s: free some space there, or start with an empty second_dir: %w", m.dirs[1], m.dirs[0], err)
	}
	return err
}

// recover rebuilds the state from the disk and starts a new segment.
func (r *recovery) recover() error {
	if err := r.scanAll(); err != nil {
		return err
	}
	if err := errors.Join(r.missing(r.ids, r.scans), r.judge(r.scans)); err != nil {
		return err
	}
	r.replay()
	failpoint.Here("recovery.midReplay")
	// Records that are only in the page cache were not acknowledged, but will be visible from now
	// on.
	for _, s := range r.scans {
		if err := r.judgeSync(s.segment.file.Sync()); err != nil {
			return err
		}
	}
	if err := r.checkSpool(); err != nil {
		return err
	}
	damage, err := r.quarantine.files()
	r.health.setDamage(damage)
	if err != nil {
		return err
	}
	// Names must be durable before older segments are removed later.
	for _, dir := range []string{"..", "", segmentDir, spoolDir, quarantineDir} {
		if err := r.judgeSync(r.fs.SyncDir(filepath.Join(r.dir, dir))); err != nil {
			return err
		}
	}
	return r.beginEpoch()
}

// scanAll reads the segments.
func (r *recovery) scanAll() (err error) {
	if r.ids, err = r.segmentIDs(); err != nil {
		return err
	}
	for _, id := range r.ids {
		if r.mirror.ignores(id) {
			continue
		}
		s, err := r.scan(id)
		if err != nil {
			return err
		}
		if s != nil {
			r.scans = append(r.scans, s)
		}
	}
	return nil
}

// replay applies all records, as the live path does.
func (r *recovery) replay() {
	r.table.update(func(state *state) {
		for _, s := range r.scans {
			for _, one := range s.records {
				r.log.next = max(r.log.next, one.place.number+1)
				state.apply(one.op, one.place)
			}
		}
		state.dropUnnamed()
		r.log.streams = state.streams.live.Len() > 0
	}) // checkSpool removes unneeded files
}

// beginEpoch creates the first segment of a new epoch, and records the epoch in the side files.
func (r *recovery) beginEpoch() error {
	number := r.log.epoch.number
	if s := r.side.state; s != nil && len(s.epochs) > 0 {
		number = max(number, s.epochs[len(s.epochs)-1].number)
	}
	r.log.epoch = epoch{number + 1, rand.Uint64()}
	first := succession{id: 1}
	if n := len(r.ids); n > 0 {
		first.id = r.ids[n-1] + 1
	}
	if n := len(r.scans); n > 0 {
		first.before, first.length = r.scans[n-1].segment.id, r.scans[n-1].end
	}
	if err := r.firstSegment(first); err != nil {
		return err
	}
	if err := r.side.enter(r.log.epoch, r.log.firstID()); err != nil {
		return err
	}
	if r.mirror != nil {
		if err := r.judgeSync(r.mirror.unmark(1)); err != nil {
			return err
		}
		r.mirror.current = true
	}
	for _, id := range r.ids {
		if !r.compactor.keep && !slices.ContainsFunc(r.scans, func(s *scan) bool { return s.segment.id == id }) {
			_ = r.fs.Remove(r.log.segmentName(id)) // the next start examines a leftover again
		}
	}
	return nil
}

// firstSegment creates the first segment of this epoch. A disk that accepts no data is not an
// error: the entries of the journal can still be read.
func (r *recovery) firstSegment(next succession) error {
	w := r.log
	w.following, w.sealed = next, true
	if r.health.failure() != nil {
		return nil
	}
	w.reserve.keep()
	err := w.create(next)
	if !unwritten(err) {
		return err
	}
	_ = r.health.noRoom(err, false)
	if r.compactor.dropEmpty() && w.create(next) == nil {
		return nil
	}
	if w.reserve.available() {
		return nil // it is created with the first record for it
	}
	if err = w.begin(); errors.Is(err, ErrFull) {
		return nil
	}
	return err
}

// judgeSync handles the error of a sync during a start. A file system that has turned itself
// read-only after an error can still be read: the journal has failed, but opens.
func (r *recovery) judgeSync(err error) error {
	if !errors.Is(err, syscall.EROFS) {
		return err
	}
	_ = r.health.fail(err)
	return nil
}

func (r *recovery) segmentIDs() (ids []uint64, err error) {
	names, err := r.fs.List(filepath.Join(r.dir, segmentDir))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if id, ok := segmentID(name); ok {
			ids = append(ids, id)
		}
	}
	if r.mirror != nil { // files with another name may hold segments
		ids = slices.AppendSeq(ids, maps.Keys(r.mirror.merged))
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// scan reads a segment. It returns nil for a file that never became a segment: its head is durable
// before anything in it is acknowledged, so nothing in such a file was.
func (r *recovery) scan(id uint64) (*scan, error) {
	f, raw, err := r.openSegment(id)
	if err != nil {
		return nil, err
	}
	size := int64(len(raw))
	s := &scan{segment: &segment{id: id, file: f, size: size}, size: size}
	s.read(raw)
	if len(s.records) == 0 && s.head == nil {
		return nil, f.Close()
	}
	r.log.add(s.segment)
	return s, nil
}

// openSegment opens and reads a segment.
func (r *recovery) openSegment(id uint64) (f vfs.File, raw []byte, err error) {
	name := r.log.segmentName(id)
	if raw := r.mirror.unrepaired(id); raw != nil {
		return r.mirror.openMerged(name, raw), raw, nil
	}
	if f, err = r.fs.Open(name); err != nil {
		return nil, nil, err
	}
	if raw, err = vfs.ReadAll(f); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("segment %s: %w", name, err), f.Close())
	}
	return f, raw, nil
}

// judge decides what each hole is. A hole in what was durable is damage. A hole in what was not
// durable is a write that was cut short by a crash and was never acknowledged; its later pieces may
// have reached the disk before earlier ones.
func (r *recovery) judge(scans []*scan) error {
	known := map[hole]bool{}
	closed := readEnd(r.fs, r.dir)
	for _, s := range scans {
		if s.head == nil {
			continue
		}
		r.log.epoch.number = max(r.log.epoch.number, s.head.epoch)
		for _, h := range s.head.holes {
			known[h] = true
		}
	}
	for i, s := range scans {
		durable := int64(0)
		for _, one := range s.records {
			durable = max(durable, one.durable)
		}
		if s.segment.id == closed.segment {
			durable = max(durable, closed.to)
		}
		if i+1 < len(scans) {
			if next := scans[i+1].head; next != nil && next.before == s.segment.id {
				s.cut(next.length)
				durable = next.length
			} else { // its successor is damaged, so all of it was durable
				durable = s.size
			}
		}
		if s.end < durable {
			s.holes = append(s.holes, hole{s.segment.id, s.end, durable})
		}
		for _, h := range s.holes {
			switch {
			case known[h]:
			case h.from < durable:
				if err := r.damaged(s, h); err != nil {
					return err
				}
			default:
				r.logger.Warn("a write to the journal was cut short by a crash; it had not been acknowledged", "segment", r.log.segmentName(h.segment), "from", h.from, "to", h.to)
			}
			r.log.holes = append(r.log.holes, h)
		}
	}
	return nil
}

// missing finds segments that a later one refers to and that are empty or absent. An absent segment
// is damage only if older ones still exist, because older ones are removed first.
func (r *recovery) missing(ids []uint64, scans []*scan) error {
	found := map[uint64]bool{}
	for _, s := range scans {
		found[s.segment.id] = true
	}
	var claims []hole
	// The end file may name a segment that has been compacted away since, but never one after the
	// last.
	if end := readEnd(r.fs, r.dir); slices.Contains(ids, end.segment) || len(ids) == 0 || end.segment > ids[len(ids)-1] {
		claims = append(claims, end)
	}
	oldest, lost := r.side.state.lost(found, scans)
	if !lost && len(ids) > 0 {
		oldest = ids[0]
	}
	for _, s := range scans {
		if s.head == nil || s.head.before < oldest {
			continue
		}
		if lost := (hole{s.head.before, 0, s.head.length}); !slices.Contains(s.head.holes, lost) && !slices.Contains(claims, lost) {
			claims = append(claims, lost)
		}
	}
	if lost && !slices.ContainsFunc(claims, func(h hole) bool { return h.segment == oldest }) {
		claims = append(claims, hole{oldest, 0, 1}) // the length is unknown
	}
	for _, lost := range claims {
		if lost.segment == 0 || found[lost.segment] {
			continue
		}
		if err := r.damaged(&scan{}, lost); err != nil {
			return err
		}
		r.log.holes = append(r.log.holes, lost)
	}
	return nil
}

// damaged copies a damaged range to the quarantine, where an operator finds it.
func (r *recovery) damaged(s *scan, h hole) error {
	name := fmt.Sprintf("%016x-%d-%d.damaged", h.segment, h.from, h.to)
	r.logger.Error("acknowledged records of the journal are damaged", "segment", r.log.segmentName(h.segment), "from", h.from, "to", h.to, "copy", name)
	if s.segment == nil {
		return r.quarantine.add(name, nil)
	}
	for i, one := range spool.Copies(s.segment.file) {
		data := make([]byte, h.to-h.from)
		n, err := one.ReadAt(data, h.from)
		if err != nil && err != io.EOF {
			return err
		}
		if i > 0 {
			name = "second-" + name
		}
		if err := r.quarantine.add(name, data[:n]); err != nil {
			return err
		}
	}
	return nil
}
