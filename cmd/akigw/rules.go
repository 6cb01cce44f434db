package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/admin/client"
	"github.com/akidb/akigw/server"
)

// rulesCommand is "akigw rules".
type rulesCommand struct {
	Explain rulesExplainCommand `cmd:"" help:"Print the settings of a key and the line of the configuration file that each comes from."`
}

type rulesExplainCommand struct {
	remote
	Running bool   `help:"Ask the running gateway. It also tells why it does not honour a rule write = 'back' at present: for example, because the bucket is versioned."`
	Object  string `arg:"" placeholder:"BUCKET/KEY" help:"The object to explain."`
}

// Run prints the settings of a key.
func (r *rulesExplainCommand) Run() error {
	bucket, key, ok := strings.Cut(strings.TrimPrefix(r.Object, "s3://"), "/")
	if !ok || key == "" {
		return fmt.Errorf("%q is not BUCKET/KEY", r.Object)
	}
	if err := errors.Join(akigw.CheckBucketName(bucket), akigw.CheckKeyName(key)); err != nil {
		return fmt.Errorf("%s: %w", r.Object, err)
	}
	if r.Running {
		return r.askRunning(bucket, key)
	}
	c, err := server.Load(r.Config, os.Environ(), nil)
	if err != nil {
		return err
	}
	book, err := c.OpenRules(slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return err
	}
	if r.JSON {
		return printJSON(admin.Settings(book.Explain(bucket, key)))
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, e := range book.Explain(bucket, key) {
		from := "default"
		if e.Rule != nil {
			from = fmt.Sprintf("%s:%d\t%s, line %d", r.Config, e.Line, e.Rule, e.Rule.Line)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", e.Field, e.Value, from)
	}
	return table.Flush()
}

// askRunning prints the settings of a key that are in effect in a running gateway.
func (r *rulesExplainCommand) askRunning(bucket, key string) error {
	settings, err := ask(&r.remote, func(c *client.Client, ctx context.Context) ([]admin.Setting, error) {
		return c.Explain(ctx, bucket, key)
	})
	if err != nil {
		return err
	}
	if r.JSON {
		return printJSON(settings)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, s := range settings {
		from := "default"
		if s.Rule != "" {
			from = fmt.Sprintf("line %d\t%s", s.Line, s.Rule)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", s.Field, s.Value, from)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, s := range settings {
		if s.Note != "" {
			fmt.Printf("\n%s = %s is not in effect at present: %s\n", s.Field, s.Value, s.Note)
		}
	}
	return nil
}
