// Package journal keeps acknowledged writes that are not in the upstream yet.
// What Commit and Delete have returned from is on disk, synced, and survives any
// crash: the body, what the client was promised of it, and its place in the
// order of its key's changes. It stays until it is known to be in the upstream
// (Done), has been replaced by a later change of its key, or was dropped by an
// operator.
//
// The journal is precious. Any doubt ends in "stop acknowledging": after a write
// or a sync that failed nothing more is taken, and damage that was found at the
// start keeps everything as it is until an operator has looked at it. It knows
// nothing of HTTP or of the upstream, and does not decide when to flush.
package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/btree"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/vfs"
)

// Errors that callers decide on.
var (
	// ErrFailed: a write or a sync failed; nothing is acknowledged until the
	// gateway is started again.
	ErrFailed = errors.New("the journal has failed")
	// ErrDamaged: records or bodies that were acknowledged are damaged; nothing is
	// acknowledged or flushed until an operator accepts it.
	ErrDamaged = errors.New("the journal is damaged")
	// ErrStuck: the disk has not finished a sync for too long. A write that was
	// waiting may or may not be kept.
	ErrStuck = errors.New("the journal's disk does not answer")
	// ErrSpool: a body could not be written. The journal is as it was.
	ErrSpool = errors.New("the body could not be written to the journal's disk")
	// ErrGone: the entry is not in the journal any more.
	ErrGone = errors.New("not in the journal any more")
	// ErrClosed: the journal was closed.
	ErrClosed = errors.New("the journal is closed")
	// ErrDeadLetter: a key's last change is a dead letter.
	ErrDeadLetter = errors.New("a write of this key could not be taken to the upstream and is a dead letter")
)

// Config places and bounds a journal.
type Config struct {
	// Dir is a directory for the journal alone. It is made if need be.
	Dir string
	FS  vfs.FS
	Log *slog.Logger
	// InlineBytes is the largest body that is kept in its record, not in a file
	// of its own; at most 1 MiB.
	InlineBytes int
	// SegmentBytes is about how long a segment file gets.
	SegmentBytes int64
	// MaxDates is of how many objects that are upstream the Last-Modified is remembered
	// that was promised, see Flushed. Each takes about 0.3 KiB of memory and 0.1 KiB on
	// disk, plus its key, until it is compacted up to four times as much.
	MaxDates int
	// ReserveBytes is how much of the disk is kept for letting go of entries when there is no
	// other room; 0: nothing.
	ReserveBytes int64
	// SyncTimeout is how long a sync may take before writes are refused.
	SyncTimeout time.Duration
	// SecondDir is a directory on another disk that has all that Dir has, "" for none.
	SecondDir string
	// ScrubRate is how many bytes of each directory are read and verified in a second, in the
	// background, if there is a second one; 0: none. What is found damaged is repaired from
	// the other directory.
	ScrubRate int64
}

// Directories and names in Config.Dir.
const (
	segmentDir    = "segments"
	spoolDir      = "spool"
	quarantineDir = "quarantine"
	lockFile      = "lock"
	draftSuffix   = ".draft"
	acceptedMark  = "accepted-"
)

// Journal is an open journal. All methods may be called from any goroutine.
type Journal struct {
	config Config
	lock   io.Closer
	spools atomic.Uint64 // the last number given to a spool file
	syncer sync.WaitGroup
	newest uint64  // see Newest
	mirror *mirror // nil without a second directory; it is config.FS as well
	run    run     // the present one
	scrub  scrub

	mu           sync.Mutex
	wake         sync.Cond                  // the syncer; with mu
	queue        []*writing                 // guarded by mu
	closing      bool                       // guarded by mu
	failed       error                      // guarded by mu
	damage       []string                   // guarded by mu
	syncing      time.Time                  // when the sync under way began, zero for none; guarded by mu
	keys         btree.Map[string, []*item] // the live entries of each key, oldest first; guarded by mu
	ids          map[uint64]*item           // of entries, uploads and their parts; guarded by mu
	uploads      map[uint64]*upload         // that are open, by number; guarded by mu
	named        map[string]*upload         // the same by id; guarded by mu
	over         completions                // guarded by mu
	packs        map[uint64]*packed         // guarded by mu
	pending      btree.Map[uint64, *item]   // by number; guarded by mu
	dead         btree.Map[uint64, *item]   // likewise; guarded by mu
	hollow       int                        // packs that nothing is in; guarded by mu
	away         int                        // entries whose bodies are in packs; guarded by mu
	orphans      map[uint64]*orphan         // guarded by mu
	translations map[string]*item           // by key, of those without entries; guarded by mu
	dates        dates                      // of objects without translations; see there
	bytes        int64                      // of live bodies and parts; guarded by mu
	spent        []uint64                   // spool files that nobody needs but readers; guarded by mu
	readers      map[uint64]int             // of spool files; guarded by mu
	records      int64                      // bytes of the records of live entries; guarded by mu
	segments     []*segment                 // oldest first, the last one is written; guarded by mu
	changed      func(akigw.Key)            // guarded by mu
	full         error                      // ErrFull and why, while there is no room; guarded by mu
	shut         bool                       // nor for letting go of anything; guarded by mu
	due          bool                       // the syncer is to look; guarded by mu

	writing  map[string]int  // keys of records that wait for a sync; guarded by mu
	held     map[string]int  // keys that nothing is taken of; guarded by mu
	doubtful map[string]bool // keys of records that may or may not be on disk: their sync failed; guarded by mu
	round    chan struct{}   // closed when the records that wait now have been written; guarded by mu

	live       atomic.Int64 // number of live entries: nobody takes mu while there is none
	translated atomic.Int64 // likewise, of translations
	unsettled  atomic.Bool  // there are keys in writing or doubtful

	// What follows is the syncer's.
	next    uint64 // number of the next record
	epoch   uint64
	length  int64 // of the last segment
	durable int64 // how much of it is
	marked  bool  // the last segment ends with a mark
	holes   []hole
	keep    bool       // segments stay, because removing one failed
	side    *sideState // nil: the directory is and was the only one

	timer       *time.Timer             // of looks
	reserve     [reservePieces]vfs.File // nil for a piece that is not there
	reserveless bool                    // there can be none on this disk
	reserved    bool                    // the last segment was a piece of it
	sealed      bool                    // nothing more comes into the last segment
	following   succession              // of the one behind it then
	spoolID     string
	uncopied    []string // damage that is not in the quarantine, for want of room
	unjoined    bool     // the side files do not say that this run is one, for want of room
	postponed   bool     // the oldest segment can go when there is room for the side files
}

// item is what is live of a record: an entry, an upload or a part of one.
type item struct {
	kind    kind // of the record
	entry   *Entry
	upload  uint64 // of a part
	part    int
	spools  []uint64 // files of its body, one of each part of a completed upload; none for an inline one
	checks  []uint32 // what the tables of spools add up to; nil if its record does not say
	segment *segment
	size    int64 // of its record
	at      int64 // of an inline body in it
	sum     uint32
	pack    uint64 // that has the body, 0 for none
	offset  int64  // of the body in it
	etag    string // what the upstream calls it, of a translation

	// What follows is of entries.
	leased   bool
	tried    bool   // the upstream may have it, and it is tried again
	covers   uint64 // the first entry that it stands for: its own, or one that it replaced
	reason   string // why it is a dead letter, "" if it is none
	since    time.Time
	remote   string                    // the upstream's id of the upload that brings it there
	listed   *btree.Map[uint64, *item] // pending or dead, whichever it is in; nil for neither
	finished chan struct{}             // closed when it is gone, dead or returned; nil while nobody waits
}

// orphan is an upload at the upstream whose entry has gone.
type orphan struct {
	Orphan
	segment *segment
}

// Orphan is a multipart upload at the upstream that nobody is going to finish.
type Orphan struct {
	Entry    uint64
	Key      akigw.Key
	UploadID string
}

// segment is one file of records.
type segment struct {
	id     uint64
	file   vfs.File
	size   int64
	items  map[*item]struct{}
	spoils map[*orphan]struct{}
	refs   int  // readers
	fixing bool // it is being repaired, and must not be removed meanwhile
	gone   bool
	fileID string // see FS.ID; "" while it is only read

	dates      map[*dated]struct{}
	datedBytes int64 // of their records
}

// writing is some records that wait for a sync together.
type writing struct {
	ops  []*op
	done chan error
}

// index is the place of a key in the order of keys: bucket names hold no NUL.
func index(bucket, name string) string { return bucket + "\x00" + name }

// Notify sets who is told of each key that got or lost an entry. It is called
// from the journal's goroutine, and must not wait for the journal.
func (j *Journal) Notify(changed func(akigw.Key)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.changed = changed
}

// Accepting returns nil if writes are taken, else ErrFailed, ErrDamaged, ErrStuck,
// ErrFull or ErrClosed and what is the matter.
func (j *Journal) Accepting() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.accepting()
}

func (j *Journal) accepting() error {
	if err := j.flushing(); err != nil {
		return err
	}
	return j.full
}

// Commit makes d an acknowledged write: with e's Key, ETag, Modified and Header.
// When it returns nil the write is on disk and visible. Any other outcome but
// ErrSpool leaves open whether it is kept. d is ended either way.
func (j *Journal) Commit(ctx context.Context, d *Draft, e Entry) error {
	e.Size = d.size
	return j.commitBody(ctx, d, &op{kind: kindPut, put: &e, key: e.Key, data: d.small})
}

// commitBody commits a record with a body.
func (j *Journal) commitBody(ctx context.Context, d *Draft, o *op) error {
	defer d.Discard()
	if err := j.Accepting(); err != nil {
		return err
	}
	if d.file != nil {
		if err := d.finish(); err != nil {
			return err
		}
		o.spool, o.checks = d.number, []uint32{d.check}
	}
	return j.commit(ctx, o)
}

// Delete makes the deletion of keys acknowledged, all or none of them visible by
// the time that it returns.
func (j *Journal) Delete(ctx context.Context, keys []akigw.Key, at time.Time) error {
	ops := make([]*op, len(keys))
	for i, key := range keys {
		ops[i] = &op{kind: kindDelete, put: &Entry{Key: key, Deleted: true, Modified: at}, key: key}
	}
	return j.commit(ctx, ops...)
}

// Done says that e is in the upstream, or need not be there any more: it and all
// that came before it for its key leave the journal.
func (j *Journal) Done(ctx context.Context, e *Entry) error {
	return j.commit(ctx, &op{kind: kindDone, entry: e.ID, key: e.Key})
}

// Bury makes e a dead letter, for a reason that an operator understands.
func (j *Journal) Bury(ctx context.Context, e *Entry, reason string, at time.Time) error {
	return j.commit(ctx, &op{kind: kindDead, entry: e.ID, key: e.Key, text: cmp.Or(reason, "unknown"), when: at})
}

// Revive makes a dead letter pending again.
func (j *Journal) Revive(ctx context.Context, e *Entry) error {
	return j.commit(ctx, &op{kind: kindAlive, entry: e.ID, key: e.Key})
}

// Uploading says that the entry or the upload of a number is on its way to the
// upstream as the multipart upload id, "" that it is not any more.
func (j *Journal) Uploading(ctx context.Context, number uint64, key akigw.Key, id string) error {
	return j.commit(ctx, &op{kind: kindUpload, entry: number, key: key, text: id})
}

// Aborted says that an orphan is gone from the upstream.
func (j *Journal) Aborted(ctx context.Context, o Orphan) error {
	return j.commit(ctx, &op{kind: kindUpload, entry: o.Entry, key: o.Key})
}

// commit appends records and waits for the sync that makes them durable.
func (j *Journal) commit(ctx context.Context, ops ...*op) error {
	if len(ops) == 0 {
		return nil
	}
	w := &writing{ops: ops, done: make(chan error, 1)}
	j.mu.Lock()
	if err := j.takes(w); err != nil {
		for _, o := range ops {
			j.abandon(o)
		}
		j.mu.Unlock()
		j.clear()
		return err
	}
	j.queue = append(j.queue, w)
	j.announce(ops)
	j.wake.Signal()
	j.mu.Unlock()
	timeout := time.NewTimer(2 * j.config.SyncTimeout)
	defer timeout.Stop()
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-timeout.C:
		return ErrStuck
	}
}

// maxBatch is about how many bytes one write takes.
const maxBatch = 8 << 20

// sync is the syncer: it writes what waits, all at once, syncs once, and wakes
// who waited.
func (j *Journal) sync() {
	var buf []byte
	for {
		batch, open := j.take()
		if len(batch) > 0 {
			buf = j.write(buf[:0], batch)
		}
		if !open {
			return
		}
		j.looked()
		if len(batch) > 0 {
			j.mark()
			j.compact()
		}
	}
}

// take waits for records and takes them.
func (j *Journal) take() (batch []*writing, open bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.queue) == 0 && !j.closing && !j.due {
		j.wake.Wait()
	}
	size := 0
	for len(batch) < len(j.queue) && size < maxBatch {
		w := j.queue[len(batch)]
		if w.alone() && len(batch) > 0 {
			break
		}
		batch = append(batch, w)
		if w.alone() {
			break
		}
		for _, o := range w.ops {
			size += len(o.data) + 512
		}
	}
	j.queue = slices.Delete(j.queue, 0, len(batch))
	return batch, len(j.queue) > 0 || !j.closing
}

// write makes a batch durable, applies it and tells who waits. It returns buf for
// the next one.
func (j *Journal) write(buf []byte, batch []*writing) []byte {
	if batch = j.admit(j.check(batch)); len(batch) == 0 {
		return buf
	}
	j.makeRoom(batch)
	buf, places, err := j.record(buf, batch)
	if errors.Is(err, ErrFull) {
		doubtful := j.begin() != nil
		if batch = j.refuse(batch, err, doubtful, doubtful); len(batch) > 0 {
			buf, places, err = j.record(buf[:0], batch)
		}
	}
	j.settle(batch, places, err, err != nil)
	return buf
}

// record writes the records of a batch and syncs them. It returns buf for the next one, and
// where each record is.
func (j *Journal) record(buf []byte, batch []*writing) ([]byte, []place, error) {
	err := j.failure()
	if err == nil {
		err = j.ready()
	}
	var places []place
	var payload []byte
	for _, w := range batch {
		for _, o := range w.ops {
			payload = o.encode(payload[:0])
			places = append(places, frame{number: j.next, at: j.length + int64(len(buf)) + frameHead, payload: payload}.place(o))
			buf = appendFrame(buf, j.next, j.durable, payload)
			j.next++
		}
	}
	if err == nil {
		err = j.append(buf)
	}
	return buf, places, err
}

// ready begins the next segment if the last one takes no more.
func (j *Journal) ready() error {
	switch {
	case j.sealed:
		return j.begin()
	case j.length > j.config.SegmentBytes && !j.reserved:
		return j.rotate()
	}
	return nil
}

// settle applies the records of a batch, unless there was an error, and tells who waits.
// doubtful says that they may be on the disk all the same.
func (j *Journal) settle(batch []*writing, places []place, err error, doubtful bool) {
	if len(batch) == 0 {
		return
	}
	j.mu.Lock()
	changed := j.changed
	i := 0
	for _, w := range batch {
		for _, o := range w.ops {
			if err == nil {
				j.apply(o, places[i], j.segments[len(j.segments)-1])
			} else if !doubtful {
				j.abandon(o)
			}
			j.written(o, doubtful)
			i++
		}
	}
	j.endRound()
	j.mu.Unlock()
	for _, w := range batch {
		w.done <- err
		for _, o := range w.ops {
			if err == nil && changed != nil && o.kind.changes() {
				changed(o.key)
			}
		}
	}
}

// abandon lets go of the body of a new record that was not written: on a full disk it would
// take room until the next start. It needs mu.
func (j *Journal) abandon(o *op) {
	if o.entry == 0 && o.spool != 0 {
		j.spent = append(j.spent, o.spool)
	}
}

// announce says that records are going to be written. It needs mu.
func (j *Journal) announce(ops []*op) {
	for _, o := range ops {
		if o.kind.changes() {
			j.writing[index(o.key.Bucket, o.key.Name)]++
			j.unsettled.Store(true)
		}
	}
}

// written takes a record off those that wait. doubtful says that it may be on the disk, though
// nobody was told so. It needs mu.
func (j *Journal) written(o *op, doubtful bool) {
	if !o.kind.changes() {
		return
	}
	name := index(o.key.Bucket, o.key.Name)
	if j.writing[name]--; j.writing[name] == 0 {
		delete(j.writing, name)
	}
	if doubtful {
		j.doubtful[name] = true
	}
}

// endRound wakes who waits for records that waited. It needs mu.
func (j *Journal) endRound() {
	close(j.round)
	j.round = make(chan struct{})
	j.unsettled.Store(len(j.writing)+len(j.doubtful) > 0)
}

func (j *Journal) failure() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed
}

// append writes bytes to the last segment and syncs them. A write without room seals the
// segment. Any other failure is final: what a file holds after one, and what a later sync
// would say, nobody knows.
func (j *Journal) append(b []byte) error {
	j.mu.Lock()
	file := j.segments[len(j.segments)-1].file
	j.syncing = time.Now()
	j.mu.Unlock()
	_, err := file.Write(b)
	failpoint.Here("journal.afterAppend")
	full := vfs.NoRoom(err)
	if err == nil {
		err = file.Sync()
	}
	failpoint.Here("journal.afterSync")
	if err == nil {
		err = j.segmentDisplaced()
	}
	j.mu.Lock()
	j.syncing = time.Time{}
	if full {
		j.mu.Unlock()
		return j.seal(err)
	}
	defer j.mu.Unlock()
	if err != nil {
		return j.fail(err)
	}
	j.length += int64(len(b))
	j.durable = j.length
	j.segments[len(j.segments)-1].size = j.length
	j.marked = false
	return nil
}

// fail ends the journal's taking of writes. It needs mu.
func (j *Journal) fail(err error) error {
	if j.failed == nil {
		j.failed = fmt.Errorf("%w: %w", ErrFailed, err)
		j.config.Log.Error("the journal has failed: nothing is acknowledged from it any more and nothing flushed; mend the disk and start the gateway again", "dir", j.config.Dir, "error", err)
	}
	return j.failed
}

// mark says in the segment that all of it is durable, so that damage to its last
// records can be told from a write that was cut short. It is not synced: nobody
// was promised anything of it.
func (j *Journal) mark() {
	j.mu.Lock()
	idle := len(j.queue) == 0 && j.failed == nil && j.full == nil && !j.marked
	if !idle {
		j.mu.Unlock()
		return
	}
	last := j.segments[len(j.segments)-1]
	j.mu.Unlock()
	b := appendFrame(nil, j.next, j.durable, (&op{kind: kindMark}).encode(nil))
	j.next++
	_, err := last.file.Write(b)
	if vfs.NoRoom(err) {
		_ = j.seal(err)
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		_ = j.fail(err) // the next write says it
		return
	}
	j.length += int64(len(b))
	last.size = j.length
	j.marked = true
}

// rotate starts a new segment.
func (j *Journal) rotate() error {
	j.mu.Lock()
	last := j.segments[len(j.segments)-1]
	j.mu.Unlock()
	err := unsynced(last.file.Sync()) // of the mark
	if err == nil {
		err = j.create(last.id+1, last.id, j.length)
	}
	if unwritten(err) && vfs.NoRoom(err) {
		return j.seal(err)
	}
	if err != nil {
		j.mu.Lock()
		defer j.mu.Unlock()
		return j.fail(err)
	}
	return nil
}

func (j *Journal) segmentName(id uint64) string {
	return filepath.Join(j.config.Dir, segmentDir, segmentBase(id))
}

// create makes a segment and the one that is written.
func (j *Journal) create(id, before uint64, length int64) error {
	f, err := j.config.FS.Create(j.segmentName(id))
	if err != nil {
		return err
	}
	failpoint.Here("rotate.afterCreate")
	return j.head(f, succession{id, before, length})
}

// head writes the head of a new segment, which is the one that is written from then on. What
// writes without room left behind in the one before it does not count any more, and nothing
// is doubtful for that. The error of a sync is errUnsynced.
func (j *Journal) head(f vfs.File, s succession) error {
	head := op{kind: kindSegment, seg: segmentHead{id: s.id, epoch: j.epoch, before: s.before, length: s.length, holes: j.holes, nonce: j.run.nonce}}
	b := appendFrame(nil, j.next, 0, head.encode(nil))
	j.next++
	fs := j.config.FS
	_, err := f.Write(b)
	if err == nil {
		err = unsynced(f.Sync())
	}
	if err == nil {
		err = unsynced(fs.SyncDir(filepath.Join(j.config.Dir, segmentDir)))
	}
	failpoint.Here("rotate.afterDirSync")
	fileID := ""
	if err == nil {
		fileID, err = fs.ID(j.segmentName(s.id))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	j.length, j.durable, j.marked = int64(len(b)), int64(len(b)), false
	j.sealed, j.reserved = false, false
	j.mu.Lock()
	defer j.mu.Unlock()
	next := newSegment(s.id, f, j.durable)
	next.fileID = fileID
	j.segments = append(j.segments, next)
	clear(j.doubtful)
	return nil
}

func newSegment(id uint64, f vfs.File, size int64) *segment {
	return &segment{id: id, file: f, size: size, items: map[*item]struct{}{}, spoils: map[*orphan]struct{}{}, dates: map[*dated]struct{}{}}
}

// Close syncs and closes the journal. Entries stay for the next start.
func (j *Journal) Close() error {
	j.stopScrub()
	j.mu.Lock()
	j.closing = true
	j.wake.Broadcast()
	j.mu.Unlock()
	j.timer.Stop()
	j.syncer.Wait()
	j.mark()
	j.mu.Lock()
	defer j.mu.Unlock()
	var err error
	if j.failed == nil && !j.sealed {
		last := j.segments[len(j.segments)-1]
		if err = last.file.Sync(); err == nil {
			err = j.writeEnd(last)
		}
		if err == nil && j.mirror != nil {
			err = j.writeSide()
		}
		if vfs.Unwritable(err) { // it tells damage, and nothing else needs it
			j.config.Log.Warn("the end of the journal could not be written down", "dir", j.config.Dir, "error", err)
			err = nil
		}
	}
	return errors.Join(err, j.close())
}

// close closes the files.
func (j *Journal) close() (err error) {
	for _, f := range j.reserve {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	for _, s := range j.segments {
		err = errors.Join(err, s.file.Close())
	}
	return errors.Join(err, j.lock.Close())
}
