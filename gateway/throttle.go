package gateway

import (
	"errors"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/internal/s3err"
)

// throttle counts failed signatures by the address that they come from, in
// state of constant size. Above the limit, a failure says nothing more than
// SlowDown; a request that is signed well is never held up. Addresses can share
// a counter, and loopback has none: that is this machine, or a proxy on it.
type throttle struct {
	limit int // failures per minute and address, 0: no limit
	seed  maphash.Seed

	mu       sync.Mutex
	counters [4096]struct { // guarded by mu
		minute int64
		count  int
	}
}

func newThrottle(limit int) *throttle { return &throttle{limit: limit, seed: maphash.MakeSeed()} }

var throttled = metrics.NewCounter("akigw_gateway_throttled_failures_total")

// judge returns what a request from remote is told of err.
func (t *throttle) judge(remote string, err error, now time.Time) error {
	if t.limit == 0 || !errors.Is(err, s3err.SignatureDoesNotMatch) && !errors.Is(err, s3err.InvalidToken) && !errors.Is(err, s3err.ExpiredToken) {
		return err
	}
	from, parseErr := netip.ParseAddrPort(remote)
	if parseErr != nil || from.Addr().Unmap().IsLoopback() {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &t.counters[maphash.Comparable(t.seed, from.Addr().Unmap().WithZone(""))%uint64(len(t.counters))]
	if minute := now.Unix() / 60; c.minute != minute {
		c.minute, c.count = minute, 0
	}
	if c.count++; c.count <= t.limit {
		return err
	}
	throttled.Inc()
	return s3err.SlowDown.With("Too many requests with a wrong signature.")
}
