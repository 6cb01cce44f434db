package journal

import (
	"slices"
	"time"

	"github.com/akidb/akigw/journal/internal/spool"

	"github.com/tidwall/btree"

	"github.com/akidb/akigw"
)

// state is what all durable records together say. apply is the only way in which a record changes
// it, on the live path and in a recovery. apply is pure: it does no I/O, reads no clock and takes
// no lock. Outside effects (spool files to remove, waiters to wake) are collected in released and
// ended. The owner of a state ensures that one goroutine at a time uses it.
type state struct {
	entries keyMap[[]*item]  // the live entries of each key, oldest first; a list is never changed in place
	live    int              // number of live entries
	items   map[uint64]*item // live entries, uploads, parts, packs, translations and records of streams, by number

	lists        lists // lists of entries
	uploads      uploadIndex
	packs        packIndex
	streams      streamIndex
	orphans      map[uint64]*orphan
	translations keyMap[*item] // for keys without entries
	dates        dateIndex     // for objects without translations

	segments map[uint64]*contents // live content, by segment
	bytes    int64                // size of live bodies, also of parts and of records of streams
	records  int64                // size of the records of live items

	released []uint64 // spool files that no item needs
	ended    []uint64 // entries that left, became dead letters, or were returned
}

// item is a live record with its state: an entry, an upload, a part, a pack, a translation or a
// record of a stream.
//
// Frozen copies of the maps share items, so the fields of the first group must not be changed in
// place: modify makes a copy. The fields of the second group are not read through a frozen copy.
type item struct {
	kind    kind // kind of the record
	entry   *Entry
	upload  uint64 // upload of a part
	part    int
	spools  []uint64 // files of the body, one for each part of a completed upload; none for an inline body
	checks  []uint32 // checksums of the tables of spools; nil if the record does not have them
	segment uint64   // segment that holds the record
	size    int64    // size of the record
	at      int64    // offset of an inline body in the segment
	sum     uint32
	pack    uint64    // pack that holds the body, 0 for none
	packKey akigw.Key // key of that pack
	offset  int64     // offset of the body in the pack
	etag    string    // the upstream's ETag, of a translation

	leased bool
	tried  bool   // the upstream may have received it, and it will be tried again
	covers uint64 // the first entry that it stands for: itself, or one that it replaced
	reason string // why it is a dead letter, "" if it is not
	since  time.Time
	remote string // ID of its multipart upload in the upstream
}

// orphan is an upload in the upstream whose entry has left.
type orphan struct {
	Orphan
	segment uint64
}

// Orphan is a multipart upload in the upstream whose entry or client upload has left the journal:
// it must be aborted.
type Orphan struct {
	Entry    uint64
	Key      akigw.Key
	UploadID string
}

// contents is the live content of one segment.
type contents struct {
	items   map[uint64]struct{}
	orphans map[uint64]struct{}
	dates   map[uint64]*dated // by order

	bytes      int64 // size of the records of items
	datedBytes int64 // size of the records of dates
}

func newState() *state {
	return &state{items: map[uint64]*item{}, lists: lists{deletions: map[string]*btree.Map[uint64, *item]{}}, uploads: newUploadIndex(), packs: newPackIndex(), orphans: map[uint64]*orphan{}, segments: map[uint64]*contents{}}
}

// apply applies a durable record: right after its sync, and again in a recovery.
func (s *state) apply(o *op, p place) {
	switch o.kind {
	case kindPut, kindDelete, kindComplete:
		s.applyEntry(o, p)
	case kindBegin:
		s.applyBegin(o, p)
	case kindPart:
		s.applyPart(o, p)
	case kindAbort:
		s.endUpload(o.entry, nil)
	case kindPack:
		s.applyPack(o, p)
	case kindPacked:
		s.applyPacked(o, p)
	case kindUnpacked:
		s.applyUnpacked(o)
	case kindTranslate:
		s.applyDates(&op{entry: o.entry, key: o.key}, p)
		s.applyTranslate(o, p)
	case kindDone:
		s.applyDates(o, p) // first: readers take the dates as soon as the entry has left
		s.applyDone(o.key, o.entry)
	case kindDead, kindAlive:
		s.applyDead(o)
	case kindUpload:
		s.applyRemote(o, p)
	case kindRecord:
		s.applyRecord(o, p)
	case kindRecordsDone:
		s.applyRecordsDone(o)
	}
}

// applyDone removes an entry that is in the upstream, and all earlier entries of its key.
func (s *state) applyDone(key akigw.Key, entry uint64) {
	s.removeOrphan(entry)
	s.untranslate(key, entry)
	for _, it := range s.entries.get(key) {
		if it.entry.ID <= entry {
			if it.entry.ID == entry {
				it.remote = "" // the upload has become the object
			}
			s.remove(it)
		}
	}
}

func (s *state) applyDead(o *op) {
	it := s.items[o.entry]
	if it == nil {
		return
	}
	it.reason, it.since = o.text, o.when
	s.lists.add(it)
	if it.reason != "" {
		s.end(it)
	}
}

// applyRemote records the multipart upload in the upstream of an entry or a client upload.
func (s *state) applyRemote(o *op, p place) {
	switch it := s.items[o.entry]; {
	case it != nil:
		it.remote = o.text
	case o.text != "":
		s.addOrphan(Orphan{o.entry, o.key, o.text}, p.segment)
	default:
		s.removeOrphan(o.entry)
	}
}

func (s *state) applyEntry(o *op, p place) {
	it := s.place(o, p)
	if it == nil {
		return
	}
	if o.kind == kindComplete {
		s.endUpload(o.upload, o.spools)
		s.uploads.completed.add(it.entry)
	}
	items := s.entries.get(o.key)
	if len(items) > 0 && items[len(items)-1].entry.ID > it.entry.ID {
		return // its record was rewritten after it had been replaced
	}
	s.untranslate(o.key, it.entry.ID)
	it.covers = it.entry.ID
	kept := make([]*item, 0, 1)
	for _, older := range items {
		if !older.leased { // it is no longer needed
			it.covers = min(it.covers, older.covers)
			s.drop(older)
		} else {
			kept = append(kept, older)
		}
	}
	s.entries.set(o.key, append(kept, it))
	s.live++
	s.hold(it)
	s.lists.add(it)
}

// applyTranslate records the upstream's ETag of an object.
func (s *state) applyTranslate(o *op, p place) {
	if it := s.items[o.entry]; it == nil || it.kind != kindTranslate {
		s.applyDone(o.key, o.entry)
	}
	it := s.place(o, p)
	if it == nil {
		return
	}
	if len(s.entries.get(o.key)) > 0 {
		return // a later one will replace it
	}
	it.etag = o.text
	s.translations.set(o.key, it)
	s.hold(it)
}

// untranslate drops the translation of a key, up to an entry.
func (s *state) untranslate(key akigw.Key, entry uint64) {
	if it := s.translations.get(key); it != nil && it.entry.ID <= entry {
		s.translations.delete(key)
		s.free(it)
	}
}

// place creates the item of a record. It returns nil if the item exists: its record was rewritten,
// so that an old segment can be removed, and is in a new place now.
func (s *state) place(o *op, p place) *item {
	if it := s.items[o.entry]; it != nil {
		s.relocate(it, p)
		return nil
	}
	o.put.ID = o.entry
	if o.entry == 0 {
		o.put.ID = p.number
	}
	it := &item{kind: o.kind, entry: o.put, upload: o.upload, part: o.part, spools: o.spools, checks: o.checks, segment: p.segment, at: p.at, size: p.size, sum: p.sum, pack: o.pack, offset: o.offset}
	if o.spool != 0 {
		it.spools = []uint64{o.spool}
	}
	if o.pack != 0 {
		it.packKey = o.packKey()
	}
	return it
}

// relocate records the new place of an item's record.
func (s *state) relocate(it *item, p place) {
	s.leave(it)
	it = s.modify(it)
	it.segment, it.at, it.size = p.segment, p.at, p.size
	s.enter(it)
}

// enter adds an item to its segment's content.
func (s *state) enter(it *item) {
	c := s.in(it.segment)
	c.items[it.entry.ID] = struct{}{}
	c.bytes += it.size
	s.records += it.size
}

// leave removes an item from its segment's content.
func (s *state) leave(it *item) {
	c := s.in(it.segment)
	delete(c.items, it.entry.ID)
	c.bytes -= it.size
	s.records -= it.size
}

// in returns the live content of a segment.
func (s *state) in(segment uint64) *contents {
	c := s.segments[segment]
	if c == nil {
		c = &contents{items: map[uint64]struct{}{}, orphans: map[uint64]struct{}{}, dates: map[uint64]*dated{}}
		s.segments[segment] = c
	}
	return c
}

// left returns the number of live items and date pairs in a segment.
func (s *state) left(segment uint64) int {
	c := s.segments[segment]
	if c == nil {
		return 0
	}
	return len(c.items) + len(c.orphans) + len(c.dates)
}

// modify replaces a live item by a copy, which may be changed, and returns it.
func (s *state) modify(it *item) *item {
	changed := *it
	n := &changed
	s.items[it.entry.ID] = n
	switch it.kind {
	case kindBegin:
		s.uploads.open[it.entry.ID].item = n
	case kindPart:
		s.uploads.open[it.upload].parts[it.part] = n
	case kindPack:
		s.packs.all[it.entry.ID].item = n
	case kindTranslate:
		s.translations.set(it.entry.Key, n)
	case kindRecord:
		s.streams.live.Set(it.entry.ID, n)
	default:
		items := slices.Clone(s.entries.get(it.entry.Key))
		items[slices.Index(items, it)] = n
		s.entries.set(it.entry.Key, items)
		s.lists.add(n)
	}
	return n
}

// hold adds an item to the live items and to its segment. An upload in the upstream that is known
// before its item belongs to it: this happens in a recovery, if the item's record was rewritten.
func (s *state) hold(it *item) {
	if o := s.orphans[it.entry.ID]; o != nil {
		it.remote = o.UploadID
		s.removeOrphan(it.entry.ID)
	}
	s.items[it.entry.ID] = it
	s.enter(it)
	s.bytes += it.stored()
	if it.pack != 0 {
		s.packs.enter(it.pack)
	}
}

// free removes an item from the live items, and releases its spool files.
func (s *state) free(it *item) {
	delete(s.items, it.entry.ID)
	s.leave(it)
	s.bytes -= it.stored()
	if it.pack != 0 {
		s.packs.leave(it.pack)
	}
	s.released = append(s.released, it.spools...)
}

// stored returns how many bytes of an item's body the journal stores.
func (it *item) stored() int64 {
	if it.pack != 0 {
		return 0
	}
	return it.entry.Size
}

// remove removes an entry from its key's list and frees it.
func (s *state) remove(it *item) {
	key := it.entry.Key
	items := slices.DeleteFunc(slices.Clone(s.entries.get(key)), func(other *item) bool { return other == it })
	if len(items) == 0 {
		s.entries.delete(key)
	} else {
		s.entries.set(key, items)
	}
	s.drop(it)
}

// drop frees an entry that is not, or will not be, in its key's list.
func (s *state) drop(it *item) {
	s.live--
	s.lists.remove(it)
	s.free(it)
	if it.remote != "" {
		s.addOrphan(Orphan{it.entry.ID, it.entry.Key, it.remote}, it.segment)
	}
	s.end(it)
}

// end records that the waiters of an entry are to be woken.
func (s *state) end(it *item) { s.ended = append(s.ended, it.entry.ID) }

// last returns the newest entry of a key, nil for none.
func (s *state) last(key akigw.Key) *item { return newest(s.entries.get(key)) }

func newest(items []*item) *item {
	if len(items) == 0 {
		return nil
	}
	return items[len(items)-1]
}

// take leases the newest entry of a key. It returns nil if the key has none, one is leased already,
// or it is a dead letter.
func (s *state) take(key akigw.Key) *Entry {
	items := s.entries.get(key)
	if slices.ContainsFunc(items, func(it *item) bool { return it.leased }) {
		return nil
	}
	it := newest(items)
	if it == nil || it.reason != "" {
		return nil
	}
	it.leased = true
	return it.entry
}

// giveBack ends the lease of an entry. An entry that was replaced meanwhile leaves.
func (s *state) giveBack(e *Entry, tried bool) {
	it := s.items[e.ID]
	if it == nil {
		return
	}
	it.leased, it.tried = false, it.tried || tried
	s.end(it) // for callers that wait for the end of the lease
	if last := s.last(e.Key); last != nil && last != it {
		last.covers = min(last.covers, it.covers)
		s.remove(it)
	}
}

func (s *state) addOrphan(o Orphan, segment uint64) {
	s.removeOrphan(o.Entry)
	s.orphans[o.Entry] = &orphan{o, segment}
	s.in(segment).orphans[o.Entry] = struct{}{}
}

func (s *state) removeOrphan(entry uint64) {
	if o := s.orphans[entry]; o != nil {
		delete(s.in(o.segment).orphans, entry)
		delete(s.orphans, entry)
	}
}

// pieces returns the files of an item's body.
func (it *item) pieces() []spool.Piece {
	all, at := make([]spool.Piece, len(it.spools)), int64(0)
	for i, n := range it.spools {
		size := it.entry.Size
		if len(it.entry.Parts) > 0 {
			size = it.entry.Parts[i].Size
		}
		all[i] = spool.Piece{Number: n, Entry: it.entry.ID, From: at, Size: size}
		if i < len(it.checks) {
			all[i].Check, all[i].Known = it.checks[i], true
		}
		at += size
	}
	return all
}

// inline reports whether the body of an item is in its record.
func (it *item) inline() bool {
	switch it.kind {
	case kindComplete, kindPacked, kindTranslate:
		return false
	}
	return len(it.spools) == 0 && it.entry.Size > 0
}
