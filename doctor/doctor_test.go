package doctor

import (
	"encoding/json"
	"strings"
	"testing"
)

// wants describes a finding: its check and level, and words of its text and remedy.
type wants struct {
	check        string
	level        Level
	text, remedy string
}

// judge fails the test unless the findings include the wanted one and, besides it, nothing worse than
// a note.
func judge(t *testing.T, r *Report, want wants) {
	t.Helper()
	found := false
	for _, f := range r.Findings {
		if f.Check == want.check && f.Level == want.level && strings.Contains(f.Text, want.text) && strings.Contains(f.Remedy, want.remedy) {
			found = true
		} else if f.Level == Warning || f.Level == Problem {
			t.Errorf("found besides: %+v", f)
		}
	}
	if !found {
		t.Errorf("want %+v, found %+v", want, r.Findings)
	}
}

// TestReport: findings stay in their order, are counted by level, and are written for people and for programs.
func TestReport(t *testing.T) {
	var r Report
	r.ok("clock", "it agrees")
	r.Add(Problem, "bucket", "make it", "there is no bucket %q", "b")
	r.Add(Warning, "memory", "less of it", "too much")
	r.Add(Note, "versioning", "", "suspended")
	for level, n := range map[Level]int{OK: 1, Note: 1, Warning: 1, Problem: 1, "other": 0} {
		if r.Count(level) != n {
			t.Errorf("%d of %q, want %d", r.Count(level), level, n)
		}
	}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	want := "ok       clock        it agrees\n" +
		"problem  bucket       there is no bucket \"b\"\n" +
		"                      -> make it\n" +
		"warning  memory       too much\n" +
		"                      -> less of it\n" +
		"note     versioning   suspended\n" +
		"\n1 problems, 1 warnings, 1 notes, 1 checks passed\n"
	if text.String() != want {
		t.Errorf("%s\nwant\n%s", text.String(), want)
	}
	raw, err := json.Marshal(r.Findings[0])
	if err != nil || string(raw) != `{"check":"clock","level":"ok","text":"it agrees"}` {
		t.Errorf("%s, %v", raw, err)
	}
}
