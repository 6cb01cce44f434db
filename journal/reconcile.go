package journal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/akidb/akigw/internal/vfs"
)

// unfinishedFile marks a second directory while it is rebuilt from the first. A directory with this
// file is not a complete journal.
const unfinishedFile = "unfinished"

// source is a file that holds a segment, or what is left of one. Records carry checksums and
// numbers, so a file is judged by its content, not by its name.
type source struct {
	side int
	path string
	id   uint64
	head *segmentHead // nil if it cannot be read
	top  uint64       // highest record number
	end  int64        // offset after the last record
	real bool         // it has or had records other than its head
}

func (s *source) epoch() epoch { return epoch{s.head.epoch, s.head.nonce} }

// side is one of the two directories as startup finds it.
type side struct {
	state      *sideState // nil if missing or damaged
	unfinished bool
	sources    []source
	epochs     []epoch // epochs that it took part in, as far as is known
}

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

// neverBegun reports whether the file never became a segment.
func (s *source) neverBegun() bool { return s.head == nil && s.top == 0 }

// ignores reports whether a segment does not count. The mirror may be nil.
func (m *mirror) ignores(id uint64) bool { return m != nil && m.ignored[id] }

// unrepaired returns the combined records of a segment that could not be repaired because the disk
// is full, nil if the segment is intact. The mirror may be nil.
func (m *mirror) unrepaired(id uint64) []byte {
	if m == nil {
		return nil
	}
	return m.merged[id]
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

// openMerged opens the existing copies of a segment that could not be repaired.
func (m *mirror) openMerged(name string, raw []byte) vfs.File {
	merged := &mirrorFile{merged: raw}
	for i := range merged.files {
		if f, err := m.FS.Open(m.on(i, name)); err == nil {
			merged.files[i] = f
		}
	}
	return merged
}

// segment returns the path of a segment in one of the two directories.
func (m *mirror) segment(i int, id uint64) string {
	return filepath.Join(m.dirs[i], segmentDir, segmentBase(id))
}

// readSide reads a directory. An unreadable file is treated as missing.
func (r *reconciler) readSide(i int) (*side, error) {
	m := r.mirror
	s := &side{state: readSide(m.FS, m.dirs[i])}
	if s.state != nil {
		s.epochs = slices.Clone(s.state.epochs)
		m.repairs[i].ever, m.repairs[i].last = s.state.repaired, s.state.last
	}
	_, err := m.FS.Size(filepath.Join(m.dirs[i], unfinishedFile))
	s.unfinished = err == nil
	dir := filepath.Join(m.dirs[i], segmentDir)
	names, err := m.FS.List(dir)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		base, _, _ := strings.Cut(name, draftSuffix) // drafts are left over from an earlier reconcile
		id, ok := segmentID(base)
		if !ok {
			continue
		}
		path := filepath.Join(dir, name)
		raw, err := vfs.ReadFile(m.FS, path)
		if err != nil {
			m.log.Error("a segment of the journal cannot be read", "segment", path, "error", err)
			continue
		}
		src := newSource(i, path, id, raw)
		s.sources = append(s.sources, src)
		if src.head != nil && !slices.Contains(s.epochs, src.epoch()) {
			s.epochs = append(s.epochs, src.epoch())
		}
	}
	return s, nil
}

// newSource parses a file that is named after segment id.
func newSource(i int, path string, id uint64, raw []byte) source {
	sc := &scan{segment: &segment{}, size: int64(len(raw))}
	sc.read(raw)
	src := source{side: i, path: path, id: id, head: sc.head, end: sc.end, real: len(sc.holes) > 0 || sc.end < sc.size}
	if sc.head != nil {
		src.id = sc.head.id
	}
	for _, r := range sc.records {
		src.top = max(src.top, r.place.number)
		src.real = src.real || r.op.kind != kindSegment && r.op.kind != kindMark
	}
	return src
}

// top returns the highest record number in a directory.
func (s *side) top() (n uint64) {
	for _, src := range s.sources {
		n = max(n, src.top)
	}
	return n
}

// last returns the last epoch that a directory took part in.
func (s *side) last() (last epoch) {
	for _, e := range s.epochs {
		if e.number > last.number {
			last = e
		}
	}
	return last
}

// foreign reports whether a directory cannot have taken part in an epoch: the epoch is later than
// its last one, or the directory has a different epoch with that number.
func (s *side) foreign(e epoch) bool {
	if slices.Contains(s.epochs, e) {
		return false
	}
	return e.number > s.last().number || slices.ContainsFunc(s.epochs, func(known epoch) bool {
		return known.number == e.number && known.nonce != 0 && e.nonce != 0
	})
}

// missed reports whether anything was written to the other directory while this one was detached.
func (s *side) missed(other *side) bool {
	top := s.top()
	return slices.ContainsFunc(other.sources, func(src source) bool {
		if src.head == nil { // it belongs to the last epoch if it has records that are missing here
			return src.top > top && s.foreign(other.last())
		}
		return src.real && s.foreign(src.epoch())
	})
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

// live finds the files of each segment that counts. The lead decides which segments count; segments
// that it must have had are added from the other directory.
func (r *reconciler) live(sides [2]*side, floor uint64) map[uint64][]source {
	m := r.mirror
	lead, other := sides[m.lead], sides[1-m.lead]
	all := map[uint64][]source{}
	for _, src := range lead.sources {
		if src.id >= floor {
			all[src.id] = append(all[src.id], src)
		}
	}
	oldest, newest := extent(all)
	missing := map[uint64][]source{}
	for _, src := range other.sources {
		switch {
		case src.id < floor:
		case all[src.id] != nil:
			all[src.id] = append(all[src.id], src)
		case m.current && (src.id > oldest || floor > 0), src.id > oldest && src.id < newest && src.head != nil && !lead.foreign(src.epoch()):
			missing[src.id] = append(missing[src.id], src)
		}
	}
	maps.Copy(all, missing)
	if m.current && floor == 0 {
		r.reach(all, other)
	}
	for id, sources := range all {
		all[id] = r.sameSegment(sources)
	}
	return all
}

func extent(all map[uint64][]source) (oldest, newest uint64) {
	if len(all) == 0 {
		return 0, 0
	}
	ids := slices.Collect(maps.Keys(all))
	return slices.Min(ids), slices.Max(ids)
}

// reach adds older segments that the lead lacks, if nothing says which segment is the oldest that
// counts: those that lead up to the oldest one without a gap. If a record in one of them is
// obsolete, a later record in one of them says so again.
func (r *reconciler) reach(all map[uint64][]source, other *side) {
	for oldest, _ := extent(all); ; {
		i := slices.IndexFunc(all[oldest], func(src source) bool { return src.head != nil })
		if i < 0 {
			return
		}
		head := all[oldest][i].head
		var before []source
		for _, src := range other.sources {
			if src.id == head.before && src.id != 0 && src.id < oldest && src.end >= head.length {
				before = append(before, src)
			}
		}
		if len(before) == 0 {
			return
		}
		oldest = head.before
		all[oldest] = before
	}
}

// sameSegment drops the files that hold a different segment with the same ID.
func (r *reconciler) sameSegment(sources []source) []source {
	m := r.mirror
	var head *segmentHead
	for _, want := range []bool{true, false} { // the lead's head decides first
		for _, src := range sources {
			if head == nil && src.head != nil && (src.side == m.lead) == want {
				head = src.head
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(sources), func(src source) bool {
		if src.head == nil {
			return !m.current && src.side != m.lead // its origin is unknown
		}
		return src.epoch() != (epoch{head.epoch, head.nonce}) || src.head.before != head.before || src.head.length != head.length
	})
}

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

// mark marks a directory as being rebuilt.
func (m *mirror) mark(i int) error {
	return writeFile(m.FS, filepath.Join(m.dirs[i], unfinishedFile), nil)
}

// unmark removes the mark: the directory is complete again.
func (m *mirror) unmark(i int) error {
	if _, err := m.FS.Size(filepath.Join(m.dirs[i], unfinishedFile)); errors.Is(err, os.ErrNotExist) {
		return m.FS.SyncDir(m.dirs[i]) // an earlier start may have removed it
	}
	if err := m.FS.Remove(filepath.Join(m.dirs[i], unfinishedFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return m.FS.SyncDir(m.dirs[i])
}

// reconcileEnd makes the end files identical. The one that says more wins.
func (r *reconciler) reconcileEnd() error {
	m := r.mirror
	var raws [2][]byte
	var ends [2]hole
	best := m.lead
	for i := range raws {
		raws[i], _ = vfs.ReadFile(m.FS, filepath.Join(m.dirs[i], endFile)) // an unreadable one is replaced
		ends[i] = decodeEnd(raws[i])
	}
	if other := 1 - m.lead; m.current && (ends[other].segment > ends[best].segment || ends[other].segment == ends[best].segment && ends[other].to > ends[best].to) {
		best = other
	}
	if bytes.Equal(raws[0], raws[1]) || ends[best].segment == 0 {
		return nil
	}
	return writeFile(m.FS, filepath.Join(m.dirs[1-best], endFile), raws[best])
}

// reconcileQuarantine makes the quarantines identical. A file accepted in one directory is accepted
// in both.
func (r *reconciler) reconcileQuarantine() error {
	m := r.mirror
	dir := filepath.Join(m.dirs[0], quarantineDir)
	var names [2][]string
	for i := range names {
		var err error
		if names[i], err = m.FS.List(m.on(i, dir)); err != nil {
			return err
		}
	}
	from := []int{m.lead}
	if m.current {
		from = []int{0, 1}
	}
	want := map[string]int{} // where each file is
	for _, i := range from {
		for _, name := range names[i] {
			if !strings.HasSuffix(name, draftSuffix) {
				want[name] = i
			}
		}
	}
	for name := range want {
		if _, accepted := want[acceptedMark+name]; accepted {
			delete(want, name)
		}
	}
	for i := range names {
		if err := r.copyQuarantine(i, dir, names[i], want); err != nil {
			return err
		}
	}
	return m.SyncDir(dir)
}

func (r *reconciler) copyQuarantine(i int, dir string, have []string, want map[string]int) error {
	m := r.mirror
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if slices.Contains(have, name) {
			continue
		}
		raw, err := vfs.ReadFile(m.FS, m.on(want[name], filepath.Join(dir, name)))
		if err != nil {
			return err
		}
		if err := writeFile(m.FS, m.on(i, filepath.Join(dir, name)), raw); err != nil {
			return err
		}
	}
	for _, name := range have {
		if _, ok := want[name]; ok {
			continue
		}
		if err := m.FS.Remove(m.on(i, filepath.Join(dir, name))); err != nil && !errors.Is(err, os.ErrNotExist) { // a draft was renamed already
			return err
		}
	}
	return nil
}

// intact is a record that is intact in one of several copies of a segment.
type intact struct {
	from, to int64
	copy     int
}

// merge finds each record of a segment that is intact in at least one copy. The next record begins
// where the previous one ends: a copy with a record at that offset is trusted over a copy whose
// next record begins later, because bytes of a body may look like a record. Records that begin at
// or after limit are ignored.
func merge(copies [][]byte, limit int64) (all []intact) {
	number, size := uint64(0), 0
	scans := make([]*scan, len(copies))
	for i, raw := range copies {
		scans[i] = &scan{segment: &segment{}, size: int64(len(raw))}
		scans[i].read(raw)
		size = max(size, len(raw))
	}
	for at := int64(0); at < min(int64(size), limit); {
		found := false
		for i, raw := range copies {
			if at >= int64(len(raw)) {
				continue
			}
			if _, f, n := recordAt(raw, at, number); n > 0 {
				all = append(all, intact{at, at + int64(n), i})
				number, found = f.number, true
				at += int64(n)
				break
			}
		}
		if !found {
			if at = nextRecord(scans, at, number); at < 0 {
				return all
			}
		}
	}
	return all
}

// nextRecord returns the offset of the first record after at in any copy, -1 for none.
func nextRecord(scans []*scan, at int64, number uint64) int64 {
	next := int64(-1)
	for _, s := range scans {
		for _, r := range s.records {
			if r.from > at && r.place.number > number {
				if next < 0 || r.from < next {
					next = r.from
				}
				break
			}
		}
	}
	return next
}

// patch returns a copy of a segment with the n records that it lacks. tail means that all of them
// follow its own records. Damage that no copy can repair stays as it is.
func patch(own []byte, copies [][]byte, records []intact) (better []byte, n int, tail bool) {
	tail = true
	better = bytes.Clone(own)
	for _, r := range records {
		good := copies[r.copy][r.from:r.to]
		if r.to <= int64(len(own)) && bytes.Equal(own[r.from:r.to], good) {
			tail = tail && n == 0
			continue
		}
		n++
		if short := r.to - int64(len(better)); short > 0 { // including the damaged bytes before it
			better = append(better, copies[r.copy][int64(len(better)):r.to]...)
		}
		copy(better[r.from:], good)
	}
	return better, n, tail
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
