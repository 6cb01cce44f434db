package hot

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// pins holds the values that are not evicted. They are stored apart from the others and count
// towards the same bound.
type pins[K comparable, V any] struct {
	most   int64             // bytes that can be pinned
	weigh  func(K, V) uint32 // weight of a value in bytes
	count  atomic.Int64      // number of pins, which makes get fast when there are none
	bytes  atomic.Int64      // changed while mu is held
	values sync.Map          // of K to V

	mu     sync.Mutex
	groups map[uint64]map[K]V // guarded by mu
	where  map[K]uint64       // group of each key; guarded by mu
}

// get returns a pinned value.
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

// add pins a value of a group, and replaces and returns an earlier value of its key. If there is no
// space for it, it is not added, and the earlier value is no longer pinned. resize is called, while mu
// is held, with the number of pinned bytes.
func (p *pins[K, V]) add(group uint64, key K, value V, resize func(pinned int64)) (old V, replaced, added bool) {
	bytes := int64(p.weigh(key, value))
	p.mu.Lock()
	defer p.mu.Unlock()
	old, replaced = p.removeLocked(key)
	if p.bytes.Load()+bytes > p.most {
		resize(p.bytes.Load())
		return old, replaced, false
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
	resize(p.bytes.Load())
	return old, replaced, true
}

// release ends the pins of a group, and returns its values. For resize, see add.
func (p *pins[K, V]) release(group uint64, resize func(pinned int64)) map[K]V {
	if p.count.Load() == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	released := maps.Clone(p.groups[group])
	for key := range released {
		p.removeLocked(key)
	}
	if len(released) > 0 {
		resize(p.bytes.Load())
	}
	return released
}

// remove unpins a value and returns it, if it is pinned. For resize, see add.
func (p *pins[K, V]) remove(key K, resize func(pinned int64)) (value V, ok bool) {
	if p.count.Load() == 0 {
		return value, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if value, ok = p.removeLocked(key); ok {
		resize(p.bytes.Load())
	}
	return value, ok
}

// removeLocked removes a value and returns it, if it is there.
func (p *pins[K, V]) removeLocked(key K) (value V, ok bool) {
	group, ok := p.where[key]
	if !ok {
		return value, false
	}
	value = p.groups[group][key]
	p.bytes.Add(-int64(p.weigh(key, value)))
	delete(p.where, key)
	delete(p.groups[group], key)
	if len(p.groups[group]) == 0 {
		delete(p.groups, group)
	}
	p.values.Delete(key)
	p.count.Add(-1)
	return value, true
}

// all returns the groups with pinned values.
func (p *pins[K, V]) all() []uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.AppendSeq(make([]uint64, 0, len(p.groups)), maps.Keys(p.groups))
}
