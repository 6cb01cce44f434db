package tiers

import (
	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/warm"
)

// Accesses returns what PutAccesses stored for a key, nil for nothing. The caller owns the bytes.
func (s *storage) Accesses(key akigw.Key) []byte {
	if s.warm == nil {
		return nil
	}
	record, _ := s.warm.Accesses(key)
	return record
}

// PutAccesses stores records[i] next to the catalog entry of keys[i]: the access statistics of the
// object, in the caller's encoding. A record outlives its object. Nothing is stored without a warm
// tier, or if it is full.
func (s *storage) PutAccesses(keys []akigw.Key, records [][]byte) error {
	if s.warm == nil || len(keys) == 0 {
		return nil
	}
	return s.warm.PutAccesses(keys, records)
}

// DropAccesses removes what PutAccesses stored at places that Walk yielded.
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
