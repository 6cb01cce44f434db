package httpguard

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Caps limit the number of connections.
type Caps struct {
	Connections int // total, 0: no limit
	PerAddress  int // from one IPv4 address or IPv6 /64, 0: no limit
	// Greeting is sent to a connection over a cap before it is closed; nil if its client would not
	// understand it (TLS).
	Greeting []byte
	// Metrics counts connections; nil keeps the metrics private.
	Metrics *metrics.Set
}

// Capped returns a listener that closes connections over the caps as soon as they are accepted.
func Capped(l net.Listener, caps Caps) net.Listener {
	set := cmp.Or(caps.Metrics, metrics.NewSet())
	return &capped{Listener: l, caps: caps, from: map[netip.Prefix]int{},
		open:           set.GetOrCreateGauge("akigw_wire_connections", nil),
		overCap:        set.GetOrCreateCounter(`akigw_wire_refused_connections_total{limit="connections"}`),
		overAddressCap: set.GetOrCreateCounter(`akigw_wire_refused_connections_total{limit="per_address"}`),
	}
}

type capped struct {
	net.Listener
	caps                    Caps
	open                    *metrics.Gauge
	overCap, overAddressCap *metrics.Counter

	mu    sync.Mutex
	total int                  // guarded by mu
	from  map[netip.Prefix]int // guarded by mu
}

// greetingTimeout is how long a refused client may take to read the greeting.
const greetingTimeout = 100 * time.Millisecond

// Accept implements net.Listener.
func (l *capped) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		address := network(c.RemoteAddr())
		if l.add(address) {
			l.open.Inc()
			return &countedConn{Conn: c, remove: sync.OnceFunc(func() {
				l.open.Dec()
				l.remove(address)
			})}, nil
		}
		if l.caps.Greeting != nil && c.SetDeadline(time.Now().Add(greetingTimeout)) == nil {
			_, _ = c.Write(l.caps.Greeting) // best effort: the connection is closed anyway
		}
		_ = c.Close() // nothing can be lost
	}
}

// add counts a connection, or returns false if a cap is reached.
func (l *capped) add(address netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.caps.Connections > 0 && l.total >= l.caps.Connections:
		l.overCap.Inc()
		return false
	case l.caps.PerAddress > 0 && l.from[address] >= l.caps.PerAddress:
		l.overAddressCap.Inc()
		return false
	}
	l.total++
	l.from[address]++
	return true
}

func (l *capped) remove(address netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.from[address]--; l.from[address] == 0 {
		delete(l.from, address)
	}
}

// network returns the address range that is counted together.
func network(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap()
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.WithZone("").Prefix(bits) // both lengths are valid
	return p
}

// countedConn is a connection that the caps count.
type countedConn struct {
	net.Conn
	remove func()
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	c.remove()
	return c.Conn.Close()
}

// CloseWrite closes the sending direction.
func (c *countedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
