package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/akidb/akigw/admin/client"
	"github.com/akidb/akigw/bench"
	"github.com/akidb/akigw/internal/size"
)

// profileCommand is "akigw profile".
type profileCommand struct {
	remote
	Kind    string  `arg:"" help:"cpu, heap (memory in use), allocs (memory allocated), mutex, block, goroutine, trace, or leaks (growth of heap and goroutines)." enum:"cpu,heap,allocs,mutex,block,goroutine,trace,leaks"`
	Seconds float64 `help:"Duration in seconds (cpu, allocs, mutex, block, trace, leaks)." default:"10" placeholder:"SECS"`
	Out     string  `help:"Directory for KIND.pprof and KIND.html, a flame graph; a trace is KIND.trace." default:"." placeholder:"DIR" type:"path"`
}

// Run fetches a profile from the admin listener.
func (p *profileCommand) Run() error {
	gateway, err := p.gateway()
	if err != nil {
		return err
	}
	ctx, stop := until()
	defer stop()
	if err := os.MkdirAll(p.Out, 0o755); err != nil {
		return err
	}
	if p.Kind == "leaks" {
		return p.leaks(ctx, gateway)
	}
	raw, err := gateway.Profile(ctx, p.Kind, p.Seconds)
	if err != nil {
		return err
	}
	if p.Kind == "trace" {
		path := filepath.Join(p.Out, "trace.trace")
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			return err
		}
		fmt.Printf("%s: go tool trace %s\n", path, path)
		return nil
	}
	flame, err := bench.NewFlame(fmt.Sprintf("akigw, %s, %s", p.Kind, time.Now().Format(time.DateTime)), raw, p.Kind == "allocs")
	if err != nil {
		return err
	}
	file, page := filepath.Join(p.Out, p.Kind+".pprof"), filepath.Join(p.Out, p.Kind+".html")
	if err := errors.Join(os.WriteFile(file, raw, 0o644), writeReport(page, flame.WriteHTML)); err != nil {
		return err
	}
	if p.JSON {
		return printJSON(flame.Top)
	}
	if err := printShares(flame.Top[:min(10, len(flame.Top))], flame.Unit, flame.Root.Value); err != nil {
		return err
	}
	fmt.Printf("\n%s (go tool pprof), %s (a flame graph)\n", file, page)
	return nil
}

// leaks compares the heap and the goroutines at the beginning and at the end.
func (p *profileCommand) leaks(ctx context.Context, gateway *client.Client) error {
	kinds := []string{"heap", "goroutine"}
	before := map[string][]byte{}
	for _, kind := range kinds {
		var err error
		if before[kind], err = gateway.Profile(ctx, kind, 0); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Duration(p.Seconds * float64(time.Second))):
	}
	for _, kind := range kinds {
		after, err := gateway.Profile(ctx, kind, 0)
		if err != nil {
			return err
		}
		grown, unit, err := bench.Grown(before[kind], after)
		if err != nil {
			return err
		}
		fmt.Printf("%s: growth in %.0f s\n", kind, p.Seconds)
		if err := printShares(grown[:min(10, len(grown))], unit, 0); err != nil {
			return err
		}
	}
	return nil
}

// printShares prints functions and their values. It adds percentages of the total of unless that
// is 0.
func printShares(all []bench.Share, unit string, of int64) error {
	value := func(n int64) string {
		switch unit {
		case "bytes":
			return size.Human(n)
		case "nanoseconds":
			return time.Duration(n).Round(time.Millisecond).String()
		}
		return strconv.FormatInt(n, 10)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, s := range all {
		share := ""
		if of > 0 {
			share = fmt.Sprintf("%.1f%%", 100*float64(s.Self)/float64(of))
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", value(s.Self), share, s.Name)
	}
	return w.Flush()
}
