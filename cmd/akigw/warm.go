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
	What  string     `arg:"" help:"Objects to fetch: s3://BUCKET/PREFIX selects every key that begins with PREFIX." placeholder:"s3://BUCKET[/PREFIX]"`
	To    string     `help:"warm (disk) or hot (memory)." enum:"warm,hot" default:"warm"`
	Rate  size.Bytes `help:"Maximum bytes per second, such as 50MiB (default: no limit)." placeholder:"SIZE"`
	After string     `help:"Start after this key, to continue an earlier run." placeholder:"KEY"`
}

// Run prefetches objects and shows the progress.
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
			fmt.Fprintf(os.Stderr, "\r\x1b[K%d fetched (%s, %s/s), %d already cached, %d failed", p.Fetched, size.Human(p.Bytes), size.Human(int64(float64(p.Bytes)/time.Since(began).Seconds())), p.Already, p.Failed)
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

// report prints the result. It returns an error if an object failed.
func (w *warmCommand) report(p *placement.PrefetchProgress) (err error) {
	if w.JSON {
		err = printJSON(p)
	} else {
		fmt.Printf("%d objects (%s) fetched, %d already cached, %d failed\n", p.Fetched, size.Human(p.Bytes), p.Already, p.Failed)
	}
	switch {
	case !p.Done && p.Failure != "":
		return fmt.Errorf("%s; the objects fetched so far are kept; continue with --after %q", p.Failure, p.After)
	case !p.Done:
		return fmt.Errorf("the connection to the gateway was lost; the objects fetched so far are kept; continue with --after %q", p.After)
	case p.Failed > 0:
		return errors.Join(err, fmt.Errorf("last failure: %s", p.Failure))
	}
	return err
}
