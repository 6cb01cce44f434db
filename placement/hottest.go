package placement

import (
	"cmp"
	"container/heap"
	"slices"

	"github.com/akidb/akigw"
)

// mostHottest bounds how many objects are fetched again after a restore.
const mostHottest = 100_000

// heated is an object with its usage before a restore.
type heated struct {
	key    akigw.Key
	size   int64
	etag   string
	hot    bool // it was in memory
	recent uint32
	total  uint64
	last   int64
}

// hotter orders objects by their usage.
func hotter(a, b heated) int {
	weight := func(hot bool) int {
		if hot {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(weight(b.hot), weight(a.hot)), cmp.Compare(b.recent, a.recent), cmp.Compare(b.total, a.total), cmp.Compare(b.last, a.last))
}

// hottest collects the hottest of many objects in constant memory. It is a heap with the coolest on
// top.
type hottest []heated

// Len implements heap.Interface.
func (h *hottest) Len() int { return len(*h) }

// Less implements heap.Interface.
func (h *hottest) Less(i, j int) bool { return hotter((*h)[i], (*h)[j]) > 0 }

// Swap implements heap.Interface.
func (h *hottest) Swap(i, j int) { (*h)[i], (*h)[j] = (*h)[j], (*h)[i] }

// Push implements heap.Interface.
func (h *hottest) Push(x any) { *h = append(*h, x.(heated)) }

// Pop implements heap.Interface.
func (h *hottest) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// offer adds an object that was cached before the restore, if it is among the hottest.
func (h *hottest) offer(c *akigw.CatalogEntry) {
	if c.HotBytes+c.WarmBytes == 0 {
		return
	}
	o := heated{c.Key, c.Size, c.ETag, c.Tier == akigw.Hot, c.Recent, c.Accesses, c.LastAccess.Unix()}
	if len(*h) < mostHottest {
		heap.Push(h, o)
	} else if hotter(o, (*h)[0]) < 0 {
		(*h)[0] = o
		heap.Fix(h, 0)
	}
}

func (h *hottest) sorted() []heated {
	slices.SortFunc(*h, hotter)
	return *h
}
