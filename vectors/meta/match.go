package meta

import (
	"bytes"
	"slices"
)

// Match reports whether metadata satisfies the filter. The metadata is in the form that Compact
// returns; nil is an object without members. Match does not allocate, unless the filter names more
// than 16 fields.
func (f *Filter) Match(metadata []byte) bool {
	var few [16][]byte
	values := few[:]
	if len(f.fields) > len(few) {
		values = make([][]byte, len(f.fields))
	}
	missing := len(f.fields)
	for c := members(metadata); missing > 0; {
		key, value, ok := c.member()
		if !ok {
			break
		}
		for i, field := range f.fields {
			if bytes.Equal(field, key) {
				values[i] = value
				missing--
				break
			}
		}
	}
	return f.root.match(values)
}

// match evaluates a node. values has the value of each field, nil for a missing one.
func (n *node) match(values [][]byte) bool {
	switch n.op {
	case opAnd:
		for i := range n.children {
			if !n.children[i].match(values) {
				return false
			}
		}
		return true
	case opOr:
		for i := range n.children {
			if n.children[i].match(values) {
				return true
			}
		}
		return false
	}
	value := values[n.field]
	switch n.op {
	case opExists:
		return value != nil
	case opMissing:
		return value == nil
	case opNotIn:
		return !n.any(value)
	}
	return n.any(value)
}

// any reports whether a value, or an element of it if it is an array, satisfies the leaf. That of
// opNotIn is evaluated as opIn.
func (n *node) any(value []byte) bool {
	if value == nil {
		return false
	}
	if value[0] != '[' {
		return n.one(value)
	}
	for e := elements(value); ; {
		element, ok := e.element()
		if !ok {
			return false
		}
		if n.one(element) {
			return true
		}
	}
}

func (n *node) one(value []byte) bool {
	if n.op == opIn || n.op == opNotIn {
		return n.set.has(value)
	}
	v, ok := parseNumber(value)
	if !ok {
		return false
	}
	c := v.compare(n.bound)
	switch n.op {
	case opGreater:
		return c > 0
	case opGreaterOrEqual:
		return c >= 0
	case opLess:
		return c < 0
	}
	return c <= 0
}

// has reports whether a canonical value is in the set.
func (s *set) has(value []byte) bool {
	switch value[0] {
	case '"':
		if len(s.strings) == 1 {
			return bytes.Equal(s.strings[0], value)
		}
		_, found := slices.BinarySearchFunc(s.strings, value, bytes.Compare)
		return found
	case 't':
		return s.yes
	case 'f':
		return s.no
	}
	if len(s.numbers) == 0 {
		return false
	}
	n, ok := parseNumber(value)
	if !ok {
		return false
	}
	_, found := slices.BinarySearchFunc(s.numbers, n, number.compare)
	return found
}
