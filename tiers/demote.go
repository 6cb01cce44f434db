package tiers

import (
	"github.com/akidb/akigw"
)

// KeepOnDisk ensures that the bytes of an object that are in memory are also on disk. It sends no
// request to the upstream. Errors: ErrTierOff, ErrNoRoom, akigw.ErrChanged.
func (m *mover) KeepOnDisk(key akigw.Key) error {
	settings := m.settings(key)
	if err := m.admits(akigw.Warm, key, settings); err != nil {
		return err
	}
	m.fence.enter(key)
	defer m.fence.leave(key)
	e := m.peek(key)
	if e == nil {
		return nil
	}
	if m.small(e) {
		if e.body == nil || m.onDisk(e) {
			return nil
		}
		err := m.publishWanted(e)
		if err == nil && !m.onDisk(e) {
			err = m.notKept(e, "on disk")
		}
		return err
	}
	for n := range e.blocksUpTo(e.Size) {
		v, ok := m.hot.Peek(hotKey{extent: e.extent, n: n})
		if !ok || !v.block.hold() {
			continue
		}
		err := m.putOnDisk(settings, e, n, v.block.data)
		v.block.release()
		if err != nil {
			return err
		}
	}
	if !m.warm.HasEntry(key) {
		return m.publishWanted(e)
	}
	return nil
}

// LeaveMemory removes an object from memory, and returns how many of its bytes were there.
func (m *mover) LeaveMemory(key akigw.Key) (bytes int64) {
	e := m.peek(key)
	if e == nil {
		return 0
	}
	return m.dropFromHot(e)
}

// dropFromHot removes an object from memory, and returns how many of its bytes were there.
func (m *mover) dropFromHot(e *entry) (bytes int64) {
	if v, ok := m.hot.Peek(hotKey{key: e.Key}); ok && v.entry.body != nil {
		bytes += e.Size
	}
	m.hot.Drop(hotKey{key: e.Key})
	if m.small(e) {
		return bytes
	}
	for n := range e.blocksUpTo(e.Size) {
		if key := (hotKey{extent: e.extent, n: n}); m.hot.Has(key) {
			m.hot.Drop(key)
			bytes += e.blockLen(n)
		}
	}
	return bytes
}

// Leave removes the bytes of an object from memory and disk, and returns how many there were. Its
// metadata stays.
func (m *mover) Leave(key akigw.Key) (bytes int64) {
	m.fence.enter(key)
	defer m.fence.leave(key)
	e := m.peek(key)
	if e == nil {
		return 0
	}
	bytes = m.dropFromHot(e)
	if m.warm == nil {
		return bytes
	}
	held := m.warm.DropBlocks(e.extent) > 0
	if record, ok := m.warm.PeekEntry(key); ok {
		if on, err := decodeEntry(record); err == nil && on.body != nil && e.Size > 0 {
			held = true
			on.body = nil
			m.publish(on)
		}
	}
	if held {
		bytes = e.Size
	}
	return bytes
}
