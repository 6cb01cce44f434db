// Package glob matches patterns with the wildcards of S3 policies and of rules.
package glob

import (
	"strings"
	"unicode/utf8"
)

// Match reports whether s matches a pattern in which "*" matches any characters, slashes included,
// and "?" any one character. Its time is bounded by the product of the lengths.
func Match(pattern, s string) bool {
	star, from := -1, 0 // the last "*" seen, and the end in s of what it matches
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && pattern[p] == '?':
			p++
			i += width(s[i:])
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0:
			from += width(s[from:])
			p, i = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// width returns the length of the first character of s in bytes.
func width(s string) int {
	_, n := utf8.DecodeRuneInString(s)
	return n
}
