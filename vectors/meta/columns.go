package meta

import (
	"bytes"
	"hash/maphash"
	"math/bits"
	"slices"
	"sync"
)

// Columns turns filters into bitmaps of the rows of a part, without looking at each row: per field it
// has inverted lists of the strings and booleans, and the numbers in ascending order. It is immutable
// and safe for concurrent use.
//
// Its memory is bounded. Fields that would need too much are left out; rows are then tested one by one
// with Filter.Match, after the other fields have excluded what they can.
type Columns struct {
	rows     int
	metadata func(row int) []byte
	seed     maphash.Seed
	fields   map[string]*column // by key in canonical form; nil for a field that is left out
	partial  bool               // there are more fields than maxColumns
	scratch  sync.Pool          // of *[]uint64, bitmaps of all rows
	bytes    int64
}

// column is one field of all rows.
type column struct {
	present list
	yes, no list
	strings dictionary
	numbers sorted
}

// maxColumns is how many fields have a column.
const maxColumns = 1024

// Bytes returns about how much memory the columns take, without the metadata.
func (c *Columns) Bytes() int64 { return c.bytes }

// Bitmap sets bit i of into if row i satisfies the filter, and clears all others. into has a word for
// each 64 rows; bits beyond the last row are cleared.
func (c *Columns) Bitmap(f *Filter, into []uint64) {
	q := evaluation{c: c, f: f, columns: make([]*column, len(f.fields)), known: make([]bool, len(f.fields))}
	exact := true
	for i, field := range f.fields {
		column, there := c.fields[string(field)]
		q.columns[i] = column
		q.known[i] = column != nil || !there && !c.partial
		exact = exact && q.known[i]
	}
	if exact {
		q.node(&f.root, into)
		return
	}
	q.bound(&f.root, into)
	for i, word := range into {
		for rest := word; rest != 0; rest &= rest - 1 {
			bit := bits.TrailingZeros64(rest)
			if !f.Match(c.metadata(i*64 + bit)) {
				into[i] &^= 1 << bit
			}
		}
	}
}

// evaluation is the evaluation of one filter.
type evaluation struct {
	c       *Columns
	f       *Filter
	columns []*column // by field; nil if no row has it, or if it is left out
	known   []bool    // by field: it is not left out
}

// bound sets the bits of all rows that may satisfy a node, going by the fields that have columns.
func (q *evaluation) bound(n *node, into []uint64) {
	if q.exact(n) {
		q.node(n, into)
		return
	}
	q.c.all(into)
	if n.op != opAnd {
		return
	}
	q.c.borrow(func(one []uint64) {
		for i := range n.children {
			q.bound(&n.children[i], one)
			and(into, one)
		}
	})
}

// exact reports whether all fields of a node have columns.
func (q *evaluation) exact(n *node) bool {
	if n.op != opAnd && n.op != opOr {
		return q.known[n.field]
	}
	for i := range n.children {
		if !q.exact(&n.children[i]) {
			return false
		}
	}
	return true
}

// node sets the bits of the rows that satisfy a node whose fields all have columns.
func (q *evaluation) node(n *node, into []uint64) {
	if n.op != opAnd && n.op != opOr {
		q.leaf(n, into)
		return
	}
	q.node(&n.children[0], into)
	q.c.borrow(func(one []uint64) {
		for i := range n.children[1:] {
			q.node(&n.children[1+i], one)
			if n.op == opAnd {
				and(into, one)
			} else {
				or(into, one)
			}
		}
	})
}

func (q *evaluation) leaf(n *node, into []uint64) {
	clear(into)
	if column := q.columns[n.field]; column != nil {
		switch n.op {
		case opExists, opMissing:
			column.present.or(into)
		case opIn, opNotIn:
			q.set(n, column, into)
		case opGreater:
			column.numbers.or(into, column.numbers.after(n.bound), len(column.numbers.rows))
		case opGreaterOrEqual:
			column.numbers.or(into, column.numbers.before(n.bound), len(column.numbers.rows))
		case opLess:
			column.numbers.or(into, 0, column.numbers.before(n.bound))
		case opLessOrEqual:
			column.numbers.or(into, 0, column.numbers.after(n.bound))
		}
	}
	if n.op == opMissing || n.op == opNotIn {
		q.c.complement(into)
	}
}

// set sets the bits of the rows that have a value of a set.
func (q *evaluation) set(n *node, column *column, into []uint64) {
	if n.set.yes {
		column.yes.or(into)
	}
	if n.set.no {
		column.no.or(into)
	}
	for _, v := range n.set.numbers {
		column.numbers.or(into, column.numbers.before(v), column.numbers.after(v))
	}
	for _, s := range n.set.strings {
		if l, ok := column.strings.find(maphash.Bytes(q.c.seed, s)); ok && q.holds(l.first(), n, s) {
			l.or(into)
		}
	}
}

// holds reports whether a row has a string in the field of a leaf. It tells the string from another one
// with the same hash.
func (q *evaluation) holds(row int, n *node, s []byte) bool {
	only := node{op: opIn, set: set{strings: [][]byte{s}}}
	for m := members(q.c.metadata(row)); ; {
		key, value, ok := m.member()
		if !ok {
			return false
		}
		if bytes.Equal(key, q.f.fields[n.field]) {
			return only.any(value)
		}
	}
}

// borrow calls use with a bitmap of any content.
func (c *Columns) borrow(use func([]uint64)) {
	b, ok := c.scratch.Get().(*[]uint64)
	if !ok {
		words := make([]uint64, (c.rows+63)/64)
		b = &words
	}
	use(*b)
	c.scratch.Put(b)
}

func (c *Columns) all(into []uint64) {
	clear(into)
	c.complement(into)
}

func (c *Columns) complement(into []uint64) {
	for i := range into {
		into[i] = ^into[i]
	}
	if c.rows%64 != 0 {
		into[c.rows/64] &= 1<<(c.rows%64) - 1
	}
}

func and(into, b []uint64) {
	for i := range into {
		into[i] &= b[i]
	}
}

func or(into, b []uint64) {
	for i := range into {
		into[i] |= b[i]
	}
}

// list is a set of rows: the numbers of a few, or a bitmap of many.
type list struct {
	few  []uint32
	many []uint64
}

func (l list) or(into []uint64) {
	if l.many != nil {
		or(into, l.many)
		return
	}
	for _, row := range l.few {
		into[row/64] |= 1 << (row % 64)
	}
}

// first returns the lowest row of a list that is not empty.
func (l list) first() int {
	if l.many == nil {
		return int(l.few[0])
	}
	for i, word := range l.many {
		if word != 0 {
			return i*64 + bits.TrailingZeros64(word)
		}
	}
	return 0
}

// dictionary has the rows of each string, by the hash of the string.
type dictionary struct {
	hashes []uint64 // ascending
	ends   []uint32 // of the rows of each hash, in few
	few    []uint32
	many   map[int][]uint64 // bitmaps of the hashes that have many rows, by their number
}

func (d *dictionary) find(hash uint64) (list, bool) {
	i, found := slices.BinarySearch(d.hashes, hash)
	if !found {
		return list{}, false
	}
	if many := d.many[i]; many != nil {
		return list{many: many}, true
	}
	start := uint32(0)
	if i > 0 {
		start = d.ends[i-1]
	}
	return list{few: d.few[start:d.ends[i]]}, true
}

// sorted has numbers in ascending order, and the row of each.
type sorted struct {
	near []float64
	rest []int16 // nil if all are 0
	rows []uint32
	// Each bucket is the bitmap of as many rows, so that a range is a few bitmaps and little besides.
	buckets [][]uint64
	size    int // of a bucket
}

func (s *sorted) at(i int) number {
	if s.rest == nil {
		return number{near: s.near[i]}
	}
	return number{s.near[i], s.rest[i]}
}

// before returns how many numbers are less than n.
func (s *sorted) before(n number) int {
	return s.search(func(other number) bool { return other.compare(n) < 0 })
}

// after returns how many numbers are not greater than n.
func (s *sorted) after(n number) int {
	return s.search(func(other number) bool { return other.compare(n) <= 0 })
}

func (s *sorted) search(below func(number) bool) int {
	low, high := 0, len(s.near)
	for low < high {
		if middle := int(uint(low+high) / 2); below(s.at(middle)) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

// or sets the bits of the rows of the numbers from start to end.
func (s *sorted) or(into []uint64, start, end int) {
	for start < end {
		if s.size > 0 && start%s.size == 0 && end-start >= s.size && start/s.size < len(s.buckets) {
			or(into, s.buckets[start/s.size])
			start += s.size
			continue
		}
		stop := end
		if s.size > 0 {
			stop = min(end, (start/s.size+1)*s.size)
		}
		for _, row := range s.rows[start:stop] {
			into[row/64] |= 1 << (row % 64)
		}
		start = stop
	}
}
