package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/akidb/akigw/internal/zipf"
)

// VectorControl moves vector collections between tiers, as the admin listener of a gateway does.
type VectorControl interface {
	// Move carries out an action ("promote_to_hot", "demote_to_cold", "unpin" and so on) on a
	// collection. "pin" pins it to a tier, which is "" for all other actions.
	Move(ctx context.Context, action, bucket, index, tier string) error
	// Tiers returns the tiers of the collections of a vector bucket by index: hot, warm or cold.
	Tiers(ctx context.Context, bucket string) (map[string]string, error)
	// Flush uploads all acknowledged vectors.
	Flush(ctx context.Context) error
}

// VectorLoad is an open-loop load on vector collections: searches, inserts and moves between tiers. It
// compares each response to a search with an exact search of what it has inserted.
type VectorLoad struct {
	Load
	// Control replaces Load.Control, which is not used. nil: searches take over the share of tier
	// moves, and the collections stay in the tier that the gateway chooses.
	Control VectorControl

	shelves []*shelf
}

const (
	// neighbours is how many vectors a search asks for.
	neighbours = 10
	// lookEvery is how often the tiers of the collections are asked for. Between that they are known from
	// the moves of the load itself.
	lookEvery = 5 * time.Second
	// cleanupLimit is how long the removal of the collections may take.
	cleanupLimit = 2 * time.Minute
)

// homeOf returns the initial tier of a collection: hot for the first fifth, warm for the next half, cold
// for the others.
func homeOf(n, all int) string {
	switch {
	case n < all/5:
		return "hot"
	case n < all*7/10:
		return "warm"
	}
	return "cold"
}

// Prepare creates the collections, stores the vectors, and moves each collection to its initial tier.
// Collections that an interrupted run has left are replaced.
func (l *VectorLoad) Prepare(ctx context.Context) (err error) {
	if err := l.Endpoint.open(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.remove(ctx))
		}
	}()
	c := l.Config
	if err := l.Endpoint.named(ctx, "CreateVectorBucket", c.Bucket, "", http.StatusConflict, nil); err != nil {
		return err
	}
	l.shelves = nil
	for n := range c.Collections {
		l.shelves = append(l.shelves, newShelf(fmt.Sprintf("akigw-bench-%03d", n), homeOf(n, c.Collections)))
	}
	for n := range c.Items {
		l.shelves[l.collection(n)].started++
	}
	if err := l.fill(ctx); err != nil {
		return err
	}
	return l.place(ctx)
}

// fill creates the indexes and stores their vectors, four in parallel.
func (l *VectorLoad) fill(ctx context.Context) error {
	var mu sync.Mutex
	done := 0
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for n, s := range l.shelves {
		group.Go(func() error {
			if err := l.fillOne(ctx, s, rand.New(rand.NewPCG(l.Seed, uint64(n)+2))); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			done++
			l.progress("storing collections", float64(done), float64(len(l.shelves)), nil)
			return nil
		})
	}
	return group.Wait()
}

func (l *VectorLoad) fillOne(ctx context.Context, s *shelf, random *rand.Rand) error {
	c := l.Config
	if err := l.Endpoint.named(ctx, "DeleteIndex", c.Bucket, s.index, http.StatusNotFound, nil); err != nil {
		return err
	}
	if err := l.Endpoint.named(ctx, "CreateIndex", c.Bucket, s.index, 0, map[string]any{"dataType": "float32", "dimension": c.Dimension, "distanceMetric": "cosine"}); err != nil {
		return err
	}
	most := min(500, 1<<20/c.Dimension) // a call may have 500 vectors and 20 MiB
	for len(s.rows) < s.started {
		var batch []keyed
		for len(s.rows) < s.started && len(batch) < most {
			v := newStored(randomVector(random, c.Dimension))
			v.acked = 1
			batch = append(batch, keyed{vectorKey(len(s.rows)), v.data})
			s.rows = append(s.rows, row{versions: []stored{v}})
		}
		if err := l.Endpoint.storeVectors(ctx, c.Bucket, s.index, batch); err != nil {
			return err
		}
	}
	s.clock = 1
	return nil
}

// place moves the collections to their initial tiers.
func (l *VectorLoad) place(ctx context.Context) error {
	if l.Control == nil {
		return nil
	}
	if err := l.Control.Flush(ctx); err != nil {
		return err
	}
	for n, s := range l.shelves {
		for _, action := range []string{"unpin", "promote_to_" + s.home, "demote_to_" + s.home} { // pins are left by an interrupted run
			if action == "promote_to_cold" || action == "demote_to_hot" {
				continue
			}
			if err := l.Control.Move(ctx, action, l.Config.Bucket, s.index, ""); err != nil {
				return fmt.Errorf("%s of %s: %w", action, s.index, err)
			}
		}
		s.tier = s.home
		l.progress("moving collections to their tiers", float64(n+1), float64(len(l.shelves)), nil)
	}
	return nil
}

// remove deletes the collections, and the vector bucket if it has no others.
func (l *VectorLoad) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
	defer cancel()
	var failed error
	for _, s := range l.shelves {
		failed = errors.Join(failed, l.unpin(ctx, s), l.Endpoint.named(ctx, "DeleteIndex", l.Config.Bucket, s.index, http.StatusNotFound, nil))
		if ctx.Err() != nil {
			break
		}
	}
	if len(l.shelves) > 0 {
		failed = errors.Join(failed, l.Endpoint.named(ctx, "DeleteVectorBucket", l.Config.Bucket, "", http.StatusConflict, nil))
	}
	if failed != nil {
		return fmt.Errorf("the collections of vector bucket %s were not removed; the next run replaces them: %w", l.Config.Bucket, failed)
	}
	return nil
}

// unpin removes the pin of a collection, which would otherwise outlive it.
func (l *VectorLoad) unpin(ctx context.Context, s *shelf) error {
	if !s.pinned {
		return nil
	}
	return l.Control.Move(ctx, "unpin", l.Config.Bucket, s.index, "")
}

// vectorRun is the state of a running VectorLoad.
type vectorRun struct {
	*VectorLoad
	*meter
	zipf *zipf.Zipf
	work sync.WaitGroup
}

// Run runs the load and removes the collections. Prepare has to be called before each Run. If ctx ends
// early, Run reports on the requests until then.
func (l *VectorLoad) Run(ctx context.Context) (*Report, error) {
	r := &vectorRun{VectorLoad: l, meter: newMeter(), zipf: zipf.New(l.Config.Items, l.Config.Skew)}
	looking, stop := context.WithCancel(ctx)
	var looks sync.WaitGroup
	if l.Control != nil {
		looks.Go(func() { r.look(looking) })
	}
	report := l.drive(ctx, "load-vectors", r.meter, &r.work, r.choose)
	stop()
	looks.Wait()
	return report, l.remove(ctx)
}

// look asks for the tiers of the collections until ctx ends: searches and the tiering policy move them
// too.
func (r *vectorRun) look(ctx context.Context) {
	ticks := time.NewTicker(lookEvery)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		before := make([]uint64, len(r.shelves))
		for n, s := range r.shelves {
			before[n] = s.changes()
		}
		tiers, err := r.Control.Tiers(ctx, r.Config.Bucket)
		if err != nil { // the tiers stay as they are known; requests show whether the gateway has a problem
			continue
		}
		for n, s := range r.shelves {
			s.observe(tiers[s.index], before[n])
		}
	}
}

// changes returns how often the known tier has changed.
func (s *shelf) changes() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moved
}

// observe records a tier, unless it has changed or is changing since it was asked for.
func (s *shelf) observe(tier string, asked uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if tier != "" && s.moved == asked && !s.moving {
		s.tier = tier
	}
}

// where returns the tier that the collection was last known to be in.
func (s *shelf) where() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tier
}

// choose draws an operation and a collection at random.
func (r *vectorRun) choose(random *rand.Rand) (op string, do request) {
	n := r.zipf.Draw(random)
	s, seed, kind := r.shelves[r.collection(n)], random.Uint64(), random.Float64()
	switch {
	case kind < r.Config.InsertPct:
		return r.insert(s, random.IntN(2) == 0, rand.New(rand.NewPCG(seed, 1)))
	case kind < r.Config.InsertPct+r.Config.TierControlPct && r.Control != nil:
		return r.control(random)
	}
	tier := s.where()
	op = labelled("QueryVectors", tier)
	return op, func(ctx context.Context) (string, int64, error) {
		sought := randomVector(rand.New(rand.NewPCG(seed, 1)), r.Config.Dimension)
		end := s.search()
		hits, err := r.Endpoint.queryVectors(ctx, r.Config.Bucket, s.index, neighbours, sought)
		seen := end()
		if err != nil {
			return tier, 0, err
		}
		s.searched()
		r.work.Go(func() { // the check is not part of the latency
			if err := seen.verify(sought, neighbours, hits); err != nil {
				r.refute(op, tier, err)
			}
		})
		return tier, int64(4 * len(sought)), nil
	}
}

// labelled returns the name of an operation with the tier of the collection, if that is known.
func labelled(op, tier string) string {
	if tier == "" {
		return op
	}
	return op + ", " + tier
}

// searched records that a search was answered, which brings a cold collection to the warm tier.
func (s *shelf) searched() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tier == "cold" && !s.moving {
		s.tier = "warm"
		s.moved++
	}
}

// insert stores a vector: an update of a key that was there before the load, or a new key.
func (r *vectorRun) insert(s *shelf, update bool, random *rand.Rand) (op string, do request) {
	n := -1
	if update {
		n = random.IntN(s.started)
	}
	data := randomVector(random, r.Config.Dimension)
	key, update, end := s.write(n, data)
	op = "PutVectors (new)"
	if update {
		op = "PutVectors (update)"
	}
	return labelled(op, s.where()), func(ctx context.Context) (string, int64, error) {
		err := r.Endpoint.putVectors(ctx, r.Config.Bucket, s.index, keyed{key, data})
		end(err == nil)
		bytes := int64(4 * len(data))
		if err == nil && !update {
			r.grow(bytes + int64(len(key)))
		}
		return "", bytes, err
	}
}

// control returns an operation on the tier of a collection. Collections that are in their initial tier
// leave it, and others return, because searches would leave none of them cold.
func (r *vectorRun) control(random *rand.Rand) (op string, do request) {
	s := r.shelves[random.IntN(len(r.shelves))]
	action, to := s.begin(random)
	if action == "" {
		return "tier status", func(ctx context.Context) (string, int64, error) {
			_, err := r.Control.Tiers(ctx, r.Config.Bucket)
			return "", 0, err
		}
	}
	served := ""
	if to == "cold" || s.where() == "cold" {
		served = "cold"
	}
	return "tier " + action, func(ctx context.Context) (string, int64, error) {
		pin := ""
		if action == "pin" {
			pin = to
		}
		err := r.Control.Move(ctx, action, r.Config.Bucket, s.index, pin)
		s.finish(action, to, err)
		return served, 0, err
	}
}

// begin chooses what to do with a collection: nothing ("") in one of ten cases, and if a move is
// under way. to is the tier that it will be in.
func (s *shelf) begin(random *rand.Rand) (action, to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.moving || s.tier == "" || random.IntN(10) == 0 {
		return "", ""
	}
	s.moving, to = true, s.tier
	switch {
	case s.pinned:
		return "unpin", to
	case s.tier != "cold" && random.IntN(4) == 0: // a search cannot keep a cold one where it is
		return "pin", to
	case s.tier != s.home:
		to = s.home
	default:
		others := map[string][]string{"hot": {"warm", "cold"}, "warm": {"hot", "cold"}, "cold": {"hot", "warm"}}[s.tier]
		to = others[random.IntN(len(others))]
	}
	if to == "hot" || to == "warm" && s.tier == "cold" {
		return "promote_to_" + to, to
	}
	return "demote_to_" + to, to
}

// finish records the outcome of what begin chose.
func (s *shelf) finish(action, to string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moving = false
	s.moved++
	switch {
	case err != nil:
	case action == "pin", action == "unpin":
		s.pinned = action == "pin"
	default:
		s.tier = to
	}
}
