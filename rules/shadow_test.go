package rules

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestShadowExcludesWriteBack: rules that could write back a key in shadow mode are refused, and only
// those.
func TestShadowExcludesWriteBack(t *testing.T) {
	for _, c := range []struct {
		name, file string
		byDefault  Shadow
		refused    string // part of the error; "": accepted
	}{
		{"one rule", "[[rule]]\nwrite = \"back\"\nshadow = \"metadata\"", ShadowOff, "line 1: rule.write"},
		{"two rules", "[[rule]]\nbucket = \"a*\"\nwrite = \"back\"\n[[rule]]\nbucket = \"*z\"\nshadow = \"bodies\"", ShadowOff, "of line 4"},
		{"apart", "[[rule]]\nbucket = \"a\"\nwrite = \"back\"\n[[rule]]\nbucket = \"b\"\nshadow = \"bodies\"", ShadowOff, ""},
		{"apart by key", "[[rule]]\nkey = \"a/*\"\nwrite = \"back\"\n[[rule]]\nkey = \"b/*\"\nshadow = \"bodies\"", ShadowOff, ""},
		{"by default", "[[rule]]\nbucket = \"a\"\nwrite = \"back\"", ShadowMetadata, "cache.shadow"},
		{"by default, but off in the rule", "[[rule]]\nbucket = \"a\"\nwrite = \"back\"\nshadow = \"off\"", ShadowMetadata, ""},
		{"off by an earlier rule", "[[rule]]\nbucket = \"a\"\nshadow = \"off\"\n[[rule]]\nshadow = \"metadata\"\n[[rule]]\nbucket = \"a\"\nwrite = \"back\"", ShadowOff, ""},
		{"off by a later rule", "[[rule]]\nshadow = \"metadata\"\n[[rule]]\nbucket = \"a\"\nshadow = \"off\"\nwrite = \"back\"", ShadowOff, "line 3"},
		{"through by an earlier rule", "[[rule]]\nkey = \"*\"\nwrite = \"through\"\n[[rule]]\nwrite = \"back\"", ShadowBodies, ""},
		{"off only for some", "[[rule]]\nkey = \"a/*\"\nshadow = \"off\"\n[[rule]]\nwrite = \"back\"", ShadowBodies, "cache.shadow"},
		{"unknown mode", "[[rule]]\nshadow = \"on\"", ShadowOff, `must be one of ["off" "metadata" "bodies"]`},
	} {
		path := filepath.Join(t.TempDir(), "akigw.toml")
		if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		byDefault := defaults
		byDefault.Shadow = c.byDefault
		_, err := Open(Options{Path: path, Defaults: byDefault, Log: slog.New(slog.DiscardHandler)})
		if c.refused == "" && err != nil || c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.refused)
		}
	}
}
