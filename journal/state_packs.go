package journal

import "github.com/akidb/akigw"

// packIndex is the part of a state that is about packs.
type packIndex struct {
	all     map[uint64]*packed
	empty   map[uint64]*packed // those that nothing is in
	entries int                // whose bodies are in packs
}

func newPackIndex() packIndex {
	return packIndex{all: map[uint64]*packed{}, empty: map[uint64]*packed{}}
}

// packed is a pack that may be at the upstream.
type packed struct {
	item *item // nil while its record has not been read yet
	key  akigw.Key
	refs int  // entries that are in it
	busy bool // it is being uploaded
}

// enter counts an entry into a pack.
func (x *packIndex) enter(number uint64) { x.count(number, 1) }

// leave counts an entry out of a pack.
func (x *packIndex) leave(number uint64) { x.count(number, -1) }

func (x *packIndex) count(number uint64, entries int) {
	k := x.all[number]
	k.refs += entries
	x.entries += entries
	x.sort(number, k)
}

// setBusy says whether a pack is being uploaded.
func (x *packIndex) setBusy(number uint64, busy bool) {
	if k := x.all[number]; k != nil {
		k.busy = busy
		x.sort(number, k)
	}
}

// sort puts a pack among the empty ones, or takes it from there.
func (x *packIndex) sort(number uint64, k *packed) {
	if k.refs == 0 && !k.busy {
		x.empty[number] = k
	} else {
		delete(x.empty, number)
	}
}

// get returns a pack by its number. It is made if need be: in a recovery the record of an entry
// in it may come before its own, which was rewritten.
func (x *packIndex) get(number uint64, key akigw.Key) *packed {
	k := x.all[number]
	if k == nil {
		k = &packed{key: key}
		x.all[number] = k
		x.sort(number, k)
	}
	return k
}

func (s *state) applyPack(o *op, p place) {
	it := s.place(o, p)
	if it == nil {
		return
	}
	s.packs.get(it.entry.ID, o.key).item = it
	s.packs.setBusy(it.entry.ID, o.busy)
	s.hold(it)
}

// packKey is where the pack is that a record is about.
func (o *op) packKey() akigw.Key { return akigw.Key{Bucket: o.key.Bucket, Name: o.text} }

// applyPacked takes the body of an entry from here to a pack.
func (s *state) applyPacked(o *op, p place) {
	s.packs.get(o.pack, o.packKey())
	it := s.items[o.entry]
	if it == nil || it.kind == kindPacked { // in a recovery, or because it was rewritten
		s.applyEntry(o, p)
		return
	}
	it = s.modify(it)
	s.free(it)
	it.kind, it.spools, it.checks, it.pack, it.packKey, it.offset = kindPacked, nil, nil, o.pack, o.packKey(), o.offset
	it.segment, it.at, it.size = p.segment, p.at, p.size
	s.hold(it)
	s.lists.add(it)
}

func (s *state) applyUnpacked(o *op) {
	k := s.packs.all[o.entry]
	if k == nil || k.refs > 0 {
		return
	}
	if k.item != nil {
		s.free(k.item)
	}
	delete(s.packs.all, o.entry)
	delete(s.packs.empty, o.entry)
}
