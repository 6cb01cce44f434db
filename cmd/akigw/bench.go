package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/akidb/akigw/admin/client"
	"github.com/akidb/akigw/bench"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/server"
)

// benchCommand is "akigw bench".
type benchCommand struct {
	Load  benchLoad  `cmd:"" help:"Open-loop load on a set of objects: reads, writes and moves between tiers, at times that are fixed in advance."`
	Get   benchGet   `cmd:"" help:"Closed-loop reads: each client sends the next request when the last one was answered."`
	Put   benchPut   `cmd:"" help:"Closed-loop writes."`
	Mixed benchMixed `cmd:"" help:"Closed-loop reads and writes."`

	Upload benchUpload `cmd:"" help:"How fast acknowledged writes go upstream: one after the other, in packs, in parallel, and both. It starts a gateway and an upstream of its own for each."`
}

// target is the endpoint that a benchmark is about, and what becomes of its report.
type target struct {
	remote
	Endpoint    string `help:"Address of the S3 endpoint, such as http://127.0.0.1:9000 (default: the configured gateway)." placeholder:"URL" env:"AKIGW_BENCH_ENDPOINT"`
	S3AccessKey string `name:"s3-access-key" help:"Its access key (default: the gateway's root key pair)." env:"AKIGW_BENCH_ACCESS_KEY"`
	S3SecretKey string `name:"s3-secret-key" help:"Its secret." env:"AKIGW_BENCH_SECRET_KEY"`
	Region      string `help:"Its region." default:"us-east-1" env:"AKIGW_BENCH_REGION"`
	PID         int    `name:"pid" help:"Process of the server, on this machine, to look at (default: by the gateway's metrics)." placeholder:"N"`
	Seed        uint64 `help:"Seed of what is random (default: another one each time)."`
	Out         string `help:"Directory for the report: KIND.json and KIND.html." placeholder:"DIR" type:"path"`

	settings map[string]string // of the configuration, by key; "" says nothing
}

// open finds the endpoint. own reports whether it is the configured gateway.
func (t *target) open() (e *bench.Endpoint, c *server.Config, own bool, err error) {
	if c, err = t.load(t.settings); err != nil {
		return nil, nil, false, err
	}
	if t.Seed == 0 {
		t.Seed = rand.Uint64() >> 11 // JSON keeps it whole
	}
	e = &bench.Endpoint{URL: t.Endpoint, AccessKey: t.S3AccessKey, SecretKey: t.S3SecretKey, Region: t.Region}
	if own = e.URL == ""; own {
		e.URL = "http://" + c.Gateway.Listen
		if c.Gateway.TLSCert != "" {
			e.URL = "https://" + c.Gateway.Listen
		}
	}
	if e.AccessKey == "" {
		if !own {
			return nil, nil, false, fmt.Errorf("the key pair of %s is needed: --s3-access-key and --s3-secret-key", e.URL)
		}
		if _, err := os.Stat(c.Process.Data); err != nil && c.Gateway.AccessKey == "" {
			return nil, nil, false, fmt.Errorf("no gateway has run here (%w); --data names its directory, or --s3-access-key and --s3-secret-key its key pair", err)
		}
		if _, err := c.EnsureRootKeys(); err != nil {
			return nil, nil, false, err
		}
		e.AccessKey, e.SecretKey = c.Gateway.AccessKey, c.Gateway.SecretKey
	}
	return e, c, own, nil
}

// server is the process to look at, nil if there is none.
func (t *target) server(c *server.Config, own bool) bench.Watched {
	switch {
	case t.PID > 0:
		return bench.PID(t.PID)
	case own || t.Admin != "":
		return bench.Metrics("http://" + c.Admin.Listen + "/metrics")
	}
	return nil
}

// measure runs a benchmark, and reports it.
func (t *target) measure(ctx context.Context, b interface {
	Prepare(context.Context) error
	Run(context.Context) (*bench.Report, error)
}) error {
	if err := b.Prepare(ctx); err != nil {
		return err
	}
	report, err := b.Run(ctx)
	if err != nil {
		return err
	}
	return t.report(report)
}

// report prints a report, and keeps it.
func (t *target) report(r *bench.Report) error {
	r.Version = version
	if t.Out != "" {
		if err := os.MkdirAll(t.Out, 0o755); err != nil {
			return err
		}
		for name, write := range map[string]func(io.Writer) error{r.Kind + ".json": r.WriteJSON, r.Kind + ".html": r.WriteHTML} {
			if err := writeReport(filepath.Join(t.Out, name), write); err != nil {
				return err
			}
		}
	}
	write := r.WriteText
	if t.JSON {
		write = r.WriteJSON
	}
	if err := write(os.Stdout); err != nil {
		return err
	}
	if t.Out != "" && !t.JSON {
		fmt.Printf("\nthe report is in %s and %s\n", filepath.Join(t.Out, r.Kind+".html"), filepath.Join(t.Out, r.Kind+".json"))
	}
	if r.Wrong > 0 {
		return fmt.Errorf("%d answers were wrong", r.Wrong)
	}
	return nil
}

func writeReport(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// until is a context that ends when the user has had enough.
func until() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

type benchLoad struct {
	target
	DurationSecs   string `help:"Seconds (load_test.duration_secs)." placeholder:"N"`
	QPS            string `name:"qps" help:"Requests a second (load_test.qps)." placeholder:"N"`
	SearchPct      string `help:"Share of them that reads (load_test.search_pct)." placeholder:"SHARE"`
	InsertPct      string `help:"Share of them that writes (load_test.insert_pct)." placeholder:"SHARE"`
	TierControlPct string `help:"Share of them that moves objects between tiers (load_test.tier_control_pct). It reads instead if the endpoint is no gateway, or there is no admin key." placeholder:"SHARE"`
	Collections    string `help:"Prefixes (load_test.collections)." placeholder:"N"`
	Items          string `help:"Objects in all (load_test.items)." placeholder:"N"`
	ItemBytes      string `help:"Size of an object, or smallest and largest (load_test.item_bytes)." placeholder:"SIZE[-SIZE]"`
	Skew           string `help:"Of the Zipf distribution of reads (load_test.skew)." placeholder:"S"`
	Bucket         string `help:"Bucket of the objects (load_test.bucket)." placeholder:"NAME"`
}

// Run puts load on the endpoint.
func (b *benchLoad) Run() error {
	b.settings = map[string]string{
		"load_test.duration_secs": b.DurationSecs, "load_test.qps": b.QPS, "load_test.search_pct": b.SearchPct, "load_test.insert_pct": b.InsertPct, "load_test.tier_control_pct": b.TierControlPct,
		"load_test.collections": b.Collections, "load_test.items": b.Items, "load_test.item_bytes": b.ItemBytes, "load_test.skew": b.Skew, "load_test.bucket": b.Bucket,
	}
	endpoint, c, own, err := b.open()
	if err != nil {
		return err
	}
	l := &bench.Load{Config: c.LoadTest, Endpoint: endpoint, Server: b.server(c, own), Seed: b.Seed, Progress: progress()}
	if own || b.Admin != "" {
		if _, err := b.adminKey(); err == nil {
			l.Control = control{b.client(c, true)}
		} else {
			fmt.Fprintln(os.Stderr, "no moves between tiers, their share reads:", err)
		}
	}
	ctx, stop := until()
	defer stop()
	return b.measure(ctx, l)
}

// closed are the flags of closed-loop runs.
type closed struct {
	target
	Duration  float64 `help:"Seconds, of each round." default:"10" placeholder:"SECS"`
	Clients   int     `help:"Clients at a time." default:"8" placeholder:"N"`
	Objects   int     `help:"Objects that they ask for in turn." default:"100" placeholder:"N"`
	ItemBytes string  `help:"Size of an object, or smallest and largest." default:"4KiB" placeholder:"SIZE[-SIZE]"`
	Bucket    string  `help:"Bucket of the objects." default:"akigw-bench" placeholder:"NAME"`

	Compare          string `help:"Another endpoint, which is measured in turn with the first." placeholder:"URL"`
	CompareAccessKey string `help:"Its access key (default: the same)." placeholder:"KEY"`
	CompareSecretKey string `help:"Its secret." env:"AKIGW_BENCH_COMPARE_SECRET_KEY" placeholder:"SECRET"`
	ComparePID       int    `name:"compare-pid" help:"Its process, on this machine." placeholder:"N"`
	Rounds           int    `help:"Rounds of a comparison." default:"3" placeholder:"N"`
}

type benchGet struct {
	closed
	Class string `help:"Tier that the objects are in: hot, warm or cold (default: wherever they are)." enum:"hot,warm,cold," default:""`
}

// Run measures reads.
func (b *benchGet) Run() error { return b.run("get", 1, b.Class) }

type benchPut struct{ closed }

// Run measures writes.
func (b *benchPut) Run() error { return b.run("put", 0, "") }

type benchMixed struct {
	closed
	ReadShare float64 `help:"Share of requests that read." default:"0.7" placeholder:"SHARE"`
}

// Run measures reads and writes.
func (b *benchMixed) Run() error { return b.run("mixed", b.ReadShare, "") }

func (b *closed) run(kind string, reads float64, class string) error {
	endpoint, c, own, err := b.open()
	if err != nil {
		return err
	}
	var sizes bench.Sizes
	if err := sizes.UnmarshalText([]byte(b.ItemBytes)); err != nil {
		return fmt.Errorf("--item-bytes: %w", err)
	}
	one := &bench.Closed{Endpoint: endpoint, Server: b.server(c, own), Seed: b.Seed, Progress: progress(),
		Config: bench.ClosedConfig{Kind: kind, DurationSecs: b.Duration, Clients: b.Clients, Objects: b.Objects, ItemBytes: sizes, ReadShare: reads, Class: class, Bucket: b.Bucket}}
	if class != "" && (own || b.Admin != "") {
		if _, err := b.adminKey(); err != nil {
			return err
		}
		one.Control = control{b.client(c, true)}
	}
	ctx, stop := until()
	defer stop()
	if b.Compare == "" {
		return b.measure(ctx, one)
	}
	other := *one
	other.Endpoint = &bench.Endpoint{URL: b.Compare, AccessKey: cmp.Or(b.CompareAccessKey, endpoint.AccessKey), SecretKey: cmp.Or(b.CompareSecretKey, endpoint.SecretKey), Region: b.Region}
	other.Control, other.Server, other.Config.Class = nil, nil, ""
	if b.ComparePID > 0 {
		other.Server = bench.PID(b.ComparePID)
	}
	comparison, err := bench.Compare(ctx, one, &other, b.Rounds)
	if err != nil {
		return err
	}
	if b.Out != "" {
		if err := errors.Join(os.MkdirAll(b.Out, 0o755), writeReport(filepath.Join(b.Out, kind+"-compare.json"), asJSON(comparison))); err != nil {
			return err
		}
	}
	if b.JSON {
		return printJSON(comparison)
	}
	return comparison.WriteText(os.Stdout)
}

type benchUpload struct {
	Objects     int     `help:"Objects of the sequential run; the faster ones write up to ten times as many." default:"300" placeholder:"N"`
	ItemBytes   string  `help:"Size of an object, or smallest and largest." default:"1KiB" placeholder:"SIZE[-SIZE]"`
	LatencyMS   int     `name:"latency-ms" help:"What the upstream takes for an answer, in milliseconds." default:"5" placeholder:"N"`
	Throttle    float64 `help:"Share of requests that the upstream tells to slow down." placeholder:"SHARE"`
	Concurrency []int   `help:"Uploads at a time that are tried besides." default:"2,5,20" placeholder:"N,N"`
	Out         string  `help:"Directory for upload.json." placeholder:"DIR" type:"path"`
	JSON        bool    `name:"json" help:"Print JSON."`
}

// Run measures uploads.
func (b *benchUpload) Run() error {
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	c := bench.UploadConfig{Binary: binary, Objects: b.Objects, LatencyMS: b.LatencyMS, Throttle: b.Throttle, Concurrency: b.Concurrency}
	if err := c.ItemBytes.UnmarshalText([]byte(b.ItemBytes)); err != nil {
		return fmt.Errorf("--item-bytes: %w", err)
	}
	ctx, stop := until()
	defer stop()
	report, err := bench.MeasureUploads(ctx, c, progress())
	if err != nil {
		return err
	}
	if b.Out != "" {
		if err := errors.Join(os.MkdirAll(b.Out, 0o755), writeReport(filepath.Join(b.Out, "upload.json"), asJSON(report))); err != nil {
			return err
		}
	}
	if b.JSON {
		return printJSON(report)
	}
	return report.WriteText(os.Stdout)
}

// asJSON writes v.
func asJSON(v any) func(io.Writer) error {
	return func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
}

// progress shows to a person how far a benchmark is, and nothing to a file.
func progress() func(what string, done, of float64, last *bench.Sample) {
	if !terminal(os.Stderr) {
		return nil
	}
	return func(what string, done, of float64, last *bench.Sample) {
		fmt.Fprintf(os.Stderr, "\r\x1b[K%s: %.0f of %.0f", what, done, of)
		if last != nil {
			fmt.Fprintf(os.Stderr, " s, %.0f/s, P50 %.2f P95 %.2f P99 %.2f ms, %d errors, %d without an answer", last.PerSec, last.P50, last.P95, last.P99, last.Errors, last.Outstanding)
		}
		if done >= of {
			fmt.Fprintln(os.Stderr)
		}
	}
}

// control moves objects by a gateway's admin API.
type control struct{ *client.Client }

// Move implements bench.Control.
func (c control) Move(ctx context.Context, action, bucket, prefix string) error {
	_, err := c.Client.Move(ctx, placement.Action(action), client.Objects{Bucket: bucket, Prefix: prefix}, "")
	for _, no := range []error{placement.ErrMoving, placement.ErrPinned, placement.ErrNotPinned} { // which is an answer
		if err != nil && strings.Contains(err.Error(), no.Error()) {
			return nil
		}
	}
	return err
}

// State implements bench.Control.
func (c control) State(ctx context.Context, bucket, prefix string) error {
	_, err := c.Client.State(ctx, client.Objects{Bucket: bucket, Prefix: prefix})
	return err
}
