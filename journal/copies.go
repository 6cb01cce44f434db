package journal

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/akidb/akigw/internal/vfs"
)

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

// neverBegun reports whether the file never became a segment.
func (s *source) neverBegun() bool { return s.head == nil && s.top == 0 }

// side is one of the two directories as startup finds it.
type side struct {
	state      *sideState // nil if missing or damaged
	unfinished bool
	sources    []source
	epochs     []epoch // epochs that it took part in, as far as is known
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
