// Package shadow predicts what the cache would save, while all requests go to the upstream as through
// a plain proxy: shadow mode (rules.Shadow, docs/trying.md). It is told of each request that has
// passed, and counts by bucket what the tiers would have answered and which requests the gateway would
// have sent instead, in each freshness mode.
//
// Without bodies it simulates the tiers: the policy of package tiers/hot over values that have a weight
// and no bytes, with the configured sizes and blocks. Memory is bounded: when there are too many values
// it goes on with half of the keys and tiers of half the size. With bodies it is told what the real
// tiers held. It sends nothing, stores nothing and changes no response. The disk tier is simulated with
// its own policy (tiers/warm/policy) and files whose garbage takes space. Pins, compression and the moves
// of the policy worker are not simulated.
package shadow

import (
	"net/http"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/cespare/xxhash/v2"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
)

// Options configure a Shadow.
type Options struct {
	// Cache has the sizes of the tiers and how they are filled.
	Cache tiers.Config
	// Prices are those of the upstream.
	Prices cost.Config
	// Metrics receives the metrics; nil discards them.
	Metrics *metrics.Set
	// MaxValues bounds the entries and blocks that are simulated at a time; 0 is 131,072, which take
	// about 64 MiB.
	MaxValues int
}

// Shadow counts. Its methods are safe for concurrent use and do not wait for I/O.
type Shadow struct {
	options  Options
	began    time.Time
	counters *counters

	mu       sync.Mutex
	tiers    *simulation
	accounts map[string]*account    // by bucket
	writing  map[akigw.Key]int      // writes under way
	lists    map[listID]keptListing // listings that a gateway would have in memory
}

// New returns a Shadow that has seen nothing.
func New(o Options) *Shadow {
	if o.MaxValues == 0 {
		o.MaxValues = 1 << 17
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	s := &Shadow{
		options: o, began: time.Now(), counters: newCounters(o.Metrics), tiers: newSimulation(&o.Cache, o.MaxValues),
		accounts: map[string]*account{}, writing: map[akigw.Key]int{}, lists: map[listID]keptListing{},
	}
	o.Metrics.NewGauge("akigw_shadow_sampled_ratio", func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.tiers.share()
	})
	return s
}

// Read is a GetObject or a HeadObject that the upstream has answered, and that a gateway could have
// answered from its tiers.
type Read struct {
	Key        akigw.Key
	Head       bool // HeadObject
	Settings   *rules.Settings
	Conditions akigw.Conditions
	Range      akigw.RangeSpec
	// Status, ETag and Size are those of the response; Size is of the whole object, -1 if the response
	// does not say it.
	Status int
	ETag   string
	Size   int64
	// Described is how many bytes of memory the headers of the object take.
	Described int
	Sent      int64 // bytes of the response's body
	At        time.Time
	// Found is what the real tiers had of the object; nil: the tiers are simulated.
	Found *tiers.Found
}

// gone reports whether the upstream said that the key holds nothing.
func (r *Read) gone() bool { return r.Status == http.StatusNotFound }

// wantsBytes reports whether the response needs bytes of the object.
func (r *Read) wantsBytes() bool {
	return !r.Head && (r.Status == http.StatusOK || r.Status == http.StatusPartialContent)
}

// bytes returns the range of an object of this size that the read asks for. It is empty if the object
// has no such range. A part counts as the whole object, because where parts begin is not known.
func (r *Read) bytes(size int64) akigw.Range {
	if size < 0 || r.Range.Part() > 0 {
		return akigw.Range{Length: max(0, size)}
	}
	got, err := r.Range.Resolve(size)
	if err != nil {
		return akigw.Range{}
	}
	return got
}

// Passed is a request that a gateway would have sent to the upstream as well.
type Passed struct {
	Bucket string
	Kind   cost.Kind
	In     int64 // bytes of the request's body
	Sent   int64 // bytes of the response's body
}

// Pass counts a request that no tier could have answered.
func (s *Shadow) Pass(p Passed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.accountLocked(p.Bucket)
	count(&a.clients, p.Kind, p.In, p.Sent)
	count(&a.always, p.Kind, p.In, p.Sent)
	s.counters.passed(p.Sent)
	s.counters.upstream(1, p.Sent)
}

// Read counts a read, and predicts what a gateway would have done.
func (s *Shadow) Read(r Read) {
	id := identify(r.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.accountLocked(r.Key.Bucket)
	count(&a.clients, cost.Read, 0, r.Sent)
	s.counters.passed(r.Sent)
	a.reads++
	if !s.tiers.samples(id) {
		return
	}
	s.tiers.disk.advance(s.began, r.At)
	s.readLocked(a, id, &r)
	s.tiers.shrink()
}

// Write is a successful PutObject whose body a gateway would have kept.
type Write struct {
	Key      akigw.Key
	Settings *rules.Settings
	ETag     string // of the response
	Size     int64
	// Described is how many bytes of memory the headers take that can be predicted for the object, 0 for none.
	// Only a gateway in mode exclusive keeps them.
	Described int
	At        time.Time // when its request arrived
}

// Begin says that a write of a key begins. End or Written has to follow.
func (s *Shadow) Begin(key akigw.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing[key]++
}

// End says that a change of some keys has ended that leaves nothing in the tiers. began is false for
// keys that Begin was not called for.
func (s *Shadow) End(began bool, keys ...akigw.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		s.endLocked(key, began)
		s.tiers.drop(identify(key))
	}
}

// endLocked ends a write.
func (s *Shadow) endLocked(key akigw.Key, began bool) {
	s.accountLocked(key.Bucket).revision++
	if !began {
		return
	}
	if s.writing[key]--; s.writing[key] <= 0 {
		delete(s.writing, key)
	}
}

// Written says that a write has ended, and what the tiers would hold of it.
func (s *Shadow) Written(w Write) {
	id := identify(w.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(w.Key, true)
	if !s.tiers.samples(id) {
		return
	}
	s.tiers.disk.advance(s.began, w.At)
	s.tiers.written(id, &w, s.writing[w.Key] == 0)
	s.tiers.shrink()
}

// identify returns the number of a key in the simulation.
func identify(key akigw.Key) uint64 {
	d := xxhash.New()
	for _, part := range [...]string{key.Bucket, "\x00", key.Name, "\x00", key.Version} {
		_, _ = d.WriteString(part) // it never fails
	}
	return d.Sum64()
}

// versionOf returns a number for what a key holds, never 0.
func versionOf(etag string) uint64 { return max(1, xxhash.Sum64String(etag)) }
