package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/admin/client"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/server"
)

// costCommand is "akigw cost".
type costCommand struct{ remote }

// Run prints the cost report.
func (c *costCommand) Run() error {
	r, err := ask(&c.remote, (*client.Client).Cost)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(r)
	}
	money := func(n float64) string { return fmt.Sprintf("%.4f %s", n, r.Prices.Currency) }
	fmt.Printf("since %s, at %g for 1,000 writes and listings, %g for 1,000 reads, %g for a GiB read (%s)\n\n", r.Since.Local().Format(time.DateTime), r.Prices.Thousands, r.Prices.Reads, r.Prices.GiBOut, r.Prices.Currency)
	total := r.Total
	total.Bucket = "total"
	return table([]string{"BUCKET", "REQUESTS", "UPSTREAM", "SENT", "FROM UPSTREAM", "WITHOUT", "WITH", "SAVED"}, append(r.Buckets, total), func(l cost.Line) []any {
		name := l.Bucket
		if name == cost.Others {
			name = "(none)"
		}
		return []any{name, l.Clients.Requests(), l.Upstream.Requests(), size.Human(int64(l.Clients.Out)), size.Human(int64(l.Upstream.Out)), money(l.Without), money(l.With), money(l.Saved)}
	})
}

// auditCommand is "akigw audit".
type auditCommand struct {
	remote
	Limit int `help:"Maximum number of changes to print, newest first." default:"100" placeholder:"N"`
}

// Run prints the audit log. It requires an admin key.
func (a *auditCommand) Run() error {
	return list(&a.remote, func(c *client.Client, ctx context.Context) ([]admin.Audited, error) {
		return c.Audit(ctx, a.Limit)
	}, []string{"TIME", "KEY", "FROM", "WHAT", "STATUS"}, func(one admin.Audited) []any {
		if one.LeftOut > 0 {
			return []any{one.Time.Local().Format(time.DateTime), "", "", fmt.Sprintf("%d rejected requests omitted", one.LeftOut), ""}
		}
		what := one.Method + " " + one.Path
		if one.Query != "" {
			what += "?" + one.Query
		}
		return []any{one.Time.Local().Format(time.DateTime), one.AccessKey, one.Remote, what, one.Status}
	})
}

// logsCommand is "akigw logs".
type logsCommand struct {
	remote
	Level string `help:"Minimum level: DEBUG, INFO, WARN or ERROR." default:"INFO" enum:"DEBUG,INFO,WARN,ERROR"`
}

// Run prints the end of the log and follows it until interrupted. It requires an admin key.
func (l *logsCommand) Run() error {
	gateway, err := l.gateway()
	if err != nil {
		return err
	}
	least, err := server.ParseLogLevel(l.Level)
	if err != nil {
		return err
	}
	ctx, stop := until()
	defer stop()
	return gateway.Logs(ctx, func(raw []byte) error {
		var record map[string]any
		if err := json.Unmarshal(raw, &record); err != nil {
			return err
		}
		if level, err := server.ParseLogLevel(fmt.Sprint(record["level"])); err == nil && level < least {
			return nil
		}
		if l.JSON {
			_, err := fmt.Printf("%s\n", raw)
			return err
		}
		printRecord(os.Stdout, record)
		return nil
	})
}

// printRecord prints a log record on one line.
func printRecord(w io.Writer, record map[string]any) {
	fmt.Fprintf(w, "%v %v %v", record["time"], record["level"], record["msg"])
	for _, key := range sortedKeys(record) {
		switch key {
		case "time", "level", "msg":
		default:
			fmt.Fprintf(w, " %s=%v", key, record[key])
		}
	}
	fmt.Fprintln(w)
}

// tierTop is "akigw tier top".
type tierTop struct {
	remote
	What string `arg:"" optional:"" help:"s3://BUCKET or s3://BUCKET/PREFIX; without it, all buckets." placeholder:"S3URL"`
}

// Run prints the catalog's totals by bucket or prefix, largest first.
func (t *tierTop) Run() error {
	bucket, prefix := "", ""
	if t.What != "" {
		var err error
		if bucket, prefix, err = s3URL(t.What); err != nil {
			return err
		}
	}
	return list(&t.remote, func(c *client.Client, ctx context.Context) ([]admin.Prefix, error) {
		return c.Prefixes(ctx, bucket, prefix)
	}, []string{"NAME", "OBJECTS", "BYTES", "IN MEMORY", "ON DISK", "READS"}, func(p admin.Prefix) []any {
		return []any{"s3://" + p.Bucket + "/" + p.Prefix, p.Objects, size.Human(p.Bytes), size.Human(p.Hot), size.Human(p.Warm), p.Accesses}
	})
}
