// Package queue is a list of values that knows its total size in bytes, as policies of caches need
// it. Any node can leave or change its queue in constant time.
//
// It has no lock: the caller's lock guards all queues that nodes move between.
package queue

// Queue is a list of nodes from the oldest to the newest. The zero value is empty.
type Queue[T any] struct {
	oldest, newest *Node[T]
	length         int
	bytes          int64
}

// Node is a value of a queue. The zero value is in no queue.
type Node[T any] struct {
	Value        T
	Bytes        int64 // size of the value; must not change while the node is in a queue
	in           *Queue[T]
	older, newer *Node[T] // nil at the ends
}

// Len is the number of nodes.
func (q *Queue[T]) Len() int { return q.length }

// Bytes is the size of all values.
func (q *Queue[T]) Bytes() int64 { return q.bytes }

// Oldest returns the oldest node, nil if there is none.
func (q *Queue[T]) Oldest() *Node[T] { return q.oldest }

// Push makes a node the newest of the queue. If it is in a queue, it leaves that one.
func (q *Queue[T]) Push(n *Node[T]) {
	n.Leave()
	n.in, n.older = q, q.newest
	if q.newest != nil {
		q.newest.newer = n
	} else {
		q.oldest = n
	}
	q.newest = n
	q.length++
	q.bytes += n.Bytes
}

// In returns the queue that the node is in, nil for none.
func (n *Node[T]) In() *Queue[T] { return n.in }

// Newer returns the next newer node of its queue, nil for the newest one.
func (n *Node[T]) Newer() *Node[T] { return n.newer }

// Leave removes the node from its queue, if it is in one.
func (n *Node[T]) Leave() {
	if n.in == nil {
		return
	}
	if n.older != nil {
		n.older.newer = n.newer
	} else {
		n.in.oldest = n.newer
	}
	if n.newer != nil {
		n.newer.older = n.older
	} else {
		n.in.newest = n.older
	}
	n.in.length--
	n.in.bytes -= n.Bytes
	n.in, n.older, n.newer = nil, nil, nil
}
