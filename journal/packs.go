package journal

import (
	"context"
	"errors"

	"github.com/akidb/akigw"
)

// A pack is an object at the upstream with the bodies of many entries. Those are not
// pending any more, but stay in the journal: it is what knows where they are. The
// journal also knows each pack before it is uploaded, so that one that nothing is in
// can be deleted.

// ErrPacked: the body of an entry is in a pack.
var ErrPacked = errors.New("the body is in a pack at the upstream")

// packed is a pack that may be at the upstream.
type packed struct {
	item *item // nil while its record has not been read yet
	key  akigw.Key
	refs int  // entries that are in it
	busy bool // it is being uploaded
}

// Pack is a pack that may be at the upstream.
type Pack struct {
	// Number is that of its record.
	Number uint64
	// Key is where it is.
	Key akigw.Key
}

// BeginPack says that there is going to be a pack: until EndPack it is not taken for
// an empty one.
func (j *Journal) BeginPack(ctx context.Context, key akigw.Key) (Pack, error) {
	o := &op{kind: kindPack, put: &Entry{Key: key}, key: key, busy: true}
	if err := j.commit(ctx, o); err != nil { // it may be written yet
		return Pack{}, err
	}
	return Pack{o.put.ID, key}, nil
}

// EndPack says that nothing more comes into a pack.
func (j *Journal) EndPack(p Pack) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if s := j.packs[p.Number]; s != nil {
		j.change(s, 0, false)
	}
}

// change counts entries into or out of a pack. It needs mu.
func (j *Journal) change(s *packed, entries int, busy bool) {
	before := s.empty()
	s.refs += entries
	s.busy = busy
	if after := s.empty(); after && !before {
		j.hollow++
	} else if before && !after {
		j.hollow--
	}
}

// empty reports whether nothing is in a pack, and nothing comes.
func (s *packed) empty() bool { return s.refs == 0 && !s.busy }

// Packed says that the bodies of entries are in a pack, each at its offset, and
// verified there. They are not kept here any more.
func (j *Journal) Packed(ctx context.Context, p Pack, entries []*Entry, offsets []int64) error {
	ops := make([]*op, len(entries))
	for i, e := range entries {
		o := *e
		ops[i] = &op{kind: kindPacked, entry: e.ID, put: &o, key: e.Key, pack: p.Number, offset: offsets[i], text: p.Key.Name}
	}
	return j.commit(ctx, ops...)
}

// Unpacked says that a pack is gone from the upstream.
func (j *Journal) Unpacked(ctx context.Context, p Pack) error {
	return j.commit(ctx, &op{kind: kindUnpacked, entry: p.Number, key: p.Key})
}

// Location says which pack the body of an entry is in, and where; false if in none.
func (j *Journal) Location(e *Entry) (pack akigw.Key, offset int64, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if it := j.ids[e.ID]; it != nil && it.pack != 0 {
		return j.packs[it.pack].key, it.offset, true
	}
	return akigw.Key{}, 0, false
}

// Garbage reports whether something is upstream that nobody needs: uploads that have
// to be aborted, or packs that nothing is in.
func (j *Journal) Garbage() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.orphans)+j.hollow > 0
}

// EmptyPacks are packs that nothing is in.
func (j *Journal) EmptyPacks() (all []Pack) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for number, s := range j.packs {
		if s.empty() {
			all = append(all, Pack{number, s.key})
		}
	}
	return all
}

// Packs is how many packs a bucket may have.
func (j *Journal) Packs(bucket string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.packs {
		if s.key.Bucket == bucket {
			n++
		}
	}
	return n
}

// openPack finds what is known of a pack. At a start the record of an entry in it may
// come before its own, which was written once more. It needs mu.
func (j *Journal) openPack(number uint64, key akigw.Key) *packed {
	s := j.packs[number]
	if s == nil {
		s = &packed{key: key}
		j.packs[number] = s
		j.hollow++
	}
	return s
}

// applyPack, like the functions after it, needs mu.
func (j *Journal) applyPack(o *op, p place, in *segment) {
	it := j.place(o, p, in)
	if it == nil {
		return
	}
	s := j.openPack(it.entry.ID, o.key)
	s.item = it
	j.change(s, 0, o.busy)
	j.hold(it)
}

// applyPacked takes the body of an entry from here to a pack.
func (j *Journal) applyPacked(o *op, p place, in *segment) {
	j.openPack(o.pack, akigw.Key{Bucket: o.key.Bucket, Name: o.text})
	it := j.ids[o.entry]
	if it == nil || it.kind == kindPacked { // at a start, or to give up an old segment
		j.applyEntry(o, p, in)
		return
	}
	j.free(it)
	it.kind, it.spools, it.checks, it.pack, it.offset = kindPacked, nil, nil, o.pack, o.offset
	it.segment, it.at, it.size = in, p.at, p.size
	j.hold(it)
	j.enlist(it)
}

func (j *Journal) applyUnpacked(o *op) {
	if s := j.packs[o.entry]; s != nil && s.refs == 0 {
		if s.item != nil {
			j.free(s.item)
		}
		j.change(s, 0, true) // it does not count any more
		delete(j.packs, o.entry)
	}
}
