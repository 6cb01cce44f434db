package blockfile

import (
	"maps"
	"math"
	"slices"
	"sync"
)

// table is what a store knows of its segments and blocks. It does no I/O. Methods whose names end in
// Locked need mu.
type table struct {
	mu       sync.RWMutex
	index    index               // guarded by mu
	segments map[uint32]*segment // by number; guarded by mu
	freed    map[uint64]freeing  // by extent; guarded by mu
	last     uint32              // the highest number of a segment; guarded by mu
	closed   bool                // guarded by mu
}

func newTable() table {
	return table{index: newIndex(), segments: map[uint32]*segment{}, freed: map[uint64]freeing{}}
}

// freeing is an extent that was freed: records of its blocks with lower write numbers are dead. It is
// known for as long as segments hold some of them.
type freeing struct {
	write uint64
	left  int // how many of them there are
}

// Stats describes a store.
type Stats struct {
	Segments, Blocks int
	// Live is the size of the records of all blocks in bytes, Size that of all segments.
	Live, Size int64
}

// count is how many blocks of an extent there are.
type count struct {
	extent uint64
	blocks int64
}

// extentBatch is how many extents are counted without releasing the lock.
const extentBatch = 1024

// addLocked adds a record of a block to the index, unless its extent was freed while it was written.
func (t *table) addLocked(seg *segment, r *record) {
	if t.deadLocked(r) {
		return
	}
	i := itemOf(seg, r)
	if old, replaced := t.index.set(i); replaced {
		t.segments[old.segment].live -= old.size()
	}
	seg.live += i.size()
}

// dropLocked removes an item from the index, if it is still the one of its block.
func (t *table) dropLocked(i item) bool {
	if now, ok := t.index.get(i); !ok || now != i {
		return false
	}
	t.index.remove(i)
	t.segments[i.segment].live -= i.size()
	return true
}

// deadLocked reports whether the extent of a record was freed after the record was written, and counts
// the record if so.
func (t *table) deadLocked(r *record) bool {
	f, ok := t.freed[r.Extent]
	if !ok || r.write > f.write {
		return false
	}
	f.left++
	t.freed[r.Extent] = f
	return true
}

// find returns the place of a block, and nil for a block that the store does not have.
func (t *table) find(id ID) (item, *segment) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	i, ok := t.index.get(item{extent: id.Extent, n: uint32(id.N)})
	if !ok || id.N < 0 || id.N > maxN {
		return item{}, nil
	}
	return i, t.segments[i.segment]
}

// drop removes an item from the index, if it is still the one of its block.
func (t *table) drop(i item) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropLocked(i)
}

// current reports whether an item is in the index.
func (t *table) current(i item) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	now, ok := t.index.get(i)
	return ok && now == i
}

// lose drops all blocks of a segment.
func (t *table) lose(seg *segment) (bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var items []item
	t.index.from(item{}, func(i item) bool {
		if i.segment == seg.number {
			items = append(items, i)
		}
		return true
	})
	for _, i := range items {
		t.dropLocked(i)
		bytes += i.size()
	}
	return bytes
}

// all returns the segments, by ascending number.
func (t *table) all() (all []*segment) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, number := range slices.Sorted(maps.Keys(t.segments)) {
		all = append(all, t.segments[number])
	}
	return all
}

// complete returns the segments that take no more records, by ascending number.
func (t *table) complete() []*segment {
	all := t.all()
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.DeleteFunc(all, func(seg *segment) bool { return !seg.full || seg.writers > 0 })
}

// unsealed returns the segments that a footer can be written for.
func (t *table) unsealed() (all []*segment) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, seg := range t.segments {
		if seg.full && !seg.sealed && seg.writers == 0 {
			all = append(all, seg)
		}
	}
	return all
}

// garbage returns the segments of which at least a share is garbage, those with the most of it first.
func (t *table) garbage(share float64) []*segment {
	shares := map[*segment]float64{}
	for _, seg := range t.complete() {
		t.mu.RLock()
		part := 1 - float64(seg.live)/float64(seg.end)
		if part >= share || seg.live == 0 {
			shares[seg] = part
		}
		t.mu.RUnlock()
	}
	return slices.SortedFunc(maps.Keys(shares), func(a, b *segment) int {
		switch {
		case shares[a] > shares[b]:
			return -1
		case shares[a] < shares[b]:
			return 1
		}
		return int(int64(a.number) - int64(b.number))
	})
}

// buried reports whether a record that frees an extent is still needed: because there are blocks that
// it frees, and no later one does.
func (t *table) buried(r *record) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.freed[r.Extent].write == r.write
}

// knownDisk returns what complete segments occupy, and the other segments.
func (t *table) knownDisk() (bytes int64, growing []*segment) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, seg := range t.segments {
		if seg.sealed {
			bytes += seg.disk
		} else {
			growing = append(growing, seg)
		}
	}
	return bytes, growing
}

// extentsFrom counts the blocks of the next extents from a number on.
func (t *table) extentsFrom(extent uint64) (counts []count) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	t.index.from(item{extent: extent}, func(i item) bool {
		if n := len(counts); n == 0 || counts[n-1].extent != i.extent {
			if n == extentBatch {
				return false
			}
			counts = append(counts, count{extent: i.extent})
		}
		counts[len(counts)-1].blocks++
		return true
	})
	return counts
}

// Has reports whether the store has a block, without reading it. Only Get knows whether it is intact,
// and whether it is of the ID's object.
func (t *table) Has(id ID) bool {
	_, seg := t.find(id)
	return seg != nil
}

// Count returns how many blocks of an extent the store has.
func (t *table) Count(extent uint64) (n int64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	t.index.ofExtent(extent, func(item) { n++ })
	return n
}

// Extents calls yield with each extent, by ascending number, and how many of its blocks the store has,
// until yield returns false.
func (t *table) Extents(yield func(extent uint64, blocks int64) bool) {
	for next := uint64(0); ; {
		counts := t.extentsFrom(next)
		for _, c := range counts {
			if !yield(c.extent, c.blocks) || c.extent == math.MaxUint64 {
				return
			}
			next = c.extent + 1
		}
		if len(counts) == 0 {
			return
		}
	}
}

// Newest is the highest number of an extent that the store has blocks of, 0 for none.
func (t *table) Newest() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.index.newest()
}

// Len is how many blocks the store has.
func (t *table) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.index.len()
}

// Live is the size of the records of all blocks in bytes.
func (t *table) Live() int64 { return t.Stats().Live }

// Stats returns the current state.
func (t *table) Stats() Stats {
	t.mu.RLock()
	defer t.mu.RUnlock()
	st := Stats{Segments: len(t.segments), Blocks: t.index.len()}
	for _, seg := range t.segments {
		st.Live += seg.live
		st.Size += seg.end
	}
	return st
}
