package tiers

import (
	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/warm"
)

// Accesses returns what PutAccesses stored for a key, nil if there is nothing. The bytes are the
// caller's.
func (s *storage) Accesses(key akigw.Key) []byte {
	if s.warm == nil {
		return nil
	}
	record, _ := s.warm.Accesses(key)
	return record
}

// PutAccesses keeps records[i] beside the catalog's entry of keys[i]: how the object is used, in
// the caller's encoding. It outlives the object. Nothing is kept without a warm tier, or without
// room in it.
func (s *storage) PutAccesses(keys []akigw.Key, records [][]byte) error {
	if s.warm == nil || len(keys) == 0 {
		return nil
	}
	return s.warm.PutAccesses(keys, records)
}

// DropAccesses removes what PutAccesses stored at places that Walk has yielded.
func (s *storage) DropAccesses(places []string) error {
	if s.warm == nil || len(places) == 0 {
		return nil
	}
	all := make([]warm.Place, len(places))
	for i, p := range places {
		all[i] = warm.Place(p)
	}
	return s.warm.DropAccesses(all...)
}
