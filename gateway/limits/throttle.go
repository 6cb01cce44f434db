package limits

import (
	"cmp"
	"errors"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/internal/s3err"
)

// Throttle counts authentication failures by client address, in constant memory. A client over the
// limit gets only SlowDown. A correctly signed request is never delayed. Several addresses may
// share a counter. Loopback has none, because it stands for this machine or for a proxy on it. Its
// methods are safe for concurrent use.
type Throttle struct {
	limit     int // failures per minute and address; 0: no limit
	seed      maphash.Seed
	throttled *metrics.Counter

	mu       sync.Mutex
	counters [4096]struct { // guarded by mu
		minute int64
		count  int
	}
}

// NewThrottle returns a throttle that reports perMinute failures of an address in detail; 0 means
// all of them. The metric is registered in set; nil: in a private one.
func NewThrottle(perMinute int, set *metrics.Set) *Throttle {
	return &Throttle{limit: perMinute, seed: maphash.MakeSeed(), throttled: cmp.Or(set, metrics.NewSet()).GetOrCreateCounter("akigw_gateway_throttled_failures_total")}
}

// Judge returns the error to report to a client at remote (host:port) instead of err: err itself,
// or SlowDown once the address has had too many failures.
func (t *Throttle) Judge(remote string, err error, now time.Time) error {
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
	t.throttled.Inc()
	return s3err.SlowDown.With("Too many requests with a wrong signature.")
}
