package glob

import "strings"

// Overlap reports whether some text matches both patterns, see Match.
func Overlap(p, q string) bool {
	a, b := []rune(p), []rune(q)
	// reach[j] says that a[:i] and b[:j] match a common text.
	reach := make([]bool, len(b)+1)
	next := make([]bool, len(b)+1)
	reach[0] = true
	for j := range len(b) {
		reach[j+1] = reach[j] && b[j] == '*'
	}
	for i := range len(a) {
		next[0] = reach[0] && a[i] == '*'
		for j := range len(b) {
			switch {
			case a[i] == '*' || b[j] == '*': // one of the two matches nothing, or one more character of the other
				next[j+1] = next[j] || reach[j+1]
			default:
				next[j+1] = reach[j] && (a[i] == b[j] || a[i] == '?' || b[j] == '?')
			}
		}
		reach, next = next, reach
	}
	return reach[len(b)]
}

// Covers reports whether every text that the narrow pattern matches also matches the wide one. It may
// say no of patterns with "?" although it is so.
func Covers(wide, narrow string) bool {
	if strings.ContainsRune(wide, '?') && wide != narrow { // "?" must not match a "*" that stands for many characters
		return false
	}
	return Match(wide, narrow)
}
