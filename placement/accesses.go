package placement

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
)

const (
	accessShards = 64
	// maxCounted is how many keys a shard counts in memory before they are written to disk: about
	// 16 MiB in all.
	maxCounted = 2048
)

// Accesses counts how objects are used, in memory; a Placement writes the counts to disk.
// Counting takes a fraction of a microsecond and no allocation. It is a tiers.Observer.
type Accesses struct {
	seed   maphash.Seed
	shards [accessShards]accessShard
	full   chan struct{} // has an element when a shard is full
	// most is how many keys a shard counts before it forgets some: maxCounted, and more once
	// somebody writes them down.
	most atomic.Int64
}

type accessShard struct {
	mu      sync.Mutex
	counted map[akigw.Key]*usage // since the last flush; guarded by mu
	flushed map[akigw.Key]*usage // on its way to the disk; guarded by mu, its values are not changed
}

// NewAccesses returns an Accesses that has counted nothing.
func NewAccesses() *Accesses {
	a := &Accesses{seed: maphash.MakeSeed(), full: make(chan struct{}, 1)}
	a.most.Store(maxCounted)
	for i := range a.shards {
		a.shards[i].counted = make(map[akigw.Key]*usage)
	}
	return a
}

// Accessed implements tiers.Observer.
func (a *Accesses) Accessed(access tiers.Access) {
	n := uint32(1)
	if access.Write() {
		n = 0
	}
	a.count(access.Object.Key, access.Settings, n)
}

func (a *Accesses) shard(key akigw.Key) *accessShard {
	return &a.shards[maphash.Comparable(a.seed, key)%accessShards]
}

// count counts n accesses of a key now, 0 for a write.
func (a *Accesses) count(key akigw.Key, settings *rules.Settings, n uint32) {
	now := time.Now().Unix()
	key.Version = ""
	s := a.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.counted[key]
	if u == nil {
		if len(s.counted) >= maxCounted {
			a.overflowLocked(s)
		}
		u = &usage{}
		s.counted[key] = u
	}
	u.last = now
	if length := int64(settings.AccessWindow / time.Second); length > 0 && n > 0 {
		u.roll(now / length)
		u.now += n
	}
	u.total += uint64(n)
}

// overflowLocked asks for a flush of a full shard, and forgets one of its keys if there is none.
// The caller holds s.mu.
func (a *Accesses) overflowLocked(s *accessShard) {
	select {
	case a.full <- struct{}{}:
	default:
	}
	if len(s.counted) < int(a.most.Load()) {
		return // it is going to be written
	}
	for key := range s.counted { // any one
		delete(s.counted, key)
		return
	}
}

// with adds to stored, which the disk has of a key, what is not there yet.
func (a *Accesses) with(key akigw.Key, stored usage) usage {
	key.Version = ""
	s := a.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range [...]map[akigw.Key]*usage{s.flushed, s.counted} {
		if u := m[key]; u != nil {
			stored.add(*u)
		}
	}
	return stored
}

// beginFlush returns what a shard has counted. It is visible until endFlush.
func (s *accessShard) beginFlush() map[akigw.Key]*usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushed, s.counted = s.counted, make(map[akigw.Key]*usage)
	return s.flushed
}

// endFlush forgets what beginFlush returned: the disk has it, or it is lost.
func (s *accessShard) endFlush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushed = nil
}
