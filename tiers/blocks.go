package tiers

import (
	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/warm"
)

// block returns block n of e from memory or disk, and the tier that had it; nil if neither has it.
// The caller is a user of it.
func (c *catalog) block(e *entry, n int64) (*sharedBlock, akigw.Outcome) {
	key := hotKey{extent: e.extent, n: n}
	if v, ok := c.hot.Get(key); ok && v.block.hold() {
		return v.block, akigw.Hot
	}
	if c.warm == nil {
		return nil, akigw.Cold
	}
	b := c.fromDisk(e, n)
	if b == nil {
		return nil, akigw.Cold
	}
	if settings := c.settings(e.Key); settings.PinHot || settings.Memory {
		b = b.trim()
		if settings.PinHot {
			c.keepInMemory(e.Key, settings, e.extent, key, hotValue{block: b})
		} else {
			c.hot.Put(key, hotValue{block: b})
		}
	}
	return b, akigw.Warm
}

// fromDisk returns block n of e from disk, nil if it is not there. The caller is its only user.
func (c *catalog) fromDisk(e *entry, n int64) *sharedBlock {
	buffer := c.buffers.get(e.block)
	data, ok := c.warm.Block(e.warmRun(), n, buffer)
	if !ok || len(data) == 0 || int64(len(data)) != e.blockLen(n) {
		c.buffers.put(buffer)
		return nil
	}
	if &data[0] != &buffer[:1][0] { // it did not fit
		c.buffers.put(buffer)
		return newBlock(data, nil)
	}
	return newBlock(data, &c.buffers)
}

// newBlock returns a block for the bytes of block n of e. The caller is its only user, and writes the
// bytes before anyone else sees it.
func (c *catalog) newBlock(e *entry, n int64) *sharedBlock {
	if size := e.blockLen(n); size < e.block {
		return newBlock(make([]byte, size), nil)
	}
	return newBlock(c.buffers.get(e.block)[:e.block], &c.buffers)
}

// putBlock stores block n of an extent of an object, where the settings of its key allow it. wanted
// means that it will be read soon, however rarely it was requested before. The caller is a user of b.
func (c *catalog) putBlock(object akigw.Key, settings *rules.Settings, run warm.Run, n int64, b *sharedBlock, wanted bool) {
	if key := (hotKey{extent: run.ID, n: n}); settings.Memory && (wanted || settings.PinHot) {
		c.keepInMemory(object, settings, run.ID, key, hotValue{block: b})
	} else if settings.Memory {
		c.hot.Put(key, hotValue{block: b})
	}
	if c.warm != nil && settings.Disk {
		run.Handling = handling(settings)
		run.Wanted = run.Wanted || wanted
		c.warm.PutBlock(run, n, b.data)
	}
}

// onDisk reports whether all blocks of an object are on disk.
func (c *catalog) onDisk(e *entry) bool {
	if !c.warm.HasEntry(e.Key) {
		return false
	}
	if c.small(e) {
		on := c.summaryOnDisk(e.Key)
		return on != nil && on.extent == e.extent && (on.held || e.Size == 0)
	}
	for n := range e.blocksUpTo(e.Size) {
		if !c.warm.HasBlock(e.warmRun(), n) {
			return false
		}
	}
	return true
}

// inMemory reports whether all blocks of an object are in memory.
func (c *catalog) inMemory(e *entry) bool {
	if c.small(e) {
		v, ok := c.hot.Peek(hotKey{key: e.Key})
		return ok && v.entry.extent == e.extent && v.entry.body != nil
	}
	for n := range e.blocksUpTo(e.Size) {
		if !c.hot.Has(hotKey{extent: e.extent, n: n}) {
			return false
		}
	}
	return true
}

// bare reports whether neither the headers nor the bytes of a small object are known: it was
// written, and has left memory and disk since.
func (c *catalog) bare(e *entry) bool {
	return !e.known() && e.body == nil && c.small(e) && !c.onDisk(e) && c.locate(e, 0) == akigw.Cold
}

// small reports whether an object is stored as one entry together with its bytes.
func (c *catalog) small(e *entry) bool { return e.inline(int64(c.config.SmallBytes)) }
