package store

import (
	"context"
	"sync"

	"github.com/akidb/akigw"
)

// errEnded is the error of promotions after the store has ended.
const errEnded = akigw.Error("the vector collections are closed: the gateway is being stopped")

// promotions are the promotions of cold collections under way: one for all reads that wait for it. They
// outlive the reads, and end with the store.
type promotions struct {
	mu      sync.Mutex
	ended   bool
	current map[*collection]*promotion
	tasks   sync.WaitGroup
}

// promotion is one of them. err is valid once done is closed.
type promotion struct {
	done   chan struct{}
	cancel context.CancelCauseFunc
	err    error
}

// join returns the promotion of a collection that is under way, or starts one. ctx gives it values, but
// does not end it.
func (p *promotions) join(ctx context.Context, c *collection, promote func(context.Context) error) *promotion {
	p.mu.Lock()
	defer p.mu.Unlock()
	if running := p.current[c]; running != nil {
		return running
	}
	if p.current == nil {
		p.current = map[*collection]*promotion{}
	}
	started := &promotion{done: make(chan struct{})}
	if p.ended {
		started.err = errEnded
		close(started.done)
		return started
	}
	ctx, started.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	p.current[c] = started
	p.tasks.Go(func() {
		within, cancel := context.WithTimeout(ctx, moveTimeout)
		defer cancel()
		started.err = promote(within)
		started.cancel(nil)
		p.mu.Lock()
		delete(p.current, c)
		p.mu.Unlock()
		close(started.done)
	})
	return started
}

// end ends all promotions, and returns when none runs any more. No new ones begin.
func (p *promotions) end() {
	p.mu.Lock()
	p.ended = true
	for _, running := range p.current {
		running.cancel(errEnded)
	}
	p.mu.Unlock()
	p.tasks.Wait()
}
