package meta

import "bytes"

// cursor walks over the members of an object or the elements of an array in canonical form. It is
// robust against damage: it ends where the form is not as expected.
type cursor struct {
	doc []byte
	pos int // before the next member or element; -1 after the last
}

// members returns a cursor over the members of an object.
func members(doc []byte) cursor { return inside(doc, '{') }

// elements returns a cursor over the elements of an array.
func elements(array []byte) cursor { return inside(array, '[') }

func inside(doc []byte, open byte) cursor {
	if len(doc) < 2 || doc[0] != open {
		return cursor{pos: -1}
	}
	return cursor{doc: doc, pos: 1}
}

// member returns the next key, in quotes, and its value. Both are slices of the document, and value
// has at least one byte.
func (c *cursor) member() (key, value []byte, ok bool) {
	if c.pos < 0 || c.pos >= len(c.doc) || c.doc[c.pos] != '"' {
		return nil, nil, false
	}
	end := skipString(c.doc, c.pos)
	if end < 0 || end >= len(c.doc) || c.doc[end] != ':' {
		c.pos = -1
		return nil, nil, false
	}
	key = c.doc[c.pos:end]
	c.pos = end + 1
	value, ok = c.element()
	return key, value, ok
}

// element returns the next element, at least one byte.
func (c *cursor) element() ([]byte, bool) {
	if c.pos < 0 {
		return nil, false
	}
	end := skip(c.doc, c.pos)
	if end <= c.pos || end >= len(c.doc) {
		c.pos = -1
		return nil, false
	}
	value := c.doc[c.pos:end]
	if c.pos = -1; c.doc[end] == ',' {
		c.pos = end + 1
	}
	return value, true
}

// skip returns the position after the value at pos, -1 if it has no end, pos if there is none.
func skip(doc []byte, pos int) int {
	if pos >= len(doc) {
		return -1
	}
	switch doc[pos] {
	case '"':
		return skipString(doc, pos)
	case '{', '[':
		return skipNested(doc, pos)
	}
	for i := pos; i < len(doc); i++ {
		if c := doc[i]; c == ',' || c == '}' || c == ']' {
			return i
		}
	}
	return -1
}

func skipNested(doc []byte, pos int) int {
	depth := 0
	for pos < len(doc) {
		switch doc[pos] {
		case '"':
			if pos = skipString(doc, pos); pos < 0 {
				return -1
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return pos + 1
			}
		}
		pos++
	}
	return -1
}

// skipString returns the position after the string that begins at pos, -1 if it has no end.
func skipString(doc []byte, pos int) int {
	for i := pos + 1; i < len(doc); {
		n := bytes.IndexByte(doc[i:], '"')
		if n < 0 {
			return -1
		}
		quote := i + n
		escapes := quote
		for escapes > i && doc[escapes-1] == '\\' {
			escapes--
		}
		if (quote-escapes)%2 == 0 {
			return quote + 1
		}
		i = quote + 1
	}
	return -1
}
