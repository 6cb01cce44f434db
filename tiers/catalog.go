package tiers

import (
	"math/bits"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/warm"
)

// catalog records which object each key holds, as far as that is known, and where its bytes are:
// entries and blocks in memory and on disk, under the fence. It does no upstream I/O.
type catalog struct {
	*storage
	fence   *fence
	rules   Rules
	pins    Pins
	origins origins
	own     func(akigw.Key) bool // see Overlay.Own
}

// origins tells which endpoint objects come from, see Upstream.
type origins interface{ Origin(bucket string) uint64 }

// Settings returns the settings of a key under the rules and the pins. They are shared.
func (c *catalog) Settings(key akigw.Key) *rules.Settings { return c.settings(key) }

func (c *catalog) settings(key akigw.Key) *rules.Settings {
	settings := c.rules.For(key.Bucket, key.Name)
	if c.own(key) { // nothing ever replaces it
		own := *settings
		own.Freshness = rules.Immutable
		return &own
	}
	return c.pins.Apply(key, settings)
}

// lookup returns the live entry of a key and the tier that had it.
func (c *catalog) lookup(key akigw.Key) (*entry, akigw.Outcome) {
	if v, ok := c.hot.Get(hotKey{key: key}); ok && v.entry.absent == nil && c.fence.alive(key, v.entry.Generation) {
		return v.entry, akigw.Hot
	}
	if c.warm == nil {
		return c.lookupCurrent(key)
	}
	c.fence.enter(key)
	defer c.fence.leave(key)
	record, ok := c.warm.Entry(key)
	if !ok {
		return c.lookupCurrent(key)
	}
	e, err := decodeEntry(record)
	if err != nil || e.Key != key {
		c.log.Warn("dropped a malformed catalog entry", "key", key.String())
		c.dropEntry(key)
		return nil, akigw.Cold
	}
	if e.origin != c.origins.Origin(key.Bucket) {
		c.dropEntry(key) // the bucket belongs to another upstream now
		c.freeBlocks(e.extent)
		return nil, akigw.Cold
	}
	if !c.remember(e) {
		return nil, akigw.Cold
	}
	return e, akigw.Warm
}

// peek is lookup without moving anything between tiers or counting an access.
func (c *catalog) peek(key akigw.Key) *entry {
	if e := c.peekHot(key); e != nil {
		return e
	}
	if c.warm == nil {
		return nil
	}
	record, ok := c.warm.PeekEntry(key)
	if !ok {
		return nil
	}
	e, err := decodeEntry(record)
	if err != nil || e.Key != key || e.origin != c.origins.Origin(key.Bucket) || !c.fence.alive(key, e.Generation) {
		return nil
	}
	return e
}

// peekHot is peek in memory only.
func (c *catalog) peekHot(key akigw.Key) *entry {
	if v, ok := c.hot.Peek(hotKey{key: key}); ok && v.entry.absent == nil && c.fence.alive(key, v.entry.Generation) {
		return v.entry
	}
	return nil
}

// lookupCurrent looks for the version that key asks for in the entry of the current version. From
// then on the two share their bytes.
func (c *catalog) lookupCurrent(key akigw.Key) (*entry, akigw.Outcome) {
	if key.Version == "" {
		return nil, akigw.Cold
	}
	current, outcome := c.lookup(key.Current())
	if current == nil || current.VersionID() != key.Version {
		return nil, akigw.Cold
	}
	e := *current
	e.Key = key
	return &e, outcome
}

// remember puts an entry into memory, unless a write has overtaken it. The caller has entered the
// key's fence, so one of the two checks sees a write that happens in between.
func (c *catalog) remember(e *entry) bool { return c.rememberAs(e, c.settings(e.Key), false) }

// rememberAs is remember under these settings, where wanted means that the entry is to be admitted
// however rarely it was requested.
func (c *catalog) rememberAs(e *entry, settings *rules.Settings, wanted bool) bool {
	if !c.fence.alive(e.Key, e.Generation) {
		return false
	}
	if e.body != nil && !settings.Memory {
		return true
	}
	key, value := hotKey{key: e.Key}, hotValue{entry: e}
	switch {
	case settings.PinHot:
		if v, ok := c.hot.Get(key); ok && v.entry.extent != e.extent {
			c.hot.Release(v.entry.extent, false)
		}
		c.keepInMemory(e.Key, settings, e.extent, key, value)
	case wanted:
		c.hot.Keep(key, value)
	default:
		c.hot.Put(key, value)
	}
	if c.fence.alive(e.Key, e.Generation) {
		return true
	}
	c.hot.Drop(key)
	return false
}

// keepInMemory stores a value of an object's extent in memory, pinned if its settings say so.
func (c *catalog) keepInMemory(object akigw.Key, settings *rules.Settings, extent uint64, key hotKey, value hotValue) {
	if !settings.PinHot || !c.hot.Pin(extent, key, value) {
		c.hot.Keep(key, value)
		return
	}
	if !c.settings(object).PinHot { // it was unpinned meanwhile, and that released only what was pinned before
		c.hot.Release(extent, true)
	}
}

// publish adds an entry to the catalog, in memory and on disk, under the same condition as
// remember, and unless a newer one is known.
func (c *catalog) publish(e *entry) {
	settings := c.settings(e.Key)
	c.publishAs(e, settings, handling(settings))
}

// publishAs is publish under these settings, with a given handling on disk.
func (c *catalog) publishAs(e *entry, settings *rules.Settings, how warm.Handling) {
	if v, ok := c.hot.Get(hotKey{key: e.Key}); ok && v.entry.Generation > e.Generation {
		return
	}
	if !c.rememberAs(e, settings, how.Wanted) || c.warm == nil {
		return
	}
	if !settings.Disk {
		c.dropOlder(e)
		return
	}
	if !c.putEntry(e, how) {
		c.dropOlder(e)
	}
	if settings.Pin {
		c.pinOnDisk(e.Key, e.extent, e.Size)
	}
	if !c.fence.alive(e.Key, e.Generation) {
		c.dropEntry(e.Key)
	}
}

// putEntry stores an entry on disk, and reports whether it did.
func (c *catalog) putEntry(e *entry, how warm.Handling) bool {
	const headers = 1 << 10 // of most objects; a record with more of them grows
	record := appendEntry(c.buffers.get(1<<bits.Len(uint(len(e.body)+headers))), e)
	defer c.buffers.put(record)
	return c.warm.PutEntry(e.Key, record, appendSummary(nil, e), how)
}

// dropOlder removes the on-disk entry of another version, if e does not replace it there: otherwise it
// would reappear when e leaves memory.
func (c *catalog) dropOlder(e *entry) {
	if !c.warm.HasEntry(e.Key) {
		return
	}
	if old := c.summaryOnDisk(e.Key); old == nil || old.extent != e.extent {
		c.dropOnDisk(e.Key)
	}
}

// dropEntry removes the entry of a key from both tiers, and unpins its blocks in memory.
func (c *catalog) dropEntry(key akigw.Key) {
	c.dropFromMemory(key)
	if c.warm != nil && c.warm.HasEntry(key) {
		c.dropOnDisk(key)
	}
}

// dropUpTo is dropEntry for what a response to a request of this generation, or an older one, has replaced or
// deleted. An entry of a later generation stays, of which the response says nothing: it comes from a write that
// has ended meanwhile, or from a later request.
func (c *catalog) dropUpTo(key akigw.Key, generation uint64) {
	if now := c.peekSummary(key); now == nil || now.Generation <= generation {
		c.dropEntry(key)
	}
}

// dropFromMemory is dropEntry for the memory tier alone.
func (c *catalog) dropFromMemory(key akigw.Key) {
	if v, ok := c.hot.Get(hotKey{key: key}); ok {
		c.hot.Release(v.entry.extent, false)
	}
	c.hot.Drop(hotKey{key: key})
}

// pinOnDisk pins an object on disk.
func (c *catalog) pinOnDisk(key akigw.Key, extent uint64, size int64) {
	if !c.warm.Pin(key, extent, size) {
		c.warm.Unpin(key) // what it had before
		c.log.Warn("an object was not pinned: three quarters of the warm tier are pinned already; make the tier larger or pin less", "key", key.String(), "bytes", size)
	}
	if !c.warm.HasEntry(key) { // dropped meanwhile
		c.warm.Unpin(key)
	}
}

// newEntry creates the entry of an object that was learned from an upstream request sent at asked.
func (c *catalog) newEntry(o akigw.Object, generation uint64, asked time.Time) *entry {
	o.Generation = generation
	return &entry{Object: o, extent: generation, object: objectNumber(o.Key), block: c.settings(o.Key).Block, origin: c.origins.Origin(o.Key.Bucket), validated: asked, epoch: c.epoch}
}

// peekSummary is peek without the bytes that may be stored in the record; held says whether they
// are on disk.
func (c *catalog) peekSummary(key akigw.Key) *summary {
	onDisk := c.summaryOnDisk(key)
	if e := c.peekHot(key); e != nil {
		sum := summaryOf(e)
		sum.held = onDisk != nil && onDisk.extent == sum.extent && onDisk.held
		return sum
	}
	if onDisk == nil || onDisk.origin != c.origins.Origin(key.Bucket) || !c.fence.alive(key, onDisk.Generation) {
		return nil
	}
	return onDisk
}

// summaryOnDisk returns the summary on disk, nil for none.
func (c *catalog) summaryOnDisk(key akigw.Key) *summary {
	if c.warm == nil || !c.warm.HasEntry(key) {
		return nil
	}
	record, ok := c.warm.Summary(key)
	if !ok {
		return nil
	}
	sum, err := decodeSummary(record)
	if err != nil || sum.Key != key {
		return nil
	}
	return sum
}
