package hot

import (
	"sync"
	"sync/atomic"
)

// pins are values that are not evicted. They are kept apart from the others and count towards the
// same bound. The zero value is ready.
type pins[K comparable, V any] struct {
	count  atomic.Int64 // so that Get is fast when there are none
	values sync.Map     // of K to V
	mu     sync.Mutex
	bytes  atomic.Int64       // changed with mu
	groups map[uint64]map[K]V // guarded by mu
	where  map[K]uint64       // group of each key; guarded by mu
}

func (p *pins[K, V]) get(key K) (value V, ok bool) {
	if p.count.Load() == 0 {
		return value, false
	}
	v, ok := p.values.Load(key)
	if ok {
		value = v.(V)
	}
	return value, ok
}

// removeLocked removes a value, if it is there.
func (p *pins[K, V]) removeLocked(c *Cache[K, V], key K) {
	group, ok := p.where[key]
	if !ok {
		return
	}
	p.bytes.Add(-int64(c.weigh(key, p.groups[group][key])))
	delete(p.where, key)
	delete(p.groups[group], key)
	if len(p.groups[group]) == 0 {
		delete(p.groups, group)
	}
	p.values.Delete(key)
	p.count.Add(-1)
}

// resizeLocked gives the other values the space that pins leave.
func (p *pins[K, V]) resizeLocked(c *Cache[K, V]) {
	c.values.SetMaximum(uint64(c.max - p.bytes.Load()))
}

// MostPinned is how many bytes can be pinned: three quarters of the bound.
func (c *Cache[K, V]) MostPinned() int64 { return c.max / 4 * 3 }

// Pin keeps a value, one of a group, until it is dropped or its group is released. It returns false
// if there is no space for it.
func (c *Cache[K, V]) Pin(group uint64, key K, value V) bool {
	if c.values == nil {
		return false
	}
	p, bytes := &c.pins, int64(c.weigh(key, value))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.removeLocked(c, key)
	if p.bytes.Load()+bytes > c.MostPinned() {
		p.resizeLocked(c)
		return false
	}
	if p.groups == nil {
		p.groups, p.where = make(map[uint64]map[K]V), make(map[K]uint64)
	}
	if p.groups[group] == nil {
		p.groups[group] = make(map[K]V)
	}
	p.groups[group][key], p.where[key] = value, group
	p.values.Store(key, value)
	p.bytes.Add(bytes)
	p.count.Add(1)
	p.resizeLocked(c)
	c.values.Invalidate(key)
	return true
}

// Release ends the pins of a group. With keep its values stay as others do; without it they are
// removed.
func (c *Cache[K, V]) Release(group uint64, keep bool) {
	p := &c.pins
	if p.count.Load() == 0 {
		return
	}
	p.mu.Lock()
	values := p.groups[group]
	released := make(map[K]V, len(values))
	for key, value := range values {
		released[key] = value
		p.removeLocked(c, key)
	}
	if len(released) > 0 {
		p.resizeLocked(c)
	}
	p.mu.Unlock()
	for key, value := range released {
		if keep {
			c.values.Set(key, value)
		}
	}
}

// unpin removes one pinned value.
func (p *pins[K, V]) unpin(c *Cache[K, V], key K) {
	if p.count.Load() == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.where[key]; ok {
		p.removeLocked(c, key)
		p.resizeLocked(c)
	}
}

// Pinned is the weight of the pinned values.
func (c *Cache[K, V]) Pinned() int64 { return c.pins.bytes.Load() }

// Groups are the groups that have pinned values.
func (c *Cache[K, V]) Groups() []uint64 {
	c.pins.mu.Lock()
	defer c.pins.mu.Unlock()
	all := make([]uint64, 0, len(c.pins.groups))
	for group := range c.pins.groups {
		all = append(all, group)
	}
	return all
}
