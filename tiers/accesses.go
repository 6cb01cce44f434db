package tiers

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/warm"
)

// usage is how an object is used. Accesses are counted in windows of time that begin at
// multiples of their length, the present one and the one before.
type usage struct {
	last        int64 // of an access or a write, in seconds since 1970; 0: never
	window      int64 // number of the present window
	now, before uint32
	total       uint64 // accesses since they are counted
}

// roll goes on to a later window.
func (u *usage) roll(window int64) {
	switch {
	case window <= u.window:
	case window == u.window+1:
		u.window, u.now, u.before = window, 0, u.now
	default:
		u.window, u.now, u.before = window, 0, 0
	}
}

// add takes in what was counted elsewhere.
func (u *usage) add(other usage) {
	newest := max(u.window, other.window)
	u.roll(newest)
	other.roll(newest)
	u.now += other.now
	u.before += other.before
	u.last = max(u.last, other.last)
	u.total += other.total
}

// within is how many accesses there were in the last d, about: of the window before it
// counts the share that d still reaches, as if they had come evenly.
func (u usage) within(d time.Duration, at time.Time) uint32 {
	length := int64(d / time.Second)
	if length == 0 {
		return 0
	}
	now := at.Unix()
	u.roll(now / length)
	return u.now + uint32((int64(u.before)*(length-now%length)+length/2)/length)
}

// idle is how long ago the object was used; a clock that was set back makes it 0.
func (u usage) idle(at time.Time) time.Duration {
	return max(0, at.Sub(time.Unix(u.last, 0)))
}

// lastAccess is when the object was used, zero for never.
func (u usage) lastAccess() time.Time {
	if u.last == 0 {
		return time.Time{}
	}
	return time.Unix(u.last, 0)
}

// usageVersion is the first byte of an encoded usage.
const usageVersion = 1

func appendUsage(b []byte, u usage) []byte {
	b = append(b, usageVersion)
	b = binary.AppendUvarint(b, uint64(u.last))
	b = binary.AppendUvarint(b, uint64(u.window))
	b = binary.AppendUvarint(b, uint64(u.now))
	b = binary.AppendUvarint(b, uint64(u.before))
	return binary.AppendUvarint(b, u.total)
}

// decodeUsage decodes what appendUsage wrote; what is malformed is nothing.
func decodeUsage(b []byte) usage {
	d := codec.NewDecoder(b)
	if d.Byte() != usageVersion {
		return usage{}
	}
	u := usage{last: int64(d.Uvarint()), window: int64(d.Uvarint()), now: uint32(d.Uvarint()), before: uint32(d.Uvarint()), total: d.Uvarint()}
	if d.Bad() || u.last < 0 || u.window < 0 {
		return usage{}
	}
	return u
}

const (
	accessShards = 64
	// maxFresh is how many keys a shard remembers in memory before what it has is
	// written to disk: 16 MiB or so in all.
	maxFresh = 2048
)

// accesses count how objects are used: in memory at first, then on disk. Counting takes
// a fraction of a microsecond. The zero value is not ready, see newAccesses.
type accesses struct {
	seed   maphash.Seed
	shards [accessShards]accessShard
	full   chan struct{} // has an element when a shard is full
	warm   *warm.Tier    // nil: what is over in memory is forgotten

	flushing sync.Mutex // one flush at a time
	orphans  []warm.Place
}

type accessShard struct {
	mu     sync.Mutex
	fresh  map[akigw.Key]*usage // since the last flush; guarded by mu
	behind map[akigw.Key]*usage // on its way to the disk; guarded by mu, its values are not changed
}

func newAccesses(tier *warm.Tier) *accesses {
	a := &accesses{seed: maphash.MakeSeed(), warm: tier, full: make(chan struct{}, 1)}
	for i := range a.shards {
		a.shards[i].fresh = make(map[akigw.Key]*usage)
	}
	return a
}

func (a *accesses) shard(key akigw.Key) *accessShard {
	return &a.shards[maphash.Comparable(a.seed, key)%accessShards]
}

// count counts n accesses of a key now, 0 for a write.
func (a *accesses) count(key akigw.Key, settings *rules.Settings, n uint32) {
	now := time.Now().Unix()
	key.Version = ""
	s := a.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.fresh[key]
	if u == nil {
		if len(s.fresh) >= maxFresh {
			a.overflow(s)
		}
		u = &usage{}
		s.fresh[key] = u
	}
	u.last = now
	if length := int64(settings.AccessWindow / time.Second); length > 0 && n > 0 {
		u.roll(now / length)
		u.now += n
	}
	u.total += uint64(n)
}

// overflow has room made. It needs the lock of s.
func (a *accesses) overflow(s *accessShard) {
	select {
	case a.full <- struct{}{}:
	default:
	}
	if a.warm != nil && len(s.fresh) < 4*maxFresh {
		return // it is going to be written
	}
	for key := range s.fresh { // any one
		delete(s.fresh, key)
		return
	}
}

// usage is how an object is used, where the disk says stored.
func (a *accesses) usage(key akigw.Key, stored usage) usage {
	key.Version = ""
	s := a.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range [...]map[akigw.Key]*usage{s.behind, s.fresh} {
		if u := m[key]; u != nil {
			stored.add(*u)
		}
	}
	return stored
}

// of is how an object is used, as far as it is known.
func (a *accesses) of(key akigw.Key) usage {
	var stored usage
	if a.warm != nil {
		if record, ok := a.warm.Accesses(key.Current()); ok {
			stored = decodeUsage(record)
		}
	}
	return a.usage(key, stored)
}

// flush writes what was counted to the disk.
func (a *accesses) flush() error {
	if a.warm == nil {
		return nil
	}
	a.flushing.Lock()
	defer a.flushing.Unlock()
	for i := range a.shards {
		if err := a.flushShard(&a.shards[i]); err != nil {
			return err
		}
	}
	orphans := a.orphans
	a.orphans = nil
	if len(orphans) == 0 {
		return nil
	}
	return a.warm.DropAccesses(orphans...)
}

func (a *accesses) flushShard(s *accessShard) error {
	s.mu.Lock()
	s.behind, s.fresh = s.fresh, make(map[akigw.Key]*usage)
	s.mu.Unlock()
	keys, values := make([]akigw.Key, 0, len(s.behind)), make([][]byte, 0, len(s.behind))
	for key, u := range s.behind {
		stored, _ := a.warm.Accesses(key)
		all := decodeUsage(stored)
		all.add(*u)
		keys, values = append(keys, key), append(values, appendUsage(nil, all))
	}
	var err error
	if len(keys) > 0 {
		err = a.warm.PutAccesses(keys, values)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behind = nil
	return err // then they are lost: they are statistics
}

// orphanAge is for how long the accesses of a key that holds nothing are kept: something
// may be on its way there.
const orphanAge = 24 * time.Hour

// orphaned takes note of accesses of a key of which no record is left.
func (a *accesses) orphaned(w warm.Known) {
	if decodeUsage(w.Accesses).idle(time.Now()) < orphanAge {
		return
	}
	a.flushing.Lock()
	defer a.flushing.Unlock()
	if len(a.orphans) < maxFresh {
		a.orphans = append(a.orphans, w.Place)
	}
}
