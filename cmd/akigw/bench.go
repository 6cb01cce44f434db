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
	Load  benchLoad  `cmd:"" help:"Open-loop load on objects or vector collections: reads or searches, writes and tier moves at a fixed schedule."`
	Get   benchGet   `cmd:"" help:"Closed-loop reads: each client sends its next request when it has received the previous response."`
	Put   benchPut   `cmd:"" help:"Closed-loop writes."`
	Mixed benchMixed `cmd:"" help:"Closed-loop reads and writes."`

	Upload benchUpload `cmd:"" help:"How fast acknowledged writes reach the upstream: sequentially, in packs, in parallel, and in packs in parallel. Starts its own gateway and upstream for each run."`
}

// target holds the flags for the endpoint under test and for the report.
type target struct {
	remote
	Endpoint    string `help:"Address of the S3 endpoint, such as http://127.0.0.1:9000 (default: the configured gateway)." placeholder:"URL" env:"AKIGW_BENCH_ENDPOINT"`
	S3AccessKey string `name:"s3-access-key" help:"Access key for the endpoint (default: the gateway's root key pair)." env:"AKIGW_BENCH_ACCESS_KEY"`
	S3SecretKey string `name:"s3-secret-key" help:"Secret key for the endpoint." env:"AKIGW_BENCH_SECRET_KEY"`
	Region      string `help:"Region of the endpoint." default:"us-east-1" env:"AKIGW_BENCH_REGION"`
	PID         int    `name:"pid" help:"Process ID of the server on this machine, to measure its CPU and memory (default: from the gateway's metrics)." placeholder:"N"`
	Seed        uint64 `help:"Seed of the random numbers (default: a new one for each run)."`
	Out         string `help:"Directory for the report: KIND.json and KIND.html." placeholder:"DIR" type:"path"`

	settings map[string]string // configuration overrides by key; empty values are ignored
}

// open resolves the endpoint. own reports whether it is the configured gateway.
func (t *target) open() (e *bench.Endpoint, c *server.Config, own bool, err error) {
	if c, err = t.load(t.settings); err != nil {
		return nil, nil, false, err
	}
	if t.Seed == 0 {
		t.Seed = rand.Uint64() >> 11 // at most 53 bits, which JSON numbers hold exactly
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
			return nil, nil, false, fmt.Errorf("give the key pair of %s with --s3-access-key and --s3-secret-key", e.URL)
		}
		if _, err := os.Stat(c.Process.Data); err != nil && c.Gateway.AccessKey == "" {
			return nil, nil, false, fmt.Errorf("found no gateway's data here (%w); give its directory with --data, or its key pair with --s3-access-key and --s3-secret-key", err)
		}
		if _, err := c.EnsureRootKeys(); err != nil {
			return nil, nil, false, err
		}
		e.AccessKey, e.SecretKey = c.Gateway.AccessKey, c.Gateway.SecretKey
	}
	return e, c, own, nil
}

// server returns the process to measure, nil if there is none.
func (t *target) server(c *server.Config, own bool) bench.Watched {
	switch {
	case t.PID > 0:
		return bench.PID(t.PID)
	case own || t.Admin != "":
		return bench.Metrics("http://" + c.Admin.Listen + "/metrics")
	}
	return nil
}

// measure runs a benchmark and reports the result.
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

// report prints a report and saves it.
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
		fmt.Printf("\nreport written to %s and %s\n", filepath.Join(t.Out, r.Kind+".html"), filepath.Join(t.Out, r.Kind+".json"))
	}
	if r.Wrong > 0 {
		return fmt.Errorf("%d responses were wrong", r.Wrong)
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

// until returns a context that is cancelled by SIGINT or SIGTERM.
func until() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

type benchLoad struct {
	target
	Workload       string `help:"What to put load on (load_test.workload): objects, or vectors: vector collections, which the gateway must have configured and which are removed afterwards." placeholder:"objects|vectors"`
	DurationSecs   string `help:"Duration in seconds (load_test.duration_secs)." placeholder:"N"`
	QPS            string `name:"qps" help:"Requests per second (load_test.qps)." placeholder:"N"`
	SearchPct      string `help:"Share of requests that read, or search (load_test.search_pct)." placeholder:"SHARE"`
	InsertPct      string `help:"Share of requests that write (load_test.insert_pct)." placeholder:"SHARE"`
	TierControlPct string `help:"Share of requests that move objects or vector collections between tiers (load_test.tier_control_pct). They read or search instead if the endpoint is not a gateway or there is no admin key." placeholder:"SHARE"`
	Collections    string `help:"Number of prefixes, or of vector collections (load_test.collections)." placeholder:"N"`
	Items          string `help:"Total number of objects or vectors (load_test.items)." placeholder:"N"`
	ItemBytes      string `help:"Object size, or smallest and largest (load_test.item_bytes)." placeholder:"SIZE[-SIZE]"`
	Skew           string `help:"Exponent of the Zipf distribution of reads (load_test.skew)." placeholder:"S"`
	Dimension      string `help:"Dimension of the vectors (load_test.dimension)." placeholder:"N"`
	Bucket         string `help:"Bucket of the objects, or vector bucket (load_test.bucket)." placeholder:"NAME"`
}

// Run puts load on the endpoint.
func (b *benchLoad) Run() error {
	b.settings = map[string]string{
		"load_test.workload": b.Workload, "load_test.dimension": b.Dimension,
		"load_test.duration_secs": b.DurationSecs, "load_test.qps": b.QPS, "load_test.search_pct": b.SearchPct, "load_test.insert_pct": b.InsertPct, "load_test.tier_control_pct": b.TierControlPct,
		"load_test.collections": b.Collections, "load_test.items": b.Items, "load_test.item_bytes": b.ItemBytes, "load_test.skew": b.Skew, "load_test.bucket": b.Bucket,
	}
	endpoint, c, own, err := b.open()
	if err != nil {
		return err
	}
	l := &bench.Load{Config: c.LoadTest, Endpoint: endpoint, Server: b.server(c, own), Seed: b.Seed, Progress: progress()}
	var admin *client.Client
	if own || b.Admin != "" {
		if _, err := b.adminKey(); err == nil {
			admin = b.client(c, true)
		} else {
			fmt.Fprintln(os.Stderr, "tier moves are replaced by reads:", err)
		}
	}
	ctx, stop := until()
	defer stop()
	if c.LoadTest.Workload == bench.Vectors {
		v := &bench.VectorLoad{Load: *l}
		if admin != nil {
			v.Control = vectorControl{admin}
		}
		return b.measure(ctx, v)
	}
	if admin != nil {
		l.Control = control{admin}
	}
	return b.measure(ctx, l)
}

// closed holds the flags of closed-loop benchmarks.
type closed struct {
	target
	Duration  float64 `help:"Duration of each round in seconds." default:"10" placeholder:"SECS"`
	Clients   int     `help:"Number of concurrent clients." default:"8" placeholder:"N"`
	Objects   int     `help:"Number of objects, which the clients request in turn." default:"100" placeholder:"N"`
	ItemBytes string  `help:"Object size, or smallest and largest." default:"4KiB" placeholder:"SIZE[-SIZE]"`
	Bucket    string  `help:"Bucket of the objects." default:"akigw-bench" placeholder:"NAME"`

	Compare          string `help:"A second endpoint, measured in alternation with the first." placeholder:"URL"`
	CompareAccessKey string `help:"Access key for the second endpoint (default: the same)." placeholder:"KEY"`
	CompareSecretKey string `help:"Secret key for the second endpoint." env:"AKIGW_BENCH_COMPARE_SECRET_KEY" placeholder:"SECRET"`
	ComparePID       int    `name:"compare-pid" help:"Process ID of the second endpoint on this machine." placeholder:"N"`
	Rounds           int    `help:"Rounds of a comparison." default:"3" placeholder:"N"`
}

type benchGet struct {
	closed
	Class string `help:"Tier to place the objects in first: hot, warm or cold (default: leave them where they are)." enum:"hot,warm,cold," default:""`
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
	Objects     int     `help:"Number of objects in the sequential run; the faster runs write up to ten times as many." default:"300" placeholder:"N"`
	ItemBytes   string  `help:"Object size, or smallest and largest." default:"1KiB" placeholder:"SIZE[-SIZE]"`
	LatencyMS   int     `name:"latency-ms" help:"Response time of the upstream in milliseconds." default:"5" placeholder:"N"`
	Throttle    float64 `help:"Share of requests that the upstream answers with SlowDown." placeholder:"SHARE"`
	Concurrency []int   `help:"Further numbers of parallel uploads to measure." default:"2,5,20" placeholder:"N,N"`
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

// asJSON returns a function that writes v as indented JSON.
func asJSON(v any) func(io.Writer) error {
	return func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
}

// progress returns a function that shows a benchmark's progress, nil if standard error is not a
// terminal.
func progress() func(what string, done, of float64, last *bench.Sample) {
	if !terminal(os.Stderr) {
		return nil
	}
	return func(what string, done, of float64, last *bench.Sample) {
		fmt.Fprintf(os.Stderr, "\r\x1b[K%s: %.0f of %.0f", what, done, of)
		if last != nil {
			fmt.Fprintf(os.Stderr, " s, %.0f/s, P50 %.2f P95 %.2f P99 %.2f ms, %d errors, %d outstanding", last.PerSec, last.P50, last.P95, last.P99, last.Errors, last.Outstanding)
		}
		if done >= of {
			fmt.Fprintln(os.Stderr)
		}
	}
}

// control moves objects between tiers through the gateway's admin API.
type control struct{ *client.Client }

// Move implements bench.Control.
func (c control) Move(ctx context.Context, action, bucket, prefix string) error {
	_, err := c.Client.Move(ctx, placement.Action(action), client.Objects{Bucket: bucket, Prefix: prefix}, "")
	for _, refusal := range []error{placement.ErrMoving, placement.ErrPinned, placement.ErrNotPinned} { // valid responses under load
		if err != nil && strings.Contains(err.Error(), refusal.Error()) {
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

// vectorControl moves vector collections between tiers through the gateway's admin API.
type vectorControl struct{ *client.Client }

// Move implements bench.VectorControl.
func (c vectorControl) Move(ctx context.Context, action, bucket, index, tier string) error {
	_, err := c.MoveVectors(ctx, placement.Action(action), bucket, index, tier)
	return err
}

// Tiers implements bench.VectorControl.
func (c vectorControl) Tiers(ctx context.Context, bucket string) (map[string]string, error) {
	all, err := c.Vectors(ctx)
	tiers := map[string]string{}
	for i := range all.Collections {
		if s := &all.Collections[i]; s.Bucket == bucket {
			tiers[s.Index] = s.Tier.String()
		}
	}
	return tiers, err
}

// Flush implements bench.VectorControl.
func (c vectorControl) Flush(ctx context.Context) error {
	_, err := c.FlushVectors(ctx)
	return err
}
