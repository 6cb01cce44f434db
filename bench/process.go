package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// Process is the resource usage of a server's process. Unknown values are 0.
type Process struct {
	CPUSecs    float64 `json:"cpu_secs"`  // since its start
	RSS        int64   `json:"rss_bytes"` // resident
	Anonymous  int64   `json:"anonymous_bytes"`
	FDs        int64   `json:"fds"`
	Goroutines int64   `json:"goroutines"`
	GCPause    float64 `json:"gc_pause_secs"`            // total since its start
	Heap       int64   `json:"heap_bytes"`               // in use
	HotTier    int64   `json:"hot_tier_bytes,omitempty"` // objects and vector collections
	// The upload pool: uploads under way, and their limit.
	Uploading   float64 `json:"uploading"`
	UploadLimit float64 `json:"upload_limit"`
	Pending     float64 `json:"pending_writes"`
}

// Watched is a process whose resource usage can be sampled.
type Watched interface {
	Sample(ctx context.Context) (*Process, error)
}

// Metrics is the URL of a gateway's metrics: "http://127.0.0.1:9001/metrics".
type Metrics string

// Sample implements Watched.
func (m Metrics) Sample(ctx context.Context) (*Process, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, string(m), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", m, resp.Status)
	}
	return parseMetrics(resp.Body)
}

func parseMetrics(r io.Reader) (*Process, error) {
	values := map[string]float64{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, text, ok := strings.Cut(lines.Text(), " ")
		if value, err := strconv.ParseFloat(text, 64); ok && err == nil {
			values[name] = value
		}
	}
	return &Process{
		CPUSecs: values["process_cpu_seconds_total"], RSS: int64(values["process_resident_memory_bytes"]), Anonymous: int64(values["process_resident_memory_anon_bytes"]),
		FDs: int64(values["process_open_fds"]), Goroutines: int64(values["go_goroutines"]), GCPause: values["go_gc_duration_seconds_sum"], Heap: int64(values["go_memstats_heap_inuse_bytes"]), HotTier: int64(values["akigw_hot_used_bytes"] + values["akigw_vectors_hot_bytes"]),
		Uploading: values["akigw_uploadpool_active"], UploadLimit: values["akigw_uploadpool_limit"], Pending: values["akigw_journal_pending"],
	}, lines.Err()
}

// PID is the ID of a process on this machine.
type PID int

// ticks is the number of clock ticks per second in /proc, on every current Linux.
const ticks = 100

// Sample implements Watched.
func (p PID) Sample(context.Context) (*Process, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p))
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", p, err)
	}
	var out Process
	kib := func(name string) int64 {
		_, rest, _ := strings.Cut(string(status), name+":")
		n, _ := strconv.ParseInt(strings.Fields(rest + " 0")[0], 10, 64)
		return n << 10
	}
	out.RSS, out.Anonymous = kib("VmRSS"), kib("RssAnon")
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
	if err != nil {
		return nil, err
	}
	// The process name may contain blanks. It ends at the last parenthesis.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return nil, fmt.Errorf("/proc/%d/stat has an unknown format", p)
	}
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	out.CPUSecs = (user + system) / ticks
	if fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p)); err == nil {
		out.FDs = int64(len(fds))
	}
	return &out, nil
}
