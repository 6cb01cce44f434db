package blockfile

import (
	"cmp"
	"errors"
	"slices"
)

// Seal writes the footers of segments that take no more records. Until then a segment takes memory for
// what its footer will say, and the next start reads it by the headers of its records.
func (s *Store) Seal() (err error) {
	for _, seg := range s.unsealed() {
		err = errors.Join(err, s.seal(seg))
	}
	return err
}

// seal writes the footer of a segment that takes no more records.
func (s *Store) seal(seg *segment) error {
	s.mu.RLock()
	records, end := seg.records, seg.end
	s.mu.RUnlock()
	disk, err := seg.seal(s.ring, records, end)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.sealed, seg.records, seg.disk = true, nil, disk
	seg.end += int64(len(records))*entryBytes + headBytes
	return nil
}

// list returns the records of a segment.
func (s *Store) list(seg *segment) ([]record, error) {
	s.mu.RLock()
	records, sealed := seg.records, seg.sealed
	s.mu.RUnlock()
	if !sealed {
		return records, nil
	}
	info, err := seg.file.Stat()
	if err != nil {
		return nil, err
	}
	records, _, err = s.ring.read(seg.file, seg.number, info.Size())
	return records, err
}

// hand is the hand of the clock: the next record that Sweep looks at, by its segment and its number there.
type hand struct {
	segment uint32
	record  int
}

// Sweep evicts blocks. It moves a hand over the segments, in the order in which they were written, until
// it has evicted a number of bytes or has passed all: a block stays if keep, which gets its size in bytes,
// returns true. It returns how many bytes it has evicted. Compact gives them back to the disk.
func (s *Store) Sweep(bytes int64, keep func(id ID, size int64) bool) (evicted int64) {
	all := s.all()
	next, _ := slices.BinarySearchFunc(all, s.hand.segment, func(seg *segment, n uint32) int { return cmp.Compare(seg.number, n) })
	for i := range all {
		if evicted >= bytes {
			break
		}
		seg := all[(next+i)%len(all)]
		if seg.number != s.hand.segment {
			s.hand = hand{segment: seg.number}
		}
		evicted += s.sweep(seg, bytes-evicted, keep)
	}
	return evicted
}

// sweep evicts blocks of the hand's segment, and moves the hand to the next one when it has passed all of
// them. A segment whose records cannot be listed is evicted as a whole.
func (s *Store) sweep(seg *segment, bytes int64, keep func(id ID, size int64) bool) (evicted int64) {
	records, err := s.list(seg)
	if err != nil {
		s.hand = hand{segment: seg.number + 1}
		return s.lose(seg)
	}
	for ; s.hand.record < len(records); s.hand.record++ {
		if evicted >= bytes {
			return evicted
		}
		r := &records[s.hand.record]
		i := itemOf(seg, r)
		if r.kind == blockRecord && s.current(i) && !keep(r.ID, i.size()) {
			s.drop(i)
			evicted += max(i.size(), s.options.LeastBytes)
		}
	}
	s.hand = hand{segment: seg.number + 1}
	return evicted
}

// Compact removes segments of which at least a share is garbage, those with the most of it first. What
// lives in them is copied, at most about as many bytes as budget says; the next call goes on from there.
// It returns how many bytes it has copied, and how many the segments had that it removed.
func (s *Store) Compact(share float64, budget int64) (copied, removed int64, err error) {
	for _, seg := range s.garbage(share) {
		if s.hand.record > 0 && s.hand.segment == seg.number {
			continue // Sweep is about to evict more of it
		}
		moved, done, failed := s.move(seg, budget-copied)
		copied += moved
		if failed != nil || !done {
			return copied, removed, failed
		}
		size, err := s.remove(seg)
		if err != nil {
			return copied, removed, err
		}
		removed += size
	}
	return copied, removed, nil
}

// move copies what lives in a segment to another one, until budget bytes were copied. done says that
// nothing lives in it any more.
func (s *Store) move(seg *segment, budget int64) (copied int64, done bool, err error) {
	records, err := s.list(seg)
	if err != nil {
		s.lose(seg)
		return 0, true, nil
	}
	var buffer []byte
	for _, r := range records {
		i := itemOf(seg, &r)
		if r.kind != blockRecord || !s.current(i) {
			continue
		}
		if copied >= budget {
			return copied, false, nil
		}
		if buffer, err = s.copy(seg, i, buffer); err != nil {
			return copied, false, err
		}
		copied += i.size()
	}
	for _, r := range records {
		if r.kind == freeRecord && s.buried(&r) {
			if err := s.append(&s.copies, &r, nil, func(*segment) {}); err != nil {
				return copied, false, err
			}
		}
	}
	return copied, true, nil
}

// copy writes a block to another segment, with the write number that it has. It uses buffer, and returns
// it for the next one. A damaged block is dropped.
func (s *Store) copy(seg *segment, i item, buffer []byte) ([]byte, error) {
	r, payload, err := s.read(seg, i, func(byte, int) []byte { return buffer })
	if err != nil {
		s.drop(i)
		if s.options.Damaged != nil {
			s.options.Damaged(ID{Extent: i.extent, N: int64(i.n)}, err)
		}
		return buffer, nil
	}
	err = s.append(&s.copies, &r, payload, func(to *segment) {
		if s.dropLocked(i) {
			s.addLocked(to, &r)
		} else {
			s.deadLocked(&r)
		}
	})
	return payload, err
}

// remove removes a segment in which nothing lives, and returns its size. Extents whose last dead blocks
// it had need no record of their end any more.
func (s *Store) remove(seg *segment) (size int64, err error) {
	records, _ := s.list(seg) // without them records of ends are kept for longer than necessary
	if err := seg.remove(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.segments, seg.number)
	for _, r := range records {
		f, ok := s.freed[r.Extent]
		if !ok || r.kind != blockRecord || r.write > f.write {
			continue
		}
		if f.left--; f.left <= 0 {
			delete(s.freed, r.Extent)
		} else {
			s.freed[r.Extent] = f
		}
	}
	return seg.end, nil
}
