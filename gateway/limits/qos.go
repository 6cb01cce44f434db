package limits

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/time/rate"

	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/rules"
)

// QoSConfig is one class of service: [[qos]]. A rule assigns objects to a class by its name. The
// class "default" has all objects that no rule assigns.
type QoSConfig struct {
	Name             string     `toml:"name" help:"name of the class, as rules refer to it; \"default\" is the class of objects that no rule assigns"`
	IdentityRequests int        `toml:"identity_requests_per_sec" help:"requests per second of one access key; more are answered with 503 SlowDown. 0: no limit"`
	IdentityBytes    size.Bytes `toml:"identity_bytes_per_sec" help:"body bytes per second of one access key, in both directions; transfers are slowed down to it. 0: no limit"`
	BucketRequests   int        `toml:"bucket_requests_per_sec" help:"the same for one bucket"`
	BucketBytes      size.Bytes `toml:"bucket_bytes_per_sec" help:"the same for one bucket"`
	Weight           int        `toml:"weight" help:"share of the upstream connection against other classes while requests wait for it (upstream.max_requests)"`
}

// DefaultClass is the name of the class of objects that no rule assigns to another one.
const DefaultClass = "default"

// SetDefaults sets the defaults.
func (c *QoSConfig) SetDefaults() { c.Weight = 1 }

// minBandwidth is the lowest bandwidth limit in bytes per second: a slower connection would be
// closed for being under min_rate.
const minBandwidth = 16 << 10

// Check reports every invalid value by its key.
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
		if n < 0 || n > 0 && n < minBandwidth {
			report(key, "must be 0 or at least 16KiB")
		}
	}
	if c.Weight < 1 || c.Weight > 1000 {
		report("weight", "must be 1 to 1000")
	}
}

// Rules assign classes to objects.
type Rules interface {
	// For returns the settings of a key, which the caller must not change.
	For(bucket, key string) *rules.Settings
}

// QoS enforces the limits of access keys and buckets. Its methods are safe for concurrent use; a
// nil QoS limits nothing.
type QoS struct {
	rules   Rules
	classes map[string]*QoSConfig
	limited *metrics.Counter // requests that were answered with SlowDown

	mu     sync.Mutex
	limits map[limitKey]*limit // guarded by mu
	shared map[limitKey]*limit // by class and kind, for keys that do not fit into limits; guarded by mu
	swept  time.Time           // time of the last sweep; guarded by mu
}

// NewQoS returns the limits of some classes, nil if there are none. It fails if two classes have
// the same name. A nil set keeps its metric private.
func NewQoS(classes []QoSConfig, book Rules, set *metrics.Set) (*QoS, error) {
	limited := cmp.Or(set, metrics.NewSet()).GetOrCreateCounter("akigw_gateway_qos_limited_total") // it is also shown without classes
	if len(classes) == 0 {
		return nil, nil
	}
	q := &QoS{rules: book, classes: make(map[string]*QoSConfig), limits: make(map[limitKey]*limit), shared: make(map[limitKey]*limit), limited: limited}
	for i := range classes {
		if q.classes[classes[i].Name] != nil {
			return nil, fmt.Errorf("qos: two classes are named %q", classes[i].Name)
		}
		q.classes[classes[i].Name] = &classes[i]
	}
	return q, nil
}

// Grant is what an admitted request may use.
type Grant struct {
	// Weight is the request's share of the upstream connection; 0 means the default.
	Weight int
	// Pace holds the bandwidth limits of its bodies.
	Pace Pace
}

// Admit counts a request of an access key for a bucket and key, or refuses it with SlowDown.
func (q *QoS) Admit(accessKey, bucket, key string, now time.Time) (Grant, error) {
	var g Grant
	if q == nil {
		return g, nil
	}
	class := q.classOf(bucket, key)
	if class == nil {
		return g, nil
	}
	g.Weight = class.Weight
	// The access key comes first: one that is over its limit must not create limits for the
	// buckets that it names.
	err := q.take(&g, limitKey{class.Name, "identity", accessKey}, class.IdentityRequests, class.IdentityBytes, now)
	if err == nil {
		err = q.take(&g, limitKey{class.Name, "bucket", bucket}, class.BucketRequests, class.BucketBytes, now)
	}
	return g, err
}

// take counts a request against one limit, and adds the limit's bandwidth to the grant.
func (q *QoS) take(g *Grant, key limitKey, requests int, bytes size.Bytes, now time.Time) error {
	l := q.limit(key, requests, bytes, now)
	switch {
	case l == nil:
		return nil
	case l.requests != nil && !l.requests.AllowN(now, 1):
		q.limited.Inc()
		return s3err.SlowDown
	case l.bytes != nil:
		g.Pace = append(g.Pace, l.bytes)
	}
	return nil
}

func (q *QoS) classOf(bucket, key string) *QoSConfig {
	name := DefaultClass
	if bucket != "" {
		if class := q.rules.For(bucket, key).Class; class != "" {
			name = class
		}
	}
	return q.classes[name]
}

// limitKey identifies what is limited: an access key or a bucket, in a class.
type limitKey struct {
	class, kind, who string
}

// limit is a rate of requests and one of bytes; either may be nil.
type limit struct {
	requests, bytes *rate.Limiter
}

// newLimit returns a limit of requests and bytes per second; 0 means no limit.
func newLimit(requests int, bytes size.Bytes) *limit {
	l := &limit{}
	if requests > 0 {
		l.requests = rate.NewLimiter(rate.Limit(requests), requests)
	}
	if bytes > 0 {
		l.bytes = rate.NewLimiter(rate.Limit(bytes), max(int(bytes), PaceStep))
	}
	return l
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
	// maxLimits bounds the memory. Clients can invent bucket names, so a limit in use is never
	// dropped for a new one: only unused limits make space, and without space all newcomers of a
	// class share one limit.
	maxLimits = 10_000
	// sweepInterval is the minimum time between two searches for unused limits.
	sweepInterval = time.Second
)

// limit returns the limit of key, nil if there is none.
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
	if len(q.limits) >= maxLimits && !q.sweepLocked(now) {
		limits, key.who = q.shared, ""
		if l := q.shared[key]; l != nil {
			return l
		}
	}
	l := newLimit(requests, bytes)
	limits[key] = l
	return l
}

// sweepLocked drops unused limits, and reports whether there is space now.
func (q *QoS) sweepLocked(now time.Time) bool {
	if now.Sub(q.swept) < sweepInterval {
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

// Pace holds the bandwidth limits of a request's bodies; an empty one limits nothing.
type Pace []*rate.Limiter

// PaceStep is the largest number of bytes to wait for at a time.
const PaceStep = 32 << 10

// Wait waits until n more bytes may be transferred, or until ctx ends. n is at most PaceStep.
func (p Pace) Wait(ctx context.Context, n int) error {
	for _, l := range p {
		if err := l.WaitN(ctx, n); err != nil {
			return err
		}
	}
	return nil
}
