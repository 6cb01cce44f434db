package gateway

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/time/rate"

	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/rules"
)

// QoSConfig is one class of service: [[qos]]. A rule gives objects a class by its
// name; the class named "default" has all that no rule speaks of.
type QoSConfig struct {
	Name             string     `toml:"name" help:"what rules call the class; \"default\" is the one of what no rule speaks of"`
	IdentityRequests int        `toml:"identity_requests_per_sec" help:"requests a second of one access key; more are answered with 503 SlowDown. 0: no limit"`
	IdentityBytes    size.Bytes `toml:"identity_bytes_per_sec" help:"bytes of bodies a second of one access key, in both directions; transfers are slowed down to it. 0: no limit"`
	BucketRequests   int        `toml:"bucket_requests_per_sec" help:"the same for one bucket"`
	BucketBytes      size.Bytes `toml:"bucket_bytes_per_sec" help:"the same for one bucket"`
	Weight           int        `toml:"weight" help:"share of the upstream link against other classes, when requests wait for it (upstream.max_requests)"`
}

// DefaultClass is the name of the class of what no rule speaks of.
const DefaultClass = "default"

// SetDefaults sets the values behind all others.
func (c *QoSConfig) SetDefaults() { c.Weight = 1 }

// leastPace is the lowest limit in bytes a second: a connection that is slower
// than min_rate would be cut off.
const leastPace = 16 << 10

// Check reports every impossible value by its key.
func (c *QoSConfig) Check(report func(key, problem string)) {
	if c.Name == "" {
		report("name", "must not be empty")
	}
	for key, n := range map[string]int{"identity_requests_per_sec": c.IdentityRequests, "bucket_requests_per_sec": c.BucketRequests} {
		if n < 0 {
			report(key, "must not be negative")
		}
	}
	for key, n := range map[string]size.Bytes{"identity_bytes_per_sec": c.IdentityBytes, "bucket_bytes_per_sec": c.BucketBytes} {
		if n < 0 || n > 0 && n < leastPace {
			report(key, "must be 0 or at least 16KiB")
		}
	}
	if c.Weight < 1 || c.Weight > 1000 {
		report("weight", "must be 1 to 1000")
	}
}

// QoS keeps identities and buckets to the limits of their classes.
type QoS struct {
	rules   Rules
	classes map[string]*QoSConfig

	mu     sync.Mutex
	limits map[limitKey]*limit // guarded by mu
	shared map[limitKey]*limit // of those that found no room in limits, by class and kind; guarded by mu
	swept  time.Time           // when room was made last; guarded by mu
}

// Rules say which class a key has.
type Rules interface {
	// For returns the settings of a key; they are shared.
	For(bucket, key string) *rules.Settings
}

// NewQoS makes the limits of some classes, nil if there are none.
func NewQoS(classes []QoSConfig, book Rules) (*QoS, error) {
	if len(classes) == 0 {
		return nil, nil
	}
	q := &QoS{rules: book, classes: make(map[string]*QoSConfig), limits: make(map[limitKey]*limit), shared: make(map[limitKey]*limit)}
	for i := range classes {
		if q.classes[classes[i].Name] != nil {
			return nil, fmt.Errorf("qos: two classes are named %q", classes[i].Name)
		}
		q.classes[classes[i].Name] = &classes[i]
	}
	return q, nil
}

// limitKey is who is limited: an access key or a bucket, in a class.
type limitKey struct {
	class, kind, who string
}

// limit is a rate of requests and one of bytes; either may be nil.
type limit struct {
	requests, bytes *rate.Limiter
}

// unused reports whether a new limit would allow just as much as l does now.
func (l *limit) unused(now time.Time) bool {
	for _, r := range []*rate.Limiter{l.requests, l.bytes} {
		if r != nil && r.TokensAt(now) < float64(r.Burst()) {
			return false
		}
	}
	return true
}

const (
	// maxLimits bounds the memory. Clients can invent names of buckets, so what is
	// known of others is never given up for a new one: limits that are unused make
	// room, and who finds none shares a limit with all others that found none.
	maxLimits = 10_000
	// sweepLimits is how often room is made at the most.
	sweepLimits = time.Second
)

// limited counts requests that were answered with SlowDown.
var limited = metrics.NewCounter("akigw_gateway_qos_limited_total")

// admit takes a request that is about to be done, or refuses it.
func (q *QoS) admit(c *Call, now time.Time) error {
	if q == nil {
		return nil
	}
	class := q.classOf(c)
	if class == nil {
		return nil
	}
	c.flow.Flow.Weight = class.Weight
	// The identity comes first: one that is over its limit makes no limits for the
	// buckets that it names.
	if err := q.take(c, limitKey{class.Name, "identity", c.identity.AccessKey()}, class.IdentityRequests, class.IdentityBytes, now); err != nil {
		return err
	}
	return q.take(c, limitKey{class.Name, "bucket", c.key.Bucket}, class.BucketRequests, class.BucketBytes, now)
}

// take takes a request from one limit, and has the call keep to its rate of bytes.
func (q *QoS) take(c *Call, key limitKey, requests int, bytes size.Bytes, now time.Time) error {
	l := q.limit(key, requests, bytes, now)
	switch {
	case l == nil:
		return nil
	case l.requests != nil && !l.requests.AllowN(now, 1):
		limited.Inc()
		return s3err.SlowDown
	case l.bytes != nil:
		c.pace = append(c.pace, l.bytes)
	}
	return nil
}

func (q *QoS) classOf(c *Call) *QoSConfig {
	name := DefaultClass
	if c.key.Bucket != "" {
		if class := q.rules.For(c.key.Bucket, c.key.Name).Class; class != "" {
			name = class
		}
	}
	return q.classes[name]
}

// limit returns the limit of somebody, nil if there is none.
func (q *QoS) limit(key limitKey, requests int, bytes size.Bytes, now time.Time) *limit {
	if requests == 0 && bytes == 0 || key.who == "" && key.kind == "bucket" {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.limits[key]; l != nil {
		return l
	}
	limits := q.limits
	if len(q.limits) >= maxLimits && !q.sweep(now) {
		limits, key.who = q.shared, ""
		if l := q.shared[key]; l != nil {
			return l
		}
	}
	l := newLimit(requests, bytes)
	limits[key] = l
	return l
}

// newLimit makes a limit of requests and bytes a second; 0 is no limit.
func newLimit(requests int, bytes size.Bytes) *limit {
	l := &limit{}
	if requests > 0 {
		l.requests = rate.NewLimiter(rate.Limit(requests), requests)
	}
	if bytes > 0 {
		l.bytes = rate.NewLimiter(rate.Limit(bytes), max(int(bytes), paceStep))
	}
	return l
}

// sweep drops limits that are unused, and reports whether there is room now. It needs mu.
func (q *QoS) sweep(now time.Time) bool {
	if now.Sub(q.swept) < sweepLimits {
		return false
	}
	q.swept = now
	for key, l := range q.limits {
		if l.unused(now) {
			delete(q.limits, key)
		}
	}
	return len(q.limits) < maxLimits
}

// pace are the rates that the bytes of a call keep to.
type pace []*rate.Limiter

// paceStep is how much goes at a time.
const paceStep = 32 << 10

// wait waits until n more bytes may go.
func (p pace) wait(ctx context.Context, n int) error {
	for _, l := range p {
		if err := l.WaitN(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// pacedBody is a request body that comes no faster than its call may send it.
type pacedBody struct {
	io.ReadCloser
	call *Call
}

// Read implements io.Reader.
func (b *pacedBody) Read(p []byte) (int, error) {
	if b.call == nil || len(b.call.pace) == 0 {
		return b.ReadCloser.Read(p)
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), paceStep)])
	if waitErr := b.call.pace.wait(b.call.Context(), n); err == nil {
		err = waitErr
	}
	return n, err
}
