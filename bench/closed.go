package bench

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"
)

// ClosedConfig configures a closed-loop run: a number of clients, each of which sends its next
// request when the previous one has its response.
type ClosedConfig struct {
	Kind         string  `json:"kind"` // get, put or mixed
	DurationSecs float64 `json:"duration_secs"`
	Clients      int     `json:"clients"`
	Objects      int     `json:"objects"`
	ItemBytes    Sizes   `json:"item_bytes"`
	ReadShare    float64 `json:"read_share"` // for kind mixed
	// Class is the tier that objects are put into before they are read: hot, warm, cold, or "" to
	// leave them where they are.
	Class  string `json:"class"`
	Bucket string `json:"bucket"`
}

// Check returns the first mistake in the configuration.
func (c *ClosedConfig) Check() error {
	switch {
	case !slices.Contains([]string{"get", "put", "mixed"}, c.Kind):
		return fmt.Errorf("kind %q: must be get, put or mixed", c.Kind)
	case !slices.Contains([]string{"", "hot", "warm", "cold"}, c.Class):
		return fmt.Errorf("class %q: must be hot, warm, cold, or empty", c.Class)
	case c.Clients < 1 || c.Clients > 10_000:
		return fmt.Errorf("%d clients: must be from 1 to 10000", c.Clients)
	case c.Objects < 1 || c.Objects > 1_000_000:
		return fmt.Errorf("%d objects: must be from 1 to 1000000", c.Objects)
	case !(c.DurationSecs > 0):
		return fmt.Errorf("%g seconds: must be more than 0", c.DurationSecs)
	case !(c.ReadShare >= 0 && c.ReadShare <= 1):
		return fmt.Errorf("a share of %g reads: must be from 0 to 1", c.ReadShare)
	case c.Bucket == "":
		return fmt.Errorf("the bucket must not be empty")
	}
	return nil
}

// Closed runs a closed-loop benchmark against an endpoint.
type Closed struct {
	Config   ClosedConfig
	Endpoint *Endpoint
	Control  Control // required if Config.Class is set
	Server   Watched // nil: the process is not sampled
	Seed     uint64
	// Progress is as in Load.
	Progress func(what string, done, of float64, last *Sample)
}

// prefix returns the prefix of the objects.
func (c *Closed) prefix() string { return c.Config.Kind + "/" }

func (c *Closed) key(n int) string { return fmt.Sprintf("%s%06d", c.prefix(), n) }

func (c *Closed) size(n int) int64 { return c.Config.ItemBytes.of(uint64(n)) }

// Prepare stores the objects and moves them to the configured tier.
func (c *Closed) Prepare(ctx context.Context) error {
	if err := c.Config.Check(); err != nil {
		return err
	}
	if c.Config.Class != "" && c.Control == nil {
		return fmt.Errorf("objects that are %s: this needs a gateway and an admin key", c.Config.Class)
	}
	if err := c.Endpoint.open(); err != nil {
		return err
	}
	if err := c.Endpoint.makeBucket(ctx, c.Config.Bucket); err != nil {
		return err
	}
	if err := c.Endpoint.putAll(ctx, c.Config.Bucket, c.Config.Objects, 16, c.key, c.Config.ItemBytes, nil); err != nil {
		return err
	}
	return c.place(ctx)
}

// place moves the objects to the configured tier.
func (c *Closed) place(ctx context.Context) error {
	return placeIn(ctx, c.Control, c.Config.Class, c.Config.Bucket, c.prefix())
}

// Run sends requests for the configured time. Prepare has to be called first.
func (c *Closed) Run(ctx context.Context) (*Report, error) {
	m := newMeter()
	lasts := time.Duration(c.Config.DurationSecs * float64(time.Second))
	report := newReport(c.Config.Kind, c.Endpoint.URL, c.Config)
	report.Seed = c.Seed
	sampler := watch(ctx, m, c.Server, min(time.Second, lasts/4), func(s *Sample) {
		if c.Progress != nil {
			c.Progress(c.Config.Kind, s.At, lasts.Seconds(), s)
		}
	})
	var next, version atomic.Int64
	version.Store(time.Now().UnixMicro())
	writing := make([]sync.Mutex, c.Config.Objects) // serialises writes of an object: the outcome of concurrent ones is undefined
	var moving sync.RWMutex                         // held for writing while objects are moved, so that no request runs
	until := m.began.Add(lasts)
	group, ctx := errgroup.WithContext(ctx)
	for client := range c.Config.Clients {
		random := rand.New(rand.NewPCG(c.Seed, uint64(client)))
		group.Go(func() error {
			for time.Now().Before(until) && ctx.Err() == nil {
				turn := int(next.Add(1) - 1)
				n := turn % c.Config.Objects
				if (c.Config.Class == "warm" || c.Config.Class == "cold") && n == 0 && turn > 0 { // all objects have been read and are hot now
					moving.Lock()
					err := c.place(ctx)
					moving.Unlock()
					if err != nil {
						return err
					}
				}
				write := c.Config.Kind == "put" || c.Config.Kind == "mixed" && random.Float64() >= c.Config.ReadShare
				moving.RLock()
				m.begin()
				began := time.Now()
				if write {
					writing[n].Lock()
					err := c.Endpoint.put(ctx, c.Config.Bucket, c.key(n), newBody(uint64(n), uint64(version.Add(1)), c.size(n)))
					m.end("PutObject", "", time.Since(began), c.size(n), problem(err))
					writing[n].Unlock()
					moving.RUnlock()
					continue
				}
				tier, err := c.Endpoint.get(ctx, c.Config.Bucket, c.key(n), uint64(n), c.size(n), 0, 0, nil)
				m.end("GetObject", tier, time.Since(began), c.size(n), problem(err))
				moving.RUnlock()
			}
			return nil
		})
	}
	err := group.Wait()
	report.fill(m, sampler())
	return report, err
}

// Comparison holds the reports of two endpoints that were measured alternately (A, B, A, B and so on),
// so that changes on the machine affect both.
type Comparison struct {
	A      []*Report          `json:"a"`
	B      []*Report          `json:"b"`
	Ratios map[string]float64 `json:"ratios_a_to_b"` // of the means over the rounds
}

// Compare measures two endpoints alternately, several times.
func Compare(ctx context.Context, a, b *Closed, rounds int) (*Comparison, error) {
	c := &Comparison{Ratios: map[string]float64{}}
	for _, side := range []*Closed{a, b} {
		if err := side.Prepare(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", side.Endpoint.URL, err)
		}
	}
	for range rounds {
		for _, side := range []struct {
			*Closed
			to *[]*Report
		}{{a, &c.A}, {b, &c.B}} {
			report, err := side.Run(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", side.Endpoint.URL, err)
			}
			*side.to = append(*side.to, report)
		}
	}
	for name, of := range map[string]func(*Report) float64{
		"requests a second": func(r *Report) float64 { return r.PerSec }, "P50": func(r *Report) float64 { return r.All.P50 }, "P95": func(r *Report) float64 { return r.All.P95 }, "P99": func(r *Report) float64 { return r.All.P99 },
		"CPU of the server a request": func(r *Report) float64 {
			if r.Server == nil {
				return 0
			}
			return r.Server.CPUPerRequest
		},
	} {
		sum := func(all []*Report) (s float64) {
			for _, r := range all {
				s += of(r)
			}
			return s
		}
		if x, y := sum(c.A), sum(c.B); x > 0 && y > 0 {
			c.Ratios[name] = x / y
		}
	}
	return c, nil
}

// WriteText prints the comparison for people.
func (c *Comparison) WriteText(w io.Writer) error {
	for i := range c.A {
		for _, r := range []*Report{c.A[i], c.B[i]} {
			fmt.Fprintf(w, "round %d, %s: %.0f requests per second, P50 %.2f ms, P99 %.2f ms, %d errors\n", i+1, r.Endpoint, r.PerSec, r.All.P50, r.All.P99, r.Errors)
		}
	}
	fmt.Fprintf(w, "\n%s to %s:\n", c.A[0].Endpoint, c.B[0].Endpoint)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, name := range slices.Sorted(maps.Keys(c.Ratios)) {
		fmt.Fprintf(table, "  %s\t%.2f\n", name, c.Ratios[name])
	}
	return table.Flush()
}
