package main

import (
	"fmt"
	"time"

	"github.com/alecthomas/kong"

	"github.com/akidb/akigw/admin/client"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/shadow"
)

// shadowFlag is "--shadow" or "--shadow=bodies": a setting whose value can be left out.
type shadowFlag string

// IsBool implements kong.BoolMapperValue: the flag needs no value.
func (*shadowFlag) IsBool() bool { return true }

// Decode implements kong.MapperValue. Without a value the flag means metadata. The value is checked with
// the configuration.
func (f *shadowFlag) Decode(ctx *kong.DecodeContext) error {
	*f = shadowFlag(rules.ShadowMetadata)
	if ctx.Scan.Peek().Type == kong.FlagValueToken {
		*f = shadowFlag(fmt.Sprint(ctx.Scan.Pop().Value))
	}
	return nil
}

// shadowCommand is "akigw shadow".
type shadowCommand struct {
	Report shadowReport `cmd:"" help:"Show what serving from the cache would have saved, by bucket and freshness mode."`
}

type shadowReport struct{ remote }

// Run prints the report of a running gateway.
func (s *shadowReport) Run() error {
	r, err := ask(&s.remote, (*client.Client).Shadow)
	if err != nil {
		return err
	}
	if s.JSON {
		return printJSON(r)
	}
	printReport(&r)
	return nil
}

// printReport prints a report for people. Its lines have at most 80 columns, except where figures are very
// large.
func printReport(r *shadow.Report) {
	if len(r.Buckets) == 0 {
		fmt.Println("No request has passed this gateway in shadow mode yet.")
		fmt.Println("Start it with akigw serve --shadow, or set shadow = \"metadata\" in a rule.")
		fmt.Println("Point the application at it, and ask again. More: docs/trying.md")
		return
	}
	fmt.Printf("since %s, %s of memory and %s of disk\n", r.Since.Local().Format(time.DateTime), size.Human(r.HotBytes), size.Human(r.WarmBytes))
	if r.Sampled < 1 {
		fmt.Printf("estimated from one key in %.0f\n", 1/r.Sampled)
	}
	lines := r.Buckets
	if len(lines) > 1 { // the total of one bucket is that bucket
		r.Total.Bucket = "total"
		lines = append(lines, r.Total)
	}
	for _, l := range lines {
		printShadow(&l, r.Currency)
	}
	fmt.Println()
	fmt.Println(next(&r.Total, r.Currency))
}

// fewReads is the number of reads below which a prediction says little.
const fewReads = 1000

// next says what to do after reading the report.
func next(l *shadow.Line, currency string) string {
	text := ""
	if l.Reads < fewReads {
		text = fmt.Sprintf("These are only %d reads. Let the application run until its traffic repeats\nitself, a day for most, and ask again.\n", l.Reads)
	}
	saved := 0.0
	for _, p := range l.Modes {
		if p.Freshness == l.Best {
			saved = p.Saved
		}
	}
	if saved <= 0 {
		return text + "No mode without stale responses would have saved money so far. Larger tiers\nmay (docs/sizing.md)."
	}
	return text + fmt.Sprintf("* saves most without a stale response so far: %s saves %.4f %s.\nimmutable and exclusive are promises about who writes, that only you can make;\nevents needs notifications from the upstream.\n", l.Best, saved, currency) +
		"To serve: set freshness (docs/choosing.md), and restart without --shadow, or\nremove shadow from the rule."
}

// printShadow prints what was predicted for a bucket.
func printShadow(l *shadow.Line, currency string) {
	name := l.Bucket
	if name == cost.Others {
		name = "(none)"
	}
	fmt.Printf("\n%s: %d requests passed, %d of them reads; %s; %.4f %s\n", name, l.Requests, l.Reads, size.Human(int64(l.Bytes)), l.Cost, currency)
	if l.Replaced > 0 {
		fmt.Printf("replaced or deleted by others than this gateway: %d\n", l.Replaced)
	}
	configured := l.Configured
	configured.Freshness = "configured"
	header := []string{"FRESHNESS", "HITS", "MEMORY", "VALIDATED", "STALE", "SAVED REQUESTS", "BYTES", currency}
	_ = table(header, append([]shadow.Prediction{configured}, l.Modes...), func(p shadow.Prediction) []any { // like fmt.Print, it may fail only where the output is closed
		mark := ""
		if p.Freshness == l.Best {
			mark = " *"
		}
		saved := size.Human(max(p.SavedBytes, -p.SavedBytes))
		if p.SavedBytes < 0 {
			saved = "-" + saved
		}
		return []any{string(p.Freshness) + mark, fmt.Sprintf("%.1f%%", 100*p.HitRatio), fmt.Sprintf("%.1f%%", 100*p.Hot), p.Validations, p.Stale, p.SavedRequests, saved, fmt.Sprintf("%.4f", p.Saved)}
	})
}
