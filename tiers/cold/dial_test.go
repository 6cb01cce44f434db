package cold

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// network is a network whose hosts answer each request with their own address.
type network struct {
	mu      sync.Mutex
	names   []string                              // the addresses that the upstream's name resolves to; guarded by mu
	hosts   map[string]func(context.Context) bool // whether a connection to a host comes about, nil: at once; guarded by mu
	silent  map[string]bool                       // hosts that accept requests and do not respond; guarded by mu
	dialled []string                              // guarded by mu
	open    sync.WaitGroup
}

var errRefused = errors.New("connection refused")

func refuses(context.Context) bool { return false }

func drops(ctx context.Context) bool {
	<-ctx.Done()
	return false
}

func (n *network) lookup(context.Context, string) (all []netip.Addr, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range n.names {
		all = append(all, netip.MustParseAddr(name))
	}
	return all, nil
}

func (n *network) connect(ctx context.Context, _, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.dialled = append(n.dialled, host)
	comes := n.hosts[host]
	n.mu.Unlock()
	if comes != nil && !comes(ctx) {
		return nil, errRefused
	}
	client, server := net.Pipe()
	n.open.Go(func() { n.serve(server, host) })
	return client, nil
}

func (n *network) serve(c net.Conn, host string) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		n.mu.Lock()
		silent := n.silent[host]
		n.mu.Unlock()
		if silent {
			_, _ = in.Peek(1) // until the client gives up
			return
		}
		if r.URL.Path == "/bucket/slow" {
			time.Sleep(20 * time.Second)
		}
		if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Host: %s\r\n\r\n", host); err != nil {
			return
		}
	}
}

// upstream returns an upstream in the network, found by name.
func (n *network) upstream(t *testing.T) *Upstream {
	u := scripted(t, nil, func(c *Config) { c.Retries, c.BreakerPercent = 0, 0 })
	d := &dialer{host: "upstream.example.com", port: "80", lookup: n.lookup, connect: n.connect}
	pool := newConnectionPool(d, PoolConfig{PoolSize: 20, IdleTimeoutSecs: 90})
	u.transport, u.closeIdle = pool, pool.close
	return u
}

// ask sends a request and returns the host that answers.
func (n *network) ask(u *Upstream, key string) (host string, err error) {
	where := read
	where.Name = key
	resp, err := u.Do(context.Background(), &Request{Op: "Test", Method: "GET", Key: where})
	if err != nil {
		return "", err
	}
	return resp.Header.Get("X-Host"), resp.Body.Close()
}

// TestDialsTryAllAddresses: addresses are tried one after the other, without a long wait for any of
// them or for a resolver that hangs.
func TestDialsTryAllAddresses(t *testing.T) {
	deaf := func(ctx context.Context, _ string) ([]netip.Addr, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	late := func(d time.Duration) func(context.Context) bool {
		return func(ctx context.Context) bool {
			select {
			case <-time.After(d):
				return true
			case <-ctx.Done():
				return false
			}
		}
	}
	type hosts map[string]func(context.Context) bool
	for _, c := range []struct {
		name   string
		names  []string
		hosts  hosts
		lookup func(context.Context, string) ([]netip.Addr, error)
		want   string // the host that gets the connection, "" for an error
		took   time.Duration
		tried  []string
	}{
		{"the first", []string{"192.0.2.1", "192.0.2.2"}, nil, nil, "192.0.2.1", 0, []string{"192.0.2.1"}},
		{"the first refuses", []string{"192.0.2.1", "192.0.2.2"}, hosts{"192.0.2.1": refuses}, nil, "192.0.2.2", 0, []string{"192.0.2.1", "192.0.2.2"}},
		{"the first five are gone", []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"}, hosts{"192.0.2.1": drops, "192.0.2.2": drops, "192.0.2.3": drops, "192.0.2.4": drops, "192.0.2.5": drops}, nil,
			"192.0.2.6", 5 * nextAddress, nil},
		{"families take turns", []string{"2001:db8::1", "2001:db8::2", "192.0.2.1", "::ffff:192.0.2.2"}, hosts{"2001:db8::1": refuses, "2001:db8::2": refuses, "192.0.2.1": refuses, "192.0.2.2": refuses}, nil,
			"", 0, []string{"2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"}},
		{"the slow one is the only one", []string{"192.0.2.1", "192.0.2.2"}, hosts{"192.0.2.1": late(time.Second), "192.0.2.2": refuses}, nil, "192.0.2.1", time.Second, nil},
		{"a later one is faster", []string{"192.0.2.1", "192.0.2.2"}, hosts{"192.0.2.1": late(time.Second)}, nil, "192.0.2.2", nextAddress, nil},
		{"none comes about", []string{"192.0.2.1", "192.0.2.2"}, hosts{"192.0.2.1": drops, "192.0.2.2": drops}, nil, "", dialTimeout, nil},
		{"the name stands for nothing", nil, nil, nil, "", 0, nil},
		{"the resolver hangs", nil, nil, deaf, "", resolveTimeout, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &network{names: c.names, hosts: c.hosts}
				d := &dialer{host: "upstream.example.com", port: "80", lookup: n.lookup, connect: n.connect}
				if c.lookup != nil {
					d.lookup = c.lookup
				}
				began := time.Now()
				conn, err := d.DialContext(t.Context(), "tcp", "upstream.example.com:80")
				if took := time.Since(began); took != c.took || (err == nil) != (c.want != "") {
					t.Errorf("%v after %v, want %q after %v", err, took, c.want, c.took)
				}
				time.Sleep(dialTimeout)
				if c.tried != nil && !slices.Equal(n.dialled, c.tried) {
					t.Errorf("tried %v, want %v", n.dialled, c.tried)
				}
				if conn != nil {
					conn.Close()
				}
				n.open.Wait() // connections that came too late are closed as well
			})
		})
	}
}

// TestChangedAddresses: when the upstream's name gets another address, requests go there within
// connectionAge, although the old connections are always busy. No request fails.
func TestChangedAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{names: []string{"192.0.2.1"}}
		u := n.upstream(t)
		began := time.Now()
		changed := began.Add(time.Minute)
		old := 0
		for range 1200 {
			host, err := n.ask(u, "k")
			if err != nil {
				t.Fatalf("after %v: %v", time.Since(began), err)
			}
			if host == "192.0.2.1" && time.Since(changed) > connectionAge {
				old++
			}
			if !time.Now().Before(changed) {
				n.mu.Lock()
				n.names = []string{"192.0.2.2"}
				n.mu.Unlock()
			}
			if time.Since(began)%connectionAge == connectionAge-10*time.Second { // across the change of connections
				u.work.Go(func() {
					if _, err := n.ask(u, "slow"); err != nil {
						t.Errorf("a request in progress: %v", err)
					}
				})
			}
			time.Sleep(time.Second)
		}
		if old > 0 {
			t.Errorf("%d requests went to the old address", old)
		}
		if dialled := len(n.dialled); dialled > 15 {
			t.Errorf("%d connections in 20 minutes", dialled)
		}
		u.Close()
		n.open.Wait()
	})
}

// TestDeadAddress: when a host dies and its name gets another address, one request without a
// response is enough to give up the idle connections to the old address.
func TestDeadAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{names: []string{"192.0.2.1"}, silent: map[string]bool{}}
		u := n.upstream(t)
		for range 10 {
			u.work.Go(func() {
				if _, err := n.ask(u, "slow"); err != nil {
					t.Error(err)
				}
			})
		}
		u.work.Wait()
		n.mu.Lock()
		n.names, n.silent["192.0.2.1"] = []string{"192.0.2.2"}, true
		n.mu.Unlock()
		failed := 0
		for range 20 {
			switch host, err := n.ask(u, "k"); {
			case err != nil && strings.Contains(err.Error(), "no progress"):
				failed++
			case err != nil || host != "192.0.2.2":
				t.Fatalf("%q %v", host, err)
			}
		}
		if failed != 1 {
			t.Errorf("%d requests failed, want 1", failed)
		}
		u.Close()
		n.open.Wait()
	})
}
