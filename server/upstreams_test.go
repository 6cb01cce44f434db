package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// silentServer accepts connections, reads from them and never responds.
type silentServer struct {
	net.Listener
	accepted atomic.Int64
	work     sync.WaitGroup
}

func newSilentServer(t *testing.T) *silentServer {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &silentServer{Listener: l}
	s.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.accepted.Add(1)
			s.work.Go(func() {
				defer c.Close()
				_, _ = io.Copy(io.Discard, c) // until the gateway closes it
			})
		}
	})
	return s
}

// TestOneUpstreamOfTwoHangs: while one upstream accepts connections and never responds, a gateway
// starts, serves the buckets of the other upstream with write-through and write-back, uploads its
// pending writes, and stops when it is told to.
func TestOneUpstreamOfTwoHangs(t *testing.T) {
	silent := newSilentServer(t)
	file := filepath.Join(t.TempDir(), "akigw.toml")
	text := fmt.Sprintf(`
[[upstreams]]
name = "silent"
buckets = "silent-*"
url = "http://%s"
access_key = "someaccess"
secret_key = "some-secret-key"

[[rule]]
bucket = "back"
write = "back"
`, silent.Addr())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := runFile(t, file, t.TempDir(), "AKIGW_ACCESS_KEY="+s3client.AccessKey, "AKIGW_SECRET_KEY="+s3client.SecretKey)
	client := &s3client.Client{Endpoint: r.endpoint, HTTP: &http.Client{Timeout: 20 * time.Second}}
	ask := func(ctx context.Context, method, path string, body []byte) (*s3client.Answer, error) {
		q, err := client.Request(method, path, "", nil, body)
		if err != nil {
			return nil, err
		}
		return client.Do(q.WithContext(ctx))
	}
	want := func(method, path, body string) {
		t.Helper()
		a, err := ask(t.Context(), method, path, []byte(body))
		if err != nil || a.Status != 200 {
			t.Fatalf("%s %s: %v %v", method, path, a, err)
		}
	}
	want("PUT", "/back", "")
	want("PUT", "/through", "")
	probes := silent.accepted.Load() // of the clock

	ctx, cancel := context.WithCancel(t.Context())
	var held sync.WaitGroup
	body := testkit.Bytes(1, 200<<10)
	for n := range 30 {
		path := fmt.Sprintf("/silent-bucket/%d", n) // the requests end with ctx
		held.Go(func() { _, _ = ask(ctx, "PUT", path, body) })
		held.Go(func() { _, _ = ask(ctx, "GET", path, nil) })
	}
	for deadline := time.Now().Add(20 * time.Second); silent.accepted.Load() < probes+40; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("only %d requests hang", silent.accepted.Load()-probes)
		}
	}
	for n := range 40 {
		for _, bucket := range []string{"through", "back"} {
			path := fmt.Sprintf("/%s/%d", bucket, n)
			want("PUT", path, strings.Repeat("x", 100<<10))
			want("GET", path, "")
		}
	}
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(r.shown(t), "akigw_journal_pending 0\n"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what is pending does not go upstream")
		}
	}
	cancel()
	held.Wait()
	r.end(t)
	silent.Close()
	silent.work.Wait()
}
