package meta

import (
	"bytes"
	"fmt"
	"slices"
)

const (
	// MaxFilterBytes is the size of the largest filter, in bytes of compact JSON.
	MaxFilterBytes = 64 << 10
	// maxFilterDepth is how deep a filter may be nested. $and in $and needs two levels.
	maxFilterDepth = 32
)

// Filter is a condition on metadata. It is immutable and safe for concurrent use.
type Filter struct {
	root node
	// fields are the keys that the filter names, in canonical form; leaves refer to them by number.
	fields [][]byte
}

// operator is an operator of a leaf.
type operator uint8

const (
	opIn operator = iota // also $eq
	opNotIn
	opGreater
	opGreaterOrEqual
	opLess
	opLessOrEqual
	opExists
	opMissing
	opAnd
	opOr
)

// node is $and or $or of its children, or a leaf: a condition on one field.
type node struct {
	op       operator
	children []node // for opAnd and opOr, at least one
	field    int    // of a leaf
	set      set    // of opIn and opNotIn
	bound    number // of the comparisons
}

// set is the operand of $eq and $in.
type set struct {
	strings [][]byte // canonical, ascending
	numbers []number // ascending
	yes, no bool     // true, false
}

// Parse parses a filter. Errors are *vectors.Error with the code ValidationException and a path that
// begins with "/filter".
//
// A filter is an object of fields and of $and and $or, all of which must hold. A field has a value
// ($eq), or an object of operators, all of which must hold: $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin,
// $exists. If the metadata's value is an array, $eq, $in, $gt, $gte, $lt and $lte hold if they do for
// one element; $ne and $nin are the opposites of $eq and $in. A missing field satisfies $ne, $nin, and
// $exists with false. Values of different types are never equal; numbers are compared by value.
// Refused are a field in nonFilterable, an unknown operator, an operand of the wrong type (null and
// objects always), an empty array for $and, $or, $in and $nin, an empty object, a filter larger than
// MaxFilterBytes, and one that is nested deeper than 32 levels.
func Parse(filter []byte, nonFilterable []string) (*Filter, error) {
	doc, p := canonical(filter, MaxFilterBytes, maxFilterDepth)
	if p == nil {
		parser := parser{hidden: quoteAll(nonFilterable), f: &Filter{}}
		if parser.f.root, p = parser.object(doc, ""); p == nil {
			return parser.f, nil
		}
	}
	return nil, p.At("/filter")
}

// parser builds a filter from a document in canonical form.
type parser struct {
	hidden [][]byte
	f      *Filter
}

// object parses a filter object: fields, $and, $or.
func (p *parser) object(doc []byte, path string) (node, *Problem) {
	all := node{op: opAnd}
	for c := members(doc); ; {
		key, value, ok := c.member()
		if !ok {
			break
		}
		at := path + "/" + pointer(key)
		var err *Problem
		switch {
		case string(key) == `"$and"`:
			err = p.list(&all, opAnd, value, at)
		case string(key) == `"$or"`:
			err = p.list(&all, opOr, value, at)
		case len(key) > 2 && key[1] == '$':
			err = problem(at, "is not an operator that combines filters: those are $and and $or")
		case contains(p.hidden, key):
			err = problem(at, "is a metadata key that is not filterable in this index")
		default:
			err = p.field(&all, key, value, at)
		}
		if err != nil {
			return node{}, err
		}
	}
	switch len(all.children) {
	case 0:
		return node{}, problem(path, "must be a JSON object with at least one condition")
	case 1:
		return all.children[0], nil
	}
	return all, nil
}

// list parses the operand of $and and $or.
func (p *parser) list(into *node, op operator, value []byte, path string) *Problem {
	combined := node{op: op}
	for e := elements(value); ; {
		element, ok := e.element()
		if !ok {
			break
		}
		child, err := p.object(element, fmt.Sprintf("%s/%d", path, len(combined.children)))
		if err != nil {
			return err
		}
		combined.children = append(combined.children, child)
	}
	if len(combined.children) == 0 {
		return problem(path, "must be an array of at least one filter")
	}
	into.children = append(into.children, combined)
	return nil
}

// field parses the condition on one field.
func (p *parser) field(into *node, key, value []byte, path string) *Problem {
	number := slices.IndexFunc(p.f.fields, func(f []byte) bool { return bytes.Equal(f, key) })
	if number < 0 {
		number = len(p.f.fields)
		p.f.fields = append(p.f.fields, key)
	}
	if value[0] != '{' {
		leaf := node{op: opIn, field: number}
		if !leaf.set.add(value) {
			return problem(path, "must be a string, a number, a boolean, or an object of operators")
		}
		into.children = append(into.children, leaf)
		return nil
	}
	before := len(into.children)
	for c := members(value); ; {
		operator, operand, ok := c.member()
		if !ok {
			break
		}
		at := path + "/" + pointer(operator)
		leaf, err := parseLeaf(unquote(operator), operand, at)
		if err != nil {
			return err
		}
		leaf.field = number
		into.children = append(into.children, leaf)
	}
	if len(into.children) == before {
		return problem(path, "must have at least one operator")
	}
	return nil
}

func parseLeaf(name string, operand []byte, path string) (node, *Problem) {
	switch name {
	case "$eq", "$ne":
		leaf := node{op: opIn}
		if name == "$ne" {
			leaf.op = opNotIn
		}
		if !leaf.set.add(operand) {
			return node{}, problem(path, "must be a string, a number or a boolean")
		}
		return leaf, nil
	case "$in", "$nin":
		leaf := node{op: opIn}
		if name == "$nin" {
			leaf.op = opNotIn
		}
		return leaf, leaf.set.addAll(operand, path)
	case "$exists":
		switch string(operand) {
		case "true":
			return node{op: opExists}, nil
		case "false":
			return node{op: opMissing}, nil
		}
		return node{}, problem(path, "must be a boolean")
	}
	return parseComparison(name, operand, path)
}

// parseComparison parses a condition whose operand is a number.
func parseComparison(name string, operand []byte, path string) (leaf node, p *Problem) {
	switch name {
	case "$gt":
		leaf.op = opGreater
	case "$gte":
		leaf.op = opGreaterOrEqual
	case "$lt":
		leaf.op = opLess
	case "$lte":
		leaf.op = opLessOrEqual
	default:
		return node{}, problem(path, "is not an operator: the operators are $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin and $exists")
	}
	var ok bool
	if leaf.bound, ok = parseNumber(operand); !ok {
		return node{}, problem(path, "must be a number")
	}
	return leaf, nil
}

// addAll adds the elements of an array.
func (s *set) addAll(array []byte, path string) *Problem {
	n := 0
	for e := elements(array); ; n++ {
		element, ok := e.element()
		if !ok {
			break
		}
		if !s.add(element) {
			return problem(fmt.Sprintf("%s/%d", path, n), "must be a string, a number or a boolean")
		}
	}
	if n == 0 {
		return problem(path, "must be an array of at least one value")
	}
	slices.SortFunc(s.strings, bytes.Compare)
	slices.SortFunc(s.numbers, number.compare)
	return nil
}

// add adds a value, and reports whether it is a string, a number or a boolean.
func (s *set) add(value []byte) bool {
	switch value[0] {
	case '"':
		s.strings = append(s.strings, value)
	case 't':
		s.yes = true
	case 'f':
		s.no = true
	default:
		n, ok := parseNumber(value)
		if !ok {
			return false
		}
		s.numbers = append(s.numbers, n)
	}
	return true
}
