// Package hot is the memory tier: a map that is bounded by the weight of its values in bytes. It
// learns from what it has lost whether to keep what was used recently or what is used often (S3-FIFO
// with a small queue that adapts, see policy).
//
// It promises only to stay within its bound and never to change a value. It may refuse or evict any
// value at any time, except pinned ones.
package hot

import (
	"iter"
	"sync"
)

// Values says what a cache has to know about its values.
type Values[K comparable, V any] struct {
	// Weigh returns the bytes of one value including its overhead.
	Weigh func(K, V) uint32
	// ID returns a hash of a key and its value, by which a repeated offer is recognised.
	ID func(K, V) uint64
	// Kept and Lost are called when the cache takes a value, and when it no longer has it: each time
	// that Kept was called is followed by one call of Lost. A Get or an iteration that began before
	// may still return the value. They must not use the cache. nil: nothing is called.
	Kept, Lost func(V)
}

// Cache is the memory tier. Its methods are safe for concurrent use. Values are shared with all
// readers and must not be changed after Put.
type Cache[K comparable, V any] struct {
	Values[K, V]
	max    int64    // bytes; 0 for a cache that stores nothing
	values sync.Map // of K to *node[K, V]; changed while mu is held
	pins   pins[K, V]

	mu     sync.Mutex   // taken while that of pins is held, never the other way round
	policy policy[K, V] // guarded by mu
}

// New returns a cache of at most maxBytes. With maxBytes 0 the cache stores nothing.
func New[K comparable, V any](maxBytes int64, values Values[K, V]) *Cache[K, V] {
	if maxBytes <= 0 {
		return &Cache[K, V]{}
	}
	if values.Kept == nil {
		values.Kept = func(V) {}
	}
	if values.Lost == nil {
		values.Lost = func(V) {}
	}
	c := &Cache[K, V]{Values: values, max: maxBytes, pins: pins[K, V]{most: maxBytes / 4 * 3, weigh: values.Weigh}}
	c.policy = newPolicy(maxBytes, func(n *node[K, V]) {
		c.values.Delete(n.Value.key)
		c.Lost(n.Value.value)
	})
	return c
}

// NewSimulation returns a cache of numbers whose values are their weights in bytes. It shows what a
// cache of maxBytes would hit.
func NewSimulation(maxBytes int64) *Cache[uint64, uint32] {
	return New(maxBytes, Values[uint64, uint32]{
		Weigh: func(_ uint64, bytes uint32) uint32 { return bytes },
		ID:    func(id uint64, _ uint32) uint64 { return id },
	})
}

// find returns the item of a key that is not pinned, nil if there is none.
func (c *Cache[K, V]) find(key K) *item[K, V] {
	found, ok := c.values.Load(key)
	if !ok {
		return nil
	}
	return &found.(*node[K, V]).Value
}

// Get returns a value and counts the access.
func (c *Cache[K, V]) Get(key K) (value V, ok bool) {
	if v, ok := c.pins.get(key); ok {
		return v, true
	}
	found := c.find(key)
	if found == nil {
		return value, false
	}
	if !found.used.Load() { // a store would take the cache line from other readers
		found.used.Store(true)
	}
	return found.value, true
}

// Peek is Get without counting an access.
func (c *Cache[K, V]) Peek(key K) (value V, ok bool) {
	if v, ok := c.pins.get(key); ok {
		return v, true
	}
	if found := c.find(key); found != nil {
		return found.value, true
	}
	return value, false
}

// Has reports whether a key has a value, without counting an access.
func (c *Cache[K, V]) Has(key K) bool {
	_, ok := c.Peek(key)
	return ok
}

// Put offers a value, and reports whether it was admitted. From then on an admitted value is shared
// with readers. It may be evicted at once. A value of the same key that is there is replaced.
func (c *Cache[K, V]) Put(key K, value V) (taken bool) { return c.put(key, value, false) }

// Keep admits a value however rarely it was requested before, because it is expected to be
// requested. It may still be evicted at once.
func (c *Cache[K, V]) Keep(key K, value V) { c.put(key, value, true) }

// put offers a value; see policy.add for wanted.
func (c *Cache[K, V]) put(key K, value V, wanted bool) (taken bool) {
	if c.max == 0 {
		return false
	}
	n := &node[K, V]{Bytes: int64(c.Weigh(key, value))}
	n.Value.key, n.Value.value, n.Value.id = key, value, c.ID(key, value)
	c.mu.Lock()
	defer c.mu.Unlock()
	old, replaces := c.values.Load(key)
	if replaces {
		taken = c.policy.replace(old.(*node[K, V]), n)
	} else {
		taken = c.policy.add(n, wanted)
	}
	switch {
	case taken:
		c.Kept(value)
		c.values.Store(key, n)
	case replaces:
		c.values.Delete(key)
	}
	if replaces {
		c.Lost(old.(*node[K, V]).Value.value)
	}
	return taken
}

// Drop removes a value.
func (c *Cache[K, V]) Drop(key K) {
	if c.max == 0 {
		return
	}
	if value, ok := c.pins.remove(key, c.resize); ok {
		c.Lost(value)
	}
	c.remove(key)
}

// remove removes a value that is not pinned.
func (c *Cache[K, V]) remove(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.values.LoadAndDelete(key); ok {
		n := old.(*node[K, V])
		c.policy.remove(n)
		c.Lost(n.Value.value)
	}
}

// All iterates over the values. Values that are added or removed meanwhile may or may not be
// included. It counts no accesses.
func (c *Cache[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for key, value := range c.pins.values.Range {
			if !yield(key.(K), value.(V)) {
				return
			}
		}
		for key, found := range c.values.Range {
			if !yield(key.(K), found.(*node[K, V]).Value.value) {
				return
			}
		}
	}
}

// Bytes is the weight of all values.
func (c *Cache[K, V]) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.policy.bytes() + c.Pinned()
}

// Len is the approximate number of values.
func (c *Cache[K, V]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.policy.len() + int(c.pins.count.Load())
}

// MostPinned is how many bytes can be pinned: three quarters of the bound.
func (c *Cache[K, V]) MostPinned() int64 { return c.pins.most }

// Pin keeps a value of a group until it is dropped or its group is released. It returns false if
// there is no space for it.
func (c *Cache[K, V]) Pin(group uint64, key K, value V) bool {
	if c.max == 0 {
		return false
	}
	c.Kept(value)
	old, replaced, added := c.pins.add(group, key, value, c.resize)
	if replaced {
		c.Lost(old)
	}
	if !added {
		c.Lost(value)
		return false
	}
	c.remove(key)
	return true
}

// Release ends the pins of a group. With keep its values become ordinary ones; without it they are
// removed.
func (c *Cache[K, V]) Release(group uint64, keep bool) {
	for key, value := range c.pins.release(group, c.resize) {
		if keep {
			c.Keep(key, value)
		}
		c.Lost(value)
	}
}

// resize leaves the other values the space that pins do not use.
func (c *Cache[K, V]) resize(pinned int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.policy.resize(c.max - pinned)
}

// Pinned is the weight of the pinned values.
func (c *Cache[K, V]) Pinned() int64 { return c.pins.bytes.Load() }

// Groups returns the groups with pinned values.
func (c *Cache[K, V]) Groups() []uint64 { return c.pins.all() }
