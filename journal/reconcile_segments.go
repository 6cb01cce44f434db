package journal

import (
	"bytes"
	"errors"
	"maps"
	"math"
	"path/filepath"
	"slices"

	"github.com/akidb/akigw/internal/vfs"
)

// replacement is a segment with a better draft next to it.
type replacement struct {
	side    int
	path    string
	records int  // records that the draft has and the segment lacks
	cut     bool // they are the last ones of the last segment, which a crash may have cut off
}

// counting returns how much of a segment counts. Bytes after that are left over from writes to a
// full disk.
func counting(live map[uint64][]source, id uint64) int64 {
	for _, sources := range live {
		for _, src := range sources {
			if src.head != nil && src.head.before == id {
				return src.head.length
			}
		}
	}
	return math.MaxInt64
}

// repairSegments writes a synced draft next to each segment that can be improved. If a disk accepts
// none, the combined records of each segment are kept in memory, all drafts of this start are
// removed, and the error says why: putting only some drafts in place could destroy data that others
// need.
func (r *reconciler) repairSegments(live map[uint64][]source) (all []replacement, err error) {
	m := r.mirror
	_, newest := extent(live)
	m.merged = map[uint64][]byte{}
	var full error
	for _, id := range slices.Sorted(maps.Keys(live)) {
		if same, err := r.identical(live[id], id); err != nil {
			return nil, err
		} else if same {
			continue
		}
		var raws [][]byte
		var own [2][]byte
		for _, src := range live[id] {
			raw, err := vfs.ReadFile(m.FS, src.path)
			if err != nil {
				return nil, err
			}
			raws = append(raws, raw)
			if src.path == m.segment(src.side, id) {
				own[src.side] = raw
			}
		}
		records := merge(raws, counting(live, id))
		for i := range own {
			better, n, tail := patch(own[i], raws, records)
			if n == 0 {
				continue
			}
			if m.current { // rebuilding the other directory must not need memory for all of it
				m.merged[id] = better
			}
			path := m.segment(i, id)
			if full == nil {
				err := r.draft(path, better)
				if full = err; err != nil && !vfs.Unwritable(err) {
					return nil, err
				}
			}
			all = append(all, replacement{i, path, n, tail && id == newest})
		}
	}
	if full == nil && len(all) > 0 {
		full = m.SyncDir(filepath.Join(m.dirs[0], segmentDir))
	}
	if full != nil {
		for _, r := range all {
			if draft := r.path + draftSuffix; !isSource(live, draft) {
				_ = m.FS.Remove(draft) // the next start uses a leftover as a source
			}
		}
		return nil, full
	}
	return all, nil
}

// draft writes a draft, unless an earlier start left an identical one.
func (r *reconciler) draft(path string, data []byte) error {
	m := r.mirror
	if raw, err := vfs.ReadFile(m.FS, path+draftSuffix); err == nil && bytes.Equal(raw, data) {
		f, err := m.FS.Open(path + draftSuffix)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	} else if err == nil { // it may hold the only copy of a record
		if err := m.FS.Rename(path+draftSuffix, path+draftSuffix+draftSuffix); err != nil {
			return err
		}
	}
	return writeDraft(m.FS, path+draftSuffix, data)
}

// isSource reports whether a file existed at startup and may be needed.
func isSource(live map[uint64][]source, path string) bool {
	for _, sources := range live {
		if slices.ContainsFunc(sources, func(src source) bool { return src.path == path }) {
			return true
		}
	}
	return false
}

// identical reports whether each directory has one file of a segment, with the same bytes.
func (r *reconciler) identical(sources []source, id uint64) (bool, error) {
	m := r.mirror
	if len(sources) != 2 || sources[0].side == sources[1].side {
		return false, nil
	}
	var files [2]vfs.File
	for _, src := range sources {
		if src.path != m.segment(src.side, id) {
			return false, nil
		}
		f, err := m.FS.Open(src.path)
		if err != nil {
			return false, err
		}
		defer f.Close()
		files[src.side] = f
	}
	return sameBytes(files[0], files[1])
}

// sameBytes compares two files.
func sameBytes(a, b vfs.File) (bool, error) {
	n, err := a.Size()
	k, secondErr := b.Size()
	if err = errors.Join(err, secondErr); err != nil || n != k {
		return false, err
	}
	x, y := make([]byte, 256<<10), make([]byte, 256<<10)
	for at := int64(0); at < n; at += int64(len(x)) {
		want := min(int64(len(x)), n-at)
		i, err := a.ReadAt(x[:want], at)
		if int64(i) < want {
			return false, err
		}
		if k, _ := b.ReadAt(y[:want], at); int64(k) < want || !bytes.Equal(x[:i], y[:k]) {
			return false, nil
		}
	}
	return true, nil
}

func (r *reconciler) putInPlace(all []replacement) error {
	m := r.mirror
	for _, r := range all {
		if err := m.FS.Rename(r.path+draftSuffix, r.path); err != nil {
			return err
		}
		if r.cut || !m.current && r.side != m.lead {
			m.log.Info("the shorter copy of a journal segment was completed from the other directory", "segment", r.path, "records", r.records)
			continue
		}
		m.repaired(r)
	}
	return nil
}

// repaired logs and counts a repair.
func (m *mirror) repaired(r replacement) {
	m.repairs[r.side].add(r.records)
	m.log.Warn("damaged or missing journal records were repaired from the other directory", "segment", r.path, "records", r.records)
}

// isMisplaced reports whether a segment is in a file with another name: removing or repairing a
// segment by its name could then destroy another one.
func (r *reconciler) isMisplaced(live map[uint64][]source) bool {
	m := r.mirror
	for id, sources := range live {
		if slices.ContainsFunc(sources, func(src source) bool { return src.path != m.segment(src.side, id) }) {
			return true
		}
	}
	return false
}

// repairSegment does for an open, complete segment what reconcile does at startup. Readers of the
// segment continue with the better copy.
func (m *mirror) repairSegment(s *segment) error {
	var raws [][]byte
	var own [2][]byte
	for i := range own {
		raw, err := vfs.ReadFile(m.FS, m.segment(i, s.id))
		if err != nil {
			m.log.Error("a segment of the journal cannot be read", "segment", m.segment(i, s.id), "error", err)
			continue
		}
		raws, own[i] = append(raws, raw), raw
	}
	var better []replacement
	records := merge(raws, s.size)
	for i := range own {
		data, n, _ := patch(own[i], raws, records)
		if n == 0 {
			continue
		}
		path := m.segment(i, s.id)
		if err := writeDraft(m.FS, path+draftSuffix, data); err != nil {
			_ = m.FS.Remove(path + draftSuffix) // an incomplete draft takes space
			return err
		}
		better = append(better, replacement{side: i, path: path, records: n})
	}
	for _, r := range better {
		if err := m.FS.Rename(r.path+draftSuffix, r.path); err != nil {
			return err
		}
		f, err := m.FS.Open(r.path)
		if err != nil {
			return err
		}
		s.file.(*mirrorFile).replace(r.side, f)
		m.repaired(r)
	}
	return m.SyncDir(filepath.Join(m.dirs[0], segmentDir))
}
