package trace

import "github.com/akidb/akigw/internal/queue"

// block is a block that a simulated tier holds or remembers.
type block struct {
	id   uint64
	uses int // what it counts is up to the policy
}

// blocks are the blocks of a simulated tier by their ids.
type blocks map[uint64]*queue.Node[block]

// add adds a block as the newest of a queue. A block of the same id leaves its queue.
func (b blocks) add(s step, to *queue.Queue[block]) {
	b.drop(s.block)
	n := &queue.Node[block]{Value: block{id: s.block}, Bytes: s.bytes + overhead}
	to.Push(n)
	b[s.block] = n
}

// drop removes a block, if it is there.
func (b blocks) drop(id uint64) {
	if n, ok := b[id]; ok {
		n.Leave()
		delete(b, id)
	}
}
