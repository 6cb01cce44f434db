package journal

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/akidb/akigw/journal/internal/spool"

	"github.com/akidb/akigw/internal/codec"
	"github.com/akidb/akigw/internal/vfs"
)

// sideFile is a file in each directory of a journal that has, or had, two. It records the epochs
// that the directory took part in, and the oldest segment that counts, so that a directory that was
// detached can be told from one that has lost data.
const sideFile = "side"

// sideState is the content of a side file.
type sideState struct {
	floor  uint64  // the oldest segment that counts; earlier ones do not, even if their files exist
	epochs []epoch // the last maxEpochs, oldest first

	repaired int64     // records and bodies of this directory ever repaired from the other
	last     time.Time // time of the last repair

	written epoch // the last epoch when the file was written; not stored in it
}

const (
	sideVersion = 1
	maxEpochs   = 64
)

// join adds an epoch. The last epoch is the one with the highest number.
func (s *sideState) join(e epoch) {
	s.epochs = append(slices.DeleteFunc(s.epochs, func(known epoch) bool { return known == e }), e)
	slices.SortStableFunc(s.epochs, func(a, b epoch) int { return cmp.Compare(a.number, b.number) })
	s.epochs = s.epochs[max(0, len(s.epochs)-maxEpochs):]
}

func (s *sideState) encode() []byte {
	b := binary.AppendUvarint([]byte{sideVersion}, s.floor)
	b = binary.AppendUvarint(b, uint64(len(s.epochs)))
	for _, e := range s.epochs {
		b = binary.AppendUvarint(b, e.number)
		b = binary.LittleEndian.AppendUint64(b, e.nonce)
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
		e := epoch{number: d.Uvarint()}
		for shift := range 8 {
			e.nonce |= uint64(d.Byte()) << (8 * shift)
		}
		s.epochs = append(s.epochs, e)
	}
	s.repaired, s.last = int64(d.Uvarint()), d.Time()
	if d.Bad() {
		return nil
	}
	if len(s.epochs) > 0 {
		s.written = s.epochs[len(s.epochs)-1]
	}
	return s
}

// lost returns the oldest segment that counts if it is missing and no older release can have
// removed it since the file was written.
func (s *sideState) lost(found map[uint64]bool, scans []*scan) (segment uint64, ok bool) {
	if s == nil || s.floor == 0 || found[s.floor] || slices.ContainsFunc(scans, func(one *scan) bool { return one.head != nil && one.head.epoch > s.written.number }) {
		return 0, false
	}
	return s.floor, true
}

// readSide reads the side file of a directory, nil if there is none that can be read.
func readSide(fs vfs.FS, dir string) *sideState {
	raw, err := vfs.ReadFile(fs, filepath.Join(dir, sideFile))
	if err != nil {
		return nil
	}
	return decodeSide(raw)
}

// sideFiles are the side files of a journal's directories. After startup only the compactor writes
// them, except once when the journal is closed.
type sideFiles struct {
	fs      vfs.FS
	dirs    []string
	repairs []*repairs // for each directory, if there are two
	health  *health

	state    *sideState // nil: there is, and was, only one directory
	unjoined atomic.Bool
}

// enter records in the side files, if there are or should be any, that the directories take part in
// epoch e, whose oldest segment is oldest. Nothing is acknowledged before.
func (s *sideFiles) enter(e epoch, oldest uint64) error {
	if s.state == nil || s.health.failure() != nil { // a failed journal writes nothing in this epoch
		return nil
	}
	s.state.join(e)
	err := s.raiseFloor(oldest)
	if unwritten(err) { // segment heads identify the epoch until one of them is removed, which requires a side file
		s.unjoined.Store(true)
		_ = s.health.noRoom(err, false)
		return nil
	}
	return err
}

// joined reports whether the side files include this epoch.
func (s *sideFiles) joined() bool { return !s.unjoined.Load() }

// join writes the side files if they do not include this epoch. It reports whether it wrote them.
func (s *sideFiles) join() bool {
	if s.joined() {
		return false
	}
	err := s.write()
	if err != nil && !unwritten(err) {
		_ = s.health.fail(err)
	}
	return err == nil
}

// raiseFloor records that segments before one no longer count. This is durable before the first of
// them is removed.
func (s *sideFiles) raiseFloor(segment uint64) error {
	if s.state == nil {
		return nil
	}
	s.state.floor = max(s.state.floor, segment)
	return s.write()
}

// write writes the side file of each directory. If one disk accepts no data, the others are not
// written either: if only one directory recorded the epoch, a segment with a damaged head could
// belong to that epoch, and the next start would treat the other directory as detached.
func (s *sideFiles) write() error {
	for i, dir := range s.dirs {
		content := *s.state
		if s.repairs != nil {
			content.repaired, content.last = s.repairs[i].total()
		}
		if err := draftSpared(s.fs, filepath.Join(dir, sideFile), content.encode()); err != nil {
			return err
		}
	}
	for _, dir := range s.dirs {
		if err := placeSpared(s.fs, filepath.Join(dir, sideFile)); err != nil {
			return err
		}
	}
	s.unjoined.Store(false)
	return nil
}

// spareBytes is the disk space kept for the next side file.
const spareBytes = 4 << 10

// draftSpared is writeDraft for a small file that must be writable on a full disk: removing a
// segment, which frees space, requires a new side file. It uses the space that the last placeSpared
// kept.
func draftSpared(fs vfs.FS, name string, data []byte) error {
	draft := name + draftSuffix
	f, err := fs.Reserve(draft, spareBytes)
	if err != nil { // it may work without
		f, err = fs.Create(draft)
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return finishDraft(f, data)
}

// placeSpared renames a draft over its file, and keeps space for the next draft.
func placeSpared(fs vfs.FS, name string) error {
	draft := name + draftSuffix
	if err := fs.Rename(draft, name); err != nil {
		return err
	}
	if err := spool.Unsynced(fs.SyncDir(filepath.Dir(name))); err != nil {
		return err
	}
	if spare, err := fs.Reserve(draft, spareBytes); err == nil { // without it the next draft may find the disk full, and then fails
		return spare.Close()
	}
	return nil
}

// repairs counts the repairs in one directory.
type repairs struct {
	mu   sync.Mutex
	now  int64     // since the start; guarded by mu
	ever int64     // ever, also in earlier epochs; guarded by mu
	last time.Time // time of the last repair; guarded by mu
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

// Repairs returns how many damaged or missing records and bodies of a journal directory were ever
// repaired from the other directory, and when the last repair was. unfinished means that the
// directory is an incomplete copy. The journal may be open.
func Repairs(fs vfs.FS, dir string) (n int64, last time.Time, unfinished bool) {
	_, err := fs.Size(filepath.Join(dir, unfinishedFile))
	if s := readSide(fs, dir); s != nil {
		n, last = s.repaired, s.last
	}
	return n, last, err == nil
}
