// Package meta checks the metadata of vectors and evaluates metadata filters, as Amazon S3 Vectors
// defines them: Compact for what a client puts, Parse and Filter.Match for what a query asks, and
// Columns for a whole part at once.
//
// Metadata is one JSON object. It is kept in a compact form in which two equal strings have equal
// bytes, so that filters compare bytes. The package does no I/O and keeps no state. It does not panic
// on damaged metadata; a filter then matches as if the object ended before the damage.
package meta

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/akidb/akigw/vectors"
)

// maxDepth is how deep arrays and objects may be nested in metadata, the object itself included.
const maxDepth = 32

// Problem is why a document is not valid: a ValidationException, once At has said where the document
// is in the request.
type Problem struct {
	// Path is the JSON pointer of the value within the document, such as "/color/2"; "" for the
	// document itself.
	Path string
	// Message begins with a verb, such as "must be a string".
	Message string
}

// Error implements error.
func (p *Problem) Error() string { return strings.TrimPrefix(p.Path+" "+p.Message, " ") }

// At returns the error for the client. The path of the document in the request, such as
// "/vectors/3/metadata", precedes that of the value.
func (p *Problem) At(document string) *vectors.Error {
	return vectors.Invalid(document+p.Path, "%s", p.Message)
}

func problem(path, format string, args ...any) *Problem {
	return &Problem{Path: path, Message: fmt.Sprintf(format, args...)}
}

// Compact checks the metadata of one vector and returns its compact form: no white space, strings in
// UTF-8 with as few escapes as possible, members in the order of the client, numbers as the client
// wrote them (1.10 stays 1.10). The caller owns the result, which is nil for raw of null or nothing.
//
// A value of a filterable key is a string, a number, a boolean, or an array of these; null and objects
// are refused there. A key in nonFilterable may have any JSON value. There are at most
// vectors.MaxMetadataKeys keys; the object has at most vectors.MaxMetadataBytes, and without its
// members that are not filterable at most vectors.MaxFilterableBytes, in bytes of the compact form.
// Refused are also invalid UTF-8 and lone surrogates, a key that appears twice in one object, an empty
// key, values nested deeper than 32 levels, and a number beyond the range of float64, such as 1e400.
func Compact(raw []byte, nonFilterable []string) ([]byte, *Problem) {
	if trimmed := bytes.Trim(raw, " \t\r\n"); len(trimmed) == 0 || string(trimmed) == "null" {
		return nil, nil
	}
	doc, p := canonical(raw, vectors.MaxMetadataBytes, maxDepth)
	if p != nil {
		return nil, p
	}
	if doc[0] != '{' {
		return nil, problem("", "must be a JSON object")
	}
	keys, filterable := 0, len("{}")
	hidden := quoteAll(nonFilterable)
	for c := members(doc); ; {
		key, value, ok := c.member()
		if !ok {
			break
		}
		if keys++; keys > vectors.MaxMetadataKeys {
			return nil, problem("", "must have at most %d keys", vectors.MaxMetadataKeys)
		}
		if len(key) == len(`""`) {
			return nil, problem("/", "must not be an empty key")
		}
		if contains(hidden, key) {
			continue
		}
		if filterable += len(key) + len(value) + len(":,"); filterable-len(",") > vectors.MaxFilterableBytes {
			return nil, problem("", "must have at most %d bytes of filterable metadata", vectors.MaxFilterableBytes)
		}
		if p := checkFilterable(key, value); p != nil {
			return nil, p
		}
	}
	return doc, nil
}

// AppendFilterable appends metadata without its members whose keys are in nonFilterable: no filter tells
// the result from the whole. The metadata is in the form that Compact returns; for nil nothing is
// appended.
func AppendFilterable(to, metadata []byte, nonFilterable []string) []byte {
	if metadata == nil {
		return to
	}
	hidden, start := quoteAll(nonFilterable), len(to)
	for c := members(metadata); ; {
		key, value, ok := c.member()
		if !ok {
			break
		}
		if !contains(hidden, key) {
			to = append(append(append(append(to, ','), key...), ':'), value...)
		}
	}
	if len(to) == start {
		to = append(to, '{')
	}
	to[start] = '{'
	return append(to, '}')
}

// checkFilterable checks that filters can work on the value of a key.
func checkFilterable(key, value []byte) *Problem {
	const want = "must be a string, a number, a boolean, or an array of these, because the key is filterable"
	if isScalar(value) {
		return nil
	}
	if value[0] != '[' {
		return problem("/"+pointer(key), want)
	}
	n := 0
	for e := elements(value); ; n++ {
		element, ok := e.element()
		if !ok {
			return nil
		}
		if !isScalar(element) {
			return problem(fmt.Sprintf("/%s/%d", pointer(key), n), "must be a string, a number or a boolean, because the key is filterable")
		}
	}
}

// isScalar reports whether a canonical value is a string, a number or a boolean.
func isScalar(value []byte) bool { return value[0] != '{' && value[0] != '[' && value[0] != 'n' }

// pointer returns a canonical string as an element of a JSON pointer (RFC 6901).
func pointer(quoted []byte) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(unquote(quoted))
}

func quoteAll(names []string) [][]byte {
	quoted := make([][]byte, len(names))
	for i, name := range names {
		quoted[i] = quote(nil, name)
	}
	return quoted
}

func contains(quoted [][]byte, key []byte) bool {
	return slices.ContainsFunc(quoted, func(q []byte) bool { return bytes.Equal(q, key) })
}
