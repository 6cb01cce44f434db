package tiers

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/akidb/akigw"
)

// fence keeps a slow fill from publishing what a write has overtaken. Each fill takes its
// generation before it sends its request to the upstream; each write raises the key's floor before
// its upstream request and again after it. An entry at or below the floor is dead: it is not
// published, and not read if it was published just before.
//
// A key is remembered only while a fill or a write of it is under way.
type fence struct {
	next   atomic.Uint64 // the last generation that was assigned
	seed   maphash.Seed
	shards [256]fenceShard
}

type fenceShard struct {
	mu   sync.Mutex
	keys map[akigw.Key]*fencedKey // guarded by mu
}

type fencedKey struct {
	users  int    // fills and writes under way
	floor  uint64 // generations up to this one are dead
	writes int    // writes under way
	starts uint64 // writes ever started while remembered
}

func newFence(first uint64) *fence {
	f := &fence{seed: maphash.MakeSeed()}
	f.next.Store(first)
	for i := range f.shards {
		f.shards[i].keys = make(map[akigw.Key]*fencedKey)
	}
	return f
}

func (f *fence) shard(key akigw.Key) *fenceShard {
	return &f.shards[maphash.Comparable(f.seed, key)%uint64(len(f.shards))]
}

func (f *fence) generation() uint64 { return f.next.Add(1) }

// enter remembers key until leave, and returns a new generation.
func (f *fence) enter(key akigw.Key) uint64 {
	s := f.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.getLocked(key).users++
	return f.generation()
}

func (f *fence) leave(key akigw.Key) {
	s := f.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releaseLocked(key)
}

// alive reports whether an entry with this generation may be used.
func (f *fence) alive(key akigw.Key, generation uint64) bool {
	s := f.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[key]
	return k == nil || generation > k.floor
}

// writing reports whether a write of key is under way.
func (f *fence) writing(key akigw.Key) bool {
	s := f.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[key]
	return k != nil && k.writes > 0
}

// changing returns the keys that have a write under way.
func (f *fence) changing() (keys []akigw.Key) {
	for i := range f.shards {
		s := &f.shards[i]
		s.mu.Lock()
		for key, k := range s.keys {
			if k.writes > 0 {
				keys = append(keys, key)
			}
		}
		s.mu.Unlock()
	}
	return keys
}

// write is one write under way.
type write struct {
	fence *fence
	key   akigw.Key
	alone bool   // no other write was under way when it started
	start uint64 // its number among the key's writes
}

// beginWrite raises the floor. The caller then drops the cached data from memory and calls the upstream.
func (f *fence) beginWrite(key akigw.Key) *write {
	s := f.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.getLocked(key)
	k.users++
	k.starts++
	w := &write{fence: f, key: key, alone: k.writes == 0, start: k.starts}
	k.writes++
	k.floor = f.generation()
	return w
}

// done raises the floor again, after the upstream has responded. The returned generation is above
// the floor. alone means that no other write overlapped this one, so that the key is known to hold
// what was written. The caller then publishes or drops the entry, and calls leave.
func (w *write) done() (generation uint64, alone bool) {
	s := w.fence.shard(w.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[w.key]
	k.writes--
	k.floor = w.fence.generation()
	return w.fence.generation(), w.alone && k.starts == w.start
}

// raise raises the floor because someone else may have written: responses to earlier requests may
// be outdated. The returned generation is above the floor. The caller publishes or drops the entry,
// and calls leave.
func (f *fence) raise(key akigw.Key) (generation uint64) {
	s := f.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.getLocked(key)
	k.users++
	k.floor = f.generation()
	return f.generation()
}

func (w *write) leave() { w.fence.leave(w.key) }

// getLocked returns the state of a key, which it creates if necessary.
func (s *fenceShard) getLocked(key akigw.Key) *fencedKey {
	k := s.keys[key]
	if k == nil {
		k = &fencedKey{}
		s.keys[key] = k
	}
	return k
}

// releaseLocked records that a fill or write of a key has ended.
func (s *fenceShard) releaseLocked(key akigw.Key) {
	k := s.keys[key]
	k.users--
	if k.users == 0 {
		delete(s.keys, key)
	}
}
