// Package doctor finds problems that keep a gateway from working well, before it is started or
// while it runs: on the machine, and at the upstream. Each finding says what to do about it.
//
// It creates and removes a file in the data directory, and an object in a bucket that it is given.
// It changes nothing else.
package doctor

import (
	"fmt"
	"io"
	"strings"
)

// Level is the severity of a finding.
type Level string

// The levels. A Problem keeps the gateway from starting, or from serving.
const (
	OK      Level = "ok"
	Note    Level = "note"
	Warning Level = "warning"
	Problem Level = "problem"
)

// Finding is the result of one check.
type Finding struct {
	Check string `json:"check"` // "clock"
	Level Level  `json:"level"`
	Text  string `json:"text"`
	// Remedy says what to do, "" if nothing needs to be done.
	Remedy string `json:"mend,omitempty"`
}

// Report holds the findings in the order of the checks.
type Report struct {
	Findings []Finding `json:"findings"`
}

// ok adds the finding that a check passed.
func (r *Report) ok(check, format string, args ...any) { r.Add(OK, check, "", format, args...) }

// Add adds a finding; remedy says what to do.
func (r *Report) Add(level Level, check, remedy, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{check, level, fmt.Sprintf(format, args...), remedy})
}

// Count returns the number of findings of a level.
func (r *Report) Count(level Level) (n int) {
	for _, f := range r.Findings {
		if f.Level == level {
			n++
		}
	}
	return n
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%-8s %-12s %s\n", f.Level, f.Check, f.Text)
		if f.Remedy != "" {
			fmt.Fprintf(&b, "%21s -> %s\n", "", f.Remedy)
		}
	}
	fmt.Fprintf(&b, "\n%d problems, %d warnings, %d notes, %d checks passed\n", r.Count(Problem), r.Count(Warning), r.Count(Note), r.Count(OK))
	_, err := io.WriteString(w, b.String())
	return err
}
