package journal

import (
	"github.com/tidwall/btree"

	"github.com/akidb/akigw"
)

// keyMap maps keys to values and keeps the keys of each bucket in byte order. A frozen copy is
// cheap and never changes: later writes copy the nodes that they modify. The zero value is an empty
// map. One goroutine at a time may change it; any number may read a frozen copy.
type keyMap[V any] struct {
	buckets btree.Map[string, *bucketMap[V]]
	count   int
	version uint64 // of the bucketMaps that no frozen copy shares
	changed bool   // since freeze was called last
}

// degree is that of the B-trees. After a freeze, a write copies a node on each level, so small
// nodes make writes cheaper.
const degree = 8

// bucketMap holds the keys of one bucket.
type bucketMap[V any] struct {
	names   *btree.Map[string, V]
	version uint64
}

// len returns the number of keys.
func (m *keyMap[V]) len() int { return m.count }

// get returns the value of a key, the zero value if the key is not in the map.
func (m *keyMap[V]) get(key akigw.Key) (v V) {
	if b, ok := m.buckets.Get(key.Bucket); ok {
		v, _ = b.names.Get(key.Name)
	}
	return v
}

// has reports whether the map has any key of a bucket.
func (m *keyMap[V]) has(bucket string) bool {
	_, ok := m.buckets.Get(bucket)
	return ok
}

// ascend calls yield for the keys of a bucket in byte order, starting at from, until yield returns
// false.
func (m *keyMap[V]) ascend(bucket, from string, yield func(name string, v V) bool) {
	if b, ok := m.buckets.Get(bucket); ok {
		b.names.Ascend(from, yield)
	}
}

// set sets the value of a key.
func (m *keyMap[V]) set(key akigw.Key, v V) {
	if _, replaced := m.own(key.Bucket).names.Set(key.Name, v); !replaced {
		m.count++
	}
}

// delete removes a key.
func (m *keyMap[V]) delete(key akigw.Key) {
	if !m.has(key.Bucket) {
		return
	}
	b := m.own(key.Bucket)
	if _, deleted := b.names.Delete(key.Name); deleted {
		m.count--
	}
	if b.names.Len() == 0 {
		m.buckets.Delete(key.Bucket)
	}
}

// own returns the map of a bucket, after copying it if a frozen copy shares it.
func (m *keyMap[V]) own(bucket string) *bucketMap[V] {
	m.changed = true
	b, ok := m.buckets.Get(bucket)
	switch {
	case !ok:
		b = &bucketMap[V]{names: btree.NewMap[string, V](degree), version: m.version}
	case b.version != m.version:
		b = &bucketMap[V]{names: b.names.Copy(), version: m.version}
	default:
		return b
	}
	m.buckets.Set(bucket, b)
	return b
}

// freeze returns a copy that later writes to m do not affect.
func (m *keyMap[V]) freeze() keyMap[V] {
	m.version++
	m.changed = false
	return keyMap[V]{buckets: *m.buckets.Copy(), count: m.count}
}
