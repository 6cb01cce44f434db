package tiers

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// BenchmarkColdGet reports the CPU time per MiB that a GET of an object adds that is in no tier, to
// that of reading the same response without the store (direct): by what the body is verified with, and
// by which tiers keep it. The upstream is an HTTP server on the loopback interface, in this process, so
// direct includes its share. All cases take turns in each round; the figures are medians over the
// rounds.
func BenchmarkColdGet(b *testing.B) {
	for _, length := range []int{16 << 20, 128 << 20} {
		b.Run(fmt.Sprintf("%dMiB", length>>20), func(b *testing.B) { benchmarkColdGet(b, length) })
	}
}

// coldCase is one way to keep and verify what a cold GET brings.
type coldCase struct {
	name      string
	hot, warm size.Bytes
	header    http.Header // what the upstream says about the body
	read      func(key akigw.Key) error
	cpu, took []float64 // of each round, in milliseconds per MiB
}

func benchmarkColdGet(b *testing.B, length int) {
	body := testkit.Bytes(1, length)
	sum := func(header string) http.Header {
		return http.Header{"Etag": {`"1-2"`}, "X-Amz-Checksum-Type": {checksum.FullObject}, header: {sumOf(header, body)}}
	}
	byMD5, none := http.Header{"Etag": {fmt.Sprintf(`"%x"`, md5.Sum(body))}}, http.Header{"Etag": {`"1-2"`}}
	cases := []*coldCase{
		{name: "direct", header: none},
		{name: "none", header: none},
		{name: "crc64nvme", header: sum("X-Amz-Checksum-Crc64nvme")},
		{name: "crc32c", header: sum("X-Amz-Checksum-Crc32c")},
		{name: "md5", header: byMD5},
		{name: "none-hot", header: none, hot: 64 << 20},
		{name: "none-warm", header: none, warm: 512 << 20},
	}
	for _, c := range cases {
		c.start(b, body)
	}
	round := 0
	for b.Loop() {
		round++
		for _, c := range cases {
			before, began := cpuTime(), time.Now()
			if err := c.read(key(fmt.Sprint("k", round))); err != nil {
				b.Fatal(c.name, err)
			}
			mib := float64(length) / (1 << 20)
			c.cpu = append(c.cpu, (cpuTime()-before).Seconds()*1e3/mib)
			c.took = append(c.took, time.Since(began).Seconds()*1e3/mib)
		}
	}
	direct := cases[0]
	b.ReportMetric(middle(direct.cpu), "direct-ms/MiB")
	for _, c := range cases[1:] {
		b.ReportMetric(middle(c.cpu)-middle(direct.cpu), c.name+"-added-ms/MiB")
		b.ReportMetric(middle(c.took)/middle(direct.took), c.name+"-x-time")
	}
}

// start starts the upstream and the store of a case.
func (c *coldCase) start(b *testing.B, body []byte) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, values := range c.header {
			w.Header()[name] = values
		}
		http.ServeContent(w, r, "", time.Unix(1e9, 0), bytes.NewReader(body))
	}))
	b.Cleanup(server.Close)
	config := cold.Config{URL: server.URL, AccessKey: "key", SecretKey: "secret"}
	config.SetDefaults()
	up, err := cold.NewUpstreams(config, nil, cold.PoolConfig{PoolSize: 16, IdleTimeoutSecs: 60}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { up.Close() })
	if c.name == "direct" {
		c.read = func(key akigw.Key) error { return readDirect(up, key) }
		return
	}
	tiers := Config{HotBytes: c.hot, WarmBytes: c.warm, BlockBytes: 256 << 10, SmallBytes: 64 << 10, FetchBytes: 8 << 20, ParallelFetches: 4,
		ReadAheadBytes: 64 << 20, FillBytes: 256 << 20, MD5ETags: true, Freshness: rules.Immutable}
	s, err := New(Options{Config: tiers, Rules: rules.NewSet(nil, tiers.Settings()), Dir: filepath.Join(b.TempDir(), "warm"), Upstream: up})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	c.read = func(key akigw.Key) error { return readCold(s, key) }
}

func readDirect(up *cold.Upstreams, key akigw.Key) error {
	resp, err := up.Do(context.Background(), &cold.Request{Op: "GetObject", Method: http.MethodGet, Key: key, Header: http.Header{}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, make([]byte, 256<<10))
	return err
}

func readCold(s *Store, key akigw.Key) error {
	ctx := context.Background()
	r, err := s.Get(ctx, key, akigw.RangeSpec{}, akigw.Conditions{})
	if err != nil {
		return err
	}
	defer r.Close()
	r.Borrow = true
	for {
		_, err := r.Next(ctx)
		r.Sent()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// cpuTime is the CPU time of this process.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage) // it cannot fail
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func middle(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// sumOf returns the value of a checksum header for a body.
func sumOf(header string, body []byte) string {
	a, _ := checksum.ByHeader(header)
	h := a.New()
	h.Write(body)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}
