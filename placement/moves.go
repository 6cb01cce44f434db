package placement

import (
	"context"
	"sync"

	"github.com/akidb/akigw"
)

// ErrMoving: another move of some of the same objects is under way.
const ErrMoving = akigw.Error("another move of these objects is under way; nothing was done")

// moves are the moves under way: no object is in two of them. The zero value is ready to use.
type moves struct {
	mu  sync.Mutex
	all map[*moving]bool // guarded by mu
}

type moving struct {
	what akigw.Pattern
	done chan struct{} // closed at the end of a move of the worker, which is short; nil for other moves
}

// begin claims objects for an operator's move. It waits for a move of the worker, which claims one
// object for a moment; any other overlapping move leads to ErrMoving.
func (m *moves) begin(ctx context.Context, what akigw.Pattern) (end func(), err error) {
	mine := &moving{what: what}
	for {
		other := m.add(mine)
		switch {
		case other == nil:
			return func() { m.remove(mine) }, nil
		case other.done == nil:
			return nil, ErrMoving
		}
		select {
		case <-other.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// try claims one object for a move of the worker, which gives way to any other.
func (m *moves) try(key akigw.Key) (end func(), err error) {
	mine := &moving{what: akigw.Exactly(key), done: make(chan struct{})}
	if m.add(mine) != nil {
		return nil, ErrMoving
	}
	return func() { m.remove(mine) }, nil
}

// add adds a move, unless one under way has objects in common with it: then it returns that one.
func (m *moves) add(mine *moving) *moving {
	m.mu.Lock()
	defer m.mu.Unlock()
	for other := range m.all {
		if other.what.Holds(mine.what) || mine.what.Holds(other.what) {
			return other
		}
	}
	if m.all == nil {
		m.all = make(map[*moving]bool)
	}
	m.all[mine] = true
	return nil
}

func (m *moves) remove(mine *moving) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.all, mine)
	if mine.done != nil {
		close(mine.done)
	}
}
