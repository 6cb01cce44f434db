package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
)

// shelf is what the load knows of a vector collection: every vector that a search may find. Its clock
// counts the beginnings and acknowledgements of writes and the beginnings of searches.
type shelf struct {
	index string
	home  string // the tier in which the collection begins

	mu    sync.Mutex
	clock uint64
	rows  []row          // by the number of the key
	open  map[uint64]int // searches under way by their beginning

	tier    string // where it was last known to be
	moved   uint64 // counts the changes of tier
	moving  bool   // a request of this load moves, pins or unpins it
	pinned  bool
	started int // rows that were stored before the load
}

// row is the history of a key, as far as searches may still see it. The last version is the newest.
type row struct {
	versions []stored
	writing  bool // a write is under way: the outcome of concurrent ones would be undefined
}

// stored is a version of a vector. It does not change but for acked.
type stored struct {
	data  []float32
	norm  float64
	acked uint64 // when the write was acknowledged; 0 if it has not been, so that it may be visible or not
}

func newShelf(index, home string) *shelf {
	return &shelf{index: index, home: home, open: map[uint64]int{}}
}

func vectorKey(n int) string { return fmt.Sprintf("v%07d", n) }

// randomVector returns a vector that is never zero in practice: its components are uniform.
func randomVector(random *rand.Rand, dimension int) []float32 {
	v := make([]float32, dimension)
	for i := range v {
		v[i] = 2*random.Float32() - 1
	}
	return v
}

func newStored(data []float32) stored {
	return stored{data: data, norm: math.Sqrt(product(data, data))}
}

func product(a, b []float32) (sum float64) {
	b = b[:len(a)]
	for i, x := range a {
		sum += float64(x) * float64(b[i])
	}
	return sum
}

// write begins a write of a key: an update of number n, or a new key if n is negative or is being
// written. The returned function ends it.
func (s *shelf) write(n int, data []float32) (key string, update bool, end func(acknowledged bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if update = n >= 0 && !s.rows[n].writing; !update {
		n = len(s.rows)
		s.rows = append(s.rows, row{})
	}
	s.clock++
	r := &s.rows[n]
	r.writing = true
	r.prune(s.oldest())
	r.versions = append(r.versions, newStored(data))
	return vectorKey(n), update, func(acknowledged bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.clock++
		r := &s.rows[n] // it may have moved
		if r.writing = false; acknowledged {
			r.versions[len(r.versions)-1].acked = s.clock
		}
	}
}

// oldest returns when the first of the searches under way began.
func (s *shelf) oldest() uint64 {
	first := s.clock
	for began := range s.open {
		first = min(first, began)
	}
	return first
}

// visible returns the versions that a search which began at a time may see, and whether it may see
// none of them.
func (r *row) visible(began uint64) (versions []stored, absent bool) {
	for i := len(r.versions) - 1; i >= 0; i-- {
		if acked := r.versions[i].acked; acked > 0 && acked <= began {
			return r.versions[i:], false
		}
	}
	return r.versions, true
}

// prune forgets the versions that no search sees which began at a time or later. Searches that have
// copied the history keep it.
func (r *row) prune(began uint64) {
	versions, _ := r.visible(began)
	r.versions = slices.Clone(versions)
}

// search begins a search. The returned function ends it, and returns what it may have seen.
func (s *shelf) search() (end func() view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	began := s.clock
	s.open[began]++
	return func() view {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, began)
		seen := make(view, len(s.rows))
		for n := range s.rows {
			seen[n].versions, seen[n].absent = s.rows[n].visible(began)
			if len(seen[n].versions) > 1 || seen[n].absent { // acked of these may change
				seen[n].versions = slices.Clone(seen[n].versions)
			}
		}
		return seen
	}
}

// view has the versions of each key that a search may have seen, by the number of the key.
type view []struct {
	versions []stored
	absent   bool // it may have seen none
}

// tolerance is by how much a distance, which is a float32, may differ from the model's float64.
const tolerance = 1e-6

// verify compares a response with an exact search. Keys are independent of each other: the response is
// right if each key that it has was found in a state that the search may have seen, and each other key
// has such a state in which it is not nearer than the last that was found.
func (v view) verify(sought []float32, k int, hits []hit) error {
	found := make(map[string]float64, len(hits))
	bound, last := math.Inf(1), math.Inf(-1)
	for _, h := range hits {
		if h.Distance < last {
			return fmt.Errorf("%w: the distances of a search are not in order", errWrong)
		}
		found[h.Key], last = h.Distance, h.Distance
	}
	switch {
	case len(hits) > k || len(found) < len(hits):
		return fmt.Errorf("%w: a search for %d vectors has more, or a key twice", errWrong, k)
	case len(hits) == k:
		bound = last
	}
	norm, known := math.Sqrt(product(sought, sought)), 0
	for n := range v {
		distance, in := found[vectorKey(n)]
		possible := !in && v[n].absent
		for i := 0; i < len(v[n].versions) && !possible; i++ {
			exact := 1 - product(sought, v[n].versions[i].data)/norm/v[n].versions[i].norm
			possible = in && math.Abs(exact-distance) <= tolerance || !in && exact >= bound-tolerance
		}
		switch {
		case in && !possible:
			return fmt.Errorf("%w: a search found a vector that was not stored, or with a wrong distance", errWrong)
		case !possible:
			return fmt.Errorf("%w: a search did not find a vector that is nearer", errWrong)
		case in:
			known++
		}
	}
	if known < len(found) {
		return fmt.Errorf("%w: a search found a key that was not stored", errWrong)
	}
	return nil
}
