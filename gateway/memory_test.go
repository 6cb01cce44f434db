package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/tiers/cold"
)

// oneHangs is two upstreams, of which "logs" takes requests and does not answer.
type oneHangs struct {
	two
	release chan struct{}
}

func (u *oneHangs) Do(ctx context.Context, r *cold.Request) (*http.Response, error) {
	if u.Owner(r.Key.Bucket) == "logs" {
		<-u.release
		return s3mem.Response(503, nil, nil), nil
	}
	return u.two.Do(ctx, r)
}

// TestHangingUpstreamLeavesRequestMemory: bodies that an upstream which hangs does not take leave
// memory for those of the other, whether they are signed in chunks or not; and all of it comes
// back.
func TestHangingUpstreamLeavesRequestMemory(t *testing.T) {
	for _, payload := range []string{"", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"} {
		synctest.Test(t, func(t *testing.T) {
			b := limitedBench(t)
			defer b.store.Close()
			up := &oneHangs{two: two{Memory: b.up}, release: make(chan struct{})}
			memory := NewMemory(32*streamMemory, nil, up.Names()...)
			b.reconfigure(func(o *Options) { o.Upstream, o.Memory = up, memory })
			put := func(bucket string, n int) int {
				r, _ := requestFor(&allRoutes[3]) // PutObject
				r.URL.Path = fmt.Sprintf("/%s/%d", bucket, n)
				s3client.Signing{AccessKey: "root", Secret: tenantSecret, Payload: payload, Body: []byte(strings.Repeat("x", 200<<10))}.Sign(r)
				return b.answer(r).Code
			}
			var refused atomic.Int64
			var wait sync.WaitGroup
			for n := range 100 {
				wait.Go(func() {
					put("logs", n)
					refused.Add(1) // before release is closed: the others wait for their answer
				})
			}
			synctest.Wait()
			if memory.Used() < 16*streamMemory || refused.Load() == 0 {
				t.Fatalf("%d bytes are held, %d requests were refused: the memory was not exhausted", memory.Used(), refused.Load())
			}
			for n := range 20 {
				if code := put("bucket", n); code != 200 {
					t.Fatalf("%q: a PUT to the other upstream: %d", payload, code)
				}
			}
			close(up.release)
			wait.Wait()
			if used := memory.Used(); used != 0 {
				t.Errorf("%d bytes are not given back", used)
			}
		})
	}
}
