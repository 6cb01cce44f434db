package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestMemory is TestLongMemory with smaller objects.
func TestMemory(t *testing.T) { memory(t, 50, 16<<20) }

// TestLongMemory: 50 parallel PUTs and then GETs of 256 MiB objects, with a hot quota of 256 MiB,
// need less than 512 MiB of anonymous memory, including the embedded upstream in the same process.
func TestLongMemory(t *testing.T) {
	long(t)
	memory(t, 50, 256<<20)
}

func memory(t *testing.T, clients, each int) {
	g := startGateway(t, options{plain: true, env: []string{"AKIGW_CACHE_HOT_BYTES=256MiB", "AKIGW_CACHE_WARM_BYTES=2GiB"}})
	if status := g.do(t, "PUT", "/membucket", nil, 0, nil); status != 200 {
		t.Fatal(status)
	}
	const limit = 512 << 20
	peak := g.watchMemory()
	var disk atomic.Int64
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(500 * time.Millisecond):
			}
			disk.Store(max(disk.Load(), size.OnDisk(filepath.Join(g.dir, "warm"))))
		}
	})
	block := testkit.Bytes(7, 1<<20)
	for _, method := range []string{"PUT", "GET"} {
		started := time.Now()
		var wait sync.WaitGroup
		for i := range clients {
			wait.Go(func() {
				path := fmt.Sprintf("/membucket/object-%d", i)
				if method == "PUT" {
					if status := g.do(t, "PUT", path, &repeated{block: block, left: each}, each, nil); status != 200 {
						t.Errorf("PUT %s: %d", path, status)
					}
					return
				}
				check := &comparing{block: block}
				if status := g.do(t, "GET", path, nil, 0, check); status != 200 || check.n != each || check.wrong {
					t.Errorf("GET %s: %d, %d bytes, wrong %t", path, status, check.n, check.wrong)
				}
			})
		}
		wait.Wait()
		t.Logf("%d parallel %ss of %d MiB: %.0f MiB/s, peak anonymous memory %d MiB, warm disk %d MiB", clients, method, each>>20,
			float64(clients*(each>>20))/time.Since(started).Seconds(), peak()>>20, disk.Load()>>20)
	}
	close(stop)
	watch.Wait()
	if peak() > limit {
		t.Errorf("anonymous memory reached %d MiB, limit %d", peak()>>20, limit>>20)
	}
	if disk.Load() > 2<<30 {
		t.Errorf("the warm tier took %d MiB of disk, quota 2048", disk.Load()>>20)
	}
}

// do sends a signed request whose body is not part of the signature.
func (g *gateway) do(t testing.TB, method, path string, body io.Reader, each int, into io.Writer) int {
	r, err := g.signed(method, path)
	if err != nil {
		t.Error(err)
		return 0
	}
	if body != nil {
		r.Body, r.ContentLength = io.NopCloser(body), int64(each)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	if into == nil {
		into = io.Discard
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{into}, resp.Body, make([]byte, 64<<10)); err != nil {
		t.Errorf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode
}

// signed returns a signed request.
func (g *gateway) signed(method, path string) (*http.Request, error) {
	u, err := url.Parse(g.endpoint + path)
	if err != nil {
		return nil, err
	}
	r := &http.Request{Method: method, URL: u, Host: u.Host, Header: http.Header{"X-Amz-Content-Sha256": {"UNSIGNED-PAYLOAD"}}}
	return signer.SignV4(*r, accessKey, secretKey, "", region), nil
}

// repeated is a reader of block, again and again.
type repeated struct {
	block    []byte
	at, left int
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.left)], r.block[r.at:])
	r.at = (r.at + n) % len(r.block)
	r.left -= n
	return n, nil
}

// comparing checks that what is written is block, again and again.
type comparing struct {
	block []byte
	n     int
	wrong bool
}

func (c *comparing) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		want := c.block[c.n%len(c.block):]
		k := min(len(rest), len(want))
		if !bytes.Equal(rest[:k], want[:k]) {
			c.wrong = true
		}
		c.n += k
		rest = rest[k:]
	}
	return len(p), nil
}

// watchMemory samples the gateway's anonymous memory until the end of the test. peak is the highest
// value so far, in bytes.
func (g *gateway) watchMemory() (peak func() int64) {
	var most atomic.Int64
	stop := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			if process := g.cmd.Process; process != nil { // nil while the gateway is restarted
				most.Store(max(most.Load(), rssAnon(process.Pid)))
			}
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	g.t.Cleanup(func() {
		close(stop)
		wait.Wait()
	})
	return most.Load
}

// rssAnon returns the anonymous memory of a process in bytes.
func rssAnon(pid int) int64 { return rss(pid, "RssAnon") }

// rss is one of the figures of a process's memory in /proc, in bytes.
func rss(pid int, name string) int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	var kib int64
	if _, rest, ok := strings.Cut(string(raw), name+":"); ok {
		fmt.Sscan(rest, &kib)
	}
	return kib << 10
}

// TestWarmQuota reads ten times the warm quota through the gateway. The directory never exceeds its
// quota, and the tier keeps accepting new data.
func TestWarmQuota(t *testing.T) {
	t.Parallel()
	const quota, each, objects = 64 << 20, 4 << 20, 160
	g := startGateway(t, options{plain: true, env: []string{"AKIGW_CACHE_HOT_BYTES=8MiB", "AKIGW_CACHE_WARM_BYTES=64MiB"}})
	g.do(t, "PUT", "/quotabucket", nil, 0, nil)
	block := testkit.Bytes(9, 1<<20)
	for i := range objects {
		g.do(t, "PUT", fmt.Sprintf("/quotabucket/%d", i), &repeated{block: block, left: each}, each, nil)
	}
	peak := int64(0)
	for i := range objects {
		check := &comparing{block: block}
		if status := g.do(t, "GET", fmt.Sprintf("/quotabucket/%d", i), nil, 0, check); status != 200 || check.n != each || check.wrong {
			t.Errorf("object %d: %d, %d bytes, wrong %t", i, status, check.n, check.wrong)
		}
		peak = max(peak, size.OnDisk(filepath.Join(g.dir, "warm")))
	}
	evicted := g.metric("akigw_warm_evicted_values_total")
	t.Logf("read %d MiB through a warm quota of %d MiB: peak %d MiB, %.0f values evicted", objects*each>>20, quota>>20, peak>>20, evicted)
	if peak > quota {
		t.Errorf("the warm tier took %d MiB", peak>>20)
	}
	if evicted == 0 {
		t.Error("nothing was evicted: the quota was not exercised")
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(500 * time.Millisecond) { // eviction runs after the reads
		gets := g.objectGets()
		g.do(t, "GET", "/quotabucket/0", nil, 0, nil)
		if g.objectGets() == gets {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("a full tier does not accept a new object: %d GETs to read it again", g.objectGets()-gets)
		}
	}
}

// TestMultipartMemory: a large multipart upload to the embedded upstream needs less than 200 MiB of
// anonymous memory, with both ends in one process and 32 MiB for cached data.
func TestMultipartMemory(t *testing.T) {
	need(t, "aws")
	each := 256 << 20
	if os.Getenv("AKIGW_LONG") != "" {
		each = 1 << 30
	}
	file := filepath.Join(t.TempDir(), "large")
	writePattern(t, file, each)
	g := startGateway(t, options{plain: true, config: "[cache]\nhot_bytes = \"32MiB\"\n"})
	g.must("aws", "s3", "mb", "s3://multipartbucket")
	peak := g.watchMemory()
	_, err := g.run("aws", "s3", "cp", "--only-show-errors", file, "s3://multipartbucket/large")
	parts := g.metric("akigw_gateway_requests_total", `op="UploadPart"`, `status="200"`)
	t.Logf("%d MiB in %.0f parts: peak anonymous memory %d MiB", each>>20, parts, peak()>>20)
	if err != nil || parts < 10 || peak() > 200<<20 {
		t.Errorf("error %v, %.0f parts, peak %d MiB", err, parts, peak()>>20)
	}
}
