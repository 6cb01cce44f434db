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

// Accesses counts in memory how objects are used; a Placement writes the counts to disk. Counting
// takes a fraction of a microsecond and does not allocate. It is a tiers.Observer.
type Accesses struct {
	seed   maphash.Seed
	shards [accessShards]accessShard
	full   chan struct{} // receives when a shard is full
	// most is how many keys a shard counts before it drops some: maxCounted, or more once something
	// writes them to disk.
	most atomic.Int64
}

type accessShard struct {
	mu      sync.Mutex
	counted map[akigw.Key]*usage // since the last flush; guarded by mu
	flushed map[akigw.Key]*usage // being written to disk; guarded by mu
	summed  bool                 // whether flushed includes what was on disk before; guarded by mu
	flushes atomic.Uint64        // how many have ended; changed while mu is held
}

// NewAccesses returns an Accesses without any counts.
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

// shard returns the shard of a key without a version.
func (a *Accesses) shard(key akigw.Key) *accessShard { return &a.shards[a.index(key)] }

func (a *Accesses) index(key akigw.Key) uint64 {
	return maphash.Comparable(a.seed, key) % accessShards
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

// overflowLocked requests a flush of a full shard. If no flush comes, it drops one of its keys. The
// caller holds s.mu.
func (a *Accesses) overflowLocked(s *accessShard) {
	select {
	case a.full <- struct{}{}:
	default:
	}
	if len(s.counted) < int(a.most.Load()) {
		return // it will be written soon
	}
	for key := range s.counted { // an arbitrary one
		delete(s.counted, key)
		return
	}
}

// with adds the counts of a key that are not on disk yet to stored, its record on disk. flushes is how
// many flushes of the key's shard had ended before the record was read. If one has ended since, ok is
// false: the record may lack counts that are no longer in memory.
func (a *Accesses) with(key akigw.Key, stored usage, flushes uint64) (u usage, ok bool) {
	key.Version = ""
	s := a.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch u := s.flushed[key]; {
	case u == nil:
	case s.summed: // the record may be the old or the new one
		stored = *u
	default:
		stored.add(*u)
	}
	if u := s.counted[key]; u != nil {
		stored.add(*u)
	}
	return stored, s.flushes.Load() == flushes
}

// beginFlush returns the counts of a shard. They stay visible until endFlush.
func (s *accessShard) beginFlush() map[akigw.Key]*usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushed, s.counted = s.counted, make(map[akigw.Key]*usage)
	return s.flushed
}

// sum replaces the counts of a flush by the records that it writes, which include what is on disk.
func (s *accessShard) sum(records map[akigw.Key]*usage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushed, s.summed = records, true
}

// endFlush drops what is being flushed: it is on disk, or lost.
func (s *accessShard) endFlush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushed, s.summed = nil, false
	s.flushes.Add(1)
}
