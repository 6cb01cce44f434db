// Package journal stores acknowledged writes that are not in the upstream yet. When Commit or
// Delete has returned nil, the write is on disk, synced, and survives any crash: the body, what the
// client was promised about it, and its place in the order of its key's changes. A write stays
// until it is known to be in the upstream (Flushed), has been replaced by a later change of its
// key, or was dropped by an operator.
//
// It also stores changes of other things than objects, such as collections of vectors: as records of
// streams (Records), which it keeps in order until their owner says that the upstream has them.
//
// The journal is precious. Any doubt ends in "stop acknowledging": after a failed write or sync
// nothing more is accepted, and damage found at startup keeps everything as it is until an operator
// has looked at it. The journal knows nothing of HTTP or of the upstream, and does not decide when
// to flush.
//
// It has three parts. The log (wal) is a sequence of segment files with records, which are synced
// before anything is acknowledged. The spool is a directory of bodies that are too large for a
// record. The state is what all records together say; state.apply is pure, and the only way in
// which a record changes the state, both live and in a recovery. Around these parts, the committer
// writes records, the table gives readers a view of the state that needs no lock held by a commit,
// and the compactor removes garbage in the background. A second directory, if there is one, is
// handled by mirror, reconciler, repairer and scrubber.
package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/akidb/akigw/journal/internal/spool"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/vfs"
)

// Config says where a journal is stored, and its limits.
type Config struct {
	// Dir is a directory for the journal alone. It is created if necessary.
	Dir string
	FS  vfs.FS
	Log *slog.Logger
	// InlineBytes is the size of the largest body that is stored in its record instead of a file of
	// its own; at most 1 MiB.
	InlineBytes int
	// SegmentBytes is the approximate size of a segment file.
	SegmentBytes int64
	// MaxDates is the number of objects in the upstream whose promised Last-Modified is remembered,
	// see Flushed. Each takes about 0.3 KiB of memory and 0.1 KiB on disk, plus its key; up to four
	// times as much disk before compaction.
	MaxDates int
	// ReserveBytes is the disk space that is reserved for flushing entries when the disk is full;
	// 0: none.
	ReserveBytes int64
	// SyncTimeout is how long a sync may take before writes are refused.
	SyncTimeout time.Duration
	// SecondDir is a directory on another disk with a copy of everything in Dir, "" for none.
	SecondDir string
	// ScrubRate is how many bytes of each directory per second are read and verified in the
	// background, if there is a second directory; 0: none. Damage is repaired from the other
	// directory.
	ScrubRate int64
}

// Draft is a body that is being received. It is for one goroutine, which must end it with Commit,
// AddPart, Records.Prepare or Discard.
type Draft = spool.Draft

// Journal is an open journal. Its methods are safe for concurrent use.
type Journal struct {
	// Uploads are the multipart uploads of clients.
	Uploads *Uploads
	// Packs are the packs in the upstream.
	Packs *Packs
	// Records are the records of streams.
	Records *Records

	config  Config
	lock    io.Closer
	newest  uint64  // see Notify
	spoolID string  // of the spool's directory, see FS.ID
	mirror  *mirror // nil without a second directory

	health     *health
	log        *wal
	spool      *spool.Spool
	table      *table
	committer  *committer
	compactor  *compactor
	bodies     *bodyOpener
	scrubber   *scrubber
	side       *sideFiles
	quarantine *quarantine
}

// Open opens a journal: its entries are live when it returns. It drops writes that never became
// durable; what was durable and is damaged it quarantines and reports (Stats.Problem). A crash
// during Open changes nothing for the next start.
func Open(c Config) (*Journal, error) {
	j := assemble(c)
	fs := j.log.fs
	if err := fs.MkdirAll(c.Dir); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	lock, err := fs.Lock(filepath.Join(c.Dir, lockFile)) // both directories are locked before anything is read or changed
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j.lock = lock
	if err := j.recovery().run(); err != nil {
		return nil, errors.Join(fmt.Errorf("journal %s: %w", c.Dir, err), j.closeFiles())
	}
	if j.spoolID, err = fs.ID(j.spool.Dir); err != nil {
		return nil, errors.Join(fmt.Errorf("journal: %w", err), j.closeFiles())
	}
	j.newest = j.log.next - 1
	j.table.update(func(s *state) { s.trimDates(c.MaxDates) }) // the bound may have been lowered since the last start
	j.committer.start()
	j.compactor.start()
	j.scrubber.start()
	return j, nil
}

// assemble connects the parts of a journal. It reads nothing and starts nothing.
func assemble(c Config) *Journal {
	fs, dirs := c.FS, []string{c.Dir}
	var m *mirror
	if c.SecondDir != "" {
		m = newMirror(c.FS, c.Dir, c.SecondDir, c.Log)
		fs, dirs = m, m.dirs[:]
	}
	h := &health{dir: c.Dir, log: c.Log, syncTimeout: c.SyncTimeout}
	t := newTable(h)
	w := &wal{fs: fs, dir: c.Dir, segmentBytes: c.SegmentBytes, health: h, begun: t.clearDoubt, next: 1,
		reserve: &reserve{fs: fs, dir: c.Dir, bytes: c.ReserveBytes, log: c.Log, health: h}}
	side := &sideFiles{fs: c.FS, dirs: dirs, health: h}
	cp := &compactor{health: h, log: w, table: t, side: side, segmentBytes: c.SegmentBytes, logger: c.Log, wake: make(chan struct{}, 1), stop: make(chan struct{})}
	s := spool.New(spool.Options{FS: fs, Dir: filepath.Join(c.Dir, spoolDir), Inline: c.InlineBytes, Failed: h.spoolFailed, Poke: cp.poke})
	b := &bodyOpener{table: t, log: w, spool: s}
	if m != nil {
		side.repairs = []*repairs{&m.repairs[0], &m.repairs[1]}
		b.repair = newRepairer(m, s, t, w, c.Log)
	}
	j := &Journal{config: c, mirror: m, health: h, log: w, spool: s, table: t, compactor: cp, bodies: b, side: side,
		scrubber:   &scrubber{mirror: m, repair: b.repair, table: t, log: w, spool: s, logger: c.Log, rate: c.ScrubRate},
		quarantine: &quarantine{fs: fs, dir: c.Dir, logger: c.Log}}
	j.committer = &committer{health: h, log: w, table: t, maxDates: c.MaxDates, discard: s.Discard, joined: side.joined,
		displaced: func() error { return cmp.Or(w.displaced(), checkID(fs, s.Dir, j.spoolID)) }, after: cp.poke, retry: cp.retry}
	cp.spool, cp.bodies, cp.committer = s, b, j.committer
	j.Uploads, j.Packs, j.Records = &Uploads{j}, &Packs{j}, &Records{j}
	return j
}

func (j *Journal) recovery() *recovery {
	return &recovery{fs: j.log.fs, dir: j.config.Dir, logger: j.config.Log, mirror: j.mirror, health: j.health, log: j.log, table: j.table, spool: j.spool, repair: j.bodies.repair, side: j.side, compactor: j.compactor, quarantine: j.quarantine}
}

// Close syncs and closes the journal. Its entries are there at the next start.
func (j *Journal) Close() error {
	j.scrubber.stop()
	j.health.close()
	j.committer.stop()
	j.compactor.close()
	j.log.mark()
	ended, err := j.log.end()
	if ended && err == nil && j.mirror != nil {
		err = j.side.write()
	}
	if vfs.Unwritable(err) { // the end only helps to detect damage
		j.config.Log.Warn("the end of the journal could not be written down", "dir", j.config.Dir, "error", err)
		err = nil
	}
	return errors.Join(err, j.closeFiles())
}

func (j *Journal) closeFiles() error { return errors.Join(j.log.close(), j.lock.Close()) }

// Notify sets the subscriber. From now on, the committing goroutine calls changed for each key that
// gains or loses an entry. changed must not wait for the journal. newest is the highest entry
// number when the journal was opened; later entries have higher numbers.
func (j *Journal) Notify(changed func(akigw.Key)) (newest uint64) {
	j.committer.notify(changed)
	return j.newest
}

// Receive starts a body of about size bytes, -1 if the size is unknown.
func (j *Journal) Receive(size int64) *Draft { return j.spool.Receive(size) }

// Commit makes d an acknowledged write with e's Key, ETag, Modified and Header. When it returns
// nil, the write is on disk and visible. After any other result the write may or may not survive,
// except that it does not if the body could not be written. Commit always ends d.
func (j *Journal) Commit(ctx context.Context, d *Draft, e Entry) error {
	e.Size = d.Size()
	return j.commitBody(ctx, d, &op{kind: kindPut, put: &e, key: e.Key})
}

// commitBody commits a record with a body.
func (j *Journal) commitBody(ctx context.Context, d *Draft, o *op) error {
	if err := j.finish(d, o); err != nil {
		return err
	}
	return j.committer.commit(ctx, o)
}

// finish makes d the durable body of a record that is about to be queued. It always ends d.
func (j *Journal) finish(d *Draft, o *op) error {
	defer d.Discard()
	if err := j.health.accepting(); err != nil {
		return err
	}
	f, err := d.Finish()
	if err != nil {
		return err
	}
	if o.data = f.Inline; f.Number != 0 {
		o.spool, o.checks = f.Number, []uint32{f.Check}
	}
	return nil
}

// Delete acknowledges the deletion of keys. When it returns nil, all of them are visible; otherwise
// all or none become visible.
func (j *Journal) Delete(ctx context.Context, keys []akigw.Key, at time.Time) error {
	ops := make([]*op, len(keys))
	for i, key := range keys {
		ops[i] = &op{kind: kindDelete, put: &Entry{Key: key, Deleted: true, Modified: at}, key: key}
	}
	return j.committer.commit(ctx, ops...)
}

// Flushed records that e is in the upstream, stored as s, or, with the zero Stored, is no longer
// needed there. The entry and all earlier ones of its key leave the journal. Where the upstream has
// another ETag or Last-Modified than was promised, the promised one is remembered, unless the key
// has a later entry.
//
// The record is written with the next sync that somebody waits for, or within a tenth of a second.
// Until then the entry stays in the journal with its lease, so that Wait and Hold wait for it: after
// a restart it would be uploaded again, over whatever had gone past the journal. If Flushed returns
// nil, the goroutine that commits calls then with the result; then must not wait for the journal.
func (j *Journal) Flushed(e *Entry, s Stored, then func(error)) error {
	return j.committer.enqueue(&writing{ops: []*op{s.record(e, j.config.MaxDates > 0)}, then: then, patient: true})
}

// Bury makes e a dead letter. reason is for the operator.
func (j *Journal) Bury(ctx context.Context, e *Entry, reason string, at time.Time) error {
	return j.committer.commit(ctx, &op{kind: kindDead, entry: e.ID, key: e.Key, text: cmp.Or(reason, "unknown"), when: at})
}

// Revive makes a dead letter pending again.
func (j *Journal) Revive(ctx context.Context, e *Entry) error {
	return j.committer.commit(ctx, &op{kind: kindAlive, entry: e.ID, key: e.Key})
}

// Uploading records that the entry or client upload with a number is being sent to the upstream as
// the multipart upload id; "" means that it no longer is. For an Orphan, "" means that the upload
// was aborted.
func (j *Journal) Uploading(ctx context.Context, number uint64, key akigw.Key, id string) error {
	return j.committer.commit(ctx, &op{kind: kindUpload, entry: number, key: key, text: id})
}

// UploadID returns the upstream's multipart upload for the entry or client upload with a number, ""
// for none.
func (j *Journal) UploadID(number uint64) (id string) {
	j.table.read(func(s *state) {
		if it := s.items[number]; it != nil {
			id = it.remote
		}
	})
	return id
}

// Idle reports whether the journal has no entries and is writing none. It takes no lock.
func (j *Journal) Idle() bool { return j.table.idle() }

// Last returns the newest entry of a key, which is what clients see. It returns nil if the journal
// has none. It takes no lock.
func (j *Journal) Last(key akigw.Key) *Entry { return j.table.view.Load().newest(key) }

// Ascend calls yield with the newest entry of each key of a bucket, in byte order starting at from,
// until yield returns false. It shows the journal as of the call, and takes no lock.
func (j *Journal) Ascend(bucket, from string, yield func(*Entry) bool) {
	j.table.view.Load().entries.ascend(bucket, from, func(_ string, items []*item) bool { return yield(newest(items).entry) })
}

// Body opens length bytes of the body of an entry, starting at offset from. The error is ErrPacked if
// the body is in a pack, and ErrGone if the entry has left the journal, which a part does when its body
// is replaced or its upload has ended. It wraps akigw.ErrChecksum if the body is damaged.
func (j *Journal) Body(e *Entry, from, length int64) (*spool.Body, error) {
	return j.bodies.open(e, from, length)
}

// Covers returns the number of the first entry that e stands for: its own, or that of an earlier
// entry of its key that it replaced before that one was flushed. If e has left the journal, the
// result is above every entry number.
func (j *Journal) Covers(e *Entry) uint64 {
	first := uint64(math.MaxUint64)
	j.table.read(func(s *state) {
		if it := s.items[e.ID]; it != nil {
			first = it.covers
		}
	})
	return first
}

// Take leases the newest entry of a key, which replaces all earlier ones, for upload. It returns
// nil if the key has no entry, another one is leased, the newest is a dead letter, or the key is
// held. The lease ends with Return, or when the entry leaves the journal.
func (j *Journal) Take(key akigw.Key) *Entry {
	if !j.health.leasing() {
		return nil
	}
	return j.table.take(key)
}

// TakeDeletions leases, like Take, up to limit pending deletions of a bucket, the oldest first, for
// which wanted returns true. wanted is called with the newest entry of a key. It must not call the
// journal.
func (j *Journal) TakeDeletions(bucket string, limit int, wanted func(*Entry) bool) []*Entry {
	if !j.health.leasing() {
		return nil
	}
	return j.table.takeDeletions(bucket, limit, wanted)
}

// Return ends the lease of an entry. tried means that the upstream may have received it and that it
// will be tried again.
func (j *Journal) Return(e *Entry, tried bool) {
	j.spool.Discard(j.table.update(func(s *state) { s.giveBack(e, tried) }))
}

// Wait returns when all present entries of a key are in the upstream, or later ones that replaced
// them. It returns an error if one of them is a dead letter, if the journal has stopped, or if the
// outcome of a write of the key is unknown: in that case nothing may be written to the upstream
// around the journal, because the next start would overwrite it with what it finds.
func (j *Journal) Wait(ctx context.Context, key akigw.Key) error {
	if j.Idle() {
		return nil
	}
	defer j.committer.hasten()()
	return j.table.wait(ctx, key, false)
}

// Hold is like Wait, and then leases no entry of the key until Release, so that an upload does not
// overwrite what another writer puts there meanwhile. Entries that were tried and may be tried
// again are flushed first. Several callers may hold the same key.
func (j *Journal) Hold(ctx context.Context, key akigw.Key) error {
	defer j.committer.hasten()()
	return j.table.wait(ctx, key, true)
}

// Release ends a Hold, and reports whether the key has entries that can be leased now.
func (j *Journal) Release(key akigw.Key) bool { return j.table.unhold(key) }

// Until returns the highest entry number that the key can have by now, 0 if it has none. While a
// write of the key waits for its sync, its number is not known yet, and Until returns the maximum.
func (j *Journal) Until(key akigw.Key) uint64 { return j.table.until(key) }

// Keys returns the keys with pending entries, the key with the oldest entry first.
func (j *Journal) Keys() []akigw.Key { return j.table.pendingKeys() }

// Garbage returns what must be removed from the upstream: uploads to abort and empty packs.
func (j *Journal) Garbage() (orphans []Orphan, packs []Pack) {
	j.table.read(func(s *state) {
		for _, o := range s.orphans {
			orphans = append(orphans, o.Orphan)
		}
		for number, k := range s.packs.empty {
			packs = append(packs, Pack{number, k.key})
		}
	})
	return orphans, packs
}

// DeadLetter is an entry that could not be flushed.
type DeadLetter struct {
	*Entry
	Reason string
	Since  time.Time
}

// DeadLetters returns all dead letters, the oldest first.
func (j *Journal) DeadLetters() []DeadLetter {
	all := []DeadLetter{}
	j.table.read(func(s *state) {
		s.lists.dead.Scan(func(_ uint64, it *item) bool {
			all = append(all, DeadLetter{it.entry, it.reason, it.since})
			return true
		})
	})
	return all
}

// Stats describes the content and condition of a journal.
type Stats struct {
	Pending      int       // entries that are not dead letters
	Dead         int       // dead letters
	Packed       int       // entries whose bodies are in packs
	Packs        int       // packs in the upstream
	Bytes        int64     // of the bodies of entries that are not in packs, of parts, and of records of streams
	Oldest       time.Time // when the oldest pending entry was acknowledged; zero for none
	Segments     int
	SegmentBytes int64
	Uploads      int      // multipart uploads of clients that are open; their parts count as bytes
	Orphans      int      // upstream uploads to abort
	Translations int      // objects whose ETag in the upstream differs from the promised one
	Dates        int      // other objects whose Last-Modified in the upstream differs from the promised one
	Records      Held     // records of streams
	Problem      error    // why writes are not accepted, nil if they are
	Stopped      error    // why nothing is flushed, nil if entries are
	Damage       []string // files with damage that has not been accepted
	Mirrored     bool     // whether there is a second directory
	Repaired     int64    // records and bodies repaired from the other directory since the start
	Lost         int64    // bodies found damaged in both directories since the start
}

// Stats returns the current statistics.
func (j *Journal) Stats() Stats {
	st := Stats{Problem: j.health.accepting(), Stopped: j.health.releasing(), Damage: j.health.damaged()}
	st.Segments, st.SegmentBytes, _ = j.log.sizes()
	if m := j.mirror; m != nil {
		st.Mirrored, st.Repaired, st.Lost = true, m.repairs[0].since()+m.repairs[1].since(), int64(j.bodies.repair.losses())
	}
	j.table.read(func(s *state) {
		st.Pending, st.Dead, st.Bytes = s.lists.pending.Len(), s.lists.dead.Len(), s.bytes
		st.Packed, st.Packs = s.packs.entries, len(s.packs.all)
		st.Uploads, st.Orphans = len(s.uploads.named), len(s.orphans)
		st.Translations, st.Dates = s.translations.len(), s.dates.orders.Len()
		if _, oldest, ok := s.lists.pending.Min(); ok {
			st.Oldest = oldest.entry.Modified
		}
		st.Records = s.streams.held()
	})
	return st
}

// Accept resumes after an operator has looked at the damage that was found. The damaged data is
// kept.
func (j *Journal) Accept() error {
	if err := j.quarantine.accept(j.health.damaged()); err != nil {
		return err
	}
	j.health.setDamage(nil)
	return nil
}

// Empty reports whether a directory holds no journal, so that nothing acknowledged can be in it. It
// returns false for a directory that cannot be read.
func Empty(dir string) bool {
	names, err := os.ReadDir(filepath.Join(dir, segmentDir))
	return errors.Is(err, os.ErrNotExist) || err == nil && len(names) == 0
}
