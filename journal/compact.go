package journal

import (
	"path/filepath"

	"github.com/akidb/akigw/internal/failpoint"
)

// maxSealed is how many segments' worth of records are kept before live ones are
// written once more so that old segments can go.
const maxSealed = 4

// compact removes what nobody needs: spool files, and the oldest segments without
// live entries. Segments go strictly in order, each removal durable before the
// next: a record that ends an entry never goes before the entry's own.
func (j *Journal) compact() {
	j.clear()
	for {
		j.mu.Lock()
		if len(j.segments) == 0 {
			j.mu.Unlock()
			return
		}
		oldest := j.segments[0]
		idle := len(j.segments) > 1 && j.failed == nil && !j.shut && !j.keep && len(j.damage) == 0 && !oldest.fixing
		next := j.segments[min(1, len(j.segments)-1)].id
		left := oldest.left()
		empty := left == 0
		var ops []*op
		var read []reading
		if idle && !empty {
			ops, read = j.rewriting(oldest)
		}
		j.mu.Unlock()
		switch {
		case idle && empty:
			if !j.drop(oldest, next) {
				return
			}
		case len(ops) > 0:
			if !j.rewrite(ops, read) || !j.moved(oldest, left) {
				return
			}
		default:
			return
		}
	}
}

// clear removes spool files that are spent and that nobody reads. The record that
// says so is durable.
func (j *Journal) clear() {
	j.mu.Lock()
	var spent, read []uint64
	for _, n := range j.spent {
		if j.readers[n] > 0 {
			read = append(read, n)
		} else {
			spent = append(spent, n)
		}
	}
	j.spent = read
	j.mu.Unlock()
	for _, n := range spent {
		_ = j.config.FS.Remove(j.spoolName(n)) // what stays is removed by the next start
		failpoint.Here("spool.afterDelete")
	}
}

// drop removes the oldest segment; next is the one after it. It returns false if the segment stays.
// A disk without room for the side file is no reason to keep it for good: it is tried again.
func (j *Journal) drop(s *segment, next uint64) bool {
	failpoint.Here("compact.beforeUnlink")
	fs := j.config.FS
	err := j.raiseFloor(next)
	if j.postponed = unwritten(err); j.postponed {
		return false
	}
	if err == nil {
		err = fs.Remove(j.segmentName(s.id))
	}
	if err == nil {
		err = fs.SyncDir(filepath.Join(j.config.Dir, segmentDir))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		j.keep = true // nobody knows whether it comes back: those after it have to stay
		j.config.Log.Warn("could not remove an old journal segment; segments stay until the gateway is started again", "segment", j.segmentName(s.id), "error", err)
		return false
	}
	j.segments = j.segments[1:]
	s.gone = true
	j.holes = holesSince(j.holes, j.segments[0].id)
	j.release(s)
	return true
}

// left is how many live things are in a segment. It needs mu.
func (s *segment) left() int { return len(s.items) + len(s.spoils) + len(s.dates) }

func holesSince(all []hole, segment uint64) (kept []hole) {
	for _, h := range all {
		if h.segment >= segment {
			kept = append(kept, h)
		}
	}
	return kept
}

// release closes a segment that has gone and that nobody reads. It needs mu.
func (j *Journal) release(s *segment) {
	if s.gone && s.refs == 0 {
		_ = s.file.Close() // it was only read
	}
}

func (j *Journal) unref(s *segment) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s.refs--
	j.release(s)
}

// moved reports whether a rewrite left less in a segment than there was. If it did
// not, nothing that is written again would.
func (j *Journal) moved(s *segment, before int) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if s.left() < before {
		return true
	}
	j.keep = true
	j.config.Log.Error("what an old journal segment holds does not leave it; segments stay until the gateway is started again", "segment", j.segmentName(s.id))
	return false
}

// reading is an inline body that has to be read for a rewrite.
type reading struct {
	op   *op
	item *item
	at   int64
}

// rewriting returns the records of some live entries of the oldest segment, if it
// is time to give it up: there is much more in segments than is live. It needs mu.
func (j *Journal) rewriting(oldest *segment) (ops []*op, read []reading) {
	var size int64
	for _, s := range j.segments {
		size += s.size
	}
	crowded := size >= maxSealed*j.config.SegmentBytes && size >= 2*j.records
	if oldest == j.segments[len(j.segments)-1] || !crowded && !j.onlyDates(oldest) {
		return nil, nil
	}
	if j.full != nil && !j.fitsReserve(oldest) {
		return nil, nil
	}
	size = 0
	for it := range oldest.items {
		o := &op{kind: it.kind, entry: it.entry.ID, key: it.entry.Key, put: it.entry, upload: it.upload, part: it.part, pack: it.pack, offset: it.offset}
		switch {
		case it.kind == kindComplete:
			o.spools, o.checks = it.spools, it.checks
		case it.kind == kindPacked:
			o.text = j.packs[it.pack].key.Name
		case it.kind == kindTranslate:
			o.text = it.etag
		case len(it.spools) > 0:
			o.spool, o.checks = it.spools[0], it.checks
		case it.entry.Size > 0:
			read = append(read, reading{o, it, it.at})
		}
		ops = append(ops, o)
		if it.remote != "" {
			ops = append(ops, &op{kind: kindUpload, entry: it.entry.ID, key: it.entry.Key, text: it.remote})
		}
		if it.reason != "" {
			ops = append(ops, &op{kind: kindDead, entry: it.entry.ID, key: it.entry.Key, text: it.reason, when: it.since})
		}
		if size += it.size; size > maxBatch {
			return ops, read
		}
	}
	for o := range oldest.spoils {
		ops = append(ops, &op{kind: kindUpload, entry: o.Entry, key: o.Key, text: o.UploadID})
	}
	return append(ops, j.datesOf(oldest)...), read
}

// rewrite writes records once more, with their bodies from the oldest segment. It
// is the syncer that does it, so nothing moves meanwhile; entries that leave are
// left out of what is applied by their numbers.
func (j *Journal) rewrite(ops []*op, read []reading) bool {
	for _, r := range read {
		data := make([]byte, r.op.put.Size)
		if err := j.readInline(r.item.segment, data, r.at, r.item.sum); err != nil {
			j.config.Log.Error("a body in the journal is damaged; its segment is kept", "key", r.op.key.String(), "error", err)
			j.keep = true
			return false
		}
		r.op.data = data
	}
	j.mu.Lock()
	j.announce(ops)
	j.mu.Unlock()
	w := &writing{ops: ops, done: make(chan error, 1)}
	j.write(nil, []*writing{w})
	return <-w.done == nil
}
