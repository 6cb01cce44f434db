package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/akidb/akigw/vectors"
)

// maxDepth is how deep arrays and objects may be nested in a body.
const maxDepth = 64

// scanner reads a JSON document (RFC 8259) from its beginning to its end. It is strict: a name that
// occurs twice in an object, text that is not UTF-8 and data after the document are errors. The first
// error stays in err; all methods then do nothing and return zero values.
type scanner struct {
	in    []byte
	at    int
	depth int
	err   error
}

// malformed ends the scan: the document is no JSON.
func (s *scanner) malformed(what string) {
	if s.err == nil {
		s.err = vectors.Errorf(vectors.Validation, "The request body is not valid JSON: %s at byte %d.", what, s.at)
	}
}

// invalid ends the scan: the document is JSON, and a value in it is not what it must be.
func (s *scanner) invalid(path, format string, args ...any) {
	if s.err == nil {
		s.err = vectors.Invalid(path, format, args...)
	}
}

// next skips white space and returns the next byte, 0 at the end and after an error.
func (s *scanner) next() byte {
	if s.err != nil {
		return 0
	}
	for ; s.at < len(s.in); s.at++ {
		switch c := s.in[s.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// takes reports whether the next byte is c, and passes it.
func (s *scanner) takes(c byte) bool {
	if s.next() != c {
		return false
	}
	s.at++
	return true
}

// end checks that nothing follows.
func (s *scanner) end() {
	if s.next(); s.at < len(s.in) {
		s.malformed("data after the end of the document")
	}
}

// null reports whether the next value is null, and passes it.
func (s *scanner) null() bool {
	if s.next() == 'n' {
		s.literal("null")
		return s.err == nil
	}
	return false
}

func (s *scanner) literal(text string) {
	if !bytes.HasPrefix(s.in[s.at:], []byte(text)) {
		s.malformed("an unknown literal")
		return
	}
	s.at += len(text)
}

// enter begins an array or an object.
func (s *scanner) enter() bool {
	s.at++
	if s.depth++; s.depth > maxDepth {
		s.malformed("arrays and objects are nested too deeply")
		return false
	}
	return true
}

// object reads an object. member is called for each member that is not null, and reads its value.
func (s *scanner) object(path string, member func(name string)) {
	if s.next() != '{' {
		s.wrong(path, "an object")
		return
	}
	if !s.enter() {
		return
	}
	var few [16]string
	seen := few[:0]
	var many map[string]bool // once there are more
	for more := !s.takes('}'); more && s.err == nil; {
		if s.next() != '"' {
			s.malformed("a name is expected")
			return
		}
		name := s.text(path)
		if !s.takes(':') {
			s.malformed("a colon is expected")
			return
		}
		if slices.Contains(seen, name) || many[name] {
			s.malformed(fmt.Sprintf("the name %q occurs twice in one object", clip(name)))
			return
		}
		if len(seen) < cap(few[:]) {
			seen = append(seen, name)
		} else {
			if many == nil {
				many = map[string]bool{}
			}
			many[name] = true
		}
		if !s.null() {
			member(name)
		}
		more = s.goesOn('}')
	}
	s.depth--
}

// array reads an array. element is called for each element, and reads it.
func (s *scanner) array(path string, element func(i int)) {
	if s.next() != '[' {
		s.wrong(path, "an array")
		return
	}
	if !s.enter() {
		return
	}
	more := !s.takes(']')
	for i := 0; more && s.err == nil; i++ {
		element(i)
		more = s.goesOn(']')
	}
	s.depth--
}

// goesOn reports whether a comma follows, or else passes the end.
func (s *scanner) goesOn(end byte) bool {
	switch {
	case s.err != nil:
		return false
	case s.takes(','):
		return true
	case !s.takes(end):
		s.malformed("a comma or the end of an array or an object is expected")
	}
	return false
}

// wrong ends the scan at a value of the wrong type.
func (s *scanner) wrong(path, want string) {
	if s.next() == 0 {
		s.malformed("a value is expected")
		return
	}
	s.skip() // what is no JSON at all is reported as that
	if path == "" {
		path = "/"
	}
	s.invalid(path, "must be %s", want)
}

// text reads a string.
func (s *scanner) text(path string) string {
	raw := s.rawText(path)
	if s.err != nil {
		return ""
	}
	inner := raw[1 : len(raw)-1]
	if !utf8.Valid(inner) {
		s.malformed("a string is not valid UTF-8")
		return ""
	}
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		s.malformed("an invalid escape sequence")
		return ""
	}
	const replacement = "\ufffd" // json has it for half a surrogate pair
	if n := strings.Count(text, replacement); n > 0 && n != bytes.Count(inner, []byte(replacement))+bytes.Count(bytes.ToLower(inner), []byte(`\ufffd`)) {
		s.malformed("a string has half a surrogate pair")
		return ""
	}
	return text
}

// rawText passes a string and returns it with its quotes and escapes.
func (s *scanner) rawText(path string) []byte {
	if s.next() != '"' {
		s.wrong(path, "a string")
		return nil
	}
	from := s.at
	for s.at++; s.at < len(s.in); s.at++ {
		switch c := s.in[s.at]; {
		case c == '"':
			s.at++
			return s.in[from:s.at]
		case c == '\\':
			s.at++
		case c < ' ':
			s.malformed("a control character in a string")
			return nil
		}
	}
	s.malformed("a string does not end")
	return nil
}

// number passes a number and returns its text, valid until the next call.
func (s *scanner) number(path, want string) []byte {
	if c := s.next(); c != '-' && (c < '0' || c > '9') {
		s.wrong(path, want)
		return nil
	}
	from := s.at
	digits := func() bool {
		start := s.at
		for s.at < len(s.in) && '0' <= s.in[s.at] && s.in[s.at] <= '9' {
			s.at++
		}
		return s.at > start
	}
	is := func(set string) bool {
		if s.at < len(s.in) && strings.IndexByte(set, s.in[s.at]) >= 0 {
			s.at++
			return true
		}
		return false
	}
	is("-")
	ok := is("0") || digits()
	if ok && is(".") {
		ok = digits()
	}
	if ok && is("eE") {
		is("+-")
		ok = digits()
	}
	if !ok {
		s.malformed("a malformed number")
		return nil
	}
	return s.in[from:s.at]
}

// integer reads an integer from least to most.
func (s *scanner) integer(path string, least, most int) int {
	text := s.number(path, "an integer")
	if s.err != nil {
		return 0
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	switch {
	case bytes.ContainsAny(text, ".eE"):
		s.invalid(path, "must be an integer")
	case err != nil || n < int64(least) || n > int64(most):
		s.invalid(path, "must be an integer from %d to %d", least, most)
	}
	return int(n)
}

// boolean reads true or false.
func (s *scanner) boolean(path string) bool {
	switch s.next() {
	case 't':
		s.literal("true")
		return s.err == nil
	case 'f':
		s.literal("false")
	default:
		s.wrong(path, "true or false")
	}
	return false
}

// raw passes a value and returns its text, a part of the document.
func (s *scanner) raw() []byte {
	s.next()
	from := s.at
	s.skip()
	if s.err != nil {
		return nil
	}
	return s.in[from:s.at]
}

// skip passes any value.
func (s *scanner) skip() {
	switch s.next() {
	case '{':
		s.object("", func(string) { s.skip() })
	case '[':
		s.array("", func(int) { s.skip() })
	case '"':
		s.text("")
	case 't':
		s.literal("true")
	case 'f':
		s.literal("false")
	case 'n':
		s.literal("null")
	case 0:
		s.malformed("a value is expected")
	default:
		if c := s.in[s.at]; c != '-' && (c < '0' || c > '9') {
			s.malformed("an unknown literal")
			return
		}
		s.number("", "")
	}
}

// floats reads an array of finite numbers that float32 can hold, at most vectors.MaxDimension.
func (s *scanner) floats(path string) []float32 {
	if s.next() != '[' {
		s.wrong(path, "an array of numbers")
		return nil
	}
	s.at++
	values := make([]float32, 0, s.elements())
	for more := !s.takes(']'); more && s.err == nil; more = s.goesOn(']') {
		if len(values) == vectors.MaxDimension {
			s.invalid(path, "must have at most %d values", vectors.MaxDimension)
			return nil
		}
		if s.next() == '"' { // SDKs send what JSON has no number for as a string
			s.at++
			s.invalid(fmt.Sprintf("%s/%d", path, len(values)), "must be a finite number")
			return nil
		}
		text := s.number(path, "an array of numbers")
		if s.err != nil {
			return nil
		}
		v, err := strconv.ParseFloat(string(text), 32)
		if err != nil || math.IsInf(v, 0) {
			s.invalid(fmt.Sprintf("%s/%d", path, len(values)), "is too large for a 32-bit floating-point number")
			return nil
		}
		values = append(values, float32(v))
	}
	if s.err != nil {
		return nil
	}
	return values
}

// elements returns about how many numbers the array at the position has, to allocate it once.
func (s *scanner) elements() int {
	rest := s.in[s.at:]
	if end := bytes.IndexByte(rest, ']'); end >= 0 {
		return min(bytes.Count(rest[:end], []byte(","))+1, vectors.MaxDimension)
	}
	return 0
}

// clip limits the length of a client's text in messages.
func clip(s string) string {
	if len(s) > 100 {
		return strings.ToValidUTF8(s[:100], "") + "..."
	}
	return s
}
