package trace

import "container/list"

// lru keeps the most recently used blocks.
type lru struct {
	steps      []step
	used, most int64
	order      *list.List // of step numbers, the most recent use first
	at         map[uint64]*list.Element
}

func newLRU(steps []step, bytes int64) level {
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
