// Package doctor looks for what keeps a gateway from working well, before it is started or while
// it runs: the machine it is on, and the upstream behind it. Each finding says what to do.
//
// It changes nothing but what it makes itself and takes away again: a file in the data
// directory, and one object in a bucket that it is given.
package doctor

import (
	"fmt"
	"io"
	"strings"
)

// Level is how bad a finding is.
type Level string

// The levels. A Problem keeps the gateway from starting, or from doing what it is for.
const (
	OK      Level = "ok"
	Note    Level = "note"
	Warning Level = "warning"
	Problem Level = "problem"
)

// Finding is what one check found.
type Finding struct {
	Check string `json:"check"` // "clock"
	Level Level  `json:"level"`
	Text  string `json:"text"`
	// Mend is what to do, "" if there is nothing to be done.
	Mend string `json:"mend,omitempty"`
}

// Report is all findings, in the order of the checks.
type Report struct {
	Findings []Finding `json:"findings"`
}

// ok adds a finding that is good.
func (r *Report) ok(check, format string, args ...any) { r.Add(OK, check, "", format, args...) }

// Add adds a finding; mend says what to do.
func (r *Report) Add(level Level, check, mend, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{check, level, fmt.Sprintf(format, args...), mend})
}

// Count is how many findings have a level.
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
		if f.Mend != "" {
			fmt.Fprintf(&b, "%21s -> %s\n", "", f.Mend)
		}
	}
	fmt.Fprintf(&b, "\n%d problems, %d warnings, %d notes, %d checks are well\n", r.Count(Problem), r.Count(Warning), r.Count(Note), r.Count(OK))
	_, err := io.WriteString(w, b.String())
	return err
}
