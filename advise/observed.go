package advise

import (
	"cmp"
	"slices"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/trace"
)

// Observation collects the accesses of a trace in bounded memory: 25 to 40 MiB for two million reads of
// a million objects (BenchmarkObservation). It must not be used concurrently.
type Observation struct {
	sample   *trace.Sample
	popular  map[name]*popularity
	nameless bool
}

const (
	// mostBlocks is how many uses of blocks are replayed; with more, a part of the objects is. An
	// advice, which is some twenty replays, then takes about a second (BenchmarkNew).
	mostBlocks = 1 << 17
	// mostPopular is how many objects are counted at a time.
	mostPopular = 4096
)

// name is the name of an object.
type name struct{ bucket, key string }

// popularity is how often an object was read.
type popularity struct {
	name
	reads   int
	again   int    // reads that fetched a version which had been read before
	version string // that was read last
	size    int64
}

// NewObservation returns an empty one.
func NewObservation() *Observation {
	return &Observation{sample: trace.NewSample(mostBlocks), popular: map[name]*popularity{}}
}

// Add adds an access; accesses come in the order of their times.
func (o *Observation) Add(a *trace.Access) {
	o.sample.Add(a)
	switch {
	case a.Key == "":
		o.nameless = true
	case !a.Write:
		o.count(a)
	}
}

// count counts a read of an object among the most popular ones: when there are too many, all lose one
// read and those with none are forgotten, so that an object with more than one read in mostPopular is
// always among them (Misra and Gries, 1982).
func (o *Observation) count(a *trace.Access) {
	p := o.popular[name{a.Bucket, a.Key}]
	if p == nil {
		if len(o.popular) >= mostPopular {
			for key, other := range o.popular {
				if other.reads--; other.reads <= 0 {
					delete(o.popular, key)
				}
			}
			return
		}
		p = &popularity{name: name{a.Bucket, a.Key}}
		o.popular[p.name] = p
	}
	p.reads++
	if a.Outcome == akigw.Cold && a.Version == p.version {
		p.again++
	}
	p.version, p.size = a.Version, a.Size
}

// Observed is a trace that advice can be based on.
type Observed struct {
	trace    *trace.Trace
	popular  []*popularity // most reads first
	nameless bool
}

// End ends the observation, from which lost accesses are missing. Nothing may be added afterwards.
func (o *Observation) End(lost int64) *Observed {
	seen := &Observed{trace: o.sample.Trace(lost), nameless: o.nameless}
	for _, p := range o.popular {
		seen.popular = append(seen.popular, p)
	}
	slices.SortFunc(seen.popular, func(a, b *popularity) int {
		return cmp.Or(b.reads-a.reads, cmp.Compare(a.bucket, b.bucket), cmp.Compare(a.key, b.key))
	})
	return seen
}

// Buckets returns the names of the buckets that were accessed.
func (o *Observed) Buckets() []string {
	var all []string
	for name := range o.trace.Buckets() {
		if name != "" {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// bucketStats is what the kept accesses of a bucket show.
type bucketStats struct {
	rate                          float64 // trace.Trace.Rate
	objects                       map[uint64]bool
	writes, smallWrites, replaced int
	written                       int64 // bytes
}

// small is the size up to which a written object counts as small, and the proposed pack_bytes.
const small = 64 << 10

// scale estimates the number among all accesses from that among the kept ones.
func (s *bucketStats) scale(n int) int { return int(float64(n) / s.rate) }

// stats looks at the kept accesses of a bucket.
func (m *model) stats(bucket string) *bucketStats {
	s := &bucketStats{rate: m.trace.Rate, objects: map[uint64]bool{}}
	for _, u := range m.uses[bucket] {
		s.objects[u.Object] = true
		if u.Replaces {
			s.replaced++
		}
		if u.Write {
			s.writes++
			s.written += u.Size
			if u.Size <= small {
				s.smallWrites++
			}
		}
	}
	return s
}
