package tiers

import (
	"context"
	"sync"
)

// tasks are the goroutines of a store that outlive the requests which started them.
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

// start runs f on a goroutine of its own. f has to return soon after ctx ends.
func (t *tasks) start(f func()) { t.work.Go(f) }

// closing reports whether the store closes, so that nothing new should be begun.
func (t *tasks) closing() bool { return t.ctx.Err() != nil }

// stop ends ctx and waits for all tasks.
func (t *tasks) stop() {
	t.cancel()
	t.work.Wait()
}
