package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/akidb/akigw/admin/client"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/placement"
)

// warmCommand is "akigw warm".
type warmCommand struct {
	remote
	What  string     `arg:"" help:"What to bring in: s3://BUCKET/PREFIX is every key that begins with PREFIX." placeholder:"s3://BUCKET[/PREFIX]"`
	To    string     `help:"warm (disk) or hot (memory)." enum:"warm,hot" default:"warm"`
	Rate  size.Bytes `help:"Most bytes a second, such as 50MiB (default: no bound)." placeholder:"SIZE"`
	After string     `help:"Begin behind this key: where an earlier one ended." placeholder:"KEY"`
}

// Run brings objects in, and tells how far it is.
func (w *warmCommand) Run() error {
	bucket, prefix, err := s3URL(w.What)
	if err != nil {
		return err
	}
	gateway, err := w.gateway()
	if err != nil {
		return err
	}
	began, shown := time.Now(), terminal(os.Stderr)
	var p placement.PrefetchProgress
	err = gateway.Warm(context.Background(), client.Prefetch{Objects: client.Objects{Bucket: bucket, Prefix: prefix}, Tier: w.To, Rate: int64(w.Rate), After: w.After}, func(now placement.PrefetchProgress) {
		p = now
		if shown {
			fmt.Fprintf(os.Stderr, "\r\x1b[K%d fetched (%s, %s/s), %d were there, %d failed", p.Fetched, size.Human(p.Bytes), size.Human(int64(float64(p.Bytes)/time.Since(began).Seconds())), p.Already, p.Failed)
		}
	})
	if err != nil {
		return err
	}
	if shown {
		fmt.Fprintln(os.Stderr)
	}
	return w.report(&p)
}

// report prints what was fetched. It fails if something was not.
func (w *warmCommand) report(p *placement.PrefetchProgress) (err error) {
	if w.JSON {
		err = printJSON(p)
	} else {
		fmt.Printf("%d objects (%s) brought in, %d were there, %d failed\n", p.Fetched, size.Human(p.Bytes), p.Already, p.Failed)
	}
	switch {
	case !p.Done && p.Failure != "":
		return fmt.Errorf("%s; what came is kept, and --after %q goes on from there", p.Failure, p.After)
	case !p.Done:
		return fmt.Errorf("the gateway went away; what came is kept, and --after %q goes on from there", p.After)
	case p.Failed > 0:
		return errors.Join(err, fmt.Errorf("the last failure: %s", p.Failure))
	}
	return err
}
