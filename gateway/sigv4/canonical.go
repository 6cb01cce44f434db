package sigv4

import (
	"crypto/sha256"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

var canonicalBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

// canonicalDigest is the SHA-256 of the canonical request ("Create a canonical
// request" in the IAM user guide; for S3 the path is encoded exactly once).
func canonicalDigest(r *http.Request, path string, query url.Values, c *credential, mode string) [32]byte {
	buf := canonicalBuffers.Get().(*[]byte)
	defer canonicalBuffers.Put(buf)
	b := append((*buf)[:0], r.Method...)
	b = append(b, '\n')
	b = appendEncoded(b, path, true)
	b = append(b, '\n')
	b = appendQuery(b, query)
	b = append(b, '\n')
	for _, name := range c.signedHeaders {
		b = append(b, name...)
		b = append(b, ':')
		b = appendHeader(b, r, name)
		b = append(b, '\n')
	}
	b = append(b, '\n')
	for i, name := range c.signedHeaders {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(b, name...)
	}
	b = append(b, '\n')
	b = append(b, mode...)
	*buf = b
	return sha256.Sum256(b)
}

func appendHeader(b []byte, r *http.Request, name string) []byte {
	switch name {
	case "host":
		return append(b, r.Host...)
	case "content-length":
		return strconv.AppendInt(b, max(r.ContentLength, 0), 10)
	}
	for i, value := range r.Header[http.CanonicalHeaderKey(name)] {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendTrimmed(b, value)
	}
	return b
}

// appendTrimmed drops spaces at both ends and folds runs of them inside.
func appendTrimmed(b []byte, value string) []byte {
	value = strings.Trim(value, " \t")
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

// appendQuery writes the canonical query string: every parameter but the
// signature, encoded, sorted by encoded name and then encoded value.
func appendQuery(b []byte, query url.Values) []byte {
	if len(query) == 0 {
		return b
	}
	pairs := make([]string, 0, len(query))
	for name, values := range query {
		if name == "X-Amz-Signature" {
			continue
		}
		for _, value := range values {
			pair := append(appendEncoded(nil, name, false), '=')
			pairs = append(pairs, string(appendEncoded(pair, value, false)))
		}
	}
	// "=" sorts behind the digits and before the letters, so whole pairs do
	// not sort like names do: a name that is a prefix of another goes first.
	slices.SortFunc(pairs, func(x, y string) int {
		xn, xv, _ := strings.Cut(x, "=")
		yn, yv, _ := strings.Cut(y, "=")
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

const upperHex = "0123456789ABCDEF"

// appendEncoded is AWS's UriEncode: everything but RFC 3986's unreserved
// characters, and "/" where it separates path segments.
func appendEncoded(b []byte, s string, path bool) []byte {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9',
			c == '-', c == '_', c == '.', c == '~', c == '/' && path:
			b = append(b, c)
		default:
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return b
}
