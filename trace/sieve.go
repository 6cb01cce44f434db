package trace

import "github.com/akidb/akigw/internal/queue"

// sieve keeps blocks in the order of their arrival. A hand moves over them from the oldest to the
// newest, spares those that were used since it last passed, and evicts the first one that was not
// (Zhang et al., NSDI 2024).
type sieve struct {
	blocks
	steps []step
	most  int64 // bytes
	order queue.Queue[block]
	hand  *queue.Node[block] // where the next eviction starts; nil for the oldest block
}

func newSieve(steps []step, bytes int64) level {
	return &sieve{blocks: blocks{}, steps: steps, most: bytes}
}

func (s *sieve) see(n int) bool {
	step := s.steps[n]
	if b, ok := s.blocks[step.block]; ok {
		b.Value.uses = 1
		return true
	}
	bytes := step.bytes + overhead
	if bytes > s.most {
		return false
	}
	for s.order.Bytes()+bytes > s.most {
		s.evict()
	}
	s.add(step, &s.order)
	return false
}

// evict evicts one block. There must be one.
func (s *sieve) evict() {
	for {
		if s.hand == nil {
			s.hand = s.order.Oldest()
		}
		b := s.hand
		if b.Value.uses == 0 {
			s.drop(b.Value.id)
			return
		}
		b.Value.uses = 0
		s.hand = b.Newer()
	}
}

func (s *sieve) drop(id uint64) {
	if s.hand != nil && s.hand == s.blocks[id] {
		s.hand = s.hand.Newer()
	}
	s.blocks.drop(id)
}
