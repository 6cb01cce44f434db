package sigv4

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

// CanonicalRequest returns the text whose digest a signature covers ("Create a canonical request"
// in the IAM user guide; for S3 the path is encoded exactly once). path is decoded, signedHeaders
// are as in the credential, declared is the value of x-amz-content-sha256.
func CanonicalRequest(r *http.Request, path string, query url.Values, signedHeaders []string, declared string) []byte {
	return appendCanonical(nil, r, path, query, strings.Join(signedHeaders, ";"), declared)
}

func appendCanonical(b []byte, r *http.Request, path string, query url.Values, signedHeaders, declared string) []byte {
	b = append(b, r.Method...)
	b = append(b, '\n')
	b = appendEncoded(b, path, true)
	b = append(b, '\n')
	b = appendQuery(b, query)
	b = append(b, '\n')
	for name, rest, more := cut(signedHeaders, ';'); ; name, rest, more = cut(rest, ';') {
		b = append(b, name...)
		b = append(b, ':')
		b = appendHeader(b, r, name)
		b = append(b, '\n')
		if !more {
			break
		}
	}
	b = append(b, '\n')
	b = append(b, signedHeaders...)
	b = append(b, '\n')
	return append(b, declared...)
}

// canonicalNames are the names of headers that almost every request signs, to save allocations.
var canonicalNames = map[string]string{
	"accept": "Accept", "accept-encoding": "Accept-Encoding", "amz-sdk-invocation-id": "Amz-Sdk-Invocation-Id", "amz-sdk-request": "Amz-Sdk-Request",
	"cache-control": "Cache-Control", "content-encoding": "Content-Encoding", "content-md5": "Content-Md5", "content-type": "Content-Type", "date": "Date",
	"expect": "Expect", "if-match": "If-Match", "if-none-match": "If-None-Match", "range": "Range", "user-agent": "User-Agent",
	"x-amz-checksum-crc32": "X-Amz-Checksum-Crc32", "x-amz-checksum-crc64nvme": "X-Amz-Checksum-Crc64nvme", "x-amz-checksum-mode": "X-Amz-Checksum-Mode",
	"x-amz-content-sha256": "X-Amz-Content-Sha256", "x-amz-date": "X-Amz-Date", "x-amz-decoded-content-length": "X-Amz-Decoded-Content-Length",
	"x-amz-sdk-checksum-algorithm": "X-Amz-Sdk-Checksum-Algorithm", "x-amz-security-token": "X-Amz-Security-Token", "x-amz-trailer": "X-Amz-Trailer",
	"x-amz-user-agent": "X-Amz-User-Agent",
}

func canonicalName(lower string) string {
	if name, ok := canonicalNames[lower]; ok {
		return name
	}
	return http.CanonicalHeaderKey(lower)
}

func appendHeader(b []byte, r *http.Request, name string) []byte {
	switch name {
	case "host":
		return append(b, r.Host...)
	case "content-length":
		return strconv.AppendInt(b, max(r.ContentLength, 0), 10)
	}
	for i, value := range r.Header[canonicalName(name)] {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendTrimmed(b, value)
	}
	return b
}

// appendTrimmed appends a value without spaces at its ends, and with one space in place of several.
func appendTrimmed(b []byte, value string) []byte {
	for value != "" && blank(value[0]) {
		value = value[1:]
	}
	for value != "" && blank(value[len(value)-1]) {
		value = value[:len(value)-1]
	}
	if !strings.Contains(value, "  ") {
		return append(b, value...)
	}
	for i := range len(value) {
		if value[i] != ' ' || value[i-1] != ' ' {
			b = append(b, value[i])
		}
	}
	return b
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// appendQuery appends the canonical query string: every parameter but the signature, encoded,
// sorted by encoded name and then by encoded value.
func appendQuery(b []byte, query url.Values) []byte {
	if len(query) == 0 {
		return b
	}
	var few [8]string // enough for most requests
	pairs, start := few[:0], len(b)
	for name, values := range query {
		if name == "X-Amz-Signature" {
			continue
		}
		for _, value := range values {
			b = append(appendEncoded(b[:start], name, false), '=')
			b = appendEncoded(b, value, false)
			pairs = append(pairs, string(b[start:]))
		}
	}
	b = b[:start]
	// "=" sorts behind the digits and before the letters, so whole pairs do
	// not sort like names do: a name that is a prefix of another goes first.
	slices.SortFunc(pairs, func(x, y string) int {
		xn, xv, _ := cut(x, '=')
		yn, yv, _ := cut(y, '=')
		if c := strings.Compare(xn, yn); c != 0 {
			return c
		}
		return strings.Compare(xv, yv)
	})
	for i, pair := range pairs {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(b, pair...)
	}
	return b
}

// ParseQuery parses a raw query string, as Verify wants it. Only "&" separates parameters: a
// bare ";" is part of the name or value that it stands in, and is signed as "%3B".
func ParseQuery(raw string) (url.Values, error) { return url.ParseQuery(EscapeSemicolons(raw)) }

// EscapeSemicolons writes the bare semicolons of a raw query string as "%3B". net/url drops
// parameters that have one, because other parsers take it for a separator.
func EscapeSemicolons(raw string) string { return strings.ReplaceAll(raw, ";", "%3B") }

const upperHex = "0123456789ABCDEF"

// unreserved are the characters that are not encoded (RFC 3986 §2.3).
var unreserved = func() (set [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~") {
		set[c] = true
	}
	return set
}()

// appendEncoded is AWS's UriEncode: everything but the unreserved characters,
// and "/" where it separates path segments.
func appendEncoded(b []byte, s string, path bool) []byte {
	for i := range len(s) {
		if c := s[i]; unreserved[c] || c == '/' && path {
			b = append(b, c)
		} else {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return b
}

// cut is strings.Cut at a byte, which is faster.
func cut(s string, at byte) (before, after string, found bool) {
	if i := strings.IndexByte(s, at); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
