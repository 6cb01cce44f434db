// Package journal keeps acknowledged writes that are not in the upstream yet.
// What Commit and Delete have returned from is on disk, synced, and survives any
// crash: the body, what the client was promised of it, and its place in the
// order of its key's changes. It stays until it is known to be in the upstream
// (Flushed), has been replaced by a later change of its key, or was dropped by an
// operator.
//
// The journal is precious. Any doubt ends in "stop acknowledging": after a write
// or a sync that failed nothing more is taken, and damage that was found at the
// start keeps everything as it is until an operator has looked at it. It knows
// nothing of HTTP or of the upstream, and does not decide when to flush.
//
// It has three parts. The log (wal) is segment files of records, synced before
// anything is acknowledged. The spool is a directory of bodies that are too large
// for a record. The state is what all records together say; state.apply is pure,
// and the only way in which a record changes it, live and in a recovery. Around
// them, the committer writes records, the table shows the state to readers
// without their taking a lock that a commit holds, and the compactor removes
// garbage in the background. A second directory, if there is one, is the business
// of mirror, reconciler, repairer and scrubber.
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
	// MaxDates is the number of objects at the upstream whose promised Last-Modified is
	// remembered, see Flushed. Each takes about 0.3 KiB of memory and 0.1 KiB on disk, plus its
	// key, until it is compacted up to four times as much.
	MaxDates int
	// ReserveBytes is how much of the disk is kept for flushing entries when there is no other
	// room; 0: nothing.
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

// Draft is a body on its way into the journal. It is for one goroutine, which must end it with
// Commit, AddPart or Discard.
type Draft = spool.Draft

// Journal is an open journal. All methods may be called from any goroutine.
type Journal struct {
	// Uploads are the multipart uploads of clients.
	Uploads *Uploads
	// Packs are the packs at the upstream.
	Packs *Packs

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

// Open opens a journal: its entries are live when it returns. It finds out what
// was written and never became durable, and drops it; what was durable and is
// damaged it keeps aside, and says so (Stats.Problem). A crash at any point of it
// changes nothing for the next one.
func Open(c Config) (*Journal, error) {
	j := assemble(c)
	fs := j.log.fs
	if err := fs.MkdirAll(c.Dir); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	lock, err := fs.Lock(filepath.Join(c.Dir, lockFile)) // nothing is read or changed before it is held, in both directories
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
	j.table.update(func(s *state) { s.trimDates(c.MaxDates) }) // it may be a smaller bound than that of the last start
	j.committer.start()
	j.compactor.start()
	j.scrubber.start()
	return j, nil
}

// assemble puts the parts of a journal together. Nothing is read or started yet.
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
	j.Uploads, j.Packs = &Uploads{j}, &Packs{j}
	return j
}

func (j *Journal) recovery() *recovery {
	return &recovery{fs: j.log.fs, dir: j.config.Dir, logger: j.config.Log, mirror: j.mirror, health: j.health, log: j.log, table: j.table, spool: j.spool, repair: j.bodies.repair, side: j.side, compactor: j.compactor, quarantine: j.quarantine}
}

// Close syncs and closes the journal. Entries stay for the next start.
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
	if vfs.Unwritable(err) { // it tells damage, and nothing else needs it
		j.config.Log.Warn("the end of the journal could not be written down", "dir", j.config.Dir, "error", err)
		err = nil
	}
	return errors.Join(err, j.closeFiles())
}

func (j *Journal) closeFiles() error { return errors.Join(j.log.close(), j.lock.Close()) }

// Notify sets the subscriber: changed is called for each key that gets or loses an entry from now
// on, by the goroutine that commits. It must not wait for the journal. newest is the highest number
// that an entry had when the journal was opened; later entries have higher ones.
func (j *Journal) Notify(changed func(akigw.Key)) (newest uint64) {
	j.committer.notify(changed)
	return j.newest
}

// Receive starts a body of about size bytes, -1 if the size is unknown.
func (j *Journal) Receive(size int64) *Draft { return j.spool.Receive(size) }

// Commit makes d an acknowledged write: with e's Key, ETag, Modified and Header.
// When it returns nil the write is on disk and visible. Any other outcome leaves
// open whether it is kept, unless the body could not be written. d is ended either way.
func (j *Journal) Commit(ctx context.Context, d *Draft, e Entry) error {
	e.Size = d.Size()
	return j.commitBody(ctx, d, &op{kind: kindPut, put: &e, key: e.Key})
}

// commitBody commits a record with a body.
func (j *Journal) commitBody(ctx context.Context, d *Draft, o *op) error {
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
	return j.committer.commit(ctx, o)
}

// Delete makes the deletion of keys acknowledged, all or none of them visible by
// the time that it returns.
func (j *Journal) Delete(ctx context.Context, keys []akigw.Key, at time.Time) error {
	ops := make([]*op, len(keys))
	for i, key := range keys {
		ops[i] = &op{kind: kindDelete, put: &Entry{Key: key, Deleted: true, Modified: at}, key: key}
	}
	return j.committer.commit(ctx, ops...)
}

// Flushed says that e is in the upstream, where it is stored as s, or, with the zero Stored, need
// not be there any more: it and all that came before it for its key leave the journal. The ETag
// and the Last-Modified that were promised are remembered where the upstream has others, unless
// the key has a later entry.
func (j *Journal) Flushed(ctx context.Context, e *Entry, s Stored) error {
	return j.committer.commit(ctx, s.record(e, j.config.MaxDates > 0))
}

// Bury makes e a dead letter, for a reason that an operator understands.
func (j *Journal) Bury(ctx context.Context, e *Entry, reason string, at time.Time) error {
	return j.committer.commit(ctx, &op{kind: kindDead, entry: e.ID, key: e.Key, text: cmp.Or(reason, "unknown"), when: at})
}

// Revive makes a dead letter pending again.
func (j *Journal) Revive(ctx context.Context, e *Entry) error {
	return j.committer.commit(ctx, &op{kind: kindAlive, entry: e.ID, key: e.Key})
}

// Uploading says that the entry or the upload of a number is on its way to the
// upstream as the multipart upload id, "" that it is not any more. For an Orphan, "" says
// that it was aborted.
func (j *Journal) Uploading(ctx context.Context, number uint64, key akigw.Key, id string) error {
	return j.committer.commit(ctx, &op{kind: kindUpload, entry: number, key: key, text: id})
}

// UploadID is the multipart upload that was begun upstream for the entry or the
// upload of a number, "" for none.
func (j *Journal) UploadID(number uint64) (id string) {
	j.table.read(func(s *state) {
		if it := s.items[number]; it != nil {
			id = it.remote
		}
	})
	return id
}

// Idle reports whether the journal holds nothing and writes nothing. It takes no lock.
func (j *Journal) Idle() bool { return j.table.idle() }

// Last returns the newest entry of a key: what the key holds for clients. It returns nil if the
// journal has none. It takes no lock.
func (j *Journal) Last(key akigw.Key) *Entry { return j.table.view.Load().newest(key) }

// Ascend calls yield with the newest entry of each key of a bucket, from the key from on, in the
// order of their bytes, until it returns false. It shows the journal as it is when it is called,
// and takes no lock.
func (j *Journal) Ascend(bucket, from string, yield func(*Entry) bool) {
	j.table.view.Load().entries.ascend(bucket, from, func(_ string, items []*item) bool { return yield(newest(items).entry) })
}

// Body opens length bytes of the body of an entry from an offset on. The error is ErrPacked if it is
// in a pack, ErrGone if it has left the journal, which a part does when it is replaced or its upload
// is over, and wraps akigw.ErrChecksum if it is damaged.
func (j *Journal) Body(e *Entry, from, length int64) (*spool.Body, error) {
	return j.bodies.open(e, from, length)
}

// Covers returns the number of the first entry that e stands for: its own, or one of its key that
// it replaced before that was upstream. It is above every other number if e has left the journal.
func (j *Journal) Covers(e *Entry) uint64 {
	first := uint64(math.MaxUint64)
	j.table.read(func(s *state) {
		if it := s.items[e.ID]; it != nil {
			first = it.covers
		}
	})
	return first
}

// Take leases the next entry of a key that has to go to the upstream: the newest
// one, because it replaces those before it. It returns nil if there is none,
// another is leased, it is a dead letter, or the key is held. The lease ends with Return, or
// when the entry leaves the journal.
func (j *Journal) Take(key akigw.Key) *Entry {
	if !j.health.leasing() {
		return nil
	}
	return j.table.take(key)
}

// TakeDeletions takes, like Take, up to limit pending deletions of a bucket, the oldest first,
// that wanted returns true for. Each that wanted is asked about is the newest entry of its key.
// wanted must not call the journal.
func (j *Journal) TakeDeletions(bucket string, limit int, wanted func(*Entry) bool) []*Entry {
	if !j.health.leasing() {
		return nil
	}
	return j.table.takeDeletions(bucket, limit, wanted)
}

// Return ends the lease of an entry. tried says that the upstream may have it, and it is tried
// again.
func (j *Journal) Return(e *Entry, tried bool) {
	j.spool.Discard(j.table.update(func(s *state) { s.giveBack(e, tried) }))
}

// Wait returns when all entries that a key has now are upstream, or later ones that replaced
// them. There is an error if one of them is a dead letter, if the journal has stopped, or if the
// outcome of a write of the key is unknown: then nothing may be written to the upstream past the
// journal, because the next start would overwrite it with what it finds.
func (j *Journal) Wait(ctx context.Context, key akigw.Key) error {
	if j.Idle() {
		return nil
	}
	return j.table.wait(ctx, key, false)
}

// Hold is Wait, after which nothing of the key is taken to the upstream until Release: what
// another writer puts there meanwhile is not overwritten by it. What was tried before and may
// be tried again has to be there first. Several may hold a key.
func (j *Journal) Hold(ctx context.Context, key akigw.Key) error {
	return j.table.wait(ctx, key, true)
}

// Release ends a Hold, and reports whether the key has entries that can go now.
func (j *Journal) Release(key akigw.Key) bool { return j.table.unhold(key) }

// Until is the number of the last entry that a key can have by now, 0 if it has none. If a write
// of the key waits for its sync, its number is not known yet, and Until is the highest number
// there is.
func (j *Journal) Until(key akigw.Key) uint64 { return j.table.until(key) }

// Keys are the keys with pending entries, those of the oldest first.
func (j *Journal) Keys() []akigw.Key { return j.table.pendingKeys() }

// Garbage is what has to be removed from the upstream: uploads that have to be aborted, and empty
// packs.
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

// DeadLetters are all of them, the oldest first.
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

// Stats is what a journal holds.
type Stats struct {
	Pending      int       // entries that are no dead letters
	Dead         int       // dead letters
	Packed       int       // entries whose bodies are in packs
	Packs        int       // packs at the upstream
	Bytes        int64     // of the bodies of both
	Oldest       time.Time // when the oldest pending entry was acknowledged, zero for none
	Segments     int
	SegmentBytes int64
	Uploads      int      // multipart uploads of clients that are open; their parts count as bytes
	Orphans      int      // uploads that have to be aborted
	Translations int      // objects that the upstream gave another ETag than was promised
	Dates        int      // other objects whose Last-Modified is another one upstream than was promised
	Problem      error    // why writes are not taken, nil if they are
	Stopped      error    // why nothing is flushed either, nil if it is
	Damage       []string // files with what was found damaged and not accepted yet
	Mirrored     bool     // there is a second directory
	Repaired     int64    // records and bodies that were damaged in one directory and repaired from the other since the start
	Lost         int64    // bodies that were found damaged in both directories since the start
}

// Stats returns the present state.
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
	})
	return st
}

// Accept goes on in spite of the damage that was found: an operator has looked at
// it. What it was is kept.
func (j *Journal) Accept() error {
	if err := j.quarantine.accept(j.health.damaged()); err != nil {
		return err
	}
	j.health.setDamage(nil)
	return nil
}

// Empty reports whether a directory holds no journal: nothing was ever acknowledged from it. One
// that cannot be looked into may hold one.
func Empty(dir string) bool {
	names, err := os.ReadDir(filepath.Join(dir, segmentDir))
	return errors.Is(err, os.ErrNotExist) || err == nil && len(names) == 0
}
