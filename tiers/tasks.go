package tiers

import (
	"context"
	"sync"
)

// tasks runs the goroutines of a store that outlive the requests which started them.
type tasks struct {
	ctx    context.Context // ends when the store closes
	cancel context.CancelFunc
	work   sync.WaitGroup
}

func newTasks() *tasks {
	t := &tasks{}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// start runs f on a new goroutine. f must return soon after ctx ends.
func (t *tasks) start(f func()) { t.work.Go(f) }

// closing reports whether the store is closing, so that nothing new should be started.
func (t *tasks) closing() bool { return t.ctx.Err() != nil }

// stop ends ctx and waits for all tasks.
func (t *tasks) stop() {
	t.cancel()
	t.work.Wait()
}
