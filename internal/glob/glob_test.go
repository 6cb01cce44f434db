package glob

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzMatch compares the wildcards with regular expressions.
func FuzzMatch(f *testing.F) {
	f.Add("a*b?c", "axxbyc")
	f.Add("*?ä*", "ä\xff")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 50 || len(s) > 50 || !utf8.ValidString(pattern) || !utf8.ValidString(s) {
			return
		}
		expression := strings.NewReplacer(`\*`, `(?s:.*)`, `\?`, `(?s:.)`).Replace(regexp.QuoteMeta(pattern))
		want := regexp.MustCompile("^" + expression + "$").MatchString(s)
		if got := Match(pattern, s); got != want {
			t.Fatalf("%q %q: %t", pattern, s, got)
		}
	})
}
