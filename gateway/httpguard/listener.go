package httpguard

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Strict makes the connections of a listener strict ones.
func Strict(l net.Listener, limits Limits) net.Listener { return &strict{l, limits} }

type strict struct {
	net.Listener
	limits Limits
}

// Accept implements net.Listener.
func (s *strict) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, limits: s.limits}, nil
}

// Caps bound how many connections there are.
type Caps struct {
	Connections int // in all, 0: no limit
	PerAddress  int // from one IPv4 address or IPv6 /64, 0: no limit
	// Greeting is what a connection over a cap is sent before it is closed; nil
	// if its client would not understand (TLS).
	Greeting []byte
}

// Capped closes connections over the caps as soon as they are accepted.
func Capped(l net.Listener, caps Caps) net.Listener {
	return &capped{Listener: l, caps: caps, from: map[netip.Prefix]int{}}
}

type capped struct {
	net.Listener
	caps Caps

	mu    sync.Mutex
	total int                  // guarded by mu
	from  map[netip.Prefix]int // guarded by mu
}

var (
	openConnections   = metrics.NewGauge("akigw_wire_connections", nil)
	overCap           = metrics.NewCounter(`akigw_wire_refused_connections_total{limit="connections"}`)
	overAddressCap    = metrics.NewCounter(`akigw_wire_refused_connections_total{limit="per_address"}`)
	greetingTimeLimit = 100 * time.Millisecond
)

// Accept implements net.Listener.
func (l *capped) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		address := network(c.RemoteAddr())
		if l.enter(address) {
			openConnections.Inc()
			return &counted{Conn: c, leave: sync.OnceFunc(func() {
				openConnections.Dec()
				l.leave(address)
			})}, nil
		}
		if l.caps.Greeting != nil && c.SetDeadline(time.Now().Add(greetingTimeLimit)) == nil {
			_, _ = c.Write(l.caps.Greeting) // best effort: it is closed anyway
		}
		_ = c.Close() // there is nothing that could be lost
	}
}

// enter takes a place for a connection, or reports that there is none.
func (l *capped) enter(address netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.caps.Connections > 0 && l.total >= l.caps.Connections:
		overCap.Inc()
		return false
	case l.caps.PerAddress > 0 && l.from[address] >= l.caps.PerAddress:
		overAddressCap.Inc()
		return false
	}
	l.total++
	l.from[address]++
	return true
}

func (l *capped) leave(address netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.from[address]--; l.from[address] == 0 {
		delete(l.from, address)
	}
}

// network is what counts as one address.
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
	p, _ := ip.WithZone("").Prefix(bits) // both lengths fit
	return p
}

// counted is a connection that has a place.
type counted struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.leave()
	return c.Conn.Close()
}

// CloseWrite ends the sending direction.
func (c *counted) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
