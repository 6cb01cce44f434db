package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/akidb/akigw/admin/client"
	"github.com/akidb/akigw/faults"
)

// faultsCommand is "akigw faults".
type faultsCommand struct {
	Set     faultsSet     `cmd:"" help:"Put a preset, or a plan from a file, in force in the place of any other."`
	List    faultsList    `cmd:"" name:"ls" help:"Print what is in force, and how often it happened."`
	Clear   faultsClear   `cmd:"" help:"End it."`
	Presets faultsPresets `cmd:"" help:"List the presets."`
}

type faultsSet struct {
	remote
	Preset string `arg:"" optional:"" help:"Name of a preset: see akigw faults presets."`
	File   string `help:"A plan in TOML or JSON." placeholder:"FILE" type:"existingfile"`
}

// Run sets a plan.
func (f *faultsSet) Run() error {
	if (f.Preset == "") == (f.File == "") {
		return errors.New("name a preset, or a plan with --file")
	}
	report, err := ask(&f.remote, f.set)
	if err != nil {
		return err
	}
	return f.show(report)
}

// set sets the plan of the flags.
func (f *faultsSet) set(c *client.Client, ctx context.Context) (*faults.Report, error) {
	if f.File != "" {
		raw, err := os.ReadFile(f.File)
		if err != nil {
			return nil, err
		}
		return c.SetFaults(ctx, raw)
	}
	if _, known := faults.Presets()[f.Preset]; !known {
		return nil, fmt.Errorf("%q is no preset: see akigw faults presets", f.Preset)
	}
	return c.SetFaultPreset(ctx, f.Preset)
}

// show prints what is in force.
func (r *remote) show(report *faults.Report) error {
	if r.JSON {
		return printJSON(report)
	}
	if report == nil || report.Since.IsZero() {
		fmt.Println("no faults are set")
		return nil
	}
	fmt.Printf("set at %s, seed %d\n", when(report.Since), report.Seed)
	lines := make([]int, len(report.Faults))
	for i := range lines {
		lines[i] = i
	}
	return table([]string{"EFFECT", "OF", "MET", "HIT"}, lines, func(i int) []any {
		f := report.Faults[i]
		return []any{f.Effect, described(f), report.Met[i], report.Hits[i]}
	})
}

// described says which requests a fault meets.
func described(f faults.Fault) string {
	var parts []string
	for _, p := range []struct{ name, value string }{{"tier", f.Tier}, {"direction", f.Direction}, {"op", f.Op}, {"bucket", f.Bucket}, {"key", f.Key}} {
		if p.value != "" {
			parts = append(parts, p.name+" "+p.value)
		}
	}
	if len(parts) == 0 {
		parts = append(parts, "all")
	}
	if f.Probability > 0 {
		parts = append(parts, fmt.Sprintf("%g%% of them", 100*f.Probability))
	}
	return strings.Join(parts, ", ")
}

type faultsList struct{ remote }

// Run prints what is in force.
func (f *faultsList) Run() error {
	report, err := ask(&f.remote, (*client.Client).Faults)
	if err != nil {
		return err
	}
	return f.show(report)
}

type faultsClear struct{ remote }

// Run ends it.
func (f *faultsClear) Run() error {
	if err := do(&f.remote, (*client.Client).ClearFaults); err != nil {
		return err
	}
	fmt.Println("no faults are set any more")
	return nil
}

type faultsPresets struct {
	JSON bool `name:"json" help:"Print JSON: the plan of each."`
}

// Run lists the presets.
func (f *faultsPresets) Run() error {
	if f.JSON {
		return printJSON(faults.Presets())
	}
	return table([]string{"PRESET", "WHAT HAPPENS"}, sortedKeys(faults.Presets()), func(name string) []any {
		var lines []string
		for _, f := range faults.Presets()[name].Faults {
			lines = append(lines, fmt.Sprintf("%s (%s)", f.Effect, described(f)))
		}
		return []any{name, strings.Join(lines, "; ")}
	})
}
