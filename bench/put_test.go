package bench

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/testkit"
)

const putClients, putsEach = 64, 100

// BenchmarkDurablePut reports durable 4 KiB PUTs from 64 clients: acknowledged by the
// gateway's journal, written through to the embedded upstream (which syncs as well), and,
// for comparison, a sequential loop that appends the same bytes to a file and calls
// fdatasync. Rates are ratios to write-through; the server's CPU time is per PUT.
func BenchmarkDurablePut(b *testing.B) {
	config := filepath.Join(b.TempDir(), "akigw.toml")
	if err := os.WriteFile(config, []byte("[[rule]]\nbucket = \"backbucket\"\nwrite = \"back\"\n[write_back]\nmin_free_bytes = 0\nmax_pending = 10000000\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	s := startGateway(b, "gateway", "AKIGW_CONFIG="+config)
	s.client.HTTP = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: putClients}}
	s.client.Must(b, "PUT", "/backbucket", "", nil, nil)
	body := testkit.Bytes(9, 4096)
	round := 0
	puts := func(bucket string) (perSecond, cpu float64) {
		round++
		before, started := s.cpuTime(b), time.Now()
		var wait sync.WaitGroup
		var failed atomic.Int64
		for c := range putClients {
			wait.Go(func() {
				for i := range putsEach {
					r, err := s.client.Request("PUT", fmt.Sprintf("/%s/%d/%d/%d", bucket, round, c, i), "", nil, body)
					if err != nil {
						failed.Add(1)
						return
					}
					if a, err := s.client.Do(r); err != nil || a.Status != 200 {
						failed.Add(1)
					}
				}
			})
		}
		wait.Wait()
		took := time.Since(started)
		if failed.Load() > 0 {
			b.Fatalf("%d PUTs failed", failed.Load())
		}
		return putClients * putsEach / took.Seconds(), float64(s.cpuTime(b)-before) / 1e3 / (putClients * putsEach)
	}
	var back, backCPU, through, throughCPU, bare []float64
	for b.Loop() {
		rate, cpu := puts("benchbucket")
		through, throughCPU = append(through, rate), append(throughCPU, cpu)
		rate, cpu = puts("backbucket")
		back, backCPU = append(back, rate), append(backCPU, cpu)
		bare = append(bare, appendAndSync(b, body))
		for pending(b, s) > 0 { // otherwise its uploads would count in the next round
			time.Sleep(10 * time.Millisecond)
		}
	}
	b.ReportMetric(median(back), "back-puts/s")
	b.ReportMetric(median(back)/median(through), "back-x-through")
	b.ReportMetric(median(back)/median(bare), "back-x-bare-fdatasync")
	b.ReportMetric(median(backCPU), "back-cpu-us/put")
	b.ReportMetric(median(throughCPU), "through-cpu-us/put")
}

// appendAndSync returns the rate of a loop that appends and syncs.
func appendAndSync(b *testing.B, body []byte) float64 {
	f, err := os.Create(filepath.Join(b.TempDir(), "bare"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const n = 500
	started := time.Now()
	for range n {
		if _, err := f.Write(body); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	return n / time.Since(started).Seconds()
}

// pending returns the number of pending writes.
func pending(b *testing.B, s *server) int {
	resp, err := http.Get("http://" + s.admin + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(resp.Body); err != nil {
		b.Fatal(err)
	}
	var n int
	if i := bytes.Index(buf.Bytes(), []byte("\nakigw_journal_pending ")); i >= 0 {
		fmt.Sscan(string(buf.Bytes()[i+len("\nakigw_journal_pending "):]), &n)
	}
	return n
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
