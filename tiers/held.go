package tiers

import (
	"slices"

	"github.com/akidb/akigw"
)

// Held says how many blocks of each object are in memory and on disk, as of one moment.
type Held struct {
	blocks  map[uint64]int64 // blocks in memory, by extent
	bodies  map[uint64]bool  // extents of small objects that are in memory
	extents []uint64         // extents on disk, in ascending order
	numbers []int64          // number of blocks of each extent
}

// Bytes returns how many bytes of an object were in memory and on disk.
func (h *Held) Bytes(k Known) (memory, disk int64) {
	var blocks int64
	if i, ok := slices.BinarySearch(h.extents, k.extent); ok {
		blocks = h.numbers[i]
	}
	return k.bytes(h.bodies[k.extent], h.blocks[k.extent]), k.bytes(k.held, blocks)
}

// bytes returns how many bytes of an object a tier holds that has this many of its blocks, or its
// body in the record.
func (s *summary) bytes(body bool, blocks int64) int64 {
	if body {
		return s.Size
	}
	return min(s.Size, blocks*s.block)
}

// Held takes stock of both tiers. It costs less than calling HeldOf for thousands of objects.
func (d directory) Held() *Held {
	h := &Held{blocks: map[uint64]int64{}, bodies: map[uint64]bool{}}
	for k, v := range d.hot.All() {
		switch {
		case v.block != nil:
			h.blocks[k.extent]++
		case v.entry != nil && v.entry.body != nil:
			h.bodies[v.entry.extent] = true
		}
	}
	if d.warm != nil {
		d.warm.Runs(func(extent uint64, blocks int64) bool {
			h.extents, h.numbers = append(h.extents, extent), append(h.numbers, blocks)
			return true
		})
	}
	return h
}

// HeldOf returns how many bytes of one object are in memory and on disk.
func (d directory) HeldOf(k Known) (memory, disk int64) {
	var inMemory, onDisk int64
	for n := range (k.Size + k.block - 1) / k.block {
		if d.hot.Has(hotKey{extent: k.extent, n: n}) {
			inMemory++
		}
	}
	if d.warm != nil && !k.held {
		onDisk = d.warm.Blocks(k.extent)
	}
	e := d.peekHot(k.Key)
	return k.bytes(e != nil && e.extent == k.extent && e.body != nil, inMemory), k.bytes(k.held, onDisk)
}

// Whole reports whether all of an object is in a tier, Hot or Warm, and returns its ETag, "" if the
// object is unknown. It sends no request to the upstream and counts no access.
func (d directory) Whole(key akigw.Key, tier akigw.Outcome) (etag string, whole bool) {
	e := d.peek(key)
	if e == nil {
		return "", false
	}
	if tier == akigw.Hot {
		return e.ETag, d.inMemory(e)
	}
	return e.ETag, d.warm != nil && d.onDisk(e)
}
