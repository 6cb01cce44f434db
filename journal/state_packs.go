package journal

import "github.com/akidb/akigw"

// packIndex is the part of a state that holds packs.
type packIndex struct {
	all     map[uint64]*packed
	empty   map[uint64]*packed // packs that hold no entry
	entries int                // number of entries whose bodies are in packs
}

func newPackIndex() packIndex {
	return packIndex{all: map[uint64]*packed{}, empty: map[uint64]*packed{}}
}

// packed is a pack that may exist in the upstream.
type packed struct {
	item *item // nil while its record has not been read yet
	key  akigw.Key
	refs int  // number of entries in it
	busy bool // it is being uploaded
}

// enter counts one more entry in a pack.
func (x *packIndex) enter(number uint64) { x.count(number, 1) }

// leave counts one entry less in a pack.
func (x *packIndex) leave(number uint64) { x.count(number, -1) }

func (x *packIndex) count(number uint64, entries int) {
	k := x.all[number]
	k.refs += entries
	x.entries += entries
	x.sort(number, k)
}

// setBusy records whether a pack is being uploaded.
func (x *packIndex) setBusy(number uint64, busy bool) {
	if k := x.all[number]; k != nil {
		k.busy = busy
		x.sort(number, k)
	}
}

// sort adds a pack to the empty ones, or removes it from them.
func (x *packIndex) sort(number uint64, k *packed) {
	if k.refs == 0 && !k.busy {
		x.empty[number] = k
	} else {
		delete(x.empty, number)
	}
}

// get returns a pack by its number, which it creates if necessary: in a recovery, the record of an
// entry may precede the pack's own record if that was rewritten.
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

// packKey returns the key of the pack that a record refers to.
func (o *op) packKey() akigw.Key { return akigw.Key{Bucket: o.key.Bucket, Name: o.text} }

// applyPacked moves the body of an entry from the journal to a pack.
func (s *state) applyPacked(o *op, p place) {
	s.packs.get(o.pack, o.packKey())
	it := s.items[o.entry]
	if it == nil || it.kind == kindPacked { // in a recovery, or because its record was rewritten
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
