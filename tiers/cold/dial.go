package cold

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"
)

const (
	// resolveTimeout bounds the resolution of the upstream's name, and dialTimeout the attempts to
	// connect to all of its addresses together.
	resolveTimeout = 3 * time.Second
	dialTimeout    = 5 * time.Second
	// nextAddress is how long an address has before the next one is tried concurrently (RFC 8305
	// section 5, Connection Attempt Delay).
	nextAddress = 250 * time.Millisecond
	// connectionAge is how long connections are used. After that the upstream's name is resolved again,
	// and its old addresses get no more requests.
	connectionAge = 5 * time.Minute
	// dropEvery is the least time between two drops of idle connections because requests got no
	// response.
	dropEvery = time.Second
)

// dialer opens connections to one host, and to nothing else.
type dialer struct {
	host, port string
	lookup     func(ctx context.Context, host string) ([]netip.Addr, error)
	connect    func(ctx context.Context, network, address string) (net.Conn, error)
}

// newDialer makes the dialer of an upstream.
func newDialer(base *url.URL) *dialer {
	d := &dialer{host: base.Hostname(), port: base.Port()}
	if d.port == "" {
		d.port = map[string]string{"http": "80", "https": "443"}[base.Scheme]
	}
	d.lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}
	d.connect = (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext
	return d
}

// DialContext is for http.Transport.
func (d *dialer) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	if allowed := net.JoinHostPort(d.host, d.port); address != allowed {
		return nil, fmt.Errorf("refusing to dial %s: the upstream is %s", address, allowed)
	}
	addresses, err := d.resolve(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	c, err := d.race(ctx, addresses)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return newConn(c), nil
}

// fixed reports whether the host is an address, which never becomes another one.
func (d *dialer) fixed() bool {
	_, err := netip.ParseAddr(d.host)
	return err == nil
}

// resolve returns the addresses of the host, in the order in which they are to be tried.
func (d *dialer) resolve(ctx context.Context) ([]netip.Addr, error) {
	if address, err := netip.ParseAddr(d.host); err == nil {
		return []netip.Addr{address}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	addresses, err := d.lookup(ctx, d.host)
	if err != nil {
		return nil, fmt.Errorf("resolving %s: %w", d.host, err)
	}
	if len(addresses) == 0 {
		return nil, fmt.Errorf("resolving %s: it has no address", d.host)
	}
	return alternating(addresses), nil
}

// alternating sorts addresses so that both families take turns, the one that came first first
// (RFC 8305 section 4).
func alternating(addresses []netip.Addr) []netip.Addr {
	var families [2][]netip.Addr
	first := addresses[0].Unmap().Is4()
	for _, a := range addresses {
		a = a.Unmap()
		n := 0
		if a.Is4() != first {
			n = 1
		}
		families[n] = append(families[n], a)
	}
	sorted := make([]netip.Addr, 0, len(addresses))
	for i := range len(addresses) {
		for _, family := range families {
			if i < len(family) {
				sorted = append(sorted, family[i])
			}
		}
	}
	return sorted
}

// dialed is how one attempt ended.
type dialed struct {
	conn net.Conn
	err  error
}

// race connects to one address after the other, each as soon as the one before failed or was slow, and
// returns the first connection. The error joins those of all attempts.
func (d *dialer) race(ctx context.Context, addresses []netip.Addr) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	results := make(chan dialed, len(addresses))
	next := time.NewTimer(0)
	defer next.Stop()
	var errs []error
	for begun := 0; ; {
		select {
		case <-next.C:
			if begun < len(addresses) {
				address := net.JoinHostPort(addresses[begun].String(), d.port)
				begun++
				go func() { // ends with ctx
					c, err := d.connect(ctx, "tcp", address)
					results <- dialed{c, err}
				}()
				next.Reset(nextAddress)
			}
		case r := <-results:
			if r.err == nil {
				go closeRest(results, begun-len(errs)-1)
				return r.conn, nil
			}
			if errs = append(errs, r.err); len(errs) == len(addresses) {
				return nil, errors.Join(errs...)
			}
			next.Reset(0)
		}
	}
}

// closeRest closes the connections of the n attempts that lost the race.
func closeRest(results <-chan dialed, n int) {
	for range n {
		if r := <-results; r.err == nil {
			_ = r.conn.Close() // nothing was sent on it
		}
	}
}

// connectionPool is the pool of connections to an upstream: an http.RoundTripper over an
// http.Transport that is replaced regularly. net/http uses a connection for as long as requests
// come, so after a change of the name's addresses they would go to an old one for ever.
type connectionPool struct {
	make  func() *http.Transport
	fixed bool // the upstream is an address

	mu      sync.Mutex
	current *http.Transport // guarded by mu
	born    time.Time       // when it was made; guarded by mu
	dropped time.Time       // when idle connections were dropped; guarded by mu
}

// newConnectionPool makes the pool of an upstream.
func newConnectionPool(d *dialer, pool PoolConfig) *connectionPool {
	sessions := tls.NewLRUClientSessionCache(pool.PoolSize)
	c := &connectionPool{fixed: d.fixed(), born: time.Now()}
	c.make = func() *http.Transport {
		return &http.Transport{
			DialContext:         d.DialContext,
			MaxIdleConns:        pool.PoolSize,
			MaxIdleConnsPerHost: pool.PoolSize,
			IdleConnTimeout:     time.Duration(pool.IdleTimeoutSecs) * time.Second,
			TLSHandshakeTimeout: 10 * time.Second,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: sessions},
			DisableCompression:  true,
			// For an upstream that does not support it.
			ExpectContinueTimeout: time.Second,
			WriteBufferSize:       64 << 10,
			ReadBufferSize:        64 << 10,
		}
	}
	c.current = c.make()
	return c
}

// RoundTrip implements http.RoundTripper.
func (c *connectionPool) RoundTrip(r *http.Request) (*http.Response, error) {
	t := c.transport(time.Now())
	resp, err := t.RoundTrip(r)
	if cause := context.Cause(r.Context()); err != nil && cause != nil && cause != context.Canceled {
		c.drop(time.Now()) // there was no response, and other connections may be dead as well
	}
	return resp, err
}

// transport returns the current transport. One that is too old is replaced: requests under way on its
// connections go on, and the connections are closed after them.
func (c *connectionPool) transport(now time.Time) *http.Transport {
	c.mu.Lock()
	old := c.current
	if c.fixed || now.Sub(c.born) < connectionAge {
		c.mu.Unlock()
		return old
	}
	c.current, c.born = c.make(), now
	t := c.current
	c.mu.Unlock()
	old.CloseIdleConnections()
	return t
}

// drop closes idle connections, so that the next requests resolve and dial again.
func (c *connectionPool) drop(now time.Time) {
	c.mu.Lock()
	t, again := c.current, now.Sub(c.dropped) >= dropEvery
	if again {
		c.dropped = now
	}
	c.mu.Unlock()
	if again {
		t.CloseIdleConnections()
	}
}

// close closes idle connections.
func (c *connectionPool) close() {
	c.mu.Lock()
	t := c.current
	c.mu.Unlock()
	t.CloseIdleConnections()
}
