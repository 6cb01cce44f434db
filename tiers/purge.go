package tiers

import (
	"context"
	"errors"

	"github.com/akidb/akigw"
)

// Purge forgets what is cached of the keys that a pattern names: all their versions, in memory and
// on disk, kept listings and absences, and what is being filled. Pending writes stay: they are no
// copy. It returns how many objects were known. If ctx ends, Purge stops half-way; it can be
// repeated.
func (s *Store) Purge(ctx context.Context, what akigw.Pattern) (n int, err error) {
	s.epoch(what.Bucket).Add(1)
	seen := map[akigw.Key]bool{}
	for key := range s.underway(what) {
		if e, _ := s.lookup(key); e != nil { // of a fill that is about to end
			seen[key] = true
		}
		s.Begin(key).End()
	}
	forget := func(key akigw.Key, blocks uint64) bool {
		s.Begin(key).End()
		if s.warm != nil && blocks != 0 {
			s.warm.DropBlocks(blocks)
		}
		seen[key] = true
		return ctx.Err() == nil
	}
	for k, v := range s.hot.All() {
		if v.entry == nil || !what.Names(k.key) {
			continue
		}
		if !forget(k.key, v.entry.blocks) {
			return len(seen), ctx.Err()
		}
	}
	if s.warm != nil {
		err = s.walkObjects(what, func(k Known) bool { return forget(k.Key, k.blocks) })
	}
	return len(seen), errors.Join(err, ctx.Err())
}

// underway are the keys that a pattern names and that a fill is under way for.
func (s *Store) underway(what akigw.Pattern) map[akigw.Key]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := map[akigw.Key]bool{}
	for key := range s.openings {
		if what.Names(key) {
			keys[key] = true
		}
	}
	for _, fills := range s.fills {
		for _, f := range fills {
			if what.Names(f.key) {
				keys[f.key] = true
			}
		}
	}
	return keys
}
