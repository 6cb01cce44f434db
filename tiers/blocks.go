package tiers

import (
	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/warm"
)

// block returns block n of e from memory or disk, and the tier that had it; nil if neither has it.
// The bytes are shared and must not be changed. With borrow they may come from c.buffers: then no
// one else has them, and the caller returns them there.
func (c *catalog) block(e *entry, n int64, borrow bool) (data []byte, tier akigw.Outcome, lent bool) {
	key := hotKey{extent: e.extent, n: n}
	if v, ok := c.hot.Get(key); ok {
		return v.block, akigw.Hot, false
	}
	if c.warm == nil {
		return nil, akigw.Cold, false
	}
	var buffer []byte
	if borrow {
		buffer = c.buffers.get(e.block)
	}
	data, ok := c.warm.Block(e.warmRun(), n, buffer)
	lent = len(data) > 0 && cap(buffer) > 0 && &data[0] == &buffer[:1][0]
	if !lent {
		c.buffers.put(buffer)
	}
	if !ok || int64(len(data)) != e.blockLen(n) {
		return nil, akigw.Cold, false
	}
	switch settings := c.settings(e.Key); {
	case settings.PinHot:
		c.keepInMemory(e.Key, settings, e.extent, key, hotValue{block: data})
		lent = false
	case settings.Memory && c.hot.Put(key, hotValue{block: data}):
		lent = false
	}
	return data, akigw.Warm, lent
}

// putBlock stores block n of an extent of an object, where the settings of its key allow it. wanted
// means that it will be read soon, however rarely it was requested before.
func (c *catalog) putBlock(object akigw.Key, settings *rules.Settings, run warm.Run, n int64, data []byte, wanted bool) {
	if key := (hotKey{extent: run.ID, n: n}); settings.Memory && (wanted || settings.PinHot) {
		c.keepInMemory(object, settings, run.ID, key, hotValue{block: data})
	} else if settings.Memory {
		c.hot.Put(key, hotValue{block: data})
	}
	if c.warm != nil && settings.Disk {
		run.Handling = handling(settings)
		run.Wanted = run.Wanted || wanted
		c.warm.PutBlock(run, n, data)
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
