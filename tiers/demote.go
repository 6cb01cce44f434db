package tiers

import (
	"github.com/akidb/akigw"
)

// KeepOnDisk makes sure that what memory has of an object is on disk, too. It asks nobody. Errors:
// ErrTierOff, ErrNoRoom, akigw.ErrChanged.
func (c *catalog) KeepOnDisk(key akigw.Key) error {
	settings := c.settings(key)
	if err := c.admits(akigw.Warm, key, settings); err != nil {
		return err
	}
	c.fence.enter(key)
	defer c.fence.leave(key)
	e := c.peek(key)
	if e == nil {
		return nil
	}
	if c.small(e) {
		if e.body == nil || c.onDisk(e) {
			return nil
		}
		err := c.publishWanted(e)
		if err == nil && !c.onDisk(e) {
			err = c.notKept(e, "on disk")
		}
		return err
	}
	for n := range e.blocksUpTo(e.Size) {
		v, ok := c.hot.Peek(hotKey{blocks: e.blocks, n: n})
		if !ok {
			continue
		}
		if err := c.putOnDisk(settings, e, n, v.block); err != nil {
			return err
		}
	}
	if !c.warm.HasEntry(key) {
		return c.publishWanted(e)
	}
	return nil
}

// LeaveMemory takes an object out of memory, and returns how many bytes of it there were.
func (c *catalog) LeaveMemory(key akigw.Key) (bytes int64) {
	e := c.peek(key)
	if e == nil {
		return 0
	}
	return c.dropFromHot(e)
}

// dropFromHot returns how many bytes there were.
func (c *catalog) dropFromHot(e *entry) (bytes int64) {
	if v, ok := c.hot.Peek(hotKey{key: e.Key}); ok && v.entry.body != nil {
		bytes += e.Size
	}
	c.hot.Drop(hotKey{key: e.Key})
	if c.small(e) {
		return bytes
	}
	for n := range e.blocksUpTo(e.Size) {
		if key := (hotKey{blocks: e.blocks, n: n}); c.hot.Has(key) {
			c.hot.Drop(key)
			bytes += e.blockLen(n)
		}
	}
	return bytes
}

// Leave takes the bytes of an object out of memory and off the disk, and returns how many there
// were. What is known of the object stays.
func (c *catalog) Leave(key akigw.Key) (bytes int64) {
	c.fence.enter(key)
	defer c.fence.leave(key)
	e := c.peek(key)
	if e == nil {
		return 0
	}
	bytes = c.dropFromHot(e)
	if c.warm == nil {
		return bytes
	}
	held := c.warm.DropBlocks(e.blocks) > 0
	if record, ok := c.warm.PeekEntry(key); ok {
		if on, err := decodeEntry(record); err == nil && on.body != nil && e.Size > 0 {
			held = true
			on.body = nil
			c.publish(on)
		}
	}
	if held {
		bytes = e.Size
	}
	return bytes
}
