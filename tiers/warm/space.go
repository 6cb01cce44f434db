package warm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/akidb/akigw/internal/size"
)

// space decides whether a write still fits: into the quota, measured by what
// the files really occupy, and onto the disk, which must never run full under
// Badger's memory maps (that would be a SIGBUS).
type space struct {
	dir      string
	quota    int64
	headroom int64
	used     atomic.Int64 // allocated bytes at the last measurement
	since    atomic.Int64 // bytes written since then
	free     atomic.Int64 // bytes free on the disk at the last measurement
	ballast  ballast
	fault    func() error // asked before how much is free
}

// init takes the first measurement. fileSize is the size of a value log file:
// one may come on top while another is being rewritten.
func (s *space) init(dir string, quota, fileSize int64) {
	s.dir, s.quota = dir, quota
	s.headroom = 4 * fileSize
	s.ballast.path, s.ballast.size = filepath.Join(dir, ballastFile), min(quota/64, mostBallast)
	s.measure()
}

// limit is what writes may fill; the rest is for files being rewritten.
func (s *space) limit() int64 { return s.quota - s.quota/8 }

func (s *space) reserve(n int64) bool {
	if !s.claim(n) {
		return false
	}
	if s.look()-n < s.headroom {
		s.since.Add(-n)
		return false
	}
	return true
}

// claim is reserve by what was measured last.
func (s *space) claim(n int64) bool {
	since := s.since.Add(n)
	if s.used.Load()+since > s.limit() || s.free.Load()-since < s.headroom {
		s.since.Add(-n)
		return false
	}
	return true
}

// look is how many bytes are free right now: others may have filled the disk since it was
// measured.
func (s *space) look() int64 {
	var stat syscall.Statfs_t
	if err := errors.Join(s.fault(), syscall.Statfs(s.dir, &stat)); err != nil || stat.Flags&readOnly != 0 {
		return 0 // not knowing is no room
	}
	total := int64(stat.Blocks) * int64(stat.Bsize)
	free := int64(stat.Bavail)*int64(stat.Bsize) - min(total/20, 1<<30)
	if free < s.headroom {
		s.ballast.release()
		s.free.Store(free)
	}
	return free
}

const ballastFile = "BALLAST"

// ballast is a file that takes up room for no other reason than to give it back when others
// fill the disk: what Badger has still to write by itself then finds a place, and its memory
// maps do not break.
type ballast struct {
	path string
	size int64
	held atomic.Bool
}

// mostBallast is more than Badger writes by itself while nothing is written and no value log
// file rewritten: memtables and tables.
const mostBallast = 16 << 20

// hold takes the room. It is best effort.
func (b *ballast) hold() {
	if b.held.Load() {
		return
	}
	f, err := os.OpenFile(b.path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	b.held.Store(allocate(f, b.size) == nil)
}

// taken is how many bytes it takes up.
func (b *ballast) taken() int64 {
	if b.held.Load() {
		return b.size
	}
	return 0
}

// release gives the room back.
func (b *ballast) release() {
	if b.held.Swap(false) {
		_ = os.Truncate(b.path, 0) // if it fails, the room is taken as before
	}
}

// problem says what keeps writes out, "" if nothing does.
func (s *space) problem() string {
	used := s.used.Load() + s.since.Load()
	switch free := s.free.Load() - s.since.Load(); {
	case free < s.headroom:
		return fmt.Sprintf("the disk is full: %d bytes less than %s needs to stay away from its end; make room on it, or lower cache.warm_bytes", s.headroom-free, s.dir)
	case used > s.limit():
		return "the tier is full, and room is being made"
	}
	return ""
}

// measure counts allocated blocks, not file sizes: Badger's files are sparse.
func (s *space) measure() {
	before := s.since.Load()
	s.used.Store(size.OnDisk(s.dir) - s.ballast.taken()) // which is not for values
	s.since.Add(-before)
	free := s.look()
	s.free.Store(free)
	if free > 3*s.headroom {
		s.ballast.hold()
	}
}

// full reports that more than so many tenths of the limit are taken.
func (s *space) full(tenths int64) bool {
	return s.used.Load()+s.since.Load() > s.limit()/10*tenths || s.free.Load() < 2*s.headroom
}

// Room is made from when highTenths of the limit are taken until lowTenths are:
// what lies between is for writes that come meanwhile.
const (
	highTenths = 9
	lowTenths  = 8
	// crowdedTenths is from when on a value has to be popular to come in: below
	// where making room ends, or what nobody asks for again would fill the room
	// that was made.
	crowdedTenths = 7
)

const (
	// tick is how often space is measured; fastTick is how often it is made
	// while it is short.
	tick     = 250 * time.Millisecond
	fastTick = 25 * time.Millisecond
	// liveShare is the part of the limit that live values keep whatever happens:
	// when there is no room beside so few of them, it is rewrites that are due.
	liveShare = 2
	// sweepShare is the part of the limit that one tick evicts, and sweepLeast
	// the bytes that it evicts of a small one: each tick has a cost of its own.
	sweepShare = 16
	sweepLeast = 4 << 20
)

// Run measures the disk, evicts and reclaims space until ctx ends.
func (t *Tier) Run(ctx context.Context) error {
	timer := time.NewTimer(tick)
	defer timer.Stop()
	var hand hand
	t.scan(nil, nil, func(_ []byte, size int64) bool {
		t.live.Add(size)
		return ctx.Err() == nil
	})
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if !t.whole() {
			return nil
		}
		t.space.measure()
		t.makeRoom(&hand)
		if hand.busy {
			timer.Reset(fastTick)
		} else {
			timer.Reset(tick)
		}
	}
}

// makeRoom evicts when the disk is nearly full of live data, and lets Badger
// rewrite value log files. What was evicted comes back only with a rewrite, so
// while there is plenty of it nothing more is evicted.
func (t *Tier) makeRoom(h *hand) {
	h.busy = t.space.full(highTenths) || h.busy && t.space.full(lowTenths)
	t.crowded.Store(t.space.full(crowdedTenths))
	if t.off.Load() {
		return
	}
	if t.space.free.Load() < vlogFileSize(t.config.Quota) {
		return // others have filled the disk: without room for a file that is rewritten none is freed
	}
	if h.busy && h.owed < t.space.limit()/3 && t.live.Load() > t.space.limit()/liveShare {
		h.owed += t.sweep(h, max(t.space.limit()/sweepShare, sweepLeast))
	}
	if h.busy && t.removed.Swap(0) > 0 {
		t.stir()
	}
	ratio := 0.5
	if h.busy {
		ratio = 0.2
	}
	before := t.space.used.Load()
	for range 4 {
		err := t.gate.rewrite(func() error { return t.db.RunValueLogGC(ratio) })
		if err != nil {
			if !errors.Is(err, badger.ErrNoRewrite) && !errors.Is(err, badger.ErrRejected) {
				t.config.Log.Warn("the warm tier could not reclaim space", "error", err)
			}
			break
		}
	}
	t.space.measure()
	freed := before - t.space.used.Load()
	h.owed = max(0, h.owed-max(freed, 0))
	if h.busy && freed <= 0 {
		h.owed -= h.owed / 8 // what did not come back may never: evict more
	}
}

// stir makes Badger notice what was removed. It learns how much of a value log
// file is garbage only when it compacts tables, and it compacts only when
// memtables fill up; with large values those hold so few keys that this would
// never happen. So one memtable is filled with padding, always under the same
// keys.
func (t *Tier) stir() {
	batch := t.db.NewWriteBatch()
	defer batch.Cancel()
	padding := make([]byte, valueThreshold/2)
	for n := range 2 * memTableSize / valueThreshold {
		if err := batch.Set(fmt.Appendf(nil, "%cpadding%d", metaPrefix, n), padding); err != nil {
			return // the next tick tries again
		}
	}
	if err := t.gate.write(batch.Flush); err != nil {
		t.config.Log.Warn("the warm tier could not reclaim space", "error", err)
	}
}

// hand is the position of the clock that sweeps over all keys, and the bytes
// it evicted that the disk has not given back yet.
type hand struct {
	next []byte
	owed int64
	seen int64 // bytes of the values that stayed in this pass
	busy bool  // room is being made
}

// sweep moves the hand on until it has evicted want bytes or passed every key
// once: what was used since the last pass gets another one.
func (t *Tier) sweep(h *hand, want int64) (bytes int64) {
	wrapped := false
	t.popular.learn()
	t.popular.Holds(t.space.limit() / max(t.average.Load(), 1))
	for bytes < want {
		var victims [][]byte
		seen := 0
		start := h.next
		h.next = nil
		t.scan(nil, start, func(key []byte, size int64) bool {
			seen++
			if seen > 4096 || bytes >= want {
				h.next = key
				return false
			}
			h.seen += size
			if (key[0] == entryPrefix || key[0] == blockPrefix) && !t.pins.has(key) && !t.heat.cool(key) {
				victims = append(victims, key)
				bytes += size
				h.seen -= size
				t.live.Add(-size)
				if size >= valueThreshold {
					t.popular.evicted(popularityKey(key))
				}
			}
			return true
		})
		for _, key := range victims {
			gone := [][]byte{key}
			if key[0] == entryPrefix { // what lies beside it goes with it
				gone = append(gone, companion(summaryPrefix, key), companion(accessPrefix, key))
			}
			if err := t.remove(gone...); err != nil {
				return bytes
			}
			t.counters.evicted.Inc()
		}
		if h.next == nil { // all were seen: what is live is known
			t.live.Store(h.seen)
			h.seen = 0
			if wrapped {
				break
			}
			wrapped = true
		}
	}
	return bytes
}

// Problem says why the tier takes nothing more, "" if it does.
func (t *Tier) Problem() string {
	if why := t.why.Load(); why != nil {
		return "switched off until restart: " + *why
	}
	return t.space.problem()
}

// Full reports whether room is being made: the tier has taken what it may.
func (t *Tier) Full() bool { return t.space.used.Load()+t.space.since.Load() > t.space.limit() }

// Used is the disk space that the tier occupies, in bytes, as last measured
// plus what was written since.
func (t *Tier) Used() int64 { return t.space.used.Load() + t.space.since.Load() }
