package journal

import (
	"cmp"
	"errors"
	"path/filepath"
	"slices"
	"sync"

	"github.com/akidb/akigw/journal/internal/spool"

	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/vfs"
)

// epoch identifies one lifetime of the process with the journal open. Two directories that were
// started independently may have epochs with the same number; the nonce tells them apart.
type epoch struct {
	number uint64
	nonce  uint64 // 0 in data of older releases
}

// wal is the durable log: records in segment files, of which the last one is written. It does not
// know what the records mean.
//
// One goroutine at a time may write: first the recovery, then the committer. The compactor removes
// old segments. No lock is held across I/O.
type wal struct {
	fs           vfs.FS
	dir          string // directory of the journal
	segmentBytes int64
	health       *health
	reserve      *reserve
	begun        func() // called for each new segment: failed writes to the one before it do not count

	mu       sync.Mutex
	segments []*segment // oldest first, the last one is written; guarded by mu
	holes    []hole     // known damage; guarded by mu
	length   int64      // length of the last segment; guarded by mu, and changed by the writer alone

	// The remaining fields belong to the writer.
	epoch     epoch
	next      uint64 // number of the next record
	durable   int64  // durable length of the last segment
	marked    bool   // the last segment ends with a mark
	sealed    bool   // nothing more is written to the last segment
	following succession
	reserved  bool // the last segment was a piece of the reserve
	streams   bool // new segments may hold records of streams, see formatVersion
	mayHold   bool // the last segment may
	buffer    []byte
}

// segment is one file of records.
type segment struct {
	id     uint64
	file   vfs.File
	fileID string // see vfs.FS.ID; "" if the segment is only read

	// The remaining fields are guarded by the wal's mu.
	size      int64
	readers   int
	repairing bool // it must not be removed meanwhile
	removing  bool // it must not be repaired meanwhile
	removed   bool
}

// succession is what a new segment says about the previous one, see segmentHead.
type succession struct {
	id     uint64 // ID of the new segment
	before uint64 // ID of the previous segment, 0 for none
	length int64  // how many bytes of the previous segment count
}

func (w *wal) segmentName(id uint64) string {
	return filepath.Join(w.dir, segmentDir, segmentBase(id))
}

// append writes records to the last segment, syncs it once, and returns the place of each record.
// If the disk is full, it seals the segment and returns ErrFull. Any other error is final.
func (w *wal) append(ops []*op) ([]place, error) {
	ofStreams := slices.ContainsFunc(ops, func(o *op) bool { return o.kind.ofStreams() })
	err := w.health.failure()
	if err == nil {
		err = w.ready(ofStreams)
	}
	places := make([]place, 0, len(ops))
	buf := w.buffer[:0]
	var payload []byte
	for _, o := range ops {
		payload = o.encode(payload[:0])
		f := frame{number: w.next, at: w.length + int64(len(buf)) + frameHead, payload: payload}
		places = append(places, f.place(o, w.lastID()))
		buf = appendFrame(buf, w.next, w.durable, payload)
		w.next++
	}
	if ofStreams {
		// A release that does not know the records reads the mark, so that it continues the log after them.
		buf = appendFrame(buf, w.next, w.durable, (&op{kind: kindMark}).encode(nil))
		w.next++
	}
	w.buffer = buf
	if err == nil {
		err = w.write(buf)
	}
	return places, err
}

// ready begins the next segment if the last one is full or sealed, or if its head does not say that
// it may hold records of streams and there are some to be written.
func (w *wal) ready(ofStreams bool) error {
	w.streams = w.streams || ofStreams
	switch {
	case w.sealed:
		return w.begin()
	case w.length > w.segmentBytes && !w.reserved, ofStreams && !w.mayHold:
		return w.rotate()
	}
	return nil
}

// write writes bytes to the last segment and syncs them. If the disk is full, it seals the segment.
// Any other failure is final: after it, the content of the file is unknown, and a later sync proves
// nothing.
func (w *wal) write(b []byte) error {
	last := w.last()
	file := last.file
	w.health.syncBegins()
	_, err := file.Write(b)
	failpoint.Here("journal.afterAppend")
	full := vfs.NoRoom(err)
	if err == nil {
		err = file.Sync()
	}
	failpoint.Here("journal.afterSync")
	if err == nil {
		err = w.displaced()
	}
	w.health.syncEnds()
	if full {
		return w.seal(err)
	}
	if err != nil {
		return w.health.fail(err)
	}
	w.grow(last, len(b))
	w.durable, w.marked = w.length, false
	return nil
}

// grow adds n bytes to the length of the last segment.
func (w *wal) grow(last *segment, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.length += int64(n)
	last.size = w.length
}

// mark appends a mark that all of the segment is durable, so that damage to its last records can be
// told from a write that was cut short. The mark is not synced: nothing depends on it.
func (w *wal) mark() {
	if full, _ := w.health.room(); full != nil || w.marked || w.health.failure() != nil {
		return
	}
	last := w.last()
	b := appendFrame(nil, w.next, w.durable, (&op{kind: kindMark}).encode(nil))
	w.next++
	_, err := last.file.Write(b)
	switch {
	case vfs.NoRoom(err):
		_ = w.seal(err)
	case err != nil:
		_ = w.health.fail(err) // the next write returns the error
	default:
		w.grow(last, len(b))
		w.marked = true
	}
}

// rotate starts a new segment.
func (w *wal) rotate() error {
	last := w.last()
	err := spool.Unsynced(last.file.Sync()) // syncs the mark
	if err == nil {
		err = w.create(succession{last.id + 1, last.id, w.length})
	}
	if unwritten(err) && vfs.NoRoom(err) {
		return w.seal(err)
	}
	if err != nil {
		return w.health.fail(err)
	}
	return nil
}

// create creates a segment and makes it the last one.
func (w *wal) create(s succession) error {
	f, err := w.fs.Create(w.segmentName(s.id))
	if err != nil {
		return err
	}
	failpoint.Here("rotate.afterCreate")
	return w.head(f, s)
}

// head writes the head of a new segment, which becomes the last one. Leftovers of failed writes to
// the previous segment do not count from then on, so nothing is in doubt any more. The error of a
// sync is spool.ErrUnsynced.
func (w *wal) head(f vfs.File, s succession) error {
	head := op{kind: kindSegment, seg: segmentHead{id: s.id, epoch: w.epoch.number, before: s.before, length: s.length, holes: w.knownHoles(), nonce: w.epoch.nonce, streams: w.streams}}
	b := appendFrame(nil, w.next, 0, head.encode(nil))
	w.next++
	_, err := f.Write(b)
	if err == nil {
		err = spool.Unsynced(f.Sync())
	}
	if err == nil {
		err = spool.Unsynced(w.fs.SyncDir(filepath.Join(w.dir, segmentDir)))
	}
	failpoint.Here("rotate.afterDirSync")
	fileID := ""
	if err == nil {
		fileID, err = w.fs.ID(w.segmentName(s.id))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	w.durable, w.marked, w.sealed, w.reserved, w.mayHold = int64(len(b)), false, false, false, w.streams
	w.add(&segment{id: s.id, file: f, size: int64(len(b)), fileID: fileID})
	w.begun()
	return nil
}

// add makes a segment the last one.
func (w *wal) add(s *segment) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.segments = append(w.segments, s)
	w.length = s.size
}

// seal closes the last segment to further writes, because the disk is full. It returns ErrFull with
// the cause.
func (w *wal) seal(cause error) error {
	if !w.sealed {
		w.sealed = true
		id := w.lastID()
		w.following = succession{id + 1, id, w.durable}
	}
	return w.health.noRoom(cause, false)
}

// begin creates the segment after a sealed one, from the reserve or else as a new file. From then
// on leftovers of failed writes do not count, whatever they are.
func (w *wal) begin() error {
	err := w.beginReserved()
	if errors.Is(err, errNoReserve) {
		err = w.create(w.following)
	}
	switch {
	case unwritten(err):
		return w.health.noRoom(err, true)
	case err != nil:
		return w.health.fail(err)
	}
	w.health.reopen()
	return nil
}

// beginReserved makes a piece of the reserve the next segment.
func (w *wal) beginReserved() error {
	f, err := w.reserve.take(w.segmentName(w.following.id))
	if err != nil {
		return err
	}
	if err := w.head(f, w.following); err != nil {
		return err
	}
	// With its old name as well, the file would be taken for a reserve piece that is not empty.
	if err := spool.Unsynced(w.fs.SyncDir(w.dir)); err != nil {
		return err
	}
	w.reserved = true
	return nil
}

// renew begins a segment for all kinds of records if the last one was sealed or came from the
// reserve. It reports whether there is such a segment.
func (w *wal) renew() bool {
	if !w.sealed && !w.reserved {
		return true
	}
	next := w.following
	if !w.sealed {
		id := w.lastID()
		next = succession{id + 1, id, w.durable}
	}
	err := w.create(next)
	if err != nil && !unwritten(err) {
		_ = w.health.fail(err)
	}
	return err == nil
}

// last returns the segment that is being written, nil for none.
func (w *wal) last() *segment {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.segments) == 0 {
		return nil
	}
	return w.segments[len(w.segments)-1]
}

// lastID returns the ID of the segment that is being written, 0 for none.
func (w *wal) lastID() uint64 {
	if last := w.last(); last != nil {
		return last.id
	}
	return 0
}

// firstID returns the ID of the oldest segment, 0 for none.
func (w *wal) firstID() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.segments) == 0 {
		return 0
	}
	return w.segments[0].id
}

func (w *wal) knownHoles() []hole {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.holes
}

// displaced returns ErrMoved if the name of the last segment no longer refers to the open file.
func (w *wal) displaced() error {
	last := w.last()
	if last == nil || last.fileID == "" {
		return nil // a segment of an earlier epoch is only read
	}
	return checkID(w.fs, w.segmentName(last.id), last.fileID)
}

// acquire keeps a segment readable until release. It returns nil if the segment was removed.
func (w *wal) acquire(id uint64) *segment {
	w.mu.Lock()
	defer w.mu.Unlock()
	i, found := slices.BinarySearchFunc(w.segments, id, func(s *segment, id uint64) int { return cmp.Compare(s.id, id) })
	if !found {
		return nil
	}
	w.segments[i].readers++
	return w.segments[i]
}

func (w *wal) release(s *segment) {
	w.mu.Lock()
	s.readers--
	unused := s.removed && s.readers == 0
	w.mu.Unlock()
	if unused {
		_ = s.file.Close() // it was only read
	}
}

// oldest returns the oldest segment and the ID of the next one; nil if there is no next one, or the
// oldest is being repaired.
func (w *wal) oldest() (s *segment, next uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.segments) < 2 || w.segments[0].repairing {
		return nil, 0
	}
	return w.segments[0], w.segments[1].id
}

// beginRemoval keeps a segment from being repaired while it is removed. It returns false for one that
// is being repaired: its repair would bring it back.
func (w *wal) beginRemoval(s *segment) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.removing = !s.repairing
	return s.removing
}

func (w *wal) endRemoval(s *segment) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.removing = false
}

// remove removes the oldest segment: first durably from disk, then from the list. It is between
// beginRemoval and endRemoval.
func (w *wal) remove(s *segment) error {
	err := w.fs.Remove(w.segmentName(s.id))
	if err == nil {
		err = w.fs.SyncDir(filepath.Join(w.dir, segmentDir))
	}
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.segments = slices.Clone(w.segments[1:])
	w.holes = holesSince(w.holes, w.segments[0].id)
	s.removed = true
	unused := s.readers == 0
	w.mu.Unlock()
	if unused {
		_ = s.file.Close() // it was only read
	}
	return nil
}

func holesSince(all []hole, segment uint64) (kept []hole) {
	for _, h := range all {
		if h.segment >= segment {
			kept = append(kept, h)
		}
	}
	return kept
}

// beginRepair keeps a segment from being removed during its repair. It returns false if the segment
// was or is being removed, is under repair, or is still being written.
func (w *wal) beginRepair(s *segment) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.removed || s.removing || s.repairing || s == w.segments[len(w.segments)-1] {
		return false
	}
	s.repairing = true
	return true
}

func (w *wal) endRepair(s *segment) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.repairing = false
}

// complete returns the segments that are no longer written.
func (w *wal) complete() []*segment {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.segments[:max(0, len(w.segments)-1)])
}

// sizes returns the number of segments, their total size in bytes, and the size of the last one.
func (w *wal) sizes() (n int, total, last int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.segments {
		total += s.size
	}
	return len(w.segments), total, w.length
}

// end syncs the last segment and records its length in the end file. It reports whether that was
// necessary.
func (w *wal) end() (ended bool, err error) {
	if w.health.failure() != nil || w.sealed {
		return false, nil
	}
	last := w.last()
	if err = last.file.Sync(); err == nil {
		err = writeEnd(w.fs, w.dir, hole{segment: last.id, to: w.length})
	}
	return true, err
}

// close closes the files.
func (w *wal) close() (err error) {
	for _, s := range w.segments {
		err = errors.Join(err, s.file.Close())
	}
	return errors.Join(err, w.reserve.close())
}
