package trace

import "github.com/akidb/akigw/internal/queue"

// arc divides its space between blocks that were used once and blocks that were used again, each
// with the most recent use last. Both lists remember the ids of the blocks that they evicted. A
// request of a remembered block gives its list more of the space (Megiddo and Modha, FAST 2003; here
// with sizes in bytes).
type arc struct {
	blocks
	steps                 []step
	most                  int64 // bytes
	target                int64 // bytes of once
	once, again           queue.Queue[block]
	onceGhost, againGhost queue.Queue[block]
}

func newARC(steps []step, bytes int64) level {
	return &arc{blocks: blocks{}, steps: steps, most: bytes}
}

func (a *arc) see(n int) bool {
	step := a.steps[n]
	b := a.blocks[step.block]
	bytes := step.bytes + overhead
	switch {
	case bytes > a.most:
	case b == nil:
		a.forget(bytes)
		a.replace(bytes, false)
		a.add(step, &a.once)
	case b.In() == &a.once || b.In() == &a.again:
		a.again.Push(b)
		return true
	case b.In() == &a.onceGhost:
		a.target = min(a.target+weighed(bytes, &a.againGhost, &a.onceGhost), a.most)
		a.replace(bytes, false)
		a.add(step, &a.again)
	default:
		a.target = max(a.target-weighed(bytes, &a.onceGhost, &a.againGhost), 0)
		a.replace(bytes, true)
		a.add(step, &a.again)
	}
	return false
}

// weighed is by how much a request of a block in a ghost list changes the target: the more, the
// smaller that list is beside the other one.
func weighed(bytes int64, other, ghost *queue.Queue[block]) int64 {
	return max(bytes, int64(float64(bytes)*float64(other.Bytes())/float64(ghost.Bytes())))
}

// forget leaves room for the id of a new block: once and its ghost have ids for the size of the
// tier, all four lists for twice that.
func (a *arc) forget(bytes int64) {
	for a.once.Bytes()+a.onceGhost.Bytes()+bytes > a.most {
		oldest := a.onceGhost.Oldest()
		if oldest == nil {
			oldest = a.once.Oldest()
		}
		a.drop(oldest.Value.id)
	}
	for a.againGhost.Oldest() != nil && a.once.Bytes()+a.again.Bytes()+a.onceGhost.Bytes()+a.againGhost.Bytes()+bytes > 2*a.most {
		a.drop(a.againGhost.Oldest().Value.id)
	}
}

// replace evicts blocks until there is space for a number of bytes. again means that they are those
// of a block in againGhost.
func (a *arc) replace(bytes int64, again bool) {
	for a.once.Bytes()+a.again.Bytes()+bytes > a.most {
		once := a.once.Oldest()
		if once != nil && (a.once.Bytes() > a.target || again && a.once.Bytes() == a.target || a.again.Oldest() == nil) {
			a.onceGhost.Push(once)
		} else {
			a.againGhost.Push(a.again.Oldest())
		}
	}
}
