package server

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// onFailure is the consequence of a task's failure.
type onFailure int

const (
	// endServer: without the task the gateway would do harm or serve no requests. It shuts down at
	// once, and Run returns the error.
	endServer onFailure = iota
	// endReadiness: the gateway's responses are still correct. It continues, and /readyz is 503 with
	// the reason until it is restarted.
	endReadiness
)

// task is work in the background. run returns when its context is done. If it returns before
// that, an error is a failure, and nil means that there is nothing left to do.
type task struct {
	name string
	on   onFailure
	run  func(context.Context) error
}

// group is a set of tasks that are stopped together.
type group struct {
	errgroup.Group
	ctx    context.Context
	cancel context.CancelFunc
}

// start runs tasks. It calls failed at once for each failure; failed returns the error that wait
// returns for it, nil for none.
func start(tasks []task, failed func(task, error) error) *group {
	g := &group{}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	for _, t := range tasks {
		g.Go(func() error {
			err := t.run(g.ctx)
			if err == nil || g.ctx.Err() != nil {
				return err
			}
			return failed(t, fmt.Errorf("%s: %w", t.name, err))
		})
	}
	return g
}

// stop stops the tasks and waits for them.
func (g *group) stop() error {
	g.cancel()
	return g.Wait()
}
