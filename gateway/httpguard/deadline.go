package httpguard

import (
	"net"
	"sync"
	"time"
)

// readDeadline is the earlier of the deadlines set by net/http and by httpguard.
type readDeadline struct {
	conn net.Conn

	mu     sync.Mutex
	server time.Time // of net/http; guarded by mu
	own    time.Time // guarded by mu
}

// set sets the deadline of net/http, zero for none.
func (d *readDeadline) set(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.server = t
	return d.applyLocked()
}

// setOwn sets httpguard's deadline, zero for none.
func (d *readDeadline) setOwn(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.own = t
	_ = d.applyLocked() // a closed connection fails the next read
}

// extend moves the deadline of net/http to idle from now, if that is later by at least a quarter of
// idle.
func (d *readDeadline) extend(idle time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); d.server.Sub(now) < idle*3/4 {
		d.server = now.Add(idle)
		_ = d.applyLocked() // a closed connection fails the next read
	}
}

func (d *readDeadline) applyLocked() error {
	t := d.server
	if !d.own.IsZero() && (t.IsZero() || d.own.Before(t)) {
		t = d.own
	}
	return d.conn.SetReadDeadline(t)
}
