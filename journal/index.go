package journal

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/akidb/akigw"
)

// apply makes a durable record count: at once after its sync, and again at the
// next start. It needs mu.
func (j *Journal) apply(o *op, p place, in *segment) {
	switch o.kind {
	case kindPut, kindDelete, kindComplete:
		j.applyEntry(o, p, in)
	case kindBegin:
		j.applyBegin(o, p, in)
	case kindPart:
		j.applyPart(o, p, in)
	case kindAbort:
		j.endUpload(o.entry, nil)
	case kindPack:
		j.applyPack(o, p, in)
	case kindPacked:
		j.applyPacked(o, p, in)
	case kindUnpacked:
		j.applyUnpacked(o)
	case kindTranslate:
		j.applyDone(&op{entry: o.entry, key: o.key}, p, in)
		j.applyTranslate(o, p, in)
	case kindDone:
		j.applyDone(o, p, in) // first: without its entry the key is as the upstream says
		j.settled(index(o.key.Bucket, o.key.Name), o.entry)
	case kindDead, kindAlive:
		it := j.ids[o.entry]
		if it == nil {
			return
		}
		it.reason, it.since = o.text, o.when
		j.enlist(it)
		if it.reason != "" {
			it.finish()
		}
	case kindUpload:
		switch it := j.ids[o.entry]; {
		case it != nil:
			it.remote = o.text
		case o.text != "":
			j.addOrphan(Orphan{o.entry, o.key, o.text}, in)
		default:
			j.removeOrphan(o.entry)
		}
	}
}

// settled takes an entry that is in the upstream, and what came before it for its key,
// out of the journal. It needs mu.
func (j *Journal) settled(name string, entry uint64) {
	j.removeOrphan(entry)
	j.untranslate(name, entry)
	items, _ := j.keys.Get(name)
	for _, it := range items {
		if it.entry.ID <= entry {
			if it.entry.ID == entry {
				it.remote = "" // it is the object by now
			}
			j.remove(it)
		}
	}
}

func (j *Journal) applyEntry(o *op, p place, in *segment) {
	it := j.place(o, p, in)
	if it == nil {
		return
	}
	if o.kind == kindComplete {
		j.endUpload(o.upload, o.spools)
		j.over.add(it.entry)
	}
	name := index(o.key.Bucket, o.key.Name)
	items, _ := j.keys.Get(name)
	if len(items) > 0 && items[len(items)-1].entry.ID > it.entry.ID {
		return // it was written once more after it had been replaced
	}
	j.untranslate(name, it.entry.ID)
	it.covers = it.entry.ID
	for _, older := range items {
		if !older.leased { // nobody needs it any more
			it.covers = min(it.covers, older.covers)
			j.remove(older)
		}
	}
	items, _ = j.keys.Get(name)
	j.keys.Set(name, append(slices.Clone(items), it))
	j.hold(it)
	j.live.Add(1)
	j.enlist(it)
}

// place makes the item of a record. It returns nil for one that is there: its
// record was written once more, to give up an old segment, and is in its new place
// now. It needs mu.
func (j *Journal) place(o *op, p place, in *segment) *item {
	if it := j.ids[o.entry]; it != nil {
		delete(it.segment.items, it)
		j.records += p.size - it.size
		it.segment, it.at, it.size = in, p.at, p.size
		in.items[it] = struct{}{}
		return nil
	}
	o.put.ID = o.entry
	if o.entry == 0 {
		o.put.ID = p.number
	}
	it := &item{kind: o.kind, entry: o.put, upload: o.upload, part: o.part, spools: o.spools, segment: in, at: p.at, size: p.size, sum: p.sum, pack: o.pack, offset: o.offset}
	if o.spool != 0 {
		it.spools = []uint64{o.spool}
	}
	it.checks = o.checks
	return it
}

// hold keeps an item, and its segment. An upload at the upstream that was known
// before the item is its own: at a start, when its record was written once more. It
// needs mu.
func (j *Journal) hold(it *item) {
	if o := j.orphans[it.entry.ID]; o != nil {
		it.remote = o.UploadID
		j.removeOrphan(it.entry.ID)
	}
	j.ids[it.entry.ID] = it
	it.segment.items[it] = struct{}{}
	j.bytes += it.stored()
	j.records += it.size
	if it.pack != 0 {
		s := j.packs[it.pack]
		j.change(s, 1, s.busy)
		j.away++
	}
}

// stored is how many bytes of an item's body are here.
func (it *item) stored() int64 {
	if it.pack != 0 {
		return 0
	}
	return it.entry.Size
}

// free lets go of an item. Its spool files are left to clear. It needs mu.
func (j *Journal) free(it *item) {
	delete(j.ids, it.entry.ID)
	delete(it.segment.items, it)
	j.bytes -= it.stored()
	j.records -= it.size
	if it.pack != 0 {
		s := j.packs[it.pack]
		j.change(s, -1, s.busy)
		j.away--
	}
	j.spent = append(j.spent, it.spools...)
}

// enlist puts an item into the list that it belongs to, by number. It needs mu.
func (j *Journal) enlist(it *item) {
	j.delist(it)
	l := &j.pending
	switch {
	case it.reason != "":
		l = &j.dead
	case it.pack != 0: // nothing has to become of it
		return
	}
	l.Set(it.entry.ID, it)
	it.listed = l
}

func (j *Journal) delist(it *item) {
	if it.listed != nil {
		it.listed.Delete(it.entry.ID)
		it.listed = nil
	}
}

// remove takes an entry out of the journal. It needs mu.
func (j *Journal) remove(it *item) {
	name := index(it.entry.Key.Bucket, it.entry.Key.Name)
	items, _ := j.keys.Get(name)
	items = slices.DeleteFunc(slices.Clone(items), func(other *item) bool { return other == it })
	if len(items) == 0 {
		j.keys.Delete(name)
	} else {
		j.keys.Set(name, items)
	}
	j.delist(it)
	j.live.Add(-1)
	j.free(it)
	if it.remote != "" {
		j.addOrphan(Orphan{it.entry.ID, it.entry.Key, it.remote}, it.segment)
	}
	it.finish()
}

func (j *Journal) addOrphan(o Orphan, in *segment) {
	j.removeOrphan(o.Entry)
	orphan := &orphan{o, in}
	j.orphans[o.Entry] = orphan
	in.spoils[orphan] = struct{}{}
}

func (j *Journal) removeOrphan(entry uint64) {
	if o := j.orphans[entry]; o != nil {
		delete(o.segment.spoils, o)
		delete(j.orphans, entry)
	}
}

// finish wakes who waits for the item. It needs mu.
func (it *item) finish() {
	if it.finished != nil {
		close(it.finished)
		it.finished = nil
	}
}

// Idle reports whether the journal holds nothing and writes nothing.
func (j *Journal) Idle() bool { return j.live.Load() == 0 && !j.unsettled.Load() }

// Len is the number of entries, dead letters among them.
func (j *Journal) Len() int { return int(j.live.Load()) }

// Last returns the newest entry of a key: what the key holds for clients. It
// returns nil if the journal has none.
func (j *Journal) Last(key akigw.Key) *Entry {
	if j.live.Load() == 0 {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if it := j.last(key); it != nil {
		return it.entry
	}
	return nil
}

func (j *Journal) last(key akigw.Key) *item {
	items, _ := j.keys.Get(index(key.Bucket, key.Name))
	if len(items) == 0 {
		return nil
	}
	return items[len(items)-1]
}

// Ascend calls yield with the newest entry of each key of a bucket, from the key
// from on, in the order of their bytes, until it returns false. yield must not
// call the journal.
func (j *Journal) Ascend(bucket, from string, yield func(*Entry) bool) {
	if j.live.Load() == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.keys.Ascend(index(bucket, from), func(_ string, items []*item) bool {
		e := items[len(items)-1].entry
		return e.Key.Bucket == bucket && yield(e)
	})
}

// Covers returns the number of the first entry that e stands for: its own, or one of its key that
// it replaced before that was upstream. It is above every other number if e has left the journal.
func (j *Journal) Covers(e *Entry) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if it := j.ids[e.ID]; it != nil {
		return it.covers
	}
	return math.MaxUint64
}

// Take leases the next entry of a key that has to go to the upstream: the newest
// one, because nobody needs those before it. It returns nil if there is none,
// another is leased, it is a dead letter, or the key is held. The lease ends with Return, or
// when the entry leaves the journal.
func (j *Journal) Take(key akigw.Key) *Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.damage) > 0 || j.failed != nil || j.shut {
		return nil
	}
	name := index(key.Bucket, key.Name)
	items, _ := j.keys.Get(name)
	if j.held[name] > 0 || slices.ContainsFunc(items, func(it *item) bool { return it.leased }) {
		return nil
	}
	if len(items) == 0 || items[len(items)-1].reason != "" {
		return nil
	}
	it := items[len(items)-1]
	it.leased = true
	return it.entry
}

// Return ends the lease of an entry. tried says that the upstream may have it, and it is tried
// again.
func (j *Journal) Return(e *Entry, tried bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	it := j.ids[e.ID]
	if it == nil {
		return
	}
	it.leased, it.tried = false, it.tried || tried
	it.finish() // for who waits for the lease
	if last := j.last(e.Key); last != nil && last != it {
		last.covers = min(last.covers, it.covers)
		j.remove(it)
	}
}

// UploadID is the multipart upload that was begun upstream for the entry or the
// upload of a number, "" for none.
func (j *Journal) UploadID(number uint64) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	if it := j.ids[number]; it != nil {
		return it.remote
	}
	return ""
}

// Orphans are the uploads that have to be aborted.
func (j *Journal) Orphans() []Orphan {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := make([]Orphan, 0, len(j.orphans))
	for _, o := range j.orphans {
		all = append(all, o.Orphan)
	}
	return all
}

// Wait returns when all entries that a key has now are upstream, or later ones that replaced
// them. The error
// is ErrDeadLetter if one of them will not, and that of Accepting if none of them
// will, or nobody knows whether there is one: then nothing may go past the journal,
// because the next start would put what it finds over it.
func (j *Journal) Wait(ctx context.Context, key akigw.Key) error {
	if j.Idle() {
		return nil
	}
	return j.wait(ctx, index(key.Bucket, key.Name), false)
}

// Hold is Wait, after which nothing of the key is taken to the upstream until Release: what
// somebody else writes there meanwhile is not mixed up with it. What was tried before and may
// be tried again has to be there first. Several may hold a key.
func (j *Journal) Hold(ctx context.Context, key akigw.Key) error {
	return j.wait(ctx, index(key.Bucket, key.Name), true)
}

// Release ends a Hold, and reports whether the key has entries that can go now.
func (j *Journal) Release(key akigw.Key) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	name := index(key.Bucket, key.Name)
	if j.held[name]--; j.held[name] > 0 {
		return false
	}
	delete(j.held, name)
	return j.last(key) != nil
}

func (j *Journal) wait(ctx context.Context, name string, hold bool) error {
	until := j.until(name)
	for {
		wait, err := j.waiting(name, until, hold)
		if wait == nil || err != nil {
			return err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Until is the number of the last entry that a key can have got by now, one that waits for its
// sync included, whose number nobody knows: then it is the highest that there is. 0: it has none.
func (j *Journal) Until(key akigw.Key) uint64 { return j.until(index(key.Bucket, key.Name)) }

func (j *Journal) until(name string) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.writing[name] > 0 {
		return math.MaxUint64
	}
	if items, _ := j.keys.Get(name); len(items) > 0 {
		return items[len(items)-1].entry.ID
	}
	return 0
}

// waiting returns what to wait for until a key has no entry that stands for one up to a
// number, nil for nothing. With hold nothing of it may be on its way either, and then it is held.
func (j *Journal) waiting(name string, until uint64, hold bool) (<-chan struct{}, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.doubtful[name] {
		return nil, cmp.Or(j.failed, j.full)
	}
	items, _ := j.keys.Get(name)
	if len(items) == 0 || items[0].covers > until {
		if j.writing[name] > 0 && until == math.MaxUint64 {
			return j.round, nil
		}
		if !hold {
			return nil, nil
		}
		if i := slices.IndexFunc(items, func(it *item) bool { return it.leased || it.tried }); i >= 0 {
			return j.finished(items[i])
		}
		j.held[name]++
		return nil, nil
	}
	return j.finished(items[0])
}

// finished returns what is closed when something becomes of an item. The errors are those of
// Wait. It needs mu.
func (j *Journal) finished(it *item) (<-chan struct{}, error) {
	if it.reason != "" {
		return nil, fmt.Errorf("%w: %s: %s", ErrDeadLetter, it.entry.Key, it.reason)
	}
	if err := j.flushing(); err != nil {
		return nil, err
	}
	if it.finished == nil {
		it.finished = make(chan struct{})
	}
	return it.finished, nil
}

// Newest is a number that no entry which was in the journal when it was opened is above,
// and each later one is.
func (j *Journal) Newest() uint64 { return j.newest }

// Keys are the keys with pending entries, those of the oldest first.
func (j *Journal) Keys() []akigw.Key {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := make([]akigw.Key, 0, j.pending.Len())
	j.pending.Scan(func(_ uint64, it *item) bool {
		all = append(all, it.entry.Key)
		return true
	})
	return all
}

// DeadLetter is an entry that could not be taken to the upstream.
type DeadLetter struct {
	*Entry
	Reason string
	Since  time.Time
}

// DeadLetters are all of them, the oldest first.
func (j *Journal) DeadLetters() []DeadLetter {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := make([]DeadLetter, 0, j.dead.Len())
	j.dead.Scan(func(_ uint64, it *item) bool {
		all = append(all, DeadLetter{it.entry, it.reason, it.since})
		return true
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
	Uploads      int   // multipart uploads of clients that are open; their parts count as bytes
	Orphans      int   // uploads that have to be aborted
	Translations int   // objects that the upstream gave another ETag than was promised
	Dates        int   // other objects whose Last-Modified is another one upstream than was promised
	Problem      error // why writes are not taken, nil if they are
	Stopped      error // why nothing is let go of either, nil if it is
	Mirrored     bool  // there is a second directory
	Repaired     int64 // records and bodies that were damaged in one directory and repaired from the other since the start
	Lost         int64 // bodies that were found damaged in both directories since the start
}

// Stats returns the present state.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := Stats{Pending: j.pending.Len(), Dead: j.dead.Len(), Packed: j.away, Packs: len(j.packs), Bytes: j.bytes, Segments: len(j.segments), Uploads: len(j.named), Orphans: len(j.orphans), Translations: len(j.translations), Dates: j.dates.orders.Len(), Problem: j.accepting(), Stopped: j.flushing()}
	if j.mirror != nil {
		s.Mirrored, s.Repaired, s.Lost = true, j.mirror.repairs[0].since()+j.mirror.repairs[1].since(), int64(len(j.scrub.lost))
	}
	for _, seg := range j.segments {
		s.SegmentBytes += seg.size
	}
	if _, oldest, ok := j.pending.Min(); ok {
		s.Oldest = oldest.entry.Modified
	}
	return s
}
