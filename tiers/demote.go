package tiers

import (
	"github.com/akidb/akigw"
)

// KeepOnDisk makes sure that what memory has of an object is on disk, too. It asks nobody. Errors:
// ErrTierOff, ErrNoRoom, akigw.ErrChanged.
func (s *Store) KeepOnDisk(key akigw.Key) error {
	settings := s.settings(key)
	if err := s.admits(akigw.Warm, key, settings); err != nil {
		return err
	}
	s.fence.enter(key)
	defer s.fence.leave(key)
	e := s.peek(key)
	if e == nil {
		return nil
	}
	if s.small(e) {
		if e.body == nil || s.onDisk(e) {
			return nil
		}
		err := s.publishWanted(e)
		if err == nil && !s.onDisk(e) {
			err = s.notKept(e, "on disk")
		}
		return err
	}
	for n := range e.blocksUpTo(e.Size) {
		v, ok := s.hot.Peek(hotKey{blocks: e.blocks, n: n})
		if !ok {
			continue
		}
		if err := s.putOnDisk(settings, e, n, v.block); err != nil {
			return err
		}
	}
	if !s.warm.HasEntry(key) {
		return s.publishWanted(e)
	}
	return nil
}

// LeaveMemory takes an object out of memory, and returns how many bytes of it there were.
func (s *Store) LeaveMemory(key akigw.Key) (bytes int64) {
	e := s.peek(key)
	if e == nil {
		return 0
	}
	return s.dropFromHot(e)
}

// dropFromHot returns how many bytes there were.
func (s *Store) dropFromHot(e *entry) (bytes int64) {
	if v, ok := s.hot.Peek(hotKey{key: e.Key}); ok && v.entry.body != nil {
		bytes += e.Size
	}
	s.hot.Drop(hotKey{key: e.Key})
	if s.small(e) {
		return bytes
	}
	for n := range e.blocksUpTo(e.Size) {
		if key := (hotKey{blocks: e.blocks, n: n}); s.hot.Has(key) {
			s.hot.Drop(key)
			bytes += e.blockLen(n)
		}
	}
	return bytes
}

// Leave takes the bytes of an object out of memory and off the disk, and returns how many there
// were. What is known of the object stays.
func (s *Store) Leave(key akigw.Key) (bytes int64) {
	s.fence.enter(key)
	defer s.fence.leave(key)
	e := s.peek(key)
	if e == nil {
		return 0
	}
	bytes = s.dropFromHot(e)
	if s.warm == nil {
		return bytes
	}
	held := s.warm.DropBlocks(e.blocks) > 0
	if record, ok := s.warm.PeekEntry(key); ok {
		if on, err := decodeEntry(record); err == nil && on.body != nil && e.Size > 0 {
			held = true
			on.body = nil
			s.publish(on)
		}
	}
	if held {
		bytes = e.Size
	}
	return bytes
}
