package glob

import "testing"

// TestOverlap compares Overlap and Covers with Match on all short texts.
func TestOverlap(t *testing.T) {
	texts := []string{""}
	for first := 0; len(texts) < 341; first++ { // all texts of a, b, c and d up to four characters
		for _, c := range "abcd" {
			texts = append(texts, texts[first]+string(c))
		}
	}
	patterns := []string{"*", "?", "a", "a*", "*b", "a*b", "ab", "?b", "a?", "*a*", "b*a", "??", "a*c*", "*c", "abc", "?*", "", "**"}
	for _, p := range patterns {
		for _, q := range patterns {
			common, all := false, true
			for _, text := range texts {
				inP, inQ := Match(p, text), Match(q, text)
				common = common || inP && inQ
				all = all && (inP || !inQ)
			}
			if got := Overlap(p, q); got != common {
				t.Errorf("Overlap(%q, %q) = %t", p, q, got)
			}
			if Covers(p, q) && !all {
				t.Errorf("Covers(%q, %q), but it does not", p, q)
			}
		}
	}
	for _, c := range [][2]string{{"*", "a*b"}, {"a*", "ab*"}, {"logs-*", "logs-x"}, {"a?", "a?"}} {
		if !Covers(c[0], c[1]) {
			t.Errorf("Covers(%q, %q) is false", c[0], c[1])
		}
	}
}
