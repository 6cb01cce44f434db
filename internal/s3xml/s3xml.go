// Package s3xml reads and writes the XML documents of the S3 API.
//
// An S3 key is any UTF-8 text without a NUL, and XML 1.0 cannot hold all of it: U+0001 to U+001F
// except tab, line feed and carriage return, and U+FFFE and U+FFFF, may not even appear as
// character references (XML 1.0 §2.2, §4.1). S3 writes such a character as a reference all the
// same ("&#x1;") and accepts it in requests. encoding/xml writes U+FFFD instead, which names
// another key, and refuses to read the reference. This package does what S3 does, and leaves
// everything else to encoding/xml.
//
// Writing: WriteElement and AppendEscaped for documents that are built by hand, Text for fields of
// a struct that Marshal encodes. Reading: Unmarshal for what an upstream sends, UnmarshalStrict
// for what a client sends. The package does not know S3 operations or error codes.
package s3xml

import (
	"bytes"
	"encoding/xml"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Header is the XML declaration with which a document begins.
const Header = xml.Header

// Namespace is the namespace of S3's documents.
const Namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

// Holds reports whether XML 1.0 can hold s. A client or a service that follows the standard
// strictly cannot read a document with any other text in it, however it is escaped.
func Holds(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, c := range s {
		if c == 0 || forbidden(c) {
			return false
		}
	}
	return true
}

// forbidden reports whether c is a character that S3 writes as a reference although XML 1.0 does
// not allow it. NUL is not one of them: no version of XML can represent it, and no key contains it.
func forbidden(c rune) bool {
	return c > 0 && c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0xfffe || c == 0xffff
}

// AppendEscaped appends s to b as the content of an element or of a quoted attribute. Tab, line
// feed and carriage return become references, too: a reader would normalise a bare carriage
// return (XML 1.0 §2.11). A NUL and bytes that are not UTF-8 become U+FFFD.
func AppendEscaped(b []byte, s string) []byte {
	from := 0
	for i, c := range s {
		var escaped string
		width := 1
		switch {
		case c == '&':
			escaped = "&amp;"
		case c == '<':
			escaped = "&lt;"
		case c == '>':
			escaped = "&gt;"
		case c == '"':
			escaped = "&#34;"
		case c == '\'':
			escaped = "&#39;"
		case c == 0:
			escaped = "\uFFFD"
		case c == '\t' || c == '\n' || c == '\r' || forbidden(c):
			escaped, width = reference(c), utf8.RuneLen(c)
		case c == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			escaped = "\uFFFD"
		default:
			continue
		}
		b = append(append(b, s[from:i]...), escaped...)
		from = i + width
	}
	return append(b, s[from:]...)
}

// reference returns the character reference for c.
func reference(c rune) string {
	return "&#x" + strings.ToUpper(strconv.FormatInt(int64(c), 16)) + ";"
}

// WriteElement writes an element with text and without attributes. The caller vouches for name.
func WriteElement(b *bytes.Buffer, name, value string) {
	b.WriteByte('<')
	b.WriteString(name)
	b.WriteByte('>')
	b.Write(AppendEscaped(b.AvailableBuffer(), value))
	b.WriteString("</")
	b.WriteString(name)
	b.WriteByte('>')
}

// Text is the type of a string field whose value a client chose, such as a key or a prefix: a
// plain string would be written with U+FFFD in it. It cannot be an attribute.
type Text string

// MarshalXML implements xml.Marshaler.
func (t Text) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	return e.EncodeElement(struct {
		Escaped []byte `xml:",innerxml"`
	}{AppendEscaped(nil, string(t))}, start)
}

// Marshal encodes v as encoding/xml does and prepends the XML declaration. Fields of v with text from
// a client must have the type Text.
func Marshal(v any) ([]byte, error) {
	raw, err := xml.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append([]byte(Header), raw...), nil
}
