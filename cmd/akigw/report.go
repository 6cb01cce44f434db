package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/server"
)

// costCommand is "akigw cost".
type costCommand struct{ remote }

// Run prints what was saved.
func (c *costCommand) Run() error {
	var r cost.Report
	if err := c.into(&r, http.MethodGet, "/api/v1/cost", nil); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(r)
	}
	money := func(n float64) string { return fmt.Sprintf("%.4f %s", n, r.Prices.Currency) }
	fmt.Printf("since %s, at %g for 1,000 writes and listings, %g for 1,000 reads, %g for a GiB read (%s)\n\n", r.Since.Local().Format(time.DateTime), r.Prices.Thousands, r.Prices.Reads, r.Prices.GiBOut, r.Prices.Currency)
	total := r.Total
	total.Bucket = "in all"
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
	Limit int `help:"How many changes, the newest first." default:"100" placeholder:"N"`
}

// Run prints who changed what. It needs an admin key.
func (a *auditCommand) Run() error {
	body, err := a.private("/api/v1/audit", url.Values{"limit": {strconv.Itoa(a.Limit)}})
	if err != nil {
		return err
	}
	defer body.Close()
	var all []admin.Audited
	if err := json.NewDecoder(body).Decode(&all); err != nil {
		return err
	}
	if a.JSON {
		return printJSON(all)
	}
	return table([]string{"TIME", "KEY", "FROM", "WHAT", "STATUS"}, all, func(one admin.Audited) []any {
		if one.LeftOut > 0 {
			return []any{one.Time.Local().Format(time.DateTime), "", "", fmt.Sprintf("%d rejected requests were left out", one.LeftOut), ""}
		}
		what := one.Method + " " + one.Path
		if one.Query != "" {
			what += "?" + one.Query
		}
		return []any{one.Time.Local().Format(time.DateTime), one.AccessKey, one.Remote, what, one.Status}
	})
}

// private asks for what needs an admin key though it changes nothing.
func (r *remote) private(path string, query url.Values) (io.ReadCloser, error) {
	listener, err := r.reach(true)
	if err != nil {
		return nil, err
	}
	return listener.send(context.Background(), http.MethodGet, path, query, nil)
}

// logsCommand is "akigw logs".
type logsCommand struct {
	remote
	Level string `help:"Least level: DEBUG, INFO, WARN or ERROR." default:"INFO" enum:"DEBUG,INFO,WARN,ERROR"`
}

// Run prints the log's end, and follows it until it is interrupted. It needs an admin key.
func (l *logsCommand) Run() error {
	ctx, stop := until()
	defer stop()
	body, err := l.private("/api/v1/logs", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	defer context.AfterFunc(ctx, func() { body.Close() })()
	least, err := server.ParseLogLevel(l.Level)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		raw, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var record map[string]any
		if err := json.Unmarshal([]byte(raw), &record); err != nil {
			return err
		}
		if level, err := server.ParseLogLevel(fmt.Sprint(record["level"])); err == nil && level < least {
			continue
		}
		if l.JSON {
			fmt.Println(raw)
			continue
		}
		printRecord(os.Stdout, record)
	}
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(lines.Err(), errors.New("the gateway has gone"))
}

// printRecord prints a record of the log on a line.
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

// Run prints sums of what the catalog knows, the largest first.
func (t *tierTop) Run() error {
	query := url.Values{}
	if t.What != "" {
		bucket, prefix, err := s3URL(t.What)
		if err != nil {
			return err
		}
		query.Set("bucket", bucket)
		query.Set("prefix", prefix)
	}
	var all []admin.Prefix
	if err := t.into(&all, http.MethodGet, "/api/v1/tier/prefixes", query); err != nil {
		return err
	}
	if t.JSON {
		return printJSON(all)
	}
	return table([]string{"NAME", "OBJECTS", "BYTES", "IN MEMORY", "ON DISK", "READS"}, all, func(p admin.Prefix) []any {
		return []any{"s3://" + p.Bucket + "/" + p.Prefix, p.Objects, size.Human(p.Bytes), size.Human(p.Hot), size.Human(p.Warm), p.Accesses}
	})
}
