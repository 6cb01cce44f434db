package hot

import (
	"sync/atomic"

	"github.com/akidb/akigw/internal/queue"
)

// item is a value and what the policy knows of it.
type item[K comparable, V any] struct {
	key   K
	value V
	id    uint64      // by which it is recognised after the cache has lost it
	used  atomic.Bool // since it last came to the end of a queue
}

// node is an item of a queue.
type node[K comparable, V any] = queue.Node[item[K, V]]

// policy decides what is admitted and what is evicted: S3-FIFO whose small queue adapts. Values
// begin in the small queue. Those that are used there move on to the main queue, where a used value
// gets another turn. Both queues leave ghosts, and a value that has one begins in the main queue.
//
// A hit sets a flag and changes nothing else, so it needs no lock. Requests of ghosts adapt the
// size of the small queue, as in ARC: one of a value that the small queue lost makes it larger, one
// of a value that the main queue lost makes it smaller. While it is smaller than its floor, values
// are admitted on their second request only, so what is read once is not stored at all. While it is
// large, the cache follows a working set that moves as LRU does.
type policy[K comparable, V any] struct {
	most        int64 // bytes of all values
	target      int64 // bytes of the small queue
	small, main queue.Queue[item[K, V]]
	ghosts      ghosts
	evicted     func(*node[K, V])
}

// The constants were chosen on the traces of docs/performance.md. Their neighbours (3 and 12, or 6 and
// 24, for grow and shrink; half of the cache for the small queue at first) are as good.
const (
	// grow and shrink are by how many times the size of a value a request of its ghost makes the
	// small queue larger or smaller. A value that left the main queue was requested twice before.
	grow   = 4
	shrink = 16
	// floor is the inverse of the share that the small queue always has for values that are kept.
	floor = 32
	// mostSpared is how many used values the main queue gives another turn before it evicts one all
	// the same. It bounds the time of an eviction.
	mostSpared = 1000
)

// newPolicy returns a policy for a number of bytes. It reports each value that it evicts.
func newPolicy[K comparable, V any](most int64, evicted func(*node[K, V])) policy[K, V] {
	return policy[K, V]{most: most, target: most / 4, ghosts: newGhosts(most), evicted: evicted}
}

func (p *policy[K, V]) bytes() int64 { return p.small.Bytes() + p.main.Bytes() }

func (p *policy[K, V]) len() int { return p.small.Len() + p.main.Len() }

// bulk is both the age, in bytes, at which ghosts are forgotten and the largest size of the small
// queue.
func (p *policy[K, V]) bulk() int64 { return p.most / 4 * 3 }

// add admits a new value, or returns false. With wanted it admits all that fits.
func (p *policy[K, V]) add(n *node[K, V], wanted bool) bool {
	if n.Bytes > p.most {
		return false
	}
	from, known := p.ghosts.take(n.Value.id, p.bulk())
	if known {
		p.adapt(from, n.Bytes)
	}
	if !known && !wanted && p.target < p.most/floor && p.bytes()+n.Bytes > p.most {
		p.ghosts.add(n.Value.id, fromSmall, n.Bytes)
		return false
	}
	p.evict(n.Bytes)
	if known {
		p.main.Push(n)
	} else {
		p.small.Push(n)
	}
	p.ghosts.holds(p.len())
	return true
}

// adapt changes the size of the small queue when a value that the cache lost is requested.
func (p *policy[K, V]) adapt(from origin, bytes int64) {
	switch from {
	case fromSmall:
		p.target = min(p.target+grow*bytes, p.bulk())
	case fromMain:
		p.target = max(p.target-shrink*bytes, 0)
	}
}

// replace makes a new value of the same key the newest of the queue of the old one. This is no use:
// it may be a write. It returns false if the new value does not fit: then there is neither.
func (p *policy[K, V]) replace(old, n *node[K, V]) bool {
	in := old.In()
	old.Leave()
	if n.Bytes > p.most {
		return false
	}
	p.evict(n.Bytes)
	n.Value.used.Store(old.Value.used.Load())
	in.Push(n)
	return true
}

// remove removes a value that is not evicted. If it or its successor is offered again, it is
// admitted, and its ghost adapts nothing.
func (p *policy[K, V]) remove(n *node[K, V]) {
	n.Leave()
	p.ghosts.add(n.Value.id, dropped, n.Bytes)
}

// resize changes the bound.
func (p *policy[K, V]) resize(most int64) {
	p.most = most
	p.target = min(p.target, p.bulk())
	p.evict(0)
}

// evict evicts values until there is space for a number of bytes.
func (p *policy[K, V]) evict(bytes int64) {
	for spared := 0; p.bytes()+bytes > p.most; {
		n, to := p.main.Oldest(), fromMain
		if n == nil || p.small.Oldest() != nil && p.small.Bytes() >= max(p.target, p.most/floor) {
			n, to = p.small.Oldest(), fromSmall
		}
		if n.Value.used.Swap(false) && spared < mostSpared {
			p.main.Push(n)
			spared++
			continue
		}
		n.Leave()
		p.ghosts.add(n.Value.id, to, n.Bytes)
		p.evicted(n)
		spared = 0
	}
}
