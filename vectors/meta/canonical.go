package meta

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// canonical checks that in is one JSON value (RFC 8259) and returns it in its compact form, in which
// equal strings have equal bytes. The result has at most limit bytes.
func canonical(in []byte, limit, depth int) ([]byte, *Problem) {
	w := writer{in: in, out: make([]byte, 0, min(len(in), limit+1)), limit: limit}
	if p := w.value(depth); p != nil {
		return nil, p
	}
	if w.space(); w.pos < len(w.in) {
		return nil, w.bad("has text after its end")
	}
	return w.out, nil
}

// writer reads JSON from in at pos and appends its canonical form to out.
type writer struct {
	in    []byte
	pos   int
	out   []byte
	limit int
}

func (w *writer) bad(what string) *Problem {
	return problem("", "%s, at byte %d", what, w.pos)
}

func (w *writer) space() {
	for w.pos < len(w.in) && (w.in[w.pos] == ' ' || w.in[w.pos] == '\t' || w.in[w.pos] == '\n' || w.in[w.pos] == '\r') {
		w.pos++
	}
}

// peek returns the next byte that is no white space, 0 at the end.
func (w *writer) peek() byte {
	if w.space(); w.pos < len(w.in) {
		return w.in[w.pos]
	}
	return 0
}

// take copies the next byte.
func (w *writer) take() {
	w.out = append(w.out, w.in[w.pos])
	w.pos++
}

func (w *writer) value(depth int) (p *Problem) {
	switch c := w.peek(); {
	case c == '"':
		p = w.string()
	case c == '{' || c == '[':
		if depth == 0 {
			return w.bad("is nested too deeply")
		}
		if c == '{' {
			p = w.object(depth - 1)
		} else {
			p = w.array(depth - 1)
		}
	case c == '-' || '0' <= c && c <= '9':
		p = w.number()
	default:
		p = w.word()
	}
	if p == nil && len(w.out) > w.limit {
		p = problem("", "must have at most %d bytes of compact JSON", w.limit)
	}
	return p
}

func (w *writer) word() *Problem {
	for _, word := range [...]string{"true", "false", "null"} {
		if len(w.in)-w.pos >= len(word) && string(w.in[w.pos:w.pos+len(word)]) == word {
			w.out = append(w.out, word...)
			w.pos += len(word)
			return nil
		}
	}
	return w.bad("must be valid JSON")
}

func (w *writer) array(depth int) *Problem {
	w.take()
	if w.peek() == ']' {
		w.take()
		return nil
	}
	for {
		if p := w.value(depth); p != nil {
			return p
		}
		switch w.peek() {
		case ',':
			w.take()
		case ']':
			w.take()
			return nil
		default:
			return w.bad("must be valid JSON: an array has no end")
		}
	}
}

func (w *writer) object(depth int) *Problem {
	w.take()
	if w.peek() == '}' {
		w.take()
		return nil
	}
	seen := make(map[string]struct{}, 8)
	for {
		if w.peek() != '"' {
			return w.bad("must be valid JSON: a key is missing")
		}
		start := len(w.out)
		if p := w.string(); p != nil {
			return p
		}
		key := w.out[start:]
		if _, twice := seen[string(key)]; twice {
			return problem("/"+pointer(key), "must not appear twice in an object")
		}
		seen[string(key)] = struct{}{}
		if w.peek() != ':' {
			return w.bad("must be valid JSON: a colon is missing")
		}
		w.take()
		if p := w.value(depth); p != nil {
			return p
		}
		switch w.peek() {
		case ',':
			w.take()
		case '}':
			w.take()
			return nil
		default:
			return w.bad("must be valid JSON: an object has no end")
		}
	}
}

// number copies a number, whose text stays as it is.
func (w *writer) number() *Problem {
	start := w.pos
	digits := func() bool {
		first := w.pos
		for w.pos < len(w.in) && '0' <= w.in[w.pos] && w.in[w.pos] <= '9' {
			w.pos++
		}
		return w.pos > first
	}
	next := func(set string) bool {
		for i := range len(set) {
			if w.pos < len(w.in) && w.in[w.pos] == set[i] {
				w.pos++
				return true
			}
		}
		return false
	}
	next("-")
	ok := next("0") || digits()
	if ok && next(".") {
		ok = digits()
	}
	if ok && next("eE") {
		next("+-")
		ok = digits()
	}
	if !ok {
		return w.bad("must be valid JSON: a number is malformed")
	}
	text := w.in[start:w.pos]
	if len(text) > w.limit {
		return problem("", "must have at most %d bytes of compact JSON", w.limit)
	}
	if _, err := strconv.ParseFloat(string(text), 64); err != nil {
		return w.bad("must not have a number beyond the range of a 64-bit floating-point number")
	}
	w.out = append(w.out, text...)
	return nil
}

// string copies a string, decoding the escapes that are not necessary.
func (w *writer) string() *Problem {
	w.take()
	for {
		if len(w.out) > w.limit {
			return problem("", "must have at most %d bytes of compact JSON", w.limit)
		}
		if w.pos == len(w.in) {
			return w.bad("must be valid JSON: a string has no end")
		}
		switch c := w.in[w.pos]; {
		case c == '"':
			w.take()
			return nil
		case c == '\\':
			r, ok := w.escape()
			if !ok {
				return w.bad("must be valid JSON: an escape in a string is malformed, or half of a surrogate pair")
			}
			w.out = appendRune(w.out, r)
		case c < 0x20:
			return w.bad("must be valid JSON: a control character must be escaped")
		case c < utf8.RuneSelf:
			w.take()
		default:
			r, n := utf8.DecodeRune(w.in[w.pos:])
			if r == utf8.RuneError && n == 1 {
				return w.bad("must be valid UTF-8")
			}
			w.out = append(w.out, w.in[w.pos:w.pos+n]...)
			w.pos += n
		}
	}
}

// escape reads an escape, both halves of a surrogate pair.
func (w *writer) escape() (rune, bool) {
	if w.pos+1 >= len(w.in) {
		return 0, false
	}
	c := w.in[w.pos+1]
	if c == 'u' {
		r, ok := w.unit()
		if !ok || !utf16.IsSurrogate(r) {
			return r, ok
		}
		if w.pos+1 >= len(w.in) || w.in[w.pos] != '\\' || w.in[w.pos+1] != 'u' {
			return 0, false
		}
		low, ok := w.unit()
		r = utf16.DecodeRune(r, low)
		return r, ok && r != utf8.RuneError
	}
	for i := range len(shorts) {
		if shorts[i] == c {
			w.pos += 2
			return rune(meanings[i]), true
		}
	}
	return 0, false
}

// unit reads one \uXXXX.
func (w *writer) unit() (rune, bool) {
	if w.pos+6 > len(w.in) {
		return 0, false
	}
	var r rune
	for _, c := range w.in[w.pos+2 : w.pos+6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	w.pos += 6
	return r, true
}

// The escapes of one letter, and what each stands for.
const (
	shorts   = `"\/bfnrt`
	meanings = "\"\\/\b\f\n\r\t"
)

// appendRune appends a character of a string, escaped only if it has to be.
func appendRune(out []byte, r rune) []byte {
	if r >= utf8.RuneSelf || r >= 0x20 && r != '"' && r != '\\' {
		return utf8.AppendRune(out, r)
	}
	for i := range len(shorts) {
		if rune(meanings[i]) == r {
			return append(out, '\\', shorts[i])
		}
	}
	const hex = "0123456789abcdef"
	return append(out, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
}

// quote appends the canonical form of a string.
func quote(out []byte, s string) []byte {
	out = append(out, '"')
	for _, r := range s {
		out = appendRune(out, r)
	}
	return append(out, '"')
}

// unquote returns the string of a canonical form.
func unquote(quoted []byte) string {
	if len(quoted) < 2 {
		return ""
	}
	w := writer{in: quoted[1 : len(quoted)-1]}
	for w.pos < len(w.in) {
		if w.in[w.pos] != '\\' {
			w.take()
		} else if r, ok := w.escape(); ok {
			w.out = utf8.AppendRune(w.out, r)
		} else {
			break
		}
	}
	return string(w.out)
}
