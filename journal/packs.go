package journal

import (
	"context"

	"github.com/akidb/akigw"
)

// A pack is an object at the upstream with the bodies of many entries. Those are not
// pending any more, but stay in the journal: it is what knows where they are. The
// journal also knows each pack before it is uploaded, so that one that nothing is in
// can be deleted.

// Pack is a pack that may be at the upstream.
type Pack struct {
	// Number is that of its record.
	Number uint64
	// Key is where it is.
	Key akigw.Key
}

// Packs are the packs that a journal knows.
type Packs struct{ journal *Journal }

// Begin says that there is going to be a pack. It is not taken for an empty one until end is
// called: nothing more comes into it then.
func (s *Packs) Begin(ctx context.Context, key akigw.Key) (p Pack, end func(), err error) {
	o := &op{kind: kindPack, put: &Entry{Key: key}, key: key, busy: true}
	if err := s.journal.committer.commit(ctx, o); err != nil { // it may be written yet
		return Pack{}, nil, err
	}
	end = func() {
		s.journal.table.read(func(st *state) { st.packs.setBusy(o.put.ID, false) })
	}
	return Pack{o.put.ID, key}, end, nil
}

// Add says that the bodies of entries are in a pack, each at its offset, and
// verified there. They are not kept here any more.
func (s *Packs) Add(ctx context.Context, p Pack, entries []*Entry, offsets []int64) error {
	ops := make([]*op, len(entries))
	for i, e := range entries {
		o := *e
		ops[i] = &op{kind: kindPacked, entry: e.ID, put: &o, key: e.Key, pack: p.Number, offset: offsets[i], text: p.Key.Name}
	}
	return s.journal.committer.commit(ctx, ops...)
}

// Removed says that a pack is gone from the upstream.
func (s *Packs) Removed(ctx context.Context, p Pack) error {
	return s.journal.committer.commit(ctx, &op{kind: kindUnpacked, entry: p.Number, key: p.Key})
}

// Find says which pack the body of an entry is in, and where; false if in none.
func (s *Packs) Find(e *Entry) (pack akigw.Key, offset int64, ok bool) {
	it := s.journal.table.item(e)
	if it == nil || it.pack == 0 {
		return akigw.Key{}, 0, false
	}
	return it.packKey, it.offset, true
}

// Count is how many packs a bucket may have.
func (s *Packs) Count(bucket string) (n int) {
	s.journal.table.read(func(st *state) {
		for _, k := range st.packs.all {
			if k.key.Bucket == bucket {
				n++
			}
		}
	})
	return n
}
