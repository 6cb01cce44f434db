package advise

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/akidb/akigw/internal/size"
)

// unknown is how an unknown figure is printed.
const unknown = "unknown"

// percent formats a ratio, nil for an unknown one.
func percent(ratio *float64) string {
	if ratio == nil {
		return unknown
	}
	return fmt.Sprintf("%.1f%%", 100**ratio)
}

// milliseconds formats a time, nil for an unknown one.
func milliseconds(ms *float64) string {
	if ms == nil {
		return unknown
	}
	return fmt.Sprintf("%.2f ms", *ms)
}

// money formats an amount, nil for an unknown one.
func (r *Report) money(amount *float64) string {
	if amount == nil {
		return unknown
	}
	return fmt.Sprintf("%.2f %s", *amount, r.Facts.Prices.Currency)
}

// sentence says what is expected of reads, without what is unknown.
func (r *Report) sentence(e Expectation) string {
	var all []string
	if e.HitRatio != nil {
		text := percent(e.HitRatio) + " of reads need nothing from the upstream"
		if e.HotRatio != nil {
			text += ", " + percent(e.HotRatio) + " are served from memory"
		}
		all = append(all, text)
	}
	return r.join(all, e, "on average", "for reads and validations at the upstream")
}

// then says what a proposal leads to.
func (r *Report) then(p *Proposal) string {
	if p.Kind == "write" {
		return r.join(nil, p.Expect, "for a write on average", "for uploads")
	}
	return r.sentence(p.Expect)
}

// join joins parts of a sentence with latency and cost, as far as they are known.
func (r *Report) join(all []string, e Expectation, latencyOf, costOf string) string {
	if e.Latency != nil {
		all = append(all, milliseconds(e.Latency)+" "+latencyOf)
	}
	if e.Cost != nil {
		all = append(all, r.money(e.Cost)+" in 30 days "+costOf)
	}
	if len(all) == 0 {
		return "unknown, too little was measured"
	}
	return strings.Join(all, "; ")
}

// about describes what the report is based on.
func (r *Report) about() string {
	t := r.Trace
	if t == nil {
		return fmt.Sprintf("Counters since %s, without a trace.", r.Facts.Since.Local().Format("2006-01-02 15:04:05"))
	}
	text := fmt.Sprintf("A trace of %s: %d reads of %d objects with %s of distinct data. The second half of it counts: %d reads.",
		span(t.Seconds), t.Reads, t.Objects, size.Human(t.Bytes), t.Counted)
	if t.Unknown > 0 {
		text += fmt.Sprintf(" Another %d found data that the tiers had before the trace began, and tell nothing.", t.Unknown)
	}
	if t.Rate < 1 {
		text += fmt.Sprintf(" One object in %.0f was replayed.", 1/t.Rate)
	}
	return text
}

// WriteText prints the report for people.
func (r *Report) WriteText(w io.Writer) error {
	t := &printer{w: w}
	t.print("%s\n\n", r.about())
	t.print("now: memory %s, disk %s\n     %s\n", size.Human(r.Facts.Memory.Quota), size.Human(r.Facts.Disk.Quota), r.sentence(r.Now))
	t.curve("memory", "served from memory", r.Memory, r)
	t.curve("disk", "served from memory or disk", r.Disk, r)
	if r.Sizes != nil {
		t.print("\nsizes: memory %s, disk %s\n", size.Human(r.Sizes.Memory), size.Human(r.Sizes.Disk))
		t.proposal(r, r.Sizes)
	}
	for _, b := range r.Buckets {
		t.print("\nbucket %s: %d reads and %d writes of %d objects\n     %s\n", b.Name, b.Reads, b.Writes, b.Objects, r.sentence(b.Now))
		for i := range b.Proposals {
			t.print("  %s:\n", b.Proposals[i].Kind)
			t.proposal(r, &b.Proposals[i])
		}
		for _, note := range b.Notes {
			t.print("  - %s\n", note)
		}
		if len(b.Proposals)+len(b.Notes) == 0 {
			t.print("  - No change is proposed.\n")
		}
	}
	if len(r.Notes) > 0 {
		t.print("\n")
	}
	for _, note := range r.Notes {
		t.print("- %s\n", note)
	}
	if r.TOML == "" {
		t.print("\nNo change is proposed.\n")
	} else {
		t.print("\nTo paste into the configuration:\n\n%s", r.TOML)
	}
	return t.err
}

// printer prints until an error occurs.
type printer struct {
	w   io.Writer
	err error
}

func (t *printer) print(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format, args...)
	}
}

// proposal prints why a proposal is made, and what it leads to.
func (t *printer) proposal(r *Report, p *Proposal) {
	t.print("     why: %s\n     then: %s\n", p.Why, r.then(p))
	if p.Caution != "" {
		t.print("     but: %s\n", p.Caution)
	}
}

// curve prints the points of a curve.
func (t *printer) curve(name, what string, curve []Point, r *Report) {
	if len(curve) == 0 || t.err != nil {
		return
	}
	t.print("\n")
	table := tabwriter.NewWriter(t.w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "%s\t%s\tsaved in 30 days\t\n", name, what)
	for _, p := range curve {
		fmt.Fprintf(table, "%s\t%s\t%s\t\n", size.Human(p.Bytes), percent(&p.HitRatio), r.money(&p.Saved))
	}
	t.err = table.Flush()
}
