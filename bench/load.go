package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/akidb/akigw/internal/zipf"
)

// Control moves objects between tiers, as the admin listener of a gateway does.
type Control interface {
	// Move carries out an action ("promote_to_hot", "demote_to_cold", "pin" and so on) on all
	// objects of a prefix. A concurrent move of the same objects is not an error.
	Move(ctx context.Context, action, bucket, prefix string) error
	// State asks in which tiers the objects of a prefix are.
	State(ctx context.Context, bucket, prefix string) error
}

// placeIn moves the objects of a prefix to a tier. "" leaves them where they are.
func placeIn(ctx context.Context, control Control, tier, bucket, prefix string) error {
	actions := map[string][]string{"hot": {"promote_to_hot"}, "warm": {"promote_to_warm", "demote_to_warm"}, "cold": {"demote_to_cold"}}
	for _, action := range actions[tier] {
		if err := control.Move(ctx, action, bucket, prefix); err != nil {
			return fmt.Errorf("%s of %s: %w", action, prefix, err)
		}
	}
	return nil
}

// Load is an open-loop load: requests are scheduled in advance, whether or not earlier ones have
// finished, and latency counts from the scheduled time. So a stall of the server does not stall the
// measurement.
type Load struct {
	Config   LoadConfig
	Endpoint *Endpoint
	Control  Control // nil: reads take over the share of tier moves
	Server   Watched // nil: nothing is known of the process
	Seed     uint64
	// Progress is called with the current activity and how much of it is done. It may be nil.
	Progress func(what string, done, of float64, last *Sample)
}

// mostOutstanding bounds the requests under way. Further requests are not sent and count as failed.
const mostOutstanding = 20_000

// errOverload is the error of a request that was not sent.
var errOverload = fmt.Errorf("not sent: %d requests are under way", mostOutstanding)

// item is the state of an object. The version numbers of a run are larger than those of earlier runs.
type item struct {
	acked   uint64 // last acknowledged version; 0: some version of an earlier run
	sent    uint64 // last version that was sent
	writing bool
}

// run is the state of a running Load.
type run struct {
	*Load
	*meter
	first uint64 // first version of this run
	zipf  *zipf.Zipf

	items   []item   // guarded by itemsMu
	pinned  []string // prefixes that this run has pinned; likewise
	itemsMu sync.Mutex
}

func (l *Load) progress(what string, done, of float64, last *Sample) {
	if l.Progress != nil {
		l.Progress(what, done, of, last)
	}
}

// collection returns the collection of an object. The most read objects are in the first collections.
func (l *Load) collection(item int) int {
	return int(int64(item) * int64(l.Config.Collections) / int64(l.Config.Items))
}

func (l *Load) prefix(collection int) string { return fmt.Sprintf("c%03d/", collection) }

func (l *Load) key(item int) string {
	return l.prefix(l.collection(item)) + fmt.Sprintf("%07d", item)
}

// Prepare stores the objects, unless an earlier run has left them, and moves each collection to its
// initial tier.
func (l *Load) Prepare(ctx context.Context) error {
	if err := l.Endpoint.open(); err != nil {
		return err
	}
	c := l.Config
	if err := l.Endpoint.makeBucket(ctx, c.Bucket); err != nil {
		return err
	}
	sizes, err := c.ItemBytes.MarshalText()
	if err != nil {
		return err
	}
	// This object is stored last, so that its presence means that all others are stored.
	mark := fmt.Sprintf("complete-%d-%d-%s", c.Collections, c.Items, sizes)
	_, err = l.Endpoint.head(ctx, c.Bucket, mark, headBytes)
	var status *statusError
	switch {
	case err == nil:
	case errors.As(err, &status) && status.status == http.StatusNotFound:
		if err := l.store(ctx); err != nil {
			return err
		}
		if err := l.Endpoint.put(ctx, c.Bucket, mark, newBody(0, 1, headBytes)); err != nil {
			return err
		}
	default:
		return err
	}
	return l.place(ctx)
}

func (l *Load) store(ctx context.Context) error {
	return l.Endpoint.putAll(ctx, l.Config.Bucket, l.Config.Items, 32, l.key, l.Config.ItemBytes, func(n int) { l.progress("storing objects", float64(n), float64(l.Config.Items), nil) })
}

// place moves the first fifth of the collections to memory and the next half to disk, and leaves the
// others upstream only.
func (l *Load) place(ctx context.Context) error {
	if l.Control == nil {
		return nil
	}
	if err := l.unpin(ctx); err != nil { // pins left by an interrupted run
		return err
	}
	all := l.Config.Collections
	for n := range all {
		if err := placeIn(ctx, l.Control, homeOf(n, all), l.Config.Bucket, l.prefix(n)); err != nil {
			return err
		}
		l.progress("moving collections to their tiers", float64(n+1), float64(all), nil)
	}
	return nil
}

// unpin removes all pins of the bucket.
func (l *Load) unpin(ctx context.Context) error {
	if err := l.Control.Move(ctx, "unpin", l.Config.Bucket, ""); err != nil {
		return fmt.Errorf("unpin of %s: %w", l.Config.Bucket, err)
	}
	return nil
}

// Run runs the load. Prepare has to be called first. If ctx ends early, Run reports on the requests
// until then.
func (l *Load) Run(ctx context.Context) (*Report, error) {
	r := &run{Load: l, meter: newMeter(), first: uint64(time.Now().UnixMicro()), items: make([]item, l.Config.Items), zipf: zipf.New(l.Config.Items, l.Config.Skew)}
	report := l.drive(ctx, "load", r.meter, new(sync.WaitGroup), r.choose)
	if l.Control != nil {
		return report, l.unpin(context.WithoutCancel(ctx))
	}
	return report, nil
}

// drive starts the requests that choose returns, at random times, for the configured duration. It reports
// on them when all have finished, and what they have started in work.
func (l *Load) drive(ctx context.Context, kind string, m *meter, work *sync.WaitGroup, choose func(random *rand.Rand) (op string, do request)) *Report {
	lasts := time.Duration(l.Config.DurationSecs) * time.Second
	report := newReport(kind, l.Endpoint.URL, l.Config)
	report.Seed = l.Seed
	sampler := watch(ctx, m, l.Server, max(time.Second, lasts/600), func(s *Sample) { l.progress("load", s.At, lasts.Seconds(), s) })
	random := rand.New(rand.NewPCG(l.Seed, 1))
	began := time.Now()
	for at := time.Duration(0); at < lasts; at += time.Duration(random.ExpFloat64() / l.Config.QPS * float64(time.Second)) {
		if wait := time.Until(began.Add(at)); wait > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
		}
		if ctx.Err() != nil {
			break
		}
		op, do := choose(random)
		m.arrive(context.WithoutCancel(ctx), began.Add(at), op, do, work)
	}
	work.Wait()
	report.fill(m, sampler())
	return report
}

// request performs one operation. It returns the tier that the response came from and the bytes of
// the bodies.
type request func(ctx context.Context) (tier string, bytes int64, err error)

// arrive starts the request that is scheduled for a point in time.
func (m *meter) arrive(ctx context.Context, at time.Time, op string, do request, work *sync.WaitGroup) {
	m.mu.Lock()
	full := m.open >= mostOutstanding
	m.mu.Unlock()
	m.begin()
	if full {
		do = func(context.Context) (string, int64, error) { return "", 0, errOverload }
	}
	work.Go(func() {
		tier, bytes, err := do(ctx)
		m.end(op, tier, time.Since(at), bytes, problem(err))
	})
}

// choose draws an operation and an object at random.
func (r *run) choose(random *rand.Rand) (op string, do request) {
	n := r.zipf.Draw(random)
	kind := random.Float64()
	switch {
	case kind < r.Config.InsertPct:
		return "PutObject", r.insert(n, random)
	case kind < r.Config.InsertPct+r.Config.TierControlPct && r.Control != nil:
		return r.control(random)
	}
	key, size := r.key(n), r.Config.ItemBytes.of(uint64(n))
	switch what := random.IntN(100); {
	case what < 5:
		prefix := r.prefix(r.collection(n))
		return "ListObjectsV2", func(ctx context.Context) (string, int64, error) {
			return "", 0, r.Endpoint.list(ctx, r.Config.Bucket, prefix, min(100, r.Config.Items/r.Config.Collections))
		}
	case what < 10:
		return "HeadObject", func(ctx context.Context) (string, int64, error) {
			tier, err := r.Endpoint.head(ctx, r.Config.Bucket, key, size)
			return tier, 0, err
		}
	case what < 20:
		from := random.Int64N(size)
		length := 1 + random.Int64N(size-from)
		return "GetObject, a range", func(ctx context.Context) (string, int64, error) {
			tier, err := r.Endpoint.get(ctx, r.Config.Bucket, key, uint64(n), size, from, length, r.fresh(n))
			return tier, length, err
		}
	default:
		return "GetObject", func(ctx context.Context) (string, int64, error) {
			tier, err := r.Endpoint.get(ctx, r.Config.Bucket, key, uint64(n), size, 0, 0, r.fresh(n))
			return tier, size, err
		}
	}
}

// fresh returns a check of the version that a read starting now may return: it must not be older than
// the version acknowledged by now, and it must have been sent before it is returned.
func (r *run) fresh(n int) func(version uint64) error {
	r.itemsMu.Lock()
	defer r.itemsMu.Unlock()
	acked := r.items[n].acked
	return func(version uint64) error {
		r.itemsMu.Lock()
		defer r.itemsMu.Unlock()
		switch sent := r.items[n].sent; {
		case version < acked:
			return fmt.Errorf("%w: an older version than was acknowledged", errWrong)
		case version > sent && version > r.first:
			return fmt.Errorf("%w: a version that was not sent", errWrong)
		}
		return nil
	}
}

// insert stores a new object, or a new version of one.
func (r *run) insert(n int, random *rand.Rand) request {
	size := r.Config.ItemBytes.of(uint64(n))
	r.itemsMu.Lock()
	defer r.itemsMu.Unlock()
	it := &r.items[n]
	version := max(r.first, it.sent) + 1
	if it.writing || random.IntN(2) == 0 { // the outcome of concurrent writes of an object is undefined
		key := fmt.Sprintf("%sn%d-%d", r.prefix(r.collection(n)), r.first, random.Uint64())
		return func(ctx context.Context) (string, int64, error) {
			return "", size, r.Endpoint.put(ctx, r.Config.Bucket, key, newBody(uint64(n), version, size))
		}
	}
	it.writing, it.sent = true, version
	key := r.key(n)
	return func(ctx context.Context) (string, int64, error) {
		err := r.Endpoint.put(ctx, r.Config.Bucket, key, newBody(uint64(n), version, size))
		r.itemsMu.Lock()
		defer r.itemsMu.Unlock()
		if it.writing = false; err == nil {
			it.acked = version
		}
		return "", size, err
	}
}

// control returns an operation on ten objects of a collection.
func (r *run) control(random *rand.Rand) (op string, do request) {
	n := random.IntN(r.Config.Items)
	if random.IntN(10) == 0 {
		return "tier status", func(ctx context.Context) (string, int64, error) {
			return "", 0, r.Control.State(ctx, r.Config.Bucket, r.prefix(r.collection(n)))
		}
	}
	key := r.key(n)
	ten := key[:len(key)-1]
	actions := []string{"promote_to_warm", "promote_to_hot", "demote_to_warm", "demote_to_cold", "pin", "unpin"}
	action := actions[random.IntN(len(actions))]
	if action == "unpin" {
		r.itemsMu.Lock()
		if last := len(r.pinned) - 1; last >= 0 {
			ten, r.pinned = r.pinned[last], r.pinned[:last]
		} else {
			action = "pin"
		}
		r.itemsMu.Unlock()
	}
	return "tier " + action, func(ctx context.Context) (string, int64, error) {
		err := r.Control.Move(ctx, action, r.Config.Bucket, ten)
		if action == "pin" && err == nil {
			r.itemsMu.Lock()
			defer r.itemsMu.Unlock()
			if !slices.Contains(r.pinned, ten) {
				r.pinned = append(r.pinned, ten)
			}
		}
		return "", 0, err
	}
}
