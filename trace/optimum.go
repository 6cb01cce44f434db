package trace

import (
	"container/heap"
	"math"
	"slices"
)

// optimum is the best possible policy for blocks of one size (Belady): it knows the future, and
// evicts or does not admit the block that is needed last.
type optimum struct {
	steps      []step
	next       []int // the next step that needs the same block, math.MaxInt for none
	used, most int64
	held       map[uint64]int // by block: the next step that needs it
	far        farthest
}

func newOptimum(steps []step, bytes int64) level {
	o := &optimum{steps: steps, next: make([]int, len(steps)), most: bytes, held: map[uint64]int{}}
	last := map[uint64]int{}
	for i, s := range slices.Backward(steps) {
		o.next[i] = math.MaxInt
		if j, ok := last[s.block]; ok && !steps[j].replaced {
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

// need says at which step the block of a step is needed again.
type need struct{ step, again int }

// farthest is a heap with the latest need on top.
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
