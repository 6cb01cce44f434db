package search

import (
	"bytes"
	"cmp"
	"math"
	"sort"
)

// Candidate is a row that a search has found.
type Candidate struct {
	Distance float32
	Part     int // as the caller numbers the parts
	Row      uint32
}

// Top collects the k nearest candidates of one query over any number of parts. Candidates rank by
// distance, then by key in the order of bytes, then by part and row. It is for one goroutine.
type Top struct {
	k     int
	key   func(part int, row uint32) []byte
	bound float32
	found []Candidate // in order

	touched float32 // see touch
}

// NewTop returns a Top for k candidates, at least 1. It calls key only to rank candidates of equal
// distance. Each call of key for a row returns the same bytes; they must stay valid until the call after
// the next.
func NewTop(k int, key func(part int, row uint32) []byte) *Top {
	k = max(k, 1)
	return &Top{k: k, key: key, bound: float32(math.Inf(1)), found: make([]Candidate, 0, min(k, 1024))}
}

// Bound returns the distance of the k-th candidate: a row that is farther away cannot get in, one at the
// same distance may. It is +Inf while there are fewer than k.
func (t *Top) Bound() float32 { return t.bound }

// Offer adds a candidate if it is among the k nearest so far. A row must be offered once only. A distance
// that is NaN is ignored.
func (t *Top) Offer(distance float32, part int, row uint32) {
	if !(distance <= t.bound) {
		return
	}
	c := Candidate{Distance: distance, Part: part, Row: row}
	at := sort.Search(len(t.found), func(i int) bool { return t.before(c, t.found[i]) })
	if at == t.k {
		return
	}
	if len(t.found) < t.k {
		t.found = append(t.found, Candidate{})
	}
	copy(t.found[at+1:], t.found[at:])
	t.found[at] = c
	if len(t.found) == t.k {
		t.bound = t.found[t.k-1].Distance
	}
}

// Results returns the candidates, nearest first. The slice is valid until the next Offer.
func (t *Top) Results() []Candidate { return t.found }

func (t *Top) before(a, b Candidate) bool {
	if a.Distance != b.Distance {
		return a.Distance < b.Distance
	}
	if a.Part == b.Part && a.Row == b.Row {
		return false
	}
	return cmp.Or(bytes.Compare(t.key(a.Part, a.Row), t.key(b.Part, b.Row)), cmp.Compare(a.Part, b.Part), cmp.Compare(a.Row, b.Row)) < 0
}

// touch loads the cache lines of a row. The processor waits for a batch of lines at the same time if it
// meets their loads one right after the other; the distance of the first row alone fills its queue. The
// sum only keeps the compiler from dropping the loads.
func (t *Top) touch(row []float32) {
	sum := t.touched
	for i := 0; i < len(row); i += 16 {
		sum += row[i]
	}
	t.touched = sum
}
