package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/akidb/akigw/internal/vfs"
)

// A disk that is full stops acknowledgements, not the flush, which is what makes room. For
// that the journal keeps a reserve: a few files whose blocks are allocated and that nothing is
// in. When a write finds no room, the segment that it was for is sealed: its records up to the
// last sync count, and what the failed write left behind them does not. A piece of the reserve
// then becomes the next segment, by a rename, which needs neither blocks nor an inode. It takes
// only records that let go of something: what is upstream, dead letters, upload ids, and
// live entries of the oldest segment, so that that can be removed. The other pieces are for
// when it is used up, and for the segments of later starts.
//
// Once a second the syncer looks whether there is room to make the reserve whole again. When
// there is, a new segment is begun, and writes are acknowledged again. If there was no reserve,
// because the disk was full already, or if it is used up, nothing can be written at all: what
// the journal holds is read, and stays.
//
// All of that is about room alone. After a sync that failed nobody knows what is on the disk,
// and the journal fails for good.

// ErrFull: the disk of the journal is full, or it was read-only at the start. Nothing is
// acknowledged until it takes writes again; then the journal goes on by itself.
var ErrFull = errors.New("the journal's disk takes nothing more")

const (
	// reserveFile is what the names of the reserve's pieces begin with, in Config.Dir. Each is
	// empty and has its part of Config.ReserveBytes in blocks.
	reserveFile = "reserve"
	// reservePieces is how many there are.
	reservePieces = 4
	// lookEvery is how often the journal looks whether its files are where they were and,
	// while there is no room, whether there is some.
	lookEvery = time.Second
)

// succession is what the next segment says of the one before it, see segmentHead.
type succession struct {
	id     uint64 // of the next segment
	before uint64 // the segment before it, 0 for none
	length int64  // how much of that one counts
}

// letsGo reports whether a record lets go of something that the journal holds, or says the
// same once more: those may be written to the reserve. Every other one is the
// acknowledgement of something new.
func (o *op) letsGo() bool { return o.entry != 0 || o.kind == kindPack }

func (w *writing) letsGo() bool {
	return !slices.ContainsFunc(w.ops, func(o *op) bool { return !o.letsGo() })
}

// flushing returns nil if records that let go of something are taken, else why not. It needs
// mu.
func (j *Journal) flushing() error {
	switch {
	case j.failed != nil:
		return j.failed
	case len(j.damage) > 0:
		return fmt.Errorf("%w: %s", ErrDamaged, j.damage[0])
	case j.closing:
		return ErrClosed
	case !j.syncing.IsZero() && time.Since(j.syncing) > j.config.SyncTimeout:
		return fmt.Errorf("%w: a sync has been under way for %s", ErrStuck, time.Since(j.syncing).Round(time.Second))
	case j.shut:
		return j.full
	}
	return nil
}

// takes returns nil if some records are taken together, else why not. It needs mu.
func (j *Journal) takes(w *writing) error {
	if w.letsGo() {
		return j.flushing()
	}
	return j.accepting()
}

// seal ends the last segment, because a write to it found no room: nothing more is written to
// it. It returns ErrFull with the cause.
func (j *Journal) seal(cause error) error {
	if !j.sealed {
		j.sealed = true
		last := j.segments[len(j.segments)-1]
		j.following = succession{last.id + 1, last.id, j.durable}
	}
	return j.noRoom(cause, false)
}

// noRoom stops acknowledgements; shut says that nothing else can be written either.
func (j *Journal) noRoom(cause error, shut bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.full == nil {
		j.full = fmt.Errorf("%w: %s: %w", ErrFull, j.config.Dir, cause)
		j.config.Log.Error("the journal's disk takes nothing more: no write is acknowledged from it; make room on it, or mount it to be written to, and it goes on by itself", "dir", j.config.Dir, "error", cause)
	}
	if shut && !j.shut {
		j.shut = true
		j.config.Log.Error("the journal has no reserve left: what it holds is read, and nothing of it is taken to the upstream until there is room", "dir", j.config.Dir, "error", cause)
	}
	return j.full
}

// begin makes the segment behind one that was sealed: of the reserve or, if there is none,
// anew. From then on nothing that a write without room left behind counts, whatever it is.
func (j *Journal) begin() error {
	err := j.beginReserved()
	if errors.Is(err, errNoReserve) {
		err = j.create(j.following.id, j.following.before, j.following.length)
	}
	if unwritten(err) {
		return j.noRoom(err, true)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		return j.fail(err)
	}
	j.shut = false
	return nil
}

var (
	// errNoReserve: there is no reserve, or it was used.
	errNoReserve = errors.New("there is no reserve")
	// errUnsynced: a sync failed. Whatever the reason, it is no matter of room: nobody
	// knows what is on the disk.
	errUnsynced = errors.New("sync")
)

// unsynced makes the error of a sync errUnsynced as well.
func unsynced(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(errUnsynced, err)
}

// unwritten reports whether an error says that something could not be written, because the
// disk takes nothing, and that nothing is unknown for that.
func unwritten(err error) bool { return vfs.Unwritable(err) && !errors.Is(err, errUnsynced) }

// beginReserved makes a piece of the reserve the next segment.
func (j *Journal) beginReserved() error {
	i := slices.IndexFunc(j.reserve[:], func(f vfs.File) bool { return f != nil })
	if i < 0 {
		return errNoReserve
	}
	if err := j.config.FS.Rename(j.reserveName(i), j.segmentName(j.following.id)); err != nil {
		return err
	}
	f := j.reserve[i]
	j.reserve[i] = nil
	if err := j.head(f, j.following); err != nil {
		return err
	}
	// With its old name as well it would be taken for a piece that is not empty.
	if err := unsynced(j.config.FS.SyncDir(j.config.Dir)); err != nil {
		return err
	}
	j.reserved = true
	return nil
}

func (j *Journal) reserveName(i int) string {
	return filepath.Join(j.config.Dir, fmt.Sprint(reserveFile, i+1))
}

// keepReserve makes the pieces of the reserve that are not there. It reports whether
// acknowledgements may go on: the reserve is whole, or there can be none on such a disk.
func (j *Journal) keepReserve() bool {
	if j.config.ReserveBytes <= 0 || j.reserveless {
		return true
	}
	switch err := j.makeReserve(); {
	case err == nil:
		return true
	case vfs.Unwritable(err):
		_ = j.noRoom(fmt.Errorf("no room for its reserve of %d bytes: %w", j.config.ReserveBytes, err), false)
		return false
	default:
		j.reserveless = true
		j.config.Log.Warn("the journal has no reserve: when its disk is full, nothing is taken to the upstream before there is room again", "dir", j.config.Dir, "error", err)
		return true
	}
}

// makeReserve makes the pieces that are not there, as far as it can.
func (j *Journal) makeReserve() error {
	made := false
	var full error
	for i, f := range j.reserve {
		if f != nil {
			continue
		}
		f, err := j.config.FS.Reserve(j.reserveName(i), j.pieceBytes())
		if err == nil {
			if err = f.Sync(); err != nil {
				err = errors.Join(err, f.Close())
			}
		}
		switch {
		case err == nil:
			j.reserve[i], made = f, true
		case vfs.Unwritable(err):
			full = err // others may be there
		default:
			return err
		}
	}
	if made {
		return errors.Join(full, j.config.FS.SyncDir(j.config.Dir))
	}
	return full
}

func (j *Journal) pieceBytes() int64 { return j.config.ReserveBytes / reservePieces }

// recoverySync judges a sync of a start. A file system that refuses it, because it has found itself
// damaged and become read-only, can still be read: the journal has failed, and is.
func (j *Journal) recoverySync(err error) error {
	if !errors.Is(err, syscall.EROFS) {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	_ = j.fail(err)
	return nil
}

// firstSegment makes the first segment of this run. A disk that takes nothing is no error: then what
// the journal holds can be read.
func (j *Journal) firstSegment(next succession) error {
	j.following, j.sealed = next, true
	if j.failure() != nil {
		return nil
	}
	j.keepReserve()
	err := j.create(next.id, next.before, next.length)
	if !unwritten(err) {
		return err
	}
	_ = j.noRoom(err, false)
	if j.dropDead() && j.create(next.id, next.before, next.length) == nil {
		return nil
	}
	if j.hasReserve() {
		return nil // it becomes a segment when there is a record for it
	}
	if err = j.begin(); errors.Is(err, ErrFull) {
		return nil
	}
	return err
}

func (j *Journal) hasReserve() bool {
	return slices.ContainsFunc(j.reserve[:], func(f vfs.File) bool { return f != nil })
}

// dropDead removes the oldest segments that nothing live is in, the last one apart: it says
// what is known of all of them. It reports whether there were any.
func (j *Journal) dropDead() (dropped bool) {
	for {
		j.mu.Lock()
		var oldest *segment
		var next uint64
		if len(j.segments) > 1 && len(j.damage) == 0 && !j.keep && j.segments[0].left() == 0 {
			oldest, next = j.segments[0], j.segments[1].id
		}
		j.mu.Unlock()
		if oldest == nil || !j.drop(oldest, next) {
			return dropped
		}
		dropped = true
	}
}

// spoolFailed is ErrSpool for what a body could not be written for. A disk that became
// read-only is the end of the journal: what it has of the last writes nobody knows.
func (j *Journal) spoolFailed(err error) error {
	if errors.Is(err, syscall.EROFS) {
		j.mu.Lock()
		defer j.mu.Unlock()
		_ = j.fail(err)
	}
	return fmt.Errorf("%w: %w", ErrSpool, err)
}

// fitsReserve reports whether what is live of a segment can be written to the reserve once
// more, and leaves half of it. It needs mu.
func (j *Journal) fitsReserve(s *segment) bool {
	size := s.datedBytes
	for it := range s.items {
		size += it.size
	}
	return size <= (j.pieceBytes()-j.length)/2
}

// admit refuses what is not taken while there is no room, and returns the rest.
func (j *Journal) admit(batch []*writing) []*writing {
	j.mu.Lock()
	full, shut := j.full, j.shut
	j.mu.Unlock()
	if full == nil || len(batch) == 0 {
		return batch
	}
	return j.refuse(batch, full, shut, false)
}

// refuse tells those who wait for an acknowledgement, or all, that there is no room, and
// returns the others. doubtful says that some of it may be on the disk and count.
func (j *Journal) refuse(batch []*writing, err error, all, doubtful bool) (rest []*writing) {
	var refused []*writing
	for _, w := range batch {
		if all || !w.letsGo() {
			refused = append(refused, w)
		} else {
			rest = append(rest, w)
		}
	}
	j.settle(refused, nil, err, doubtful)
	return rest
}

// poke has the syncer look.
func (j *Journal) poke() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.due = true
	j.wake.Signal()
}

// looked looks if that is due.
func (j *Journal) looked() {
	j.mu.Lock()
	due, closing := j.due, j.closing
	j.due = false
	j.mu.Unlock()
	if !due || closing {
		return
	}
	j.look()
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.closing {
		j.timer.Reset(lookEvery)
	}
}

// look sees whether the journal is where it was and, while there is no room, whether there is
// some.
func (j *Journal) look() {
	j.mu.Lock()
	failed, full, shut := j.failed, j.full, j.shut
	j.mu.Unlock()
	if failed != nil {
		return
	}
	if j.postponed && !shut {
		j.compact()
	}
	if err := j.displaced(); err != nil {
		j.mu.Lock()
		_ = j.fail(err)
		j.mu.Unlock()
		return
	}
	if full != nil {
		j.regain()
	}
}

// regain goes on if there is room again.
func (j *Journal) regain() {
	j.mu.Lock()
	shut := j.shut
	j.mu.Unlock()
	kept := j.keepReserve() && j.joined()
	if kept && (j.sealed || j.reserved) {
		kept = j.renew()
	}
	if !kept && shut { // else the first record that needs it begins the next piece of the reserve
		_ = j.begin() // a little room is enough to let go of something
	}
	j.mu.Lock()
	if kept && j.failed == nil {
		j.full, j.shut = nil, false
		j.config.Log.Info("the journal's disk has room again", "dir", j.config.Dir)
	}
	open := shut && !j.shut && j.failed == nil
	changed := j.changed
	j.mu.Unlock()
	if open && changed != nil {
		for _, key := range j.Keys() {
			changed(key)
		}
	}
}

// renew makes a segment for all kinds of records behind the one that was sealed, or that was
// the reserve. It reports whether it could.
func (j *Journal) renew() bool {
	next := j.following
	if !j.sealed {
		next = j.successor()
	}
	err := j.create(next.id, next.before, next.length)
	if err != nil && !unwritten(err) {
		j.mu.Lock()
		defer j.mu.Unlock()
		_ = j.fail(err)
	}
	return err == nil
}

// successor is the segment behind the last one, of which all counts that is durable.
func (j *Journal) successor() succession {
	j.mu.Lock()
	defer j.mu.Unlock()
	last := j.segments[len(j.segments)-1].id
	return succession{last + 1, last, j.durable}
}

// ErrMoved: the directory of the journal was removed, unmounted, or replaced by another one.
// What is written to files that are open is not found by the next start.
var ErrMoved = errors.New("the journal's directory is not the one that was opened")

// displaced returns ErrMoved if the last segment, or the directory of bodies, is not what is found
// by its name any more.
func (j *Journal) displaced() error {
	if err := j.segmentDisplaced(); err != nil {
		return err
	}
	return j.same(filepath.Join(j.config.Dir, spoolDir), j.spoolID)
}

// segmentDisplaced is displaced of the segment that is written.
func (j *Journal) segmentDisplaced() error {
	j.mu.Lock()
	if len(j.segments) == 0 {
		j.mu.Unlock()
		return nil
	}
	last := j.segments[len(j.segments)-1]
	j.mu.Unlock()
	if last.fileID == "" {
		return nil // it is of an earlier run: only read
	}
	return j.same(j.segmentName(last.id), last.fileID)
}

func (j *Journal) same(name, id string) error {
	switch now, err := j.config.FS.ID(name); {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrMoved, err)
	case now != id:
		return fmt.Errorf("%w: %s is another file now", ErrMoved, name)
	}
	return nil
}

// Empty reports whether a directory holds no journal: nothing was ever acknowledged from it. One
// that cannot be looked into may hold one.
func Empty(dir string) bool {
	names, err := os.ReadDir(filepath.Join(dir, segmentDir))
	return errors.Is(err, os.ErrNotExist) || err == nil && len(names) == 0
}

// Reserve implements FS.
func (m *mirror) Reserve(name string, size int64) (vfs.File, error) {
	a, err := m.FS.Reserve(name, size)
	if err != nil {
		return nil, err
	}
	b, err := m.FS.Reserve(m.twin(name), size)
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return &mirrorFile{files: [2]vfs.File{a, b}}, nil
}

// ID implements FS.
func (m *mirror) ID(name string) (string, error) {
	a, err := m.FS.ID(name)
	if err != nil {
		return "", err
	}
	b, err := m.FS.ID(m.twin(name))
	return a + " " + b, err
}
