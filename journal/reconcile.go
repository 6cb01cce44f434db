package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/akidb/akigw/internal/vfs"
)

// reconciler makes the segments in both directories of a journal identical: what is damaged, short
// or missing in one is taken from the other, record by record. Both directories must be locked.
//
// Everything that it will put in place is synced in both directories before it changes anything,
// and a readable record is only ever overwritten with itself. After a crash at any point, the next
// start finds at least what this one found.
type reconciler struct {
	mirror *mirror
	side   *sideState // new content of the side files
}

// reconcile runs all steps.
func (r *reconciler) reconcile() error {
	m := r.mirror
	var sides [2]*side
	for i := range sides {
		s, err := r.readSide(i)
		if err != nil {
			return err
		}
		sides[i] = s
	}
	if err := r.decide(sides); err != nil {
		return err
	}
	r.side = r.state(sides)
	if !m.current {
		m.log.Warn("the second directory of the journal did not take part in the last epoch, and is rebuilt from the first", "dir", m.dirs[0], "second_dir", m.dirs[1])
		if err := m.mark(1); err != nil {
			return err
		}
	}
	live := r.live(sides, r.side.floor)
	r.ignore(sides, live)
	replaced, err := r.repairSegments(live)
	if m.current && vfs.Unwritable(err) {
		m.log.Warn("the journal could not be repaired because the disk is full; it is read from both directories", "dir", m.dirs[0], "second_dir", m.dirs[1], "error", err)
		m.misplaced = r.isMisplaced(live)
		return nil
	}
	if err != nil {
		return err
	}
	m.merged = nil
	if err := r.putInPlace(replaced); err != nil {
		return err
	}
	err = r.finish(sides, live)
	if m.current && len(replaced) == 0 && vfs.Unwritable(err) {
		m.log.Warn("obsolete segments could not be removed from the journal's directories; a later start tries again", "dir", m.dirs[0], "second_dir", m.dirs[1], "error", err)
		return nil // if syncing fails as well, the recovery finds out
	}
	return err
}

// decide determines which directory is authoritative (the lead), and whether the other one took
// part in the last epoch.
func (r *reconciler) decide(sides [2]*side) error {
	m := r.mirror
	firstMissed, secondMissed := sides[0].missed(sides[1]), sides[1].missed(sides[0])
	switch {
	case sides[0].unfinished:
		return fmt.Errorf("journal: %s is an unfinished copy of another directory: start with that one as dir, and this one as second_dir", m.dirs[0])
	case sides[1].unfinished && !firstMissed:
		m.lead, m.current = 0, false
	case firstMissed && secondMissed:
		return fmt.Errorf("journal: %s and %s were written apart from each other, and each has writes that the other one lacks: start with either one alone until nothing is pending, then with the other one alone, then with an empty second_dir", m.dirs[0], m.dirs[1])
	case firstMissed:
		return fmt.Errorf("journal: %s is behind %s, which is to be its copy: if the disk of the first was lost, start with the second as dir and an empty directory as second_dir", m.dirs[0], m.dirs[1])
	default:
		m.lead, m.current = 0, !secondMissed
		if m.current && sides[1].top() > sides[0].top() {
			m.lead = 1
		}
	}
	return nil
}

// finish makes the replacements durable, and removes segments that do not count.
func (r *reconciler) finish(sides [2]*side, live map[uint64][]source) error {
	err := r.mirror.SyncDir(filepath.Join(r.mirror.dirs[0], segmentDir))
	if err == nil {
		err = r.removeDead(sides, live)
	}
	if err == nil {
		err = errors.Join(r.reconcileEnd(), r.reconcileQuarantine())
	}
	return err
}

// ignore records which segments do not count although files have their names.
func (r *reconciler) ignore(sides [2]*side, live map[uint64][]source) {
	m := r.mirror
	m.ignored = map[uint64]bool{}
	for _, s := range sides {
		for _, src := range s.sources {
			if id, named := segmentID(filepath.Base(src.path)); named && live[id] == nil && !src.neverBegun() {
				m.ignored[id] = true
			}
		}
	}
}

// state returns the new content of the side files.
func (r *reconciler) state(sides [2]*side) *sideState {
	m := r.mirror
	s := &sideState{}
	for i, one := range sides {
		if i != m.lead && !m.current {
			continue
		}
		for _, e := range one.epochs {
			s.join(e)
		}
		if one.state != nil {
			s.floor = max(s.floor, one.state.floor)
			if one.state.written.number > s.written.number {
				s.written = one.state.written
			}
		}
	}
	return s
}

// removeDead removes drafts and segments that do not count, the oldest first.
func (r *reconciler) removeDead(sides [2]*side, live map[uint64][]source) error {
	m := r.mirror
	for i, s := range sides {
		for _, src := range s.sources {
			id, named := segmentID(filepath.Base(src.path))
			if named && (live[id] != nil || src.neverBegun()) { // the recovery handles a file that never became a segment
				continue
			}
			if err := m.FS.Remove(src.path); err != nil && !errors.Is(err, os.ErrNotExist) { // a draft may have been renamed already
				return err
			}
			if err := m.FS.SyncDir(filepath.Join(m.dirs[i], segmentDir)); err != nil {
				return err
			}
		}
	}
	return nil
}
