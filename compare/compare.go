// Package compare is the differential mode: of a share of the answers that came from the cache, it asks
// the upstream as well, and says where the two differ. So an operator can prove that a cache is
// transparent before applications rely on it, and notices when the premise of a freshness mode does
// not hold.
//
// It works behind the clients: a comparison begins after the answer was sent, and nothing about that
// answer depends on it. Comparisons are bounded in number and in bytes; those beyond the bounds are
// dropped and counted. It keeps no bodies, and shows headers without secrets. A key that was changed
// between the answer and the comparison is not compared, and a difference that the freshness mode allows
// is counted apart.
package compare

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/time/rate"

	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/tiers/cold"
)

// Config limits the requests that comparisons cost: [compare].
type Config struct {
	MaxRequests int        `toml:"max_requests_per_sec" help:"requests per second that the gateway sends to the upstream to compare answers from the cache (compare in a rule); further answers are not compared"`
	MaxBytes    size.Bytes `toml:"max_bytes_per_sec" help:"bytes per second of bodies that are read from the upstream for that"`
}

// Default returns the default limits.
func Default() Config { return Config{MaxRequests: 100, MaxBytes: 16 << 20} }

// Check reports each invalid value by its key.
func (c *Config) Check(report func(key, problem string)) {
	if c.MaxRequests < 1 || c.MaxRequests > 100_000 {
		report("max_requests_per_sec", "must be 1 to 100000; to compare nothing, leave compare out of the rules")
	}
	if c.MaxBytes < step || c.MaxBytes > 1<<40 {
		report("max_bytes_per_sec", "must be 64KiB to 1TiB; to compare nothing, leave compare out of the rules")
	}
}

// Upstream is the part of the upstreams that comparisons need. One that knows whether requests wait for
// it (Crowded) gets no comparisons while they do.
type Upstream interface {
	// Do sends a signed request and returns the response, whatever its status.
	Do(ctx context.Context, r *cold.Request) (*http.Response, error)
}

// crowd is an Upstream that knows whether requests wait for it.
type crowd interface{ Crowded(bucket string) bool }

// Options configure a Comparer.
type Options struct {
	// Config has the limits; the zero value is Default.
	Config   Config
	Upstream Upstream
	// Random returns a number from 0 to 1, excluding 1, that decides which answers are compared; nil: a
	// random one.
	Random func() float64
	// Log gets a line for each difference; nil: nothing is logged.
	Log *slog.Logger
	// Metrics is the set of the metrics; nil: a private one.
	Metrics *metrics.Set
}

const (
	// maxQueued is how many answers wait to be compared, and parallel how many are compared at a time.
	maxQueued = 1000
	parallel  = 4
)

// Comparer compares answers with the upstream's. Its methods are safe for concurrent use.
type Comparer struct {
	upstream Upstream
	crowd    crowd // nil if requests never wait for the upstream
	random   func() float64
	log      *slog.Logger
	counters *counters
	requests *rate.Limiter
	bytes    *rate.Limiter
	most     int64 // bytes of the largest body that is compared
	queue    chan *Sample

	mu      sync.Mutex
	since   time.Time
	found   []Difference // oldest first; guarded by mu
	allowed []Difference // oldest first; guarded by mu
}

// New returns a Comparer. It compares nothing before Run.
func New(o Options) *Comparer {
	if o.Config == (Config{}) {
		o.Config = Default()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	c := &Comparer{
		upstream: o.Upstream, random: o.Random, log: o.Log, since: time.Now(), queue: make(chan *Sample, maxQueued),
		requests: rate.NewLimiter(rate.Limit(o.Config.MaxRequests), o.Config.MaxRequests),
		bytes:    rate.NewLimiter(rate.Limit(o.Config.MaxBytes), step),
		most:     int64(o.Config.MaxBytes) * int64(maxTime/time.Second) / 2,
	}
	c.crowd, _ = o.Upstream.(crowd)
	set := cmp.Or(o.Metrics, metrics.NewSet())
	c.counters = newCounters(set)
	set.NewGauge("akigw_compare_queued", func() float64 { return float64(len(c.queue)) })
	return c
}

// Chosen decides whether an answer is among the share, 0 to 1, that is compared.
func (c *Comparer) Chosen(share float64) bool { return c.random() < share }

// Skip counts a chosen answer that cannot be compared.
func (c *Comparer) Skip(reason Reason) { c.counters.skipped[reason].Inc() }

// Offer queues an answer for comparison. It does not wait: beyond the limits the answer is dropped, and
// counted. The Comparer closes the Watch.
func (c *Comparer) Offer(s *Sample) {
	switch {
	case s.Method == http.MethodGet && s.Answer.Length > c.most:
		c.drop(s, Large)
	case !c.requests.Allow():
		c.drop(s, TooMany)
	default:
		select {
		case c.queue <- s:
		default:
			c.drop(s, TooMany)
		}
	}
}

// drop counts an answer that is not compared.
func (c *Comparer) drop(s *Sample, reason Reason) {
	s.Watch.Close()
	c.Skip(reason)
}

// Run compares what is offered until ctx ends. What is queued then is dropped.
func (c *Comparer) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range parallel {
		workers.Go(func() {
			for ctx.Err() == nil {
				select {
				case s := <-c.queue:
					c.process(ctx, s)
				case <-ctx.Done():
				}
			}
		})
	}
	workers.Wait()
	for {
		select {
		case s := <-c.queue:
			c.drop(s, TooMany)
		default:
			return nil
		}
	}
}

// process compares an answer and records the result.
func (c *Comparer) process(ctx context.Context, s *Sample) {
	defer s.Watch.Close()
	theirs, reason := c.fetch(ctx, s)
	if reason != "" {
		c.Skip(reason)
		return
	}
	what := s.differing(theirs)
	result := s.judge(what, theirs)
	c.counters.compared[result].Inc()
	if result != Equal {
		c.record(ctx, result, s.difference(what, theirs))
	}
}

// fetch asks the upstream for what a client got from the cache. The reason says why there is nothing to
// compare, "" if there is.
func (c *Comparer) fetch(ctx context.Context, s *Sample) (*Answer, Reason) {
	if s.Watch.Changed() {
		return nil, Changed
	}
	if c.crowd != nil && c.crowd.Crowded(s.Key.Bucket) {
		return nil, Busy
	}
	theirs, err := c.ask(ctx, s)
	switch {
	case s.Watch.Changed():
		return nil, Changed
	case err != nil:
		c.log.Debug("an answer could not be compared with the upstream's", "key", s.Key.String(), "error", err)
		return nil, Unanswered
	case s.overtaken(ctx, theirs):
		return nil, Changed
	}
	return theirs, ""
}

// record lists a difference, and logs one that no freshness mode allows.
func (c *Comparer) record(ctx context.Context, result Result, d Difference) {
	c.mu.Lock()
	if result == Allowed {
		c.allowed = appendBounded(c.allowed, d)
	} else {
		c.found = appendBounded(c.found, d)
	}
	c.mu.Unlock()
	if result == Different {
		c.log.WarnContext(ctx, "the cache and the upstream answer differently", "key", d.name(), "method", d.Method, "range", d.Range, "request_id", d.RequestID,
			"freshness", d.Freshness, "tier", d.Tier, "age_seconds", d.Age, "differs", d.Differs, "client", d.Client, "upstream", d.Upstream)
	}
}

// counters are the metrics of comparisons.
type counters struct {
	compared map[Result]*metrics.Counter
	skipped  map[Reason]*metrics.Counter
	received *metrics.Counter
}

func newCounters(set *metrics.Set) *counters {
	c := &counters{compared: map[Result]*metrics.Counter{}, skipped: map[Reason]*metrics.Counter{}, received: set.NewCounter("akigw_compare_received_bytes_total")}
	for _, r := range [...]Result{Equal, Different, Allowed} {
		c.compared[r] = set.NewCounter(fmt.Sprintf("akigw_compare_answers_total{result=%q}", r))
	}
	for _, r := range [...]Reason{Changed, Unanswered, Conditional, Part, Aborted, Large, TooMany, Busy} {
		c.skipped[r] = set.NewCounter(fmt.Sprintf("akigw_compare_skipped_total{reason=%q}", r))
	}
	return c
}
