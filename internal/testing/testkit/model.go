package testkit

import (
	"bytes"

	"github.com/akidb/akigw"
)

// Model is the reference model that tests compare a store with. Each key has the values that reads
// may return, oldest first. The last one is the upstream's value; there are others if a cache may lag
// behind.
type Model struct {
	values map[akigw.Key][]Value
}

// Value is the value of a key. The zero Value is that of a key without an object.
type Value struct {
	Body []byte
	ETag string // with its quotes; "" if there is no object
	Meta string // x-amz-meta-model
}

// NewModel returns a model of an empty store.
func NewModel() *Model { return &Model{values: map[akigw.Key][]Value{}} }

// Current returns the upstream's value.
func (m *Model) Current(key akigw.Key) Value {
	all := m.Possible(key)
	return all[len(all)-1]
}

// Possible returns the values that a read of key may return, oldest first.
func (m *Model) Possible(key akigw.Key) []Value {
	if all := m.values[key]; len(all) > 0 {
		return all
	}
	return []Value{{}}
}

// Write sets the value of key to v. Reads must not return older values from now on.
func (m *Model) Write(key akigw.Key, v Value) { m.values[key] = []Value{v} }

// Lag sets the value of key to v. Reads may still return earlier values.
func (m *Model) Lag(key akigw.Key, v Value) {
	m.values[key] = append(append([]Value{}, m.Possible(key)...), v)
}

// Catch ends the lag: reads of key must not return values older than the current one.
func (m *Model) Catch(key akigw.Key) { m.Write(key, m.Current(key)) }

// Saw reports whether a read of key may return v. Later reads must not return older values than v.
func (m *Model) Saw(key akigw.Key, v Value) bool {
	all := m.Possible(key)
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].ETag == v.ETag && all[i].Meta == v.Meta && (v.Body == nil || bytes.Equal(all[i].Body, v.Body)) {
			m.values[key] = all[i:]
			return true
		}
	}
	return false
}

// ETags returns the ETags that a read of key may return, "" for no object.
func (m *Model) ETags(key akigw.Key) (tags []string) {
	for _, v := range m.Possible(key) {
		tags = append(tags, v.ETag)
	}
	return tags
}

// Keys calls yield with each key and the upstream's value of it.
func (m *Model) Keys(yield func(key akigw.Key, v Value)) {
	for key := range m.values {
		yield(key, m.Current(key))
	}
}
