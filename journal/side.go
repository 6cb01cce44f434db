package journal

import (
	"cmp"
	"encoding/binary"
	"path/filepath"
	"slices"

	"github.com/akidb/akigw/internal/codec"
)

// A run is one start of a journal with all that it wrote. Two directories that were started
// apart from each other may have runs of the same epoch; the nonce tells them apart.
type run struct {
	epoch uint64
	nonce uint64 // 0: a gateway before nonces wrote it
}

// sideFile is in each directory of a journal that has, or had, two. It says which runs the
// directory took part in, and which segments still count, so that a directory that was away is
// told from one that has lost something.
const sideFile = "side"

// sideState is the content of a side file.
type sideState struct {
	floor uint64 // the oldest segment that counts: those below it do not, whatever is found of them
	runs  []run  // the last maxRuns, oldest first

	written run // the last one when the file was written; not in the file
}

const (
	sideVersion = 1
	maxRuns     = 64
)

// join adds a run. The last one is that of the highest epoch.
func (s *sideState) join(r run) {
	s.runs = append(slices.DeleteFunc(s.runs, func(known run) bool { return known == r }), r)
	slices.SortStableFunc(s.runs, func(a, b run) int { return cmp.Compare(a.epoch, b.epoch) })
	s.runs = s.runs[max(0, len(s.runs)-maxRuns):]
}

func (s *sideState) encode() []byte {
	b := binary.AppendUvarint([]byte{sideVersion}, s.floor)
	b = binary.AppendUvarint(b, uint64(len(s.runs)))
	for _, r := range s.runs {
		b = binary.AppendUvarint(b, r.epoch)
		b = binary.LittleEndian.AppendUint64(b, r.nonce)
	}
	return appendFrame(nil, 1, 0, b)
}

// decodeSide returns nil if raw is not a side file, or is damaged.
func decodeSide(raw []byte) *sideState {
	f, size := parseFrame(raw, 0)
	if size == 0 {
		return nil
	}
	d := codec.NewDecoder(f.payload)
	if d.Byte() != sideVersion {
		return nil
	}
	s := &sideState{floor: d.Uvarint()}
	for n := d.Uvarint(); n > 0 && !d.Bad(); n-- {
		r := run{epoch: d.Uvarint()}
		for shift := range 8 {
			r.nonce |= uint64(d.Byte()) << (8 * shift)
		}
		s.runs = append(s.runs, r)
	}
	if d.Bad() {
		return nil
	}
	if len(s.runs) > 0 {
		s.written = s.runs[len(s.runs)-1]
	}
	return s
}

// lost returns the oldest segment that counts if it is not among those that were found, which
// an older gateway has not removed since the file was written.
func (s *sideState) lost(found map[uint64]bool, scans []*scan) (segment uint64, ok bool) {
	if s == nil || s.floor == 0 || found[s.floor] || slices.ContainsFunc(scans, func(one *scan) bool { return one.head != nil && one.head.epoch > s.written.epoch }) {
		return 0, false
	}
	return s.floor, true
}

// readSide reads the side file of a directory, nil for none that can be read.
func readSide(fs FS, dir string) *sideState {
	raw, err := readFile(fs, filepath.Join(dir, sideFile))
	if err != nil {
		return nil
	}
	return decodeSide(raw)
}

// joinRun writes to the side file, if there is one or has to be, that the directory takes part
// in this run. Nothing is acknowledged before.
func (j *Journal) joinRun() error {
	if j.side == nil {
		return nil
	}
	j.side.join(j.run)
	return j.raiseFloor(j.segments[0].id)
}

// raiseFloor writes that segments before one do not count any more: durable before the first of
// them is removed.
func (j *Journal) raiseFloor(segment uint64) error {
	if j.side == nil {
		return nil
	}
	j.side.floor = max(j.side.floor, segment)
	return writeFile(j.config.FS, filepath.Join(j.config.Dir, sideFile), j.side.encode())
}
