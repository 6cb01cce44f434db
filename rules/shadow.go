package rules

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/akidb/akigw/internal/glob"
)

// Shadow says whether requests only pass the gateway, which counts what it would have saved
// (docs/trying.md).
type Shadow string

// The shadow modes.
const (
	// ShadowOff serves reads from the cache. The zero value means the same.
	ShadowOff Shadow = "off"
	// ShadowMetadata sends every request to the upstream and simulates the tiers: nothing is stored.
	ShadowMetadata Shadow = "metadata"
	// ShadowBodies sends every request to the upstream. What passes fills the tiers, but no response
	// comes from them.
	ShadowBodies Shadow = "bodies"
)

// Shadows are all shadow modes.
func Shadows() []Shadow { return []Shadow{ShadowOff, ShadowMetadata, ShadowBodies} }

// On reports whether requests only pass.
func (s Shadow) On() bool { return s == ShadowMetadata || s == ShadowBodies }

// setShadow sets the mode to a value of the file.
func setShadow(s *Settings, v any) error {
	text, _ := v.(string)
	s.Shadow = Shadow(text)
	if !slices.Contains(Shadows(), s.Shadow) {
		return fmt.Errorf("must be one of %q", Shadows())
	}
	return nil
}

func shadowText(s *Settings) string { return fmt.Sprintf("%q", cmp.Or(s.Shadow, ShadowOff)) }

// checkShadow reports rules that would write back what another rule, or the default, has in shadow
// mode. Then the gateway would acknowledge writes that the upstream does not have, and a reader that
// goes past the gateway would miss them: what shadow mode promises not to happen.
func checkShadow(rules []Rule, byDefault Shadow) (err error) {
	for b := range rules {
		if back, _ := rules[b].value("write").(string); back != "back" {
			continue
		}
		for s := range rules {
			mode, _ := rules[s].value("shadow").(string)
			if Shadow(mode).On() && overlap(&rules[b], &rules[s]) && !prevented(rules, b, s) {
				err = errors.Join(err, fmt.Errorf(`line %d: rule.write: "back" and shadow = %q of line %d match the same keys, but in shadow mode every write is in the upstream before it is acknowledged: set shadow = "off" or write = "through"`,
					rules[b].Line, mode, rules[s].Line))
			}
		}
		if byDefault.On() && !prevented(rules, b, len(rules)) {
			err = errors.Join(err, fmt.Errorf(`line %d: rule.write: "back" is not possible with cache.shadow = %q (--shadow): in shadow mode every write is in the upstream before it is acknowledged: set shadow = "off" in the rule, or write = "through"`, rules[b].Line, byDefault))
		}
	}
	return err
}

// prevented reports whether an earlier rule keeps rule b, which writes back, from meeting rule s,
// which has a shadow mode; len(rules) is the default.
func prevented(rules []Rule, b, s int) bool {
	for i := range rules {
		off := i < s && rules[i].value("shadow") == string(ShadowOff)
		through := i < b && rules[i].value("write") == "through"
		if (off || through) && (covers(&rules[i], &rules[b]) || s < len(rules) && covers(&rules[i], &rules[s])) {
			return true
		}
	}
	return false
}

// overlap reports whether two rules match some key both.
func overlap(a, b *Rule) bool {
	return glob.Overlap(a.Bucket, b.Bucket) && glob.Overlap(a.Key, b.Key)
}

// covers reports whether a rule matches all keys that another one does.
func covers(wide, narrow *Rule) bool {
	return glob.Covers(wide.Bucket, narrow.Bucket) && glob.Covers(wide.Key, narrow.Key)
}
