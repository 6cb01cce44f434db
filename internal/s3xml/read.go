package s3xml

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/akidb/akigw"
)

// encoding/xml refuses forbidden characters everywhere. So they are replaced by guards before a document
// is decoded: a guard is a mark, which is a character of the private use area, and the number of the
// character. Marks that occur in the document itself are guarded as well, so that a guard cannot be
// confused with text. After decoding, guards are replaced by their characters. Documents without
// forbidden characters, that is nearly all, are decoded as they are.

const (
	// mark is the last private use character, U+10FFFD.
	mark     = "\U0010FFFD"
	markRune = 0x10fffd
	// digits is the length of the number after a mark, in bytes.
	digits = 4
	// markItself stands for the number of a mark that is text.
	markItself = "self"
)

// guardOf returns the guard of a forbidden character or of a mark.
func guardOf(c rune) string {
	if c == markRune {
		return mark + markItself
	}
	return fmt.Sprintf(mark+"%0*x", digits, c)
}

// Unmarshal parses a document of an upstream as xml.Unmarshal does, and accepts forbidden
// characters, both as references and bare. Fields with the tag innerxml get references for them, so
// that their text can be put into another document.
func Unmarshal(document []byte, v any) error { return unmarshal(guard(document, true), v) }

func unmarshal(g guarded, v any) error {
	err := xml.Unmarshal(g.document, v)
	if g.any {
		restore(reflect.ValueOf(v))
	}
	return err
}

// maxDepth bounds the nesting of documents of clients. S3's request documents are three levels deep.
const maxDepth = 16

const errNotStrict = akigw.Error("the document has no single root of the expected name, a document type, or too many levels")

// UnmarshalStrict parses a document of a client. It refuses any root but one element of this name,
// a document type, more than 16 levels, text outside the root and, as S3 does, forbidden characters
// that are not references.
func UnmarshalStrict(document []byte, root string, v any) error {
	g := guard(document, false)
	if err := checkShape(g.document, root); err != nil {
		return err
	}
	return unmarshal(g, v)
}

// checkShape checks the tokens of a document.
func checkShape(document []byte, root string) error {
	d := xml.NewDecoder(bytes.NewReader(document))
	depth, roots := 0, 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		switch t := token.(type) {
		case xml.Directive:
			return errNotStrict
		case xml.StartElement:
			if depth == 0 {
				roots++
				if t.Name.Local != root {
					return errNotStrict
				}
			}
			if depth++; depth > maxDepth {
				return errNotStrict
			}
		case xml.EndElement:
			depth--
		case xml.CharData:
			if depth == 0 && len(bytes.TrimSpace(t)) > 0 {
				return errNotStrict
			}
		}
	}
	if roots != 1 {
		return errNotStrict
	}
	return nil
}

// guarded returns a document that encoding/xml can read. any reports whether it has guards.
type guarded struct {
	document []byte
	any      bool
}

// guard replaces forbidden characters by guards. If bare is false, it replaces only references, and
// encoding/xml refuses the bare characters that remain.
func guard(document []byte, bare bool) guarded {
	var out []byte
	done := 0 // how much of the document is in out
	literal := 0
	for i := 0; i < len(document); {
		c, width := rune(document[i]), 1
		switch {
		case c == '&' && i >= literal:
			if c, width = referenceAt(document[i:]); !forbidden(c) && c != markRune {
				i++
				continue
			}
		case c == '<' && i >= literal:
			literal = i + literalAt(document[i:])
			i++
			continue
		case c < ' ' && bare:
		case c >= utf8.RuneSelf:
			c, width = utf8.DecodeRune(document[i:])
		default:
			i++
			continue
		}
		if width > 0 && (c == markRune || forbidden(c) && (bare || document[i] == '&')) {
			out = append(append(out, document[done:i]...), guardOf(c)...)
			done = i + width
		}
		i += width
	}
	if done == 0 {
		return guarded{document: document}
	}
	return guarded{append(out, document[done:]...), true}
}

// literalAt returns the length of the CDATA section, comment or processing instruction that b begins
// with, in which "&" has no special meaning. It returns 0 for anything else.
func literalAt(b []byte) int {
	for _, kind := range [...]struct{ begin, end string }{{"<![CDATA[", "]]>"}, {"<!--", "-->"}, {"<?", "?>"}} {
		if bytes.HasPrefix(b, []byte(kind.begin)) {
			if i := bytes.Index(b[len(kind.begin):], []byte(kind.end)); i >= 0 {
				return len(kind.begin) + i + len(kind.end)
			}
			return len(b)
		}
	}
	return 0
}

// maxReference bounds the length of a reference in bytes.
const maxReference = 16

// referenceAt decodes the character reference that b begins with, and returns its length. It returns
// U+FFFD and 1 if b does not begin with one.
func referenceAt(b []byte) (c rune, width int) {
	text, _, ok := bytes.Cut(b[:min(len(b), maxReference)], []byte(";"))
	number, isNumber := bytes.CutPrefix(text, []byte("&#"))
	if !ok || !isNumber {
		return utf8.RuneError, 1
	}
	base := 10
	if hex, ok := bytes.CutPrefix(number, []byte("x")); ok {
		number, base = hex, 16
	}
	n, err := strconv.ParseUint(string(number), base, 32)
	if err != nil || n > utf8.MaxRune {
		return utf8.RuneError, 1
	}
	return rune(n), len(text) + 1
}

// restore replaces the guards in all strings of v.
func restore(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			restore(v.Elem())
		}
	case reflect.String:
		if v.CanSet() {
			v.SetString(unguard(v.String(), character))
		}
	case reflect.Slice:
		if isBytes(v) {
			v.SetBytes([]byte(unguard(string(v.Bytes()), character)))
			return
		}
		for i := range v.Len() {
			restore(v.Index(i))
		}
	case reflect.Struct:
		restoreFields(v)
	}
}

func restoreFields(v reflect.Value) {
	for i := range v.NumField() {
		f := v.Field(i)
		switch _, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("xml"), ","); {
		case options != "innerxml" || !f.CanSet():
			restore(f)
		case f.Kind() == reflect.String:
			f.SetString(unguard(f.String(), escaped))
		case isBytes(f):
			f.SetBytes([]byte(unguard(string(f.Bytes()), escaped)))
		}
	}
}

func isBytes(v reflect.Value) bool {
	return v.CanSet() && v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8
}

// character and escaped return the replacement of a guard: in text, and in raw XML.
func character(c rune) string { return string(c) }

func escaped(c rune) string {
	if c == markRune {
		return mark
	}
	return reference(c)
}

// unguard replaces the guards in s.
func unguard(s string, become func(rune) string) string {
	before, rest, found := strings.Cut(s, mark)
	if !found {
		return s
	}
	var b strings.Builder
	for ; found; before, rest, found = strings.Cut(rest, mark) {
		b.WriteString(before)
		number := rest[:min(len(rest), digits)]
		if n, err := strconv.ParseUint(number, 16, 32); number == markItself {
			b.WriteString(become(markRune))
		} else if err == nil {
			b.WriteString(become(rune(n)))
		}
		rest = rest[len(number):]
	}
	b.WriteString(before)
	return b.String()
}
