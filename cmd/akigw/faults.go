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
	Set     faultsSet     `cmd:"" help:"Put a preset, or a plan from a file, in force. It replaces the current plan."`
	List    faultsList    `cmd:"" name:"ls" help:"Print the faults in force and how often each was injected."`
	Clear   faultsClear   `cmd:"" help:"End all faults."`
	Presets faultsPresets `cmd:"" help:"List the presets."`
}

type faultsSet struct {
	remote
	Preset string `arg:"" optional:"" help:"Name of a preset: see akigw faults presets."`
	File   string `help:"Fault plan in TOML or JSON." placeholder:"FILE" type:"existingfile"`
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

// set activates the plan that the flags name.
func (f *faultsSet) set(c *client.Client, ctx context.Context) (*faults.Report, error) {
	if f.File != "" {
		raw, err := os.ReadFile(f.File)
		if err != nil {
			return nil, err
		}
		return c.SetFaults(ctx, raw)
	}
	if _, known := faults.Presets()[f.Preset]; !known {
		return nil, fmt.Errorf("unknown preset %q: see akigw faults presets", f.Preset)
	}
	return c.SetFaultPreset(ctx, f.Preset)
}

// show prints the faults in force.
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

// described describes the requests that a fault applies to.
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

// Run prints the faults in force.
func (f *faultsList) Run() error {
	report, err := ask(&f.remote, (*client.Client).Faults)
	if err != nil {
		return err
	}
	return f.show(report)
}

type faultsClear struct{ remote }

// Run ends all faults.
func (f *faultsClear) Run() error {
	if err := do(&f.remote, (*client.Client).ClearFaults); err != nil {
		return err
	}
	fmt.Println("all faults are cleared")
	return nil
}

type faultsPresets struct {
	JSON bool `name:"json" help:"Print the plans as JSON."`
}

// Run lists the presets.
func (f *faultsPresets) Run() error {
	presets := faults.Presets()
	if f.JSON {
		return printJSON(presets)
	}
	return table([]string{"PRESET", "EFFECT"}, sortedKeys(presets), func(name string) []any {
		var lines []string
		for _, f := range presets[name].Faults {
			lines = append(lines, fmt.Sprintf("%s (%s)", f.Effect, described(f)))
		}
		return []any{name, strings.Join(lines, "; ")}
	})
}
