package journal

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/akidb/akigw/internal/codec"
	"github.com/akidb/akigw/internal/vfs"
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

	repaired int64     // records and bodies of this directory that were repaired from the other, ever
	last     time.Time // when the last of them was

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
	b = codec.AppendTime(binary.AppendUvarint(b, uint64(s.repaired)), s.last)
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
	s.repaired, s.last = int64(d.Uvarint()), d.Time()
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
func readSide(fs vfs.FS, dir string) *sideState {
	raw, err := vfs.ReadFile(fs, filepath.Join(dir, sideFile))
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
	if j.failure() != nil {
		return nil // nothing is written in this run
	}
	j.side.join(j.run)
	j.mu.Lock()
	oldest := uint64(0)
	if len(j.segments) > 0 {
		oldest = j.segments[0].id
	}
	j.mu.Unlock()
	err := j.raiseFloor(oldest)
	if unwritten(err) { // the heads of its segments say it until one of them is removed, which takes a side file
		j.unjoined = true
		_ = j.noRoom(err, false)
		return nil
	}
	return err
}

// joined reports whether the side files say that this run is one, and writes them if they do not
// yet.
func (j *Journal) joined() bool {
	if !j.unjoined {
		return true
	}
	err := j.writeSide()
	j.unjoined = err != nil
	if err != nil && !unwritten(err) {
		j.mu.Lock()
		defer j.mu.Unlock()
		_ = j.fail(err)
	}
	return err == nil
}

// raiseFloor writes that segments before one do not count any more: durable before the first of
// them is removed.
func (j *Journal) raiseFloor(segment uint64) error {
	if j.side == nil {
		return nil
	}
	j.side.floor = max(j.side.floor, segment)
	return j.writeSide()
}

// writeSide writes the side file of each directory. A directory whose disk takes nothing keeps the
// others from being written as well: with an epoch in one of them alone, a segment whose head is
// damaged could be of that epoch, and the next start would take the other directory for detached.
func (j *Journal) writeSide() error {
	fs, dirs := j.dirs()
	for i, dir := range dirs {
		s := *j.side
		if j.mirror != nil {
			s.repaired, s.last = j.mirror.repairs[i].total()
		}
		if err := draftSpared(fs, filepath.Join(dir, sideFile), s.encode()); err != nil {
			return err
		}
	}
	for _, dir := range dirs {
		if err := placeSpared(fs, filepath.Join(dir, sideFile)); err != nil {
			return err
		}
	}
	j.unjoined = false
	return nil
}

// spareBytes is how much of the disk is kept for the next side file.
const spareBytes = 4 << 10

// draftSpared is writeDraft of a small file that has to be written on a full disk as well: removing
// a segment, which makes room, takes a side file. The room for it was kept by the last placeSpared.
func draftSpared(fs vfs.FS, name string, data []byte) error {
	draft := name + draftSuffix
	f, err := fs.Reserve(draft, spareBytes)
	if err != nil { // it may do without
		f, err = fs.Create(draft)
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return finishDraft(f, data)
}

// placeSpared puts a draft in the place of its file, and keeps room for the next one.
func placeSpared(fs vfs.FS, name string) error {
	draft := name + draftSuffix
	if err := fs.Rename(draft, name); err != nil {
		return err
	}
	if err := unsynced(fs.SyncDir(filepath.Dir(name))); err != nil {
		return err
	}
	if spare, err := fs.Reserve(draft, spareBytes); err == nil { // without one the next may find no room, and says so
		return spare.Close()
	}
	return nil
}

// repairs counts what was repaired in one directory.
type repairs struct {
	mu   sync.Mutex
	now  int64     // since the start; guarded by mu
	ever int64     // likewise, and before; guarded by mu
	last time.Time // guarded by mu
}

func (r *repairs) add(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now += int64(n)
	r.ever += int64(n)
	r.last = time.Now()
}

func (r *repairs) since() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *repairs) total() (n int64, last time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ever, r.last
}

// Repairs says what a directory of a journal had to take from the other one, ever: how many
// records and bodies were damaged or missing, and when the last of them was repaired. unfinished
// says that the directory is a copy that is still to be completed. The journal may be open.
func Repairs(fs vfs.FS, dir string) (n int64, last time.Time, unfinished bool) {
	_, err := fs.Size(filepath.Join(dir, unfinishedFile))
	if s := readSide(fs, dir); s != nil {
		n, last = s.repaired, s.last
	}
	return n, last, err == nil
}
