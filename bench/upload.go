package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"text/tabwriter"
	"time"
)

// UploadConfig configures a measurement of how fast acknowledged writes are uploaded: sequentially, in
// packs, in parallel, and in packs in parallel.
type UploadConfig struct {
	// Binary is the akigw to measure: it runs as the gateway and as the upstream.
	Binary string `json:"-"`
	// Objects is the number of objects of the sequential run; the other runs write more, because
	// they are faster.
	Objects   int   `json:"objects"`
	ItemBytes Sizes `json:"item_bytes"`
	// LatencyMS is the latency of the upstream, in milliseconds, and Throttle the share of requests
	// that it answers with SlowDown.
	LatencyMS   int     `json:"latency_ms"`
	Throttle    float64 `json:"throttle"`
	Concurrency []int   `json:"concurrency"` // numbers of parallel uploads to measure
}

// Upload is the result for one way to upload.
type Upload struct {
	Name        string  `json:"name"`
	Concurrency int     `json:"concurrency"`
	Batch       bool    `json:"batch"`
	Objects     int     `json:"objects"`
	PerSec      float64 `json:"objects_per_sec"`
	Ratio       float64 `json:"ratio"`            // relative to the sequential run
	Wanted      float64 `json:"wanted,omitempty"` // target for Ratio, 0 for none
}

// Uploads is the report of a measurement.
type Uploads struct {
	Config  UploadConfig `json:"config"`
	Began   time.Time    `json:"began"`
	Uploads []Upload     `json:"uploads"`
}

// MeasureUploads measures each way in turn, each with a gateway and an upstream of its own.
// progress may be nil.
func MeasureUploads(ctx context.Context, c UploadConfig, progress func(what string, done, of float64, last *Sample)) (*Uploads, error) {
	ways := []Upload{
		{Name: "sequential", Concurrency: 1, Objects: c.Objects},
		{Name: "batch", Concurrency: 1, Batch: true, Objects: 5 * c.Objects, Wanted: 2.5},
		{Name: "parallel", Concurrency: 10, Objects: 5 * c.Objects, Wanted: 3},
		{Name: "combined", Concurrency: 10, Batch: true, Objects: 10 * c.Objects, Wanted: 3},
	}
	for _, n := range c.Concurrency {
		ways = append(ways, Upload{Name: fmt.Sprintf("%d in parallel", n), Concurrency: n, Objects: c.Objects * min(n, 5)})
	}
	report := &Uploads{Config: c, Began: time.Now().UTC().Truncate(time.Second)}
	for i := range ways {
		way := &ways[i]
		if progress != nil {
			progress("measuring uploads, "+way.Name, float64(i), float64(len(ways)), nil)
		}
		if err := c.measure(ctx, way); err != nil {
			return nil, fmt.Errorf("%s: %w", way.Name, err)
		}
		way.Ratio = way.PerSec / ways[0].PerSec
	}
	if progress != nil {
		progress("measuring uploads", 1, 1, nil)
	}
	report.Uploads = ways
	return report, nil
}

// uploadBucket is the bucket of a measurement.
const uploadBucket = "uploads"

// measure writes objects that the journal acknowledges, and waits until all are upstream.
func (c *UploadConfig) measure(ctx context.Context, way *Upload) (err error) {
	dir, err := os.MkdirTemp("", "akigw-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := c.writeFiles(dir, way); err != nil {
		return err
	}
	addresses := make([]string, 3)
	for i := range addresses {
		if addresses[i], err = freeAddress(); err != nil {
			return err
		}
	}
	upstream, gateway, admin := addresses[0], addresses[1], addresses[2]
	const access, secret = "benchupstream", "benchupstream-secret"
	stopUpstream, err := c.start(dir, []string{"fakes3", "--listen", upstream, "--plan", filepath.Join(dir, "plan.toml"), "--access-key", access, "--secret-key", secret})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopUpstream()) }()
	stopGateway, err := c.start(dir, []string{"serve", "--config", filepath.Join(dir, "akigw.toml"), "--listen", gateway, "--admin-listen", admin, "--data", filepath.Join(dir, "data"), "--upstream", "http://" + upstream},
		"AKIGW_ACCESS_KEY="+access, "AKIGW_SECRET_KEY="+secret, "AKIGW_UPSTREAM_ACCESS_KEY="+access, "AKIGW_UPSTREAM_SECRET_KEY="+secret)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopGateway()) }()
	e := &Endpoint{URL: "http://" + gateway, AccessKey: access, SecretKey: secret, Region: "us-east-1"}
	if err := e.open(); err != nil {
		return err
	}
	if err := e.makeBucket(ctx, uploadBucket); err != nil {
		return err
	}
	began := time.Now()
	if err := e.putAll(ctx, uploadBucket, way.Objects, 32, func(n int) string { return fmt.Sprintf("%06d", n) }, c.ItemBytes, nil); err != nil {
		return err
	}
	if err := awaitUploads(ctx, admin); err != nil {
		return err
	}
	way.PerSec = float64(way.Objects) / time.Since(began).Seconds()
	return nil
}

// writeFiles writes the fault plan of the upstream and the configuration of the gateway.
func (c *UploadConfig) writeFiles(dir string, way *Upload) error {
	plan := fmt.Sprintf("seed = 1\n[[fault]]\neffect = \"latency\"\nlatency_ms = %d\n", c.LatencyMS)
	if c.Throttle > 0 {
		plan += fmt.Sprintf("[[fault]]\neffect = \"slow_down\"\nprobability = %g\n", c.Throttle)
	}
	rule := "[[rule]]\nbucket = \"" + uploadBucket + "\"\nwrite = \"back\"\n"
	if way.Batch {
		rule += "pack_bytes = \"64KiB\"\n"
	}
	config := fmt.Sprintf("%s[write_back]\nmin_free_bytes = 0\n[storage.parallel_upload]\nconcurrency = %d\n[storage.batch_upload]\nenabled = %t\n", rule, way.Concurrency, way.Batch)
	return errors.Join(os.WriteFile(filepath.Join(dir, "plan.toml"), []byte(plan), 0o600), os.WriteFile(filepath.Join(dir, "akigw.toml"), []byte(config), 0o600))
}

// awaitUploads waits until a gateway has no pending writes.
func awaitUploads(ctx context.Context, admin string) error {
	for {
		if pending, err := pendingWrites(ctx, admin); err != nil || pending == 0 {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// pendingWrites returns the number of pending writes.
func pendingWrites(ctx context.Context, admin string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/api/v1/status", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var st struct {
		Pending int `json:"pending"`
		Dead    int `json:"dead_letters"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&st); err != nil {
		return 0, err
	}
	if st.Dead > 0 {
		return 0, fmt.Errorf("%d writes are dead letters", st.Dead)
	}
	return st.Pending, nil
}

// freeAddress returns a loopback address on which nothing listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// start starts the binary and returns when it prints that it is ready. stop ends it.
func (c *UploadConfig) start(dir string, args []string, env ...string) (stop func() error, err error) {
	cmd := exec.Command(c.Binary, args...)
	cmd.Env, cmd.Dir = append(os.Environ(), env...), dir
	log, err := os.Create(filepath.Join(dir, args[0]+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		return cmd.Wait()
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "ready" {
			go io.Copy(io.Discard, out) // drain until the process ends
			return stop, nil
		}
	}
	text, _ := os.ReadFile(log.Name()) // best effort: its output explains the failure
	return nil, errors.Join(fmt.Errorf("%s %s did not start: %s", c.Binary, args[0], text), cmd.Wait())
}

// WriteText prints the report for people.
func (u *Uploads) WriteText(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tparallel\tobjects\tper second\tratio\ttarget\t")
	for _, way := range u.Uploads {
		wanted := ""
		if way.Wanted > 0 {
			wanted = fmt.Sprintf("%.1f", way.Wanted)
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%.0f\t%.1f\t%s\t\n", way.Name, way.Concurrency, way.Objects, way.PerSec, way.Ratio, wanted)
	}
	return table.Flush()
}
