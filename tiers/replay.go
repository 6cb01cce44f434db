package tiers

import (
	"bufio"
	"cmp"
	"container/heap"
	"container/list"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/hot"
)

// Replay is a trace that can be played against tiers of other sizes than those it was
// recorded with: keys and sizes only, no bytes are moved.
type Replay struct {
	// Recorded is how the accesses ended when they were recorded.
	Recorded Played
	// Objects and Bytes are how many objects were asked for, and all that was asked for of
	// them, once each: tiers of that size would never ask twice.
	Objects int
	Bytes   int64
	// Took is the time from the first access to the last, Lost how many are missing.
	Took time.Duration
	Lost int64

	steps    []blockUse
	accesses []access
}

// access is what is needed of an access: its first step, and how much was asked for.
type access struct {
	step   int
	length int64
	write  bool
}

// blockUse is the use of one block of one version of an object.
type blockUse struct {
	block            uint64 // hash of all of that
	bytes            int64
	gone             bool // it is of a version that is replaced
	noMemory, noDisk bool
}

// Played is how the reads of a trace end.
type Played struct {
	Reads int `json:"reads"`
	// Hot, Warm and Cold are reads by the slowest tier that they need.
	Hot  int `json:"hot"`
	Warm int `json:"warm"`
	Cold int `json:"cold"`
	// UpstreamBytes and UpstreamReads are what is fetched from the upstream, and by how many
	// requests of one range each. A recorded trace does not know them.
	UpstreamBytes int64 `json:"upstream_bytes"`
	UpstreamReads int   `json:"upstream_reads"`
	// Bytes is what the clients asked for.
	Bytes int64 `json:"bytes"`
}

// TraceHeader is the first line of a trace. Another one, with the number of accesses that are
// missing so far in Lost, comes now and then, and last: else the trace is not whole.
type TraceHeader struct {
	Version int    `json:"akigw_trace"` // 1
	Lost    *int64 `json:"lost,omitempty"`
}

// TraceVersion is the version of the format.
const TraceVersion = 1

// ReadTrace reads a trace, lines of JSON.
func ReadTrace(from io.Reader) (*Replay, error) {
	type object struct {
		version     string
		size, block int64
	}
	p := &Replay{}
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 64<<10)
	held := map[string]object{}
	seen := map[uint64]bool{}
	var begun, ended int64
	whole := false
	for n := 1; lines.Scan(); n++ {
		var line struct {
			TraceHeader
			Access
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("line %d of the trace: %w", n, err)
		}
		switch v := line.TraceHeader.Version; {
		case n == 1 && v == 0:
			return nil, errors.New("this is no trace of akigw")
		case v != 0 && v != TraceVersion:
			return nil, fmt.Errorf("the trace has format %d, and this program reads %d", v, TraceVersion)
		case line.Lost != nil:
			p.Lost, whole = *line.Lost, true
			continue
		case v != 0:
			continue
		}
		whole = false
		a := line.Access
		if a.Block <= 0 || a.Size < 0 || a.Start < 0 || a.Length < 0 || a.Start > a.Size || a.Length > a.Size-a.Start {
			return nil, fmt.Errorf("line %d of the trace: bytes %d to %d of an object of %d, blocks of %d", n, a.Start, a.Start+a.Length, a.Size, a.Block)
		}
		begun, ended = cmp.Or(begun, a.At), max(ended, a.At)
		id := cmp.Or(a.ID, a.Bucket+"/"+a.Key)
		if old, ok := held[id]; ok && old.version != a.Version {
			for n := range blocks(old.size, old.block) {
				if block := blockID(id, old.version, n); seen[block] {
					p.steps = append(p.steps, blockUse{block: block, gone: true})
				}
			}
		} else if !ok {
			p.Objects++
		}
		held[id] = object{a.Version, a.Size, a.Block}
		p.accesses = append(p.accesses, access{len(p.steps), a.Length, a.Write})
		if !a.Write {
			p.Recorded.count(a.Outcome, a.Length)
		}
		for n := a.Start / a.Block; n == a.Start/a.Block || n*a.Block < a.Start+a.Length; n++ { // an empty object has one
			s := blockUse{block: blockID(id, a.Version, n), bytes: min(a.Block, a.Size-n*a.Block), noMemory: a.NoMemory, noDisk: a.NoDisk}
			if !seen[s.block] {
				seen[s.block] = true
				p.Bytes += s.bytes
			}
			p.steps = append(p.steps, s)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("the trace: %w", err)
	}
	if !whole {
		return nil, errors.New("the trace is cut off: its last line is missing")
	}
	p.Took = time.Duration(ended-begun) * time.Millisecond
	return p, nil
}

// blocks is how many blocks an object has.
func blocks(size, block int64) int64 { return (size + block - 1) / block }

// blockID is a number for a block of a version of an object.
func blockID(id, version string, n int64) uint64 {
	d := xxhash.New()
	fmt.Fprintf(d, "%s\x00%s\x00%d", id, version, n) // never fails
	return d.Sum64()
}

// count counts a read.
func (p *Played) count(outcome akigw.Outcome, bytes int64) {
	p.Reads++
	p.Bytes += bytes
	switch outcome {
	case akigw.Hot:
		p.Hot++
	case akigw.Warm, akigw.Stale: // of one tier or the other
		p.Warm++
	default:
		p.Cold++
	}
}

// level is a tier that is simulated.
type level interface {
	// see asks for the block of step n, and offers it if it is not there.
	see(n int) (hit bool)
	drop(block uint64)
	close()
}

// ReplayPolicies are what decides who stays in a tier, by name: what the tiers of this program
// do, what a simple cache does, and what nobody can do better who does not know the future.
var ReplayPolicies = []string{"akigw", "lru", "optimum"}

// Play says how the reads would have ended with tiers of so many bytes, empty at the beginning.
// Of the reads in the first share of them, 0 to 1, nothing is counted.
func (p *Replay) Play(policy string, hotBytes, warmBytes int64, share float64) (Played, error) {
	var memory, disk level
	switch policy {
	case "akigw":
		memory, disk = newWeighted(p.steps, hotBytes), newWeighted(p.steps, warmBytes)
	case "lru":
		memory, disk = newLRU(p.steps, hotBytes), newLRU(p.steps, warmBytes)
	case "optimum":
		// What is in memory is not needed on disk as well.
		memory, disk = newOptimum(p.steps, hotBytes), newOptimum(p.steps, hotBytes+warmBytes)
	default:
		return Played{}, fmt.Errorf("there is no policy %q; there are %v", policy, ReplayPolicies)
	}
	defer memory.close()
	defer disk.close()
	var result Played
	skip := int(share * float64(len(p.accesses)))
	for i, a := range p.accesses {
		end := len(p.steps)
		if i+1 < len(p.accesses) {
			end = p.accesses[i+1].step
		}
		outcome, fetching := akigw.Hot, false
		var fetched int64
		requests := 0
		for n := a.step; n < end; n++ {
			s := p.steps[n]
			if s.gone { // before the next access
				memory.drop(s.block)
				disk.drop(s.block)
				continue
			}
			inMemory := !s.noMemory && memory.see(n)
			// The disk does not notice a read from memory; who knows the future notices all.
			onDisk := (!inMemory || policy == "optimum") && !s.noDisk && disk.see(n)
			switch {
			case inMemory:
			case onDisk && outcome == akigw.Hot:
				outcome = akigw.Warm
			case !onDisk:
				outcome = akigw.Cold
				fetched += s.bytes
				if !fetching {
					requests++
				}
			}
			fetching = !inMemory && !onDisk
		}
		if !a.write && i >= skip {
			result.count(outcome, a.length)
			result.UpstreamBytes += fetched
			result.UpstreamReads += requests
		}
	}
	return result, nil
}

// overhead is what a block takes besides its bytes, as in the tiers.
const overhead = 512

// weighted is the memory tier without the bytes. The disk's goes by other means to the same
// end, and hits about as often.
type weighted struct {
	*hot.Cache[uint64, uint32]
	steps []blockUse
}

func newWeighted(steps []blockUse, bytes int64) level {
	return weighted{hot.New(bytes, func(_ uint64, bytes uint32) uint32 { return bytes }, func(id uint64, _ uint32) uint64 { return id }), steps}
}

func (w weighted) see(n int) bool {
	s := w.steps[n]
	_, hit := w.Get(s.block)
	if !hit {
		w.Put(s.block, uint32(min(s.bytes+overhead, math.MaxUint32)))
	}
	return hit
}

func (w weighted) drop(block uint64) { w.Drop(block) }
func (w weighted) close()            { _ = w.Close() } // of memory

// lru keeps what was used last.
type lru struct {
	steps      []blockUse
	used, most int64
	order      *list.List // of numbers of steps, the last use first
	at         map[uint64]*list.Element
}

func newLRU(steps []blockUse, bytes int64) level {
	return &lru{steps: steps, most: bytes, order: list.New(), at: map[uint64]*list.Element{}}
}

func (l *lru) see(n int) bool {
	s := l.steps[n]
	if e, ok := l.at[s.block]; ok {
		l.order.MoveToFront(e)
		return true
	}
	if s.bytes+overhead > l.most {
		return false
	}
	l.at[s.block] = l.order.PushFront(n)
	for l.used += s.bytes + overhead; l.used > l.most; {
		l.drop(l.steps[l.order.Back().Value.(int)].block)
	}
	return false
}

func (l *lru) drop(block uint64) {
	if e, ok := l.at[block]; ok {
		l.used -= l.steps[l.order.Remove(e).(int)].bytes + overhead
		delete(l.at, block)
	}
}

func (l *lru) close() {}

// optimum is what nobody can do better than with blocks of one size: who knows the future
// drops, or does not even take, what is needed last (Belady).
type optimum struct {
	steps      []blockUse
	next       []int // when the block of a step is needed again
	used, most int64
	held       map[uint64]int // and when they are needed next
	far        farthest
}

func newOptimum(steps []blockUse, bytes int64) level {
	o := &optimum{steps: steps, next: make([]int, len(steps)), most: bytes, held: map[uint64]int{}}
	last := map[uint64]int{}
	for i, s := range slices.Backward(steps) {
		o.next[i] = math.MaxInt
		if j, ok := last[s.block]; ok && !steps[j].gone {
			o.next[i] = j
		}
		last[s.block] = i
	}
	return o
}

func (o *optimum) see(n int) bool {
	s := o.steps[n]
	_, hit := o.held[s.block]
	if o.next[n] == math.MaxInt {
		o.drop(s.block)
		return hit
	}
	if !hit {
		o.used += s.bytes + overhead
	}
	o.held[s.block] = o.next[n]
	heap.Push(&o.far, need{n, o.next[n]})
	for o.used > o.most {
		worst := heap.Pop(&o.far).(need)
		if block := o.steps[worst.step].block; o.held[block] == worst.again {
			o.drop(block)
		}
	}
	return hit
}

func (o *optimum) drop(block uint64) {
	if again, ok := o.held[block]; ok {
		o.used -= o.steps[again].bytes + overhead
		delete(o.held, block)
	}
}

func (o *optimum) close() {}

// need is when the block of a step is needed again.
type need struct{ step, again int }

// farthest is a heap with the farthest need on top.
type farthest []need

func (f farthest) Len() int           { return len(f) }
func (f farthest) Less(i, j int) bool { return f[i].again > f[j].again }
func (f farthest) Swap(i, j int)      { f[i], f[j] = f[j], f[i] }

// Push implements heap.Interface.
func (f *farthest) Push(x any) { *f = append(*f, x.(need)) }

// Pop implements heap.Interface.
func (f *farthest) Pop() any {
	n := (*f)[len(*f)-1]
	*f = (*f)[:len(*f)-1]
	return n
}
