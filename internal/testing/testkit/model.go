package testkit

import (
	"bytes"

	"github.com/akidb/akigw"
)

// Model is what a store may answer: the reference that tests compare it with.
// Each key has the values that it may show, oldest first. The last one is what
// the upstream holds; others are there if a cache is allowed to lag behind.
type Model struct {
	values map[akigw.Key][]Value
}

// Value is what a key holds. The zero Value is nothing.
type Value struct {
	Body []byte
	ETag string // with its quotes; "" if there is no object
	Meta string // x-amz-meta-model
}

// NewModel returns a model of an empty store.
func NewModel() *Model { return &Model{values: map[akigw.Key][]Value{}} }

// Current is what the upstream holds.
func (m *Model) Current(key akigw.Key) Value {
	all := m.Possible(key)
	return all[len(all)-1]
}

// Possible are the values that key may show, oldest first.
func (m *Model) Possible(key akigw.Key) []Value {
	if all := m.values[key]; len(all) > 0 {
		return all
	}
	return []Value{{}}
}

// Write says that key holds v from now on, and nothing older may be shown.
func (m *Model) Write(key akigw.Key, v Value) { m.values[key] = []Value{v} }

// Lag says that key holds v, and that what was there before may still be shown.
func (m *Model) Lag(key akigw.Key, v Value) {
	m.values[key] = append(append([]Value{}, m.Possible(key)...), v)
}

// Catch says that nothing older than what key holds may be shown any more.
func (m *Model) Catch(key akigw.Key) { m.Write(key, m.Current(key)) }

// Saw reports whether key may show v. What is older is not to be seen again.
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

// ETags are the entity tags that key may show, "" for nothing.
func (m *Model) ETags(key akigw.Key) (tags []string) {
	for _, v := range m.Possible(key) {
		tags = append(tags, v.ETag)
	}
	return tags
}

// Keys calls yield with each key and what the upstream holds there.
func (m *Model) Keys(yield func(key akigw.Key, v Value)) {
	for key := range m.values {
		yield(key, m.Current(key))
	}
}
