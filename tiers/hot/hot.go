// Package hot is the memory tier: a map that is bounded by the weight of its values in bytes and
// keeps those used often and recently (W-TinyLFU, from otter).
//
// When it is full, it admits a value only if the value was offered before, recently. So values that
// are read once, as by a scan, are not admitted.
//
// It promises only to stay within its bound and never to change a value. It may refuse or evict any
// value at any time, except pinned ones.
package hot

import (
	"iter"

	"github.com/maypok86/otter/v2"

	"github.com/akidb/akigw/internal/popular"
)

// Cache is the memory tier. Its methods are safe for concurrent use. Values are shared with all
// readers and must not be changed after Put.
type Cache[K comparable, V any] struct {
	values  *otter.Cache[K, V]
	max     int64 // bytes
	id      func(K, V) uint64
	offered *popular.Sketch
	pins    pins[K, V]
}

// counters is the size of the sketch of offered values: 1 MiB.
const counters = 1 << 18

// New returns a cache of at most maxBytes, as measured by weigh (bytes of one entry including its
// overhead). id is a hash of a key and its value, by which a repeated offer is recognised. With
// maxBytes 0 the cache stores nothing.
func New[K comparable, V any](maxBytes int64, weigh func(K, V) uint32, id func(K, V) uint64) *Cache[K, V] {
	if maxBytes <= 0 {
		return &Cache[K, V]{}
	}
	return &Cache[K, V]{max: maxBytes, id: id, pins: pins[K, V]{most: maxBytes / 4 * 3, weigh: weigh}, offered: popular.New(counters), values: otter.Must(&otter.Options[K, V]{
		MaximumWeight: uint64(maxBytes),
		Weigher:       weigh,
		// Eviction on the writer's own goroutine: the bound holds when Put
		// returns, and there is no goroutine to wait for.
		Executor: func(task func()) { task() },
	})}
}

// Get returns a value and counts the access.
func (c *Cache[K, V]) Get(key K) (V, bool) {
	if c.values == nil {
		var none V
		return none, false
	}
	if v, ok := c.pins.get(key); ok {
		return v, true
	}
	return c.values.GetIfPresent(key)
}

// Peek is Get without counting an access.
func (c *Cache[K, V]) Peek(key K) (V, bool) {
	if c.values == nil {
		var none V
		return none, false
	}
	if v, ok := c.pins.get(key); ok {
		return v, true
	}
	e, ok := c.values.GetEntryQuietly(key)
	return e.Value, ok
}

// Has reports whether a key has a value, without counting an access.
func (c *Cache[K, V]) Has(key K) bool {
	_, ok := c.Peek(key)
	return ok
}

// Put offers a value, and reports whether it was admitted. From then on an admitted value is shared
// with readers. It may be evicted at once.
func (c *Cache[K, V]) Put(key K, value V) (taken bool) {
	if c.values == nil {
		return false
	}
	count, halved := c.offered.Count(c.id(key, value))
	if halved {
		c.offered.Holds(int64(c.values.EstimatedSize()))
	}
	if count <= 1 && c.values.WeightedSize() >= uint64(c.max-c.pins.bytes.Load())/10*9 && !c.Has(key) {
		return false
	}
	c.values.Set(key, value)
	return true
}

// Keep admits a value however rarely it was requested before, because it is expected to be
// requested. It may still be evicted at once.
func (c *Cache[K, V]) Keep(key K, value V) {
	if c.values != nil {
		c.values.Set(key, value)
	}
}

// Drop removes a value.
func (c *Cache[K, V]) Drop(key K) {
	if c.values != nil {
		c.pins.remove(key, c.resize)
		c.values.Invalidate(key)
	}
}

// All iterates over the values. Values that are added or removed meanwhile may or may not be
// included. It counts no accesses.
func (c *Cache[K, V]) All() iter.Seq2[K, V] {
	if c.values == nil {
		return func(func(K, V) bool) {}
	}
	return func(yield func(K, V) bool) {
		for key, value := range c.pins.values.Range {
			if !yield(key.(K), value.(V)) {
				return
			}
		}
		c.values.All()(yield)
	}
}

// Bytes is the weight of all values.
func (c *Cache[K, V]) Bytes() int64 {
	if c.values == nil {
		return 0
	}
	return int64(c.values.WeightedSize()) + c.Pinned()
}

// Len is the approximate number of values.
func (c *Cache[K, V]) Len() int {
	if c.values == nil {
		return 0
	}
	return c.values.EstimatedSize() + int(c.pins.count.Load())
}

// Close stops the background goroutines of the cache.
func (c *Cache[K, V]) Close() error {
	if c.values != nil {
		c.values.StopAllGoroutines()
	}
	return nil
}

// MostPinned is how many bytes can be pinned: three quarters of the bound.
func (c *Cache[K, V]) MostPinned() int64 { return c.pins.most }

// Pin keeps a value of a group until it is dropped or its group is released. It returns false if
// there is no space for it.
func (c *Cache[K, V]) Pin(group uint64, key K, value V) bool {
	if c.values == nil || !c.pins.add(group, key, value, c.resize) {
		return false
	}
	c.values.Invalidate(key)
	return true
}

// Release ends the pins of a group. With keep its values become ordinary ones; without it they are
// removed.
func (c *Cache[K, V]) Release(group uint64, keep bool) {
	for key, value := range c.pins.release(group, c.resize) {
		if keep {
			c.values.Set(key, value)
		}
	}
}

// resize leaves the other values the space that pins do not use.
func (c *Cache[K, V]) resize(pinned int64) { c.values.SetMaximum(uint64(c.max - pinned)) }

// Pinned is the weight of the pinned values.
func (c *Cache[K, V]) Pinned() int64 { return c.pins.bytes.Load() }

// Groups returns the groups with pinned values.
func (c *Cache[K, V]) Groups() []uint64 { return c.pins.all() }
