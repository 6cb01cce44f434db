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
	if len(r.Buckets) == 0 {
		fmt.Println("No request has passed in shadow mode: akigw serve --shadow, or shadow = \"metadata\" in a rule (docs/trying.md).")
		return nil
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
		if err := printShadow(&l, r.Currency); err != nil {
			return err
		}
	}
	return nil
}

// printShadow prints what was predicted for a bucket.
func printShadow(l *shadow.Line, currency string) error {
	money := func(n float64) string { return fmt.Sprintf("%.4f %s", n, currency) }
	name := l.Bucket
	if name == cost.Others {
		name = "(none)"
	}
	fmt.Printf("\n%s: %d requests passed, %d of them reads; %s; %s\n", name, l.Requests, l.Reads, size.Human(int64(l.Bytes)), money(l.Cost))
	if l.Replaced > 0 {
		fmt.Printf("replaced or deleted by others than this gateway: %d\n", l.Replaced)
	}
	configured := l.Configured
	configured.Freshness = "as configured"
	return table([]string{"FRESHNESS", "HITS", "MEMORY", "VALIDATIONS", "STALE", "UPSTREAM", "SAVED REQUESTS", "SAVED BYTES", "SAVED"}, append([]shadow.Prediction{configured}, l.Modes...), func(p shadow.Prediction) []any {
		mark := ""
		if p.Freshness == l.Best {
			mark = " *"
		}
		saved := size.Human(max(p.SavedBytes, -p.SavedBytes))
		if p.SavedBytes < 0 {
			saved = "-" + saved
		}
		return []any{string(p.Freshness) + mark, fmt.Sprintf("%.1f%%", 100*p.HitRatio), fmt.Sprintf("%.1f%%", 100*p.Hot), p.Validations, p.Stale, p.Requests, p.SavedRequests, saved, money(p.Saved)}
	})
}
