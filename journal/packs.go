package journal

import (
	"context"

	"github.com/akidb/akigw"
)

// A pack is an object in the upstream with the bodies of many entries. Those entries are no longer
// pending, but stay in the journal, which is what knows where their bodies are. The journal learns
// of each pack before it is uploaded, so that a pack that holds no entry can be deleted.

// Pack is a pack that may exist in the upstream.
type Pack struct {
	// Number is the number of the pack's record.
	Number uint64
	// Key is the pack's key in the upstream.
	Key akigw.Key
}

// Packs manages the packs of a journal.
type Packs struct{ journal *Journal }

// Begin records that a pack is about to be uploaded. It does not count as empty until the caller
// calls end, after which nothing may be added.
func (s *Packs) Begin(ctx context.Context, key akigw.Key) (p Pack, end func(), err error) {
	o := &op{kind: kindPack, put: &Entry{Key: key}, key: key, busy: true}
	if err := s.journal.committer.commit(ctx, o); err != nil { // the record may have been written
		return Pack{}, nil, err
	}
	end = func() {
		s.journal.table.read(func(st *state) { st.packs.setBusy(o.put.ID, false) })
	}
	return Pack{o.put.ID, key}, end, nil
}

// Add records that the bodies of entries are in a pack, each verified there at its offset. The
// journal drops its own copies.
func (s *Packs) Add(ctx context.Context, p Pack, entries []*Entry, offsets []int64) error {
	ops := make([]*op, len(entries))
	for i, e := range entries {
		o := *e
		ops[i] = &op{kind: kindPacked, entry: e.ID, put: &o, key: e.Key, pack: p.Number, offset: offsets[i], text: p.Key.Name}
	}
	return s.journal.committer.commit(ctx, ops...)
}

// Removed records that a pack was deleted from the upstream.
func (s *Packs) Removed(ctx context.Context, p Pack) error {
	return s.journal.committer.commit(ctx, &op{kind: kindUnpacked, entry: p.Number, key: p.Key})
}

// Find returns the pack that holds the body of an entry, and the offset; false if none does.
func (s *Packs) Find(e *Entry) (pack akigw.Key, offset int64, ok bool) {
	it := s.journal.table.item(e)
	if it == nil || it.pack == 0 {
		return akigw.Key{}, 0, false
	}
	return it.packKey, it.offset, true
}

// Count returns the number of packs that a bucket may have.
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
