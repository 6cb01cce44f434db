package meta

import (
	"cmp"
	"hash/maphash"
	"slices"
)

// NewColumns returns the columns of a part. metadata returns the metadata of a row, 0 to rows-1, in the
// form that Compact returns; the columns keep the function and call it for as long as they are used, so
// what it returns must not change. Keys in nonFilterable get no column. The columns take about budget
// bytes at most, and up to twice as much while they are built; fields that need more are left out, the
// largest ones first.
func NewColumns(rows int, metadata func(row int) []byte, nonFilterable []string, budget int64) *Columns {
	c := &Columns{rows: rows, metadata: metadata, seed: maphash.MakeSeed(), fields: map[string]*column{}}
	b := builder{c: c, check: maphash.MakeSeed(), fields: map[string]*field{}, budget: 2 * budget}
	for _, key := range quoteAll(nonFilterable) {
		b.hidden = append(b.hidden, key)
	}
	for row := range rows {
		b.add(uint32(row), metadata(row))
	}
	for key, f := range b.fields {
		c.fields[key] = f.column(rows)
		*f = field{} // its memory is free before the next one is built
	}
	c.shrink(budget)
	return c
}

// shrink leaves out the largest fields until the rest is within the budget.
func (c *Columns) shrink(budget int64) {
	keys := make([]string, 0, len(c.fields))
	for key, column := range c.fields {
		keys = append(keys, key)
		c.bytes += column.bytes()
	}
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(cmp.Compare(c.fields[b].bytes(), c.fields[a].bytes()), cmp.Compare(a, b))
	})
	for _, key := range keys {
		if c.bytes <= budget {
			return
		}
		c.bytes -= c.fields[key].bytes()
		c.fields[key] = nil
	}
}

// builder collects the values of all fields.
type builder struct {
	c      *Columns
	check  maphash.Seed
	hidden [][]byte
	fields map[string]*field
	bytes  int64
	budget int64
}

// field are the values of a field, in the order of the rows.
type field struct {
	left             bool // it is left out
	present, yes, no []uint32
	strings          []entry
	numbers          []numbered
	bytes            int64
}

// entry is a string of a row: its hash, and a part of another hash, which tells most strings of equal
// hashes apart.
type entry struct {
	hash  uint64
	check uint32
	row   uint32
}

// numbered is a number of a row.
type numbered struct {
	near float64
	rest int16
	row  uint32
}

func (b *builder) add(row uint32, metadata []byte) {
	for m := members(metadata); ; {
		key, value, ok := m.member()
		if !ok {
			return
		}
		f := b.field(key)
		if f == nil || f.left {
			continue
		}
		before := f.bytes
		f.present = append(f.present, row)
		f.bytes += 4
		if value[0] != '[' {
			b.value(f, row, value)
		} else {
			for e := elements(value); ; {
				element, ok := e.element()
				if !ok {
					break
				}
				b.value(f, row, element)
			}
		}
		if b.bytes += f.bytes - before; b.bytes > b.budget {
			b.drop()
		}
	}
}

// field returns the field of a key, nil if it has none.
func (b *builder) field(key []byte) *field {
	if f, ok := b.fields[string(key)]; ok {
		return f
	}
	if contains(b.hidden, key) {
		return nil
	}
	if len(b.fields) == maxColumns {
		b.c.partial = true
		return nil
	}
	f := &field{}
	b.fields[string(key)] = f
	return f
}

// value adds a value of a row. One that no filter equals, null or an object, is present and no more.
func (b *builder) value(f *field, row uint32, value []byte) {
	switch value[0] {
	case '"':
		hash, check := maphash.Bytes(b.c.seed, value), uint32(maphash.Bytes(b.check, value))
		f.strings = append(f.strings, entry{hash, check, row})
		f.bytes += 16
	case 't':
		f.yes = append(f.yes, row)
		f.bytes += 4
	case 'f':
		f.no = append(f.no, row)
		f.bytes += 4
	default:
		if n, ok := parseNumber(value); ok {
			f.numbers = append(f.numbers, numbered{n.near, n.rest, row})
			f.bytes += 16
		}
	}
}

// drop leaves out the largest field.
func (b *builder) drop() {
	var largest *field
	for _, f := range b.fields {
		if largest == nil || f.bytes > largest.bytes {
			largest = f
		}
	}
	b.bytes -= largest.bytes
	*largest = field{left: true}
}

// column returns the column of a field, nil if it is left out.
func (f *field) column(rows int) *column {
	if f.left {
		return nil
	}
	c := &column{present: newList(f.present, rows), yes: newList(f.yes, rows), no: newList(f.no, rows), numbers: newSorted(f.numbers, rows)}
	var ok bool
	if c.strings, ok = newDictionary(f.strings, rows); !ok {
		return nil
	}
	return c
}

// isMany reports whether a bitmap is smaller than the numbers of the rows.
func isMany(n, rows int) bool { return n > rows/32 }

func newBitmap(few []uint32, rows int) []uint64 {
	many := make([]uint64, (rows+63)/64)
	list{few: few}.or(many)
	return many
}

func newList(few []uint32, rows int) list {
	if isMany(len(few), rows) {
		return list{many: newBitmap(few, rows)}
	}
	return list{few: slices.Clone(few)}
}

// newDictionary returns the rows of each string, not ok if two strings have the same hash.
func newDictionary(entries []entry, rows int) (d dictionary, ok bool) {
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.row, b.row))
	})
	d.many = map[int][]uint64{}
	var group []uint32
	for start := 0; start < len(entries); {
		first := entries[start]
		end := start
		group = group[:0]
		for ; end < len(entries) && entries[end].hash == first.hash; end++ {
			if entries[end].check != first.check {
				return dictionary{}, false
			}
			group = append(group, entries[end].row)
		}
		if isMany(len(group), rows) {
			d.many[len(d.hashes)] = newBitmap(group, rows)
		} else {
			d.few = append(d.few, group...)
		}
		d.hashes = append(d.hashes, first.hash)
		d.ends = append(d.ends, uint32(len(d.few)))
		start = end
	}
	d.hashes, d.ends, d.few = slices.Clone(d.hashes), slices.Clone(d.ends), slices.Clone(d.few)
	return d, true
}

func newSorted(numbers []numbered, rows int) (s sorted) {
	slices.SortFunc(numbers, func(a, b numbered) int {
		return cmp.Or(number{a.near, a.rest}.compare(number{b.near, b.rest}), cmp.Compare(a.row, b.row))
	})
	s.near, s.rows = make([]float64, len(numbers)), make([]uint32, len(numbers))
	for i, n := range numbers {
		s.near[i], s.rows[i] = n.near, n.row
		if n.rest != 0 && s.rest == nil {
			s.rest = make([]int16, len(numbers))
		}
		if s.rest != nil {
			s.rest[i] = n.rest
		}
	}
	s.size = max(1<<16, rows/16)
	for start := 0; start+s.size <= len(numbers); start += s.size {
		s.buckets = append(s.buckets, newBitmap(s.rows[start:start+s.size], rows))
	}
	return s
}

// bytes returns about how much memory a column takes.
func (c *column) bytes() int64 {
	if c == nil {
		return 0
	}
	n := int64(512)
	for _, l := range []list{c.present, c.yes, c.no} {
		n += int64(4*cap(l.few) + 8*cap(l.many))
	}
	n += int64(8*cap(c.strings.hashes) + 4*cap(c.strings.ends) + 4*cap(c.strings.few))
	for _, many := range c.strings.many {
		n += int64(8*cap(many)) + 64
	}
	n += int64(8*cap(c.numbers.near) + 2*cap(c.numbers.rest) + 4*cap(c.numbers.rows))
	for _, bucket := range c.numbers.buckets {
		n += int64(8 * cap(bucket))
	}
	return n
}
