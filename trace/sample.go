package trace

import (
	"cmp"
	"fmt"
	"iter"
	"math/bits"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/akidb/akigw"
)

// Sample collects accesses for replays in bounded memory: about 300 bytes for each use of a block, if
// no two are of the same one (BenchmarkObservation of package advise). It keeps either all accesses of an object or none, by the hash of the object's name. Whenever
// it is full, it halves the share of the objects that it keeps (Waldspurger et al., FAST 2015: SHARDS).
// It must not be used concurrently.
type Sample struct {
	trace       Trace
	most        int // steps that are kept; 0: no limit
	halved      int // an object is kept if so many leading bits of its hash are zero
	current     map[uint64]version
	seen        map[uint64]bool // blocks used so far
	numbers     map[string]int  // of buckets, in trace.buckets
	first, last int64           // times of the first and last access
}

// version is a version of an object.
type version struct {
	id, etag    string
	size, block int64
}

// mostBuckets bounds the number of buckets that are told apart; the others share the name "".
const mostBuckets = 10_000

// NewSample returns an empty sample that keeps about mostBlocks uses of blocks at the most, or all if
// that is 0.
func NewSample(mostBlocks int) *Sample {
	return &Sample{most: mostBlocks, current: map[uint64]version{}, seen: map[uint64]bool{}, numbers: map[string]int{}}
}

// Add adds an access; accesses come in the order of their times.
func (s *Sample) Add(a *Access) {
	t := &s.trace
	s.first, s.last = cmp.Or(s.first, a.At), max(s.last, a.At)
	n := s.bucket(a.Bucket)
	if !a.Write {
		t.Recorded.count(a.Outcome, a.Length)
		t.buckets[n].recorded.count(a.Outcome, a.Length)
	}
	id := cmp.Or(a.ID, a.Bucket+"/"+a.Key)
	object := xxhash.Sum64String(id)
	if bits.LeadingZeros64(object) < s.halved {
		return
	}
	s.keep(a, id, object, n)
	for s.most > 0 && len(t.steps) > s.most && s.halved < 32 {
		s.halve()
	}
}

// bucket returns the number of a bucket.
func (s *Sample) bucket(name string) int {
	if len(s.numbers) >= mostBuckets {
		if n, ok := s.numbers[name]; ok {
			return n
		}
		name = ""
	}
	n, ok := s.numbers[name]
	if !ok {
		n = len(s.trace.buckets)
		s.numbers[name] = n
		s.trace.buckets = append(s.trace.buckets, bucket{name: name})
	}
	return n
}

// keep adds the steps of an access.
func (s *Sample) keep(a *Access, id string, object uint64, bucket int) {
	t := &s.trace
	kept := access{step: len(t.steps), bucket: bucket, object: object, at: a.At, length: a.Length, size: a.Size, outcome: a.Outcome, write: a.Write}
	if before, ok := s.current[object]; ok && before.etag != a.Version {
		kept.replaces = true
		s.replaced(before)
	}
	s.current[object] = version{id, a.Version, a.Size, a.Block}
	local := !a.Write && a.Outcome != akigw.Cold
	for n := a.Start / a.Block; n == a.Start/a.Block || n*a.Block < a.Start+a.Length; n++ { // an empty object has one block
		u := step{block: blockID(id, a.Version, n), bytes: min(a.Block, a.Size-n*a.Block), noMemory: a.NoMemory, noDisk: a.NoDisk}
		if !s.seen[u.block] {
			s.seen[u.block] = true
			t.Bytes += u.bytes
			kept.carried = kept.carried || local
		}
		t.steps = append(t.steps, u)
	}
	t.accesses = append(t.accesses, kept)
}

// replaced adds the end of the used blocks of a version.
func (s *Sample) replaced(v version) {
	for n := range (v.size + v.block - 1) / v.block {
		if block := blockID(v.id, v.etag, n); s.seen[block] {
			s.trace.steps = append(s.trace.steps, step{block: block, replaced: true})
		}
	}
}

// blockID returns a number for a block of a version of an object.
func blockID(id, version string, n int64) uint64 {
	d := xxhash.New()
	fmt.Fprintf(d, "%s\x00%s\x00%d", id, version, n) // a hash never fails
	return d.Sum64()
}

// halve drops the accesses of half of the objects.
func (s *Sample) halve() {
	s.halved++
	t := &s.trace
	steps, accesses := t.steps, t.accesses
	t.steps, t.accesses, t.Bytes = nil, nil, 0
	clear(s.seen)
	for i, a := range accesses {
		if bits.LeadingZeros64(a.object) < s.halved {
			delete(s.current, a.object)
			continue
		}
		end := len(steps)
		if i+1 < len(accesses) {
			end = accesses[i+1].step
		}
		own := steps[a.step:end]
		a.step = len(t.steps)
		t.steps, t.accesses = append(t.steps, own...), append(t.accesses, a)
		for _, u := range own {
			if !u.replaced && !s.seen[u.block] {
				s.seen[u.block] = true
				t.Bytes += u.bytes
			}
		}
	}
}

// Trace returns what was collected, of which lost accesses are missing. Nothing may be added
// afterwards.
func (s *Sample) Trace(lost int64) *Trace {
	t := s.trace
	t.Lost, t.Took = lost, time.Duration(s.last-s.first)*time.Millisecond
	t.Rate = 1 / float64(int64(1)<<s.halved)
	t.Objects, t.Bytes = len(s.current)<<s.halved, t.Bytes<<s.halved
	return &t
}

// Use is an access of a Trace.
type Use struct {
	At     int64 // milliseconds since 1970
	Bucket string
	Object uint64 // hash of the object's bucket and key
	Size   int64  // bytes of the object
	Length int64  // bytes read
	Write  bool
	// Replaces means that the object had another version at its access before.
	Replaces bool
}

// Uses iterates over the accesses that were kept, in their order. If Rate is below 1, each stands for
// 1/Rate accesses.
func (t *Trace) Uses() iter.Seq[Use] {
	return func(yield func(Use) bool) {
		for _, a := range t.accesses {
			if !yield(Use{a.at, t.buckets[a.bucket].name, a.object, a.size, a.length, a.write, a.replaces}) {
				return
			}
		}
	}
}

// Kept returns how many accesses Uses yields.
func (t *Trace) Kept() int { return len(t.accesses) }

// Buckets returns the results at the time of recording by bucket. The caller owns the map.
func (t *Trace) Buckets() map[string]Result {
	all := make(map[string]Result, len(t.buckets))
	for _, b := range t.buckets {
		all[b.name] = b.recorded
	}
	return all
}
