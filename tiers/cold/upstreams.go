package cold

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/glob"
)

// Upstreams are the upstreams of a gateway, each with some of the buckets. All methods may be called from
// any goroutine.
type Upstreams struct {
	all     []named // the default one is last, and has every bucket
	metrics *metrics.Set
	gauges  []string // names in metrics, removed by Close

	probes    sync.WaitGroup // of clocks
	endProbes context.CancelFunc
}

type named struct {
	*Upstream
	name     string
	patterns []string
}

// NewUpstreams builds the upstreams. wrap is that of New. The metrics of all of them are in the set
// of the standard one.
func NewUpstreams(standard Config, further []FurtherConfig, pool PoolConfig, wrap func(http.RoundTripper) http.RoundTripper) (*Upstreams, error) {
	us := &Upstreams{metrics: cmp.Or(standard.Metrics, metrics.NewSet()), endProbes: func() {}}
	add := func(name string, patterns []string, c Config) error {
		for _, other := range us.all {
			if other.name == name {
				return fmt.Errorf("upstreams: two are named %q", name)
			}
		}
		if c.Log != nil {
			c.Log = c.Log.With("upstream", name)
		}
		c.Metrics = us.metrics
		u, err := New(c, pool, wrap)
		if err != nil {
			return err
		}
		us.all = append(us.all, named{u, name, patterns})
		us.showGauges(name, u)
		return nil
	}
	for i := range further {
		if err := add(further[i].Name, further[i].patterns(), further[i].Config); err != nil {
			return nil, errors.Join(err, us.Close())
		}
	}
	if err := add(DefaultName, []string{"*"}, standard); err != nil {
		return nil, errors.Join(err, us.Close())
	}
	return us, nil
}

// showGauges registers the metrics of one upstream.
func (us *Upstreams) showGauges(name string, u *Upstream) {
	indicator := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	for metric, value := range map[string]func() float64{
		"clock_skew_seconds":  func() float64 { return u.Skew().Seconds() },
		"credentials_failing": func() float64 { return indicator(u.keyring.failing()) },
		"breakers_open":       func() float64 { return float64(u.breakers.open()) },
		"suspect": func() float64 {
			suspect, _ := u.suspicion.now()
			return indicator(suspect)
		},
	} {
		full := fmt.Sprintf("akigw_cold_%s{upstream=%q}", metric, name)
		us.metrics.NewGauge(full, value)
		us.gauges = append(us.gauges, full)
	}
}

// Close closes all upstreams.
func (us *Upstreams) Close() (err error) {
	for _, name := range us.gauges {
		us.metrics.UnregisterMetric(name)
	}
	us.endProbes()
	us.probes.Wait()
	for _, u := range us.all {
		err = errors.Join(err, u.Close())
	}
	return err
}

// of finds the upstream that has a bucket. Requests that name no bucket go to the default one.
func (us *Upstreams) of(bucket string) *named {
	last := len(us.all) - 1
	for i := range us.all[:last] {
		for _, p := range us.all[i].patterns {
			if glob.Match(p, bucket) {
				return &us.all[i]
			}
		}
	}
	return &us.all[last]
}

// Do sends a request to the upstream that it names or that has its bucket; see
// Upstream.Do.
func (us *Upstreams) Do(ctx context.Context, r *Request) (*http.Response, error) {
	if r.Upstream == "" {
		return us.of(r.Key.Bucket).Do(ctx, r)
	}
	for i := range us.all {
		if us.all[i].name == r.Upstream {
			return us.all[i].Do(ctx, r)
		}
	}
	return nil, fmt.Errorf("%w: no upstream is named %q", akigw.ErrUpstreamUnavailable, r.Upstream)
}

// Owner is the name of the upstream that has a bucket.
func (us *Upstreams) Owner(bucket string) string { return us.of(bucket).name }

// Names are the names of all upstreams.
func (us *Upstreams) Names() []string {
	names := make([]string, len(us.all))
	for i := range us.all {
		names[i] = us.all[i].name
	}
	return names
}

// Crowded reports whether requests wait for the upstream that has a bucket.
func (us *Upstreams) Crowded(bucket string) bool { return us.of(bucket).slots.crowded() }

// Origin is a number for the endpoint that a bucket's objects come from, so that what was cached from one
// endpoint is not served as another's.
func (us *Upstreams) Origin(bucket string) uint64 { return us.of(bucket).origin }

// Broken are the buckets whose breakers are open or half-open because too many of their requests failed,
// sorted; "" stands for requests that name no bucket.
func (u *Upstreams) Broken() (buckets []string) {
	for _, one := range u.all {
		buckets = append(buckets, one.breakers.broken()...)
	}
	slices.Sort(buckets)
	return buckets
}

// OnSuspect registers a function that is called when an upstream becomes suspect, and when it responds
// again. f must not block.
func (us *Upstreams) OnSuspect(f func(upstream string, suspect bool)) {
	for i := range us.all {
		u := &us.all[i]
		u.mu.Lock()
		u.observers = append(u.observers, func(suspect bool) { f(u.name, suspect) })
		u.mu.Unlock()
	}
}

// Suspect reports whether the upstream that has a bucket has stopped responding, and returns a channel
// that is closed when it does.
func (us *Upstreams) Suspect(bucket string) (suspect bool, begins <-chan struct{}) {
	return us.of(bucket).suspicion.now()
}

// Suspects are the names of the upstreams that have stopped responding.
func (us *Upstreams) Suspects() (names []string) {
	for i := range us.all {
		if suspect, _ := us.all[i].suspicion.now(); suspect {
			names = append(names, us.all[i].name)
		}
	}
	return names
}

// Deadlines are those of the upstream that has a bucket.
func (us *Upstreams) Deadlines(bucket string) Deadlines { return us.of(bucket).deadlines }

// Account identifies the credentials that are used for the upstream of a bucket. It is a hash, and stays
// the same when temporary keys are replaced.
func (us *Upstreams) Account(bucket string) string { return us.of(bucket).config.account() }
