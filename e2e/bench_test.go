package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3vectors"

	"github.com/akidb/akigw/bench"
)

// measured runs a command that prints JSON, and decodes that.
func measured(t *testing.T, into any, args ...string) {
	t.Helper()
	cmd := exec.Command(build(t, plain), args...)
	cmd.Env = append(os.Environ(), "AKIGW_ACCESS_KEY="+accessKey, "AKIGW_SECRET_KEY="+secretKey)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s%s", args, err, text, &complaints)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%v: %v: %s", args, err, text)
	}
}

// TestBenchVectors: a load on vector collections has every class of operation and no errors, and leaves
// no collections.
func TestBenchVectors(t *testing.T) {
	t.Parallel()
	g, endpoint := startVectors(t, false)
	g.operator()
	out := t.TempDir()
	var r bench.Report
	measured(t, &r, "bench", "load", "--workload", "vectors", "--json", "--out", out, "--items", "400", "--collections", "10", "--dimension", "32", "--duration-secs", "3", "--qps", "80", "--tier-control-pct", "0.2", "--search-pct", "0.6",
		"--endpoint", endpoint, "--s3-access-key", accessKey, "--s3-secret-key", secretKey, "--admin", strings.TrimPrefix(g.admin, "http://"), "--data", g.dir)
	if r.Kind != "load-vectors" || r.Errors > 0 || r.Wrong > 0 || r.Requests < 100 || r.Server == nil || r.Warmer == nil {
		t.Errorf("%+v", r)
	}
	for _, class := range []string{"QueryVectors, hot", "QueryVectors, warm", "QueryVectors, cold", "PutVectors (new), ", "PutVectors (update), ", "tier promote_to_", "tier demote_to_", "tier pin"} {
		n := int64(0)
		for op, l := range r.Ops {
			if strings.HasPrefix(op, class) {
				n += l.Requests
			}
		}
		if n == 0 {
			t.Errorf("no %s: %v", class, r.Ops)
		}
	}
	if page := string(readFile(t, filepath.Join(out, "load-vectors.html"))); !strings.Contains(page, "all but cold") {
		t.Errorf("%.300s", page)
	}
	left, err := vectorsClient(endpoint, accessKey, secretKey).ListVectorBuckets(t.Context(), &s3vectors.ListVectorBucketsInput{})
	if err != nil || len(left.VectorBuckets) > 0 {
		t.Errorf("%+v, %v", left, err)
	}
}

// TestBenchCommands: "akigw bench" measures a running gateway and writes its reports, and "akigw
// profile" shows where it spends its time.
func TestBenchCommands(t *testing.T) {
	t.Parallel()
	g := startGateway(t, options{plain: true, env: []string{"AKIGW_LOG_LEVEL=warn"}})
	g.operator()
	out := t.TempDir()
	endpoint := []string{"--endpoint", g.endpoint, "--s3-access-key", accessKey, "--s3-secret-key", secretKey, "--admin", strings.TrimPrefix(g.admin, "http://")}
	run := func(into any, args ...string) {
		t.Helper()
		measured(t, into, args...)
	}
	var r bench.Report
	data := []string{"--data", g.dir} // the admin key is there
	run(&r, append(append([]string{"bench", "load", "--json", "--out", out, "--items", "200", "--collections", "10", "--duration-secs", "3", "--qps", "60"}, endpoint...), data...)...)
	moves := int64(0)
	for op, l := range r.Ops {
		if strings.HasPrefix(op, "tier ") {
			moves += l.Requests
		}
	}
	if r.Errors > 0 || r.Requests < 100 || moves == 0 || r.Tiers["hot"].Requests == 0 || r.Server == nil || r.Server.FDsMost == 0 {
		t.Errorf("%+v", r)
	}
	if page := string(readFile(t, filepath.Join(out, "load.html"))); !strings.Contains(page, "akigw bench load") {
		t.Errorf("%.300s", page)
	}
	for _, class := range []string{"hot", "warm", "cold"} {
		r = bench.Report{}
		run(&r, append(append([]string{"bench", "get", "--json", "--class", class, "--duration", "0.5", "--objects", "20", "--clients", "2"}, endpoint...), data...)...)
		if r.Errors > 0 || r.Tiers[class].Requests < r.Requests*9/10 || r.Requests < 20 {
			t.Errorf("%s: %+v", class, r.Tiers)
		}
	}
	var c bench.Comparison
	run(&c, append([]string{"bench", "get", "--json", "--duration", "0.5", "--rounds", "2", "--compare", g.endpoint}, endpoint...)...)
	if len(c.A) != 2 || len(c.B) != 2 || c.Ratios["P50"] == 0 {
		t.Errorf("%+v", c)
	}
	var u bench.Uploads
	run(&u, "bench", "upload", "--json", "--objects", "30", "--concurrency", "4")
	if len(u.Uploads) != 5 || u.Uploads[1].Ratio < 1.5 || u.Uploads[2].Ratio < 1.5 {
		t.Errorf("%+v", u)
	}
	var top []bench.Share
	run(&top, append([]string{"profile", "allocs", "--json", "--seconds", "1", "--out", out, "--admin", strings.TrimPrefix(g.admin, "http://")}, data...)...)
	if page := string(readFile(t, filepath.Join(out, "allocs.html"))); !strings.Contains(page, "flame") {
		t.Errorf("%.300s", page)
	}
	recording := filepath.Join(out, "trace.jsonl.gz")
	record := g.command("trace", "record", "--hash", "--seconds", "60", recording)
	var said bytes.Buffer
	record.Stdout, record.Stderr = &said, &said
	if err := record.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "trace being recorded", func() bool { _, err := os.Stat(recording); return err == nil })
	run(&r, append(append([]string{"bench", "get", "--json", "--duration", "1", "--objects", "20", "--clients", "2"}, endpoint...), data...)...)
	if err := record.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := record.Wait(); err != nil {
		t.Fatalf("%v: %s", err, &said)
	}
	var replay struct {
		Objects int
		Played  []struct{ Hot, Reads int }
	}
	run(&replay, "trace", "replay", "--json", "--hot", "1KiB,1GiB", "--warm", "0", recording)
	if replay.Objects != 20 || len(replay.Played) != 2 || replay.Played[0].Hot > 0 || replay.Played[1].Hot < replay.Played[1].Reads*9/10 {
		t.Errorf("%+v, %s", replay, &said)
	}
}
