package server

import (
	"errors"
	"sync"

	"github.com/akidb/akigw"
)

const (
	errStarting = akigw.Error("the gateway is starting")
	errStopping = akigw.Error("the gateway is stopping")
)

// readiness tracks whether requests should be sent to this gateway. Its methods may be called
// concurrently.
type readiness struct {
	mu     sync.Mutex
	phase  error // errStarting, errStopping, or nil in between; guarded by mu
	failed error // of tasks; guarded by mu
}

// enter begins a phase: nil when requests are accepted.
func (r *readiness) enter(phase error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase = phase
}

// fail turns readiness off for good.
func (r *readiness) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = errors.Join(r.failed, err)
}

// check returns why the gateway is not ready, nil if it is.
func (r *readiness) check() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.phase, r.failed)
}
