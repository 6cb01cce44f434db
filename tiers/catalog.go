package tiers

import (
	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/warm"
)

// Known is what the catalog knows of one object: its akigw.Object without the Header, its
// ContentType ("" where it is not known), and the following.
type Known struct {
	*summary
	// Place is where the object is in the order of the catalog, for Walk to go on behind; ""
	// without a warm tier.
	Place string
	// Accesses is what PutAccesses keeps beside the object, nil for nothing.
	Accesses []byte
	// Orphan says that nothing is known of the object any more, not even its key: only Place and
	// Accesses are set.
	Orphan bool
}

// Walk calls yield with what the catalog knows of the keys that what names, of all keys for a
// pattern without a bucket, from behind a place on ("": from the first), until yield returns
// false. Objects come in the order of bucket and key if Ordered. Without a warm tier they are
// those in memory, in no order, and without places. What yield gets is valid while it runs.
//
// Every object comes from one moment or another while Walk runs: there is no snapshot.
func (s *Store) Walk(what akigw.Pattern, after string, yield func(Known) bool) error {
	if s.warm == nil {
		s.walkHot(what, yield)
		return nil
	}
	return s.warm.Summaries(what.Bucket, what.Prefix, warm.Place(after), func(w warm.Known) bool {
		if w.Summary == nil {
			return yield(Known{Place: string(w.Place), Accesses: w.Accesses, Orphan: true})
		}
		sum, err := decodeSummary(w.Summary)
		if err != nil || what.Bucket != "" && !what.Names(sum.Key) {
			return true
		}
		return yield(Known{summary: sum, Place: string(w.Place), Accesses: w.Accesses})
	})
}

// walkHot is Walk over what is in memory.
func (s *Store) walkHot(what akigw.Pattern, yield func(Known) bool) {
	for k, v := range s.hot.All() {
		if e := v.entry; e != nil && e.absent == nil && (what.Bucket == "" || what.Names(k.key)) {
			sum := summaryOf(e)
			sum.held = false // there is no disk
			if !yield(Known{summary: sum}) {
				return
			}
		}
	}
}

// walkObjects is Walk from the beginning, and without orphans.
func (s *Store) walkObjects(what akigw.Pattern, yield func(Known) bool) error {
	return s.Walk(what, "", func(k Known) bool { return k.Orphan || yield(k) })
}

// Find returns what the catalog knows of one key, without Place and Accesses. It asks nobody
// and counts no access.
func (s *Store) Find(key akigw.Key) (k Known, ok bool) {
	sum := s.peekSummary(key)
	return Known{summary: sum}, sum != nil
}

// Ordered reports whether Walk goes in the order of bucket and key. It does unless there is no
// warm tier, or one that is encrypted, which hides names.
func (s *Store) Ordered() bool { return s.warm != nil && !s.warm.HidesNames() }

// HasDisk reports whether there is a warm tier.
func (s *Store) HasDisk() bool { return s.warm != nil }

// Accesses returns what PutAccesses stored for a key, nil if there is nothing. The bytes are the
// caller's.
func (s *Store) Accesses(key akigw.Key) []byte {
	if s.warm == nil {
		return nil
	}
	record, _ := s.warm.Accesses(key)
	return record
}

// PutAccesses keeps records[i] beside the catalog's entry of keys[i]: how the object is used, in
// the caller's encoding. It outlives the object. Nothing is kept without a warm tier, or without
// room in it.
func (s *Store) PutAccesses(keys []akigw.Key, records [][]byte) error {
	if s.warm == nil || len(keys) == 0 {
		return nil
	}
	return s.warm.PutAccesses(keys, records)
}

// DropAccesses removes what PutAccesses stored at places that Walk has yielded.
func (s *Store) DropAccesses(places []string) error {
	if s.warm == nil || len(places) == 0 {
		return nil
	}
	all := make([]warm.Place, len(places))
	for i, p := range places {
		all[i] = warm.Place(p)
	}
	return s.warm.DropAccesses(all...)
}
