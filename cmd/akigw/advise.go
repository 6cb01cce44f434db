package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/akidb/akigw/advise"
	"github.com/akidb/akigw/trace"
)

// adviseCommand is "akigw advise".
type adviseCommand struct {
	remote
	Seconds float64 `help:"Record the accesses for this long first. Without it and without a trace, there is less advice." default:"0" placeholder:"SECS"`
	Trace   string  `help:"A trace of this gateway (akigw trace record) to judge by." placeholder:"FILE" type:"existingfile"`
	HTML    string  `name:"html" help:"Also write the advice with plots to this file." placeholder:"FILE" type:"path"`
}

// Run prints the advice. It requires an admin key.
func (a *adviseCommand) Run() error {
	if a.Seconds > 0 && a.Trace != "" {
		return errors.New("give --seconds or --trace, not both")
	}
	if a.HTML != "" {
		if err := writable(a.HTML); err != nil {
			return err
		}
	}
	report, err := a.advice()
	if err != nil {
		return err
	}
	if a.HTML != "" {
		if err := writeReport(a.HTML, report.WriteHTML); err != nil {
			return err
		}
	}
	if a.JSON {
		return printJSON(report)
	}
	if err := report.WriteText(os.Stdout); err != nil {
		return err
	}
	if a.HTML != "" {
		fmt.Printf("\nplots written to %s\n", a.HTML)
	}
	return nil
}

// writable opens a file as for writing, and changes nothing in it. A path that cannot be written to is
// better reported now than after a recording of an hour.
func writable(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// advice asks the gateway for advice. With a trace file, it judges by that and by what the gateway has
// measured.
func (a *adviseCommand) advice() (*advise.Report, error) {
	gateway, err := a.gateway()
	if err != nil {
		return nil, err
	}
	ctx, stop := until()
	defer stop()
	report, err := gateway.Advice(ctx, a.Seconds)
	if err != nil || a.Trace == "" {
		return report, err
	}
	defer busy("replaying the trace")()
	seen, err := readTrace(a.Trace, observed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.Trace, err)
	}
	return advise.New(report.Facts, seen), nil
}

// observed reads a trace for advice.
func observed(from io.Reader) (*advise.Observed, error) {
	o := advise.NewObservation()
	lost, err := trace.Each(from, o.Add)
	if err != nil {
		return nil, err
	}
	return o.End(lost), nil
}
