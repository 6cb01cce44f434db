package tiers

import "github.com/akidb/akigw"

// HasPending reports whether a write of a key is acknowledged and not upstream yet.
func (s *Store) HasPending(key akigw.Key) bool {
	return s.back != nil && s.back.journal.Last(key.Current()) != nil
}
