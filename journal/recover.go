package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/vfs"
)

// Open opens a journal: its entries are live when it returns. It finds out what
// was written and never got durable, and drops it; what was durable and is
// damaged it keeps aside, and says so (Accepting). A crash at any point of it
// changes nothing for the next one.
func Open(c Config) (*Journal, error) {
	j := &Journal{config: c, ids: map[uint64]*item{}, uploads: map[uint64]*upload{}, packs: map[uint64]*packed{}, translations: map[string]*item{}, named: map[string]*upload{}, readers: map[uint64]int{}, orphans: map[uint64]*orphan{}, writing: map[string]int{}, held: map[string]int{}, doubtful: map[string]bool{}, round: make(chan struct{}), next: 1, scrub: newScrub()}
	j.wake.L = &j.mu
	if c.SecondDir != "" {
		j.mirror = newMirror(c)
		j.config.FS = j.mirror
	}
	fs := j.config.FS
	if err := fs.MkdirAll(c.Dir); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	lock, err := fs.Lock(filepath.Join(c.Dir, lockFile)) // nothing is read or changed before it is held, in both directories
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j.lock = lock
	if err := j.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("journal %s: %w", c.Dir, err), j.close())
	}
	if j.spoolID, err = fs.ID(filepath.Join(c.Dir, spoolDir)); err != nil {
		return nil, errors.Join(fmt.Errorf("journal: %w", err), j.close())
	}
	j.newest = j.next - 1
	j.trimDates(c.MaxDates) // it may be a smaller bound than that of the last start
	j.timer = time.AfterFunc(lookEvery, j.poke)
	j.syncer.Go(j.sync)
	j.startScrub()
	return j, nil
}

// start reads the directory, or both of them, and makes what they hold live.
func (j *Journal) start() error {
	fs, dir := j.config.FS, j.config.Dir
	for _, sub := range []string{segmentDir, spoolDir, quarantineDir} {
		if err := fs.MkdirAll(filepath.Join(dir, sub)); err != nil {
			return err
		}
	}
	if j.mirror != nil {
		return j.startBoth()
	}
	if _, err := fs.Size(filepath.Join(dir, unfinishedFile)); err == nil {
		return fmt.Errorf("it is an unfinished copy of another directory: start with that one as dir, or, if it is lost, remove the file %s to go on with what was copied", unfinishedFile)
	}
	j.side = readSide(fs, dir)
	return j.recover()
}

// startBoth is start of two directories that are locked.
func (j *Journal) startBoth() error {
	err := j.reconcile()
	if err == nil {
		err = j.recover()
	}
	if m := j.mirror; j.side != nil && !m.current && vfs.Unwritable(err) {
		return fmt.Errorf("%s cannot be rebuilt from %s: make room there, or start with an empty second_dir: %w", m.dirs[1], m.dirs[0], err)
	}
	return err
}

// recover rebuilds the state from the disk and starts a new segment.
func (j *Journal) recover() error {
	ids, err := j.segmentIDs()
	if err != nil {
		return err
	}
	var scans []*scan
	top := uint64(0)
	for _, id := range ids {
		top = max(top, id)
		if j.mirror.ignores(id) {
			continue
		}
		s, err := j.scan(id)
		if err != nil {
			return err
		}
		if s != nil {
			scans = append(scans, s)
		}
	}
	if err := errors.Join(j.missing(ids, scans), j.judge(scans)); err != nil {
		return err
	}
	for _, s := range scans {
		for _, r := range s.records {
			j.next = max(j.next, r.place.number+1)
			j.apply(r.op, r.place, s.segment)
		}
	}
	j.dropUnnamed()
	failpoint.Here("recovery.midReplay")
	// What is in the page cache alone was not acknowledged, but is going to be seen.
	for _, s := range scans {
		if err := j.recoverySync(s.segment.file.Sync()); err != nil {
			return err
		}
	}
	if err := j.checkSpool(); err != nil {
		return err
	}
	if err := j.readDamage(); err != nil {
		return err
	}
	// Names must be durable before a later removal of older ones.
	for _, dir := range []string{"..", "", segmentDir, spoolDir, quarantineDir} {
		if err := j.recoverySync(j.config.FS.SyncDir(filepath.Join(j.config.Dir, dir))); err != nil {
			return err
		}
	}
	if j.side != nil && len(j.side.runs) > 0 {
		j.epoch = max(j.epoch, j.side.runs[len(j.side.runs)-1].epoch)
	}
	j.epoch++
	j.run = run{j.epoch, rand.Uint64()}
	before, length := uint64(0), int64(0)
	if n := len(scans); n > 0 {
		before, length = scans[n-1].segment.id, scans[n-1].end
	}
	if err := j.firstSegment(succession{top + 1, before, length}); err != nil {
		return err
	}
	if err := j.joinRun(); err != nil {
		return err
	}
	if j.mirror != nil {
		if err := j.recoverySync(j.mirror.unmark(1)); err != nil {
			return err
		}
		j.mirror.current = true
	}
	for _, id := range ids {
		if !j.keep && !slices.ContainsFunc(scans, func(s *scan) bool { return s.segment.id == id }) {
			_ = j.config.FS.Remove(j.segmentName(id)) // what stays is looked at by the next start again
		}
	}
	return nil
}

func (j *Journal) segmentIDs() (ids []uint64, err error) {
	names, err := j.config.FS.List(filepath.Join(j.config.Dir, segmentDir))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if id, ok := segmentID(name); ok {
			ids = append(ids, id)
		}
	}
	if j.mirror != nil { // files with another name may hold one
		ids = slices.AppendSeq(ids, maps.Keys(j.mirror.merged))
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// scan is what a segment was found to hold.
type scan struct {
	segment *segment
	head    *segmentHead // nil if it is damaged
	records []scanned
	holes   []hole
	end     int64 // of the last record
	size    int64
}

// scanned is a record of a segment, without its body.
type scanned struct {
	op      *op
	place   place
	from    int64 // where its frame begins
	durable int64 // what it says was durable when it was written
}

// scan reads a segment. It returns nil for one that never became one: nothing in
// it can have been acknowledged, because its head is durable before anything is.
func (j *Journal) scan(id uint64) (*scan, error) {
	f, raw, err := j.openSegment(id)
	if err != nil {
		return nil, err
	}
	size := int64(len(raw))
	s := &scan{segment: newSegment(id, f, size), size: size}
	s.read(raw)
	if len(s.records) == 0 && s.head == nil {
		return nil, f.Close()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.segments = append(j.segments, s.segment)
	return s, nil
}

// openSegment opens a segment and reads it.
func (j *Journal) openSegment(id uint64) (f vfs.File, raw []byte, err error) {
	if raw := j.mirror.unrepaired(id); raw != nil {
		return j.mirror.openMerged(j.segmentName(id), raw), raw, nil
	}
	if f, err = j.config.FS.Open(j.segmentName(id)); err != nil {
		return nil, nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	raw = make([]byte, size)
	if n, err := f.ReadAt(raw, 0); n < len(raw) {
		return nil, nil, errors.Join(fmt.Errorf("segment %s: %w", j.segmentName(id), err), f.Close())
	}
	return f, raw, nil
}

// read finds the records, and the holes between them. It does not keep raw.
func (s *scan) read(raw []byte) {
	number := uint64(0)
	for at := int64(0); at < s.size; {
		o, f, n := recordAt(raw, at, number)
		if n == 0 {
			next := bytes.Index(raw[at+1:], frameMagic)
			if next < 0 {
				return
			}
			at += 1 + int64(next)
			continue
		}
		if at > s.end {
			s.holes = append(s.holes, hole{s.segment.id, s.end, at})
		}
		if o.kind == kindSegment && at == 0 {
			s.head = &o.seg
		}
		p := f.place(o)
		o.data = nil
		s.records = append(s.records, scanned{o, p, at, f.durable})
		number = f.number
		at += int64(n)
		s.end = at
	}
}

// recordAt reads the record that begins at an offset of a segment, behind one of a number; n is
// its length, 0 if there is none.
func recordAt(raw []byte, at int64, behind uint64) (o *op, f frame, n int) {
	f, n = parseFrame(raw[at:], at)
	if n == 0 || f.number <= behind || f.durable > at {
		return nil, f, 0
	}
	o, err := decode(f.payload)
	if err != nil {
		return nil, f, 0
	}
	return o, f, n
}

// judge decides what the holes are. What was durable and cannot be read is damage.
// What was not durable was never acknowledged: a write that was cut short by a
// crash, whose later pieces may have reached the disk before earlier ones.
func (j *Journal) judge(scans []*scan) error {
	known := map[hole]bool{}
	closed := j.readEnd()
	for _, s := range scans {
		if s.head == nil {
			continue
		}
		j.epoch = max(j.epoch, s.head.epoch)
		for _, h := range s.head.holes {
			known[h] = true
		}
	}
	for i, s := range scans {
		durable := int64(0)
		for _, r := range s.records {
			durable = max(durable, r.durable)
		}
		if s.segment.id == closed.segment {
			durable = max(durable, closed.to)
		}
		if i+1 < len(scans) {
			if next := scans[i+1].head; next != nil && next.before == s.segment.id {
				s.cut(next.length)
				durable = next.length
			} else { // its successor is damaged: then all of it was durable
				durable = s.size
			}
		}
		if s.end < durable {
			s.holes = append(s.holes, hole{s.segment.id, s.end, durable})
		}
		for _, h := range s.holes {
			switch {
			case known[h]:
			case h.from < durable:
				if err := j.quarantine(s, h); err != nil {
					return err
				}
			default:
				j.config.Log.Warn("a write to the journal was cut short by a crash; it had not been acknowledged", "segment", j.segmentName(h.segment), "from", h.from, "to", h.to)
			}
			j.holes = append(j.holes, h)
		}
	}
	return nil
}

// missing finds segments that a later one speaks of and that hold nothing, or are
// not there although older ones are: those go first.
func (j *Journal) missing(ids []uint64, scans []*scan) error {
	found := map[uint64]bool{}
	for _, s := range scans {
		found[s.segment.id] = true
	}
	var claims []hole
	// The end may name a segment that was compacted away since, but none behind the last one.
	if end := j.readEnd(); slices.Contains(ids, end.segment) || len(ids) == 0 || end.segment > ids[len(ids)-1] {
		claims = append(claims, end)
	}
	oldest, lost := j.side.lost(found, scans)
	if !lost && len(ids) > 0 {
		oldest = ids[0]
	}
	for _, s := range scans {
		if s.head == nil || s.head.before < oldest {
			continue
		}
		if lost := (hole{s.head.before, 0, s.head.length}); !slices.Contains(s.head.holes, lost) && !slices.Contains(claims, lost) {
			claims = append(claims, lost)
		}
	}
	if lost && !slices.ContainsFunc(claims, func(h hole) bool { return h.segment == oldest }) {
		claims = append(claims, hole{oldest, 0, 1}) // nobody says how long it was
	}
	for _, lost := range claims {
		if lost.segment == 0 || found[lost.segment] {
			continue
		}
		if err := j.quarantine(&scan{}, lost); err != nil {
			return err
		}
		j.holes = append(j.holes, lost)
	}
	return nil
}

// The end file says how long the last segment was when the journal was closed, so
// that damage to its last records is noticed.
const endFile = "end"

// writeEnd says that all of the last segment is durable.
func (j *Journal) writeEnd(last *segment) error {
	o := op{kind: kindSegment, seg: segmentHead{id: last.id, length: last.size}}
	err := writeDraft(j.config.FS, filepath.Join(j.config.Dir, endFile), appendFrame(nil, 1, 0, o.encode(nil)))
	return errors.Join(err, j.config.FS.SyncDir(j.config.Dir))
}

// readEnd returns what writeEnd wrote last, the zero hole if there is none: then
// there was no such end, or it is damaged itself.
func (j *Journal) readEnd() (end hole) {
	raw, err := vfs.ReadFile(j.config.FS, filepath.Join(j.config.Dir, endFile))
	if err != nil {
		return end
	}
	return decodeEnd(raw)
}

// decodeEnd is readEnd of the content of the file.
func decodeEnd(raw []byte) (end hole) {
	if f, size := parseFrame(raw, 0); size > 0 {
		if o, err := decode(f.payload); err == nil && o.kind == kindSegment {
			end = hole{segment: o.seg.id, to: o.seg.length}
		}
	}
	return end
}

// cut ignores what lies behind the part of a segment that counts: its successor
// was begun when no more of it was there, or nothing that anybody was told of.
func (s *scan) cut(length int64) {
	s.records = slices.DeleteFunc(s.records, func(r scanned) bool { return r.from >= length })
	s.holes = slices.DeleteFunc(s.holes, func(h hole) bool { return h.from >= length })
	s.end = min(s.end, length)
	s.size = min(s.size, length)
	s.segment.size = s.size // the rest is not repaired either
}

// quarantine copies a damaged stretch to where an operator finds it.
func (j *Journal) quarantine(s *scan, h hole) error {
	name := fmt.Sprintf("%016x-%d-%d.damaged", h.segment, h.from, h.to)
	j.config.Log.Error("acknowledged records of the journal are damaged", "segment", j.segmentName(h.segment), "from", h.from, "to", h.to, "copy", name)
	if s.segment == nil {
		return j.aside(name, nil)
	}
	for i, one := range copies(s.segment.file) {
		data := make([]byte, h.to-h.from)
		n, err := one.ReadAt(data, h.from)
		if err != nil && err != io.EOF {
			return err
		}
		if i > 0 {
			name = "second-" + name
		}
		if err := j.aside(name, data[:n]); err != nil {
			return err
		}
	}
	return nil
}

// aside writes a file to the quarantine. On a disk that takes nothing it stays where it is, and
// the damage is remembered for this run.
func (j *Journal) aside(name string, data []byte) error {
	path := filepath.Join(j.config.Dir, quarantineDir, name)
	err := writeDraft(j.config.FS, path, data)
	if unwritten(err) {
		j.config.Log.Warn("damage could not be copied to the quarantine; the next start does it", "file", path, "error", err)
		_ = j.config.FS.Remove(path) // what there is of it
		j.uncopied = append(j.uncopied, filepath.Join(quarantineDir, name))
		return nil
	}
	return err
}

func damagedBody(n uint64) string { return fmt.Sprintf("%x.body.damaged", n) }

// readDamage finds what an operator has not accepted yet.
func (j *Journal) readDamage() error {
	names, err := j.config.FS.List(filepath.Join(j.config.Dir, quarantineDir))
	for _, name := range names {
		if !strings.HasPrefix(name, acceptedMark) {
			j.damage = append(j.damage, filepath.Join(quarantineDir, name))
		}
	}
	j.damage = append(j.damage, j.uncopied...)
	slices.Sort(j.damage)
	return err
}

// Damage are the files with what was found damaged and not accepted yet.
func (j *Journal) Damage() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.damage)
}

// Accept goes on in spite of the damage that was found: an operator has looked at
// it. What it was is kept.
func (j *Journal) Accept() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.uncopied) > 0 {
		return fmt.Errorf("%w: what is damaged has not been copied to the quarantine; make room, and start the gateway again before you accept it", ErrFull)
	}
	fs := j.config.FS
	for _, name := range j.damage {
		dir, file := filepath.Split(filepath.Join(j.config.Dir, name))
		if err := fs.Rename(filepath.Join(dir, file), filepath.Join(dir, acceptedMark+file)); err != nil {
			return err
		}
	}
	if err := fs.SyncDir(filepath.Join(j.config.Dir, quarantineDir)); err != nil {
		return err
	}
	j.damage = nil
	return nil
}
