package trace

import "github.com/akidb/akigw/internal/queue"

// s3fifo admits blocks to a small queue. Those that are used twice there move on to the main queue.
// The others are evicted, and their ids are remembered in a ghost queue: if one of them is requested
// again, it is admitted to the main queue. The main queue gives its oldest block another turn for
// each use, up to three (Yang et al., SOSP 2023).
type s3fifo struct {
	blocks
	steps              []step
	most               int64 // bytes
	small, main, ghost queue.Queue[block]
}

const (
	smallShare = 10 // inverse of the small queue's share
	mostUses   = 3  // uses that are counted
	usedOften  = 2  // uses that move a block from the small queue to the main one
)

func newS3FIFO(steps []step, bytes int64) level {
	return &s3fifo{blocks: blocks{}, steps: steps, most: bytes}
}

func (s *s3fifo) see(n int) bool {
	step := s.steps[n]
	b := s.blocks[step.block]
	if b != nil && b.In() != &s.ghost {
		b.Value.uses = min(b.Value.uses+1, mostUses)
		return true
	}
	bytes := step.bytes + overhead
	if bytes > s.most {
		return false
	}
	to := &s.small
	if b != nil {
		to = &s.main
		s.drop(step.block)
	}
	for s.small.Bytes()+s.main.Bytes()+bytes > s.most {
		s.evict()
	}
	s.add(step, to)
	return false
}

// evict evicts a block, or moves one from the small queue to the main queue, or gives one in the
// main queue another turn.
func (s *s3fifo) evict() {
	small, main := s.small.Oldest(), s.main.Oldest()
	switch {
	case small != nil && (main == nil || s.small.Bytes() >= s.most/smallShare):
		s.evictSmall(small)
	case main.Value.uses > 0:
		main.Value.uses--
		s.main.Push(main)
	default:
		s.drop(main.Value.id)
	}
}

// evictSmall evicts a block of the small queue, or moves it to the main queue.
func (s *s3fifo) evictSmall(b *queue.Node[block]) {
	often := b.Value.uses >= usedOften
	b.Value.uses = 0
	if often {
		s.main.Push(b)
		return
	}
	s.ghost.Push(b)
	for s.ghost.Bytes() > s.most-s.most/smallShare {
		s.drop(s.ghost.Oldest().Value.id)
	}
}
