package trace

import "github.com/akidb/akigw/internal/queue"

// lru keeps the most recently used blocks.
type lru struct {
	blocks
	steps []step
	most  int64              // bytes
	order queue.Queue[block] // the most recent use is the newest
}

func newLRU(steps []step, bytes int64) level {
	return &lru{blocks: blocks{}, steps: steps, most: bytes}
}

func (l *lru) see(n int) bool {
	s := l.steps[n]
	if b, ok := l.blocks[s.block]; ok {
		l.order.Push(b)
		return true
	}
	if s.bytes+overhead <= l.most {
		l.add(s, &l.order)
	}
	for l.order.Bytes() > l.most {
		l.drop(l.order.Oldest().Value.id)
	}
	return false
}
