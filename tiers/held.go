package tiers

import "slices"

// Held is how many blocks of each object are in memory and on disk, as of one moment.
type Held struct {
	blocks  map[uint64]int64 // blocks in memory, by extent
	bodies  map[uint64]bool  // extents of small objects that are in memory
	extents []uint64         // on disk, rising
	numbers []int64          // how many blocks each of them has
}

// Held looks at all that is held. It costs less than HeldOf for each of thousands of objects.
func (s *Store) Held() *Held {
	h := &Held{blocks: map[uint64]int64{}, bodies: map[uint64]bool{}}
	for k, v := range s.hot.All() {
		switch {
		case v.block != nil:
			h.blocks[k.blocks]++
		case v.entry != nil && v.entry.body != nil:
			h.bodies[v.entry.blocks] = true
		}
	}
	if s.warm != nil {
		s.warm.Runs(func(extent uint64, blocks int64) bool {
			h.extents, h.numbers = append(h.extents, extent), append(h.numbers, blocks)
			return true
		})
	}
	return h
}

// Bytes returns how many bytes of an object were in memory and on disk.
func (h *Held) Bytes(k Known) (memory, disk int64) {
	var blocks int64
	if i, ok := slices.BinarySearch(h.extents, k.blocks); ok {
		blocks = h.numbers[i]
	}
	return k.bytes(h.bodies[k.blocks], h.blocks[k.blocks]), k.bytes(k.held, blocks)
}

// HeldOf returns how many bytes of one object are in memory and on disk.
func (s *Store) HeldOf(k Known) (memory, disk int64) {
	var inMemory, onDisk int64
	for n := range (k.Size + k.block - 1) / k.block {
		if s.hot.Has(hotKey{blocks: k.blocks, n: n}) {
			inMemory++
		}
	}
	if s.warm != nil && !k.held {
		onDisk = s.warm.Blocks(k.blocks)
	}
	e := s.peekHot(k.Key)
	return k.bytes(e != nil && e.blocks == k.blocks && e.body != nil, inMemory), k.bytes(k.held, onDisk)
}

// bytes is how many bytes of an object a tier has that holds so many blocks of it, or its body
// with its record.
func (s *summary) bytes(body bool, blocks int64) int64 {
	if body {
		return s.Size
	}
	return min(s.Size, blocks*s.block)
}
