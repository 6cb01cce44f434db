package placement

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/tiers"
)

const (
	// sliceLength is how many objects are looked at before the decided moves are made.
	sliceLength = 1024
	// pauseEvery is how many of them are looked at between two pauses, which give requests
	// priority.
	pauseEvery = 32
	pause      = 50 * time.Microsecond
	// checkpointEvery is how often a cycle that moves nothing saves its progress.
	checkpointEvery = 2 * time.Second
)

// worker passes over the catalog again and again, one slice at a time, and moves objects as their
// settings say. The decisions about a slice are saved in its checkpoint before any of them is
// carried out, so that a worker that was killed continues where it was, and does nothing twice.
type worker struct {
	catalog  *Catalog
	mover    *mover
	path     string // of the checkpoint
	interval time.Duration
	log      *slog.Logger

	mu     sync.Mutex
	report WorkerReport // guarded by mu
}

func newWorker(o *Options, catalog *Catalog, mover *mover) *worker {
	return &worker{
		catalog: catalog, mover: mover, log: o.Log,
		path: filepath.Join(o.Dir, "worker.json"), interval: time.Duration(o.Policy.WorkerIntervalSecs) * time.Second,
	}
}

// current returns the state of the worker.
func (w *worker) current() *WorkerReport {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.report
	return &r
}

// show makes the state of a checkpoint the current one.
func (w *worker) show(c *checkpoint) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.report = c.Report
	w.report.Cycle, w.report.Running = c.Cycle, c.Running
}

// load reads the checkpoint. If it is unreadable, a new cycle begins.
func (w *worker) load() checkpoint {
	c, err := loadCheckpoint(w.path)
	if err != nil {
		w.log.Warn("the checkpoint of the tier worker cannot be read; it starts over", "file", w.path, "error", err)
	}
	return c
}

// run works until ctx ends. An interrupted cycle continues at once.
func (w *worker) run(ctx context.Context) {
	c := w.load()
	w.show(&c)
	timer := time.NewTimer(w.interval)
	defer timer.Stop()
	for {
		if !c.Running {
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
			c = c.next()
		}
		if err := w.cycle(ctx, &c); err != nil && ctx.Err() == nil {
			w.log.Error("a cycle of the tier worker was interrupted", "cycle", c.Cycle, "error", err)
			c.Running = false
			w.show(&c)
		}
		if ctx.Err() != nil {
			return
		}
		timer.Reset(w.interval)
	}
}

// cycle passes over the catalog from where the checkpoint says. If ctx ends, the checkpoint is
// saved, and the cycle counts as running.
func (w *worker) cycle(ctx context.Context, c *checkpoint) error {
	if err := w.catalog.usage.flush(); err != nil {
		w.log.Warn("could not write access statistics to disk", "error", err)
	}
	w.show(c)
	after, err := c.at()
	if err != nil {
		return err
	}
	wrote := time.Now()
	w.do(ctx, c) // moves that an earlier epoch decided
	if ctx.Err() != nil {
		return c.save(w.path)
	}
	held, answering := w.catalog.store.Held(), map[string]bool{}
	for more := true; more; {
		s := findings{report: c.SoFar}
		if after, more, err = w.lookAt(&s, after, held); err != nil {
			return err
		}
		s.moves = slices.DeleteFunc(s.moves, func(d decision) bool { return d.Action == DemoteToCold && !w.answers(ctx, answering, d.Key.Bucket) })
		if ctx.Err() != nil {
			return c.save(w.path) // the slice will be looked at again
		}
		c.decided(s.report, after, s.moves)
		if len(s.moves) > 0 || time.Since(wrote) > checkpointEvery {
			if err := c.save(w.path); err != nil {
				return err
			}
			wrote = time.Now()
		}
		w.do(ctx, c)
	}
	if ctx.Err() == nil {
		c.end()
		w.show(c)
		w.mover.counters.cycles.Update(c.Report.Seconds)
	}
	return c.save(w.path)
}

// findings are the worker's observations and decisions about a slice of the catalog.
type findings struct {
	report WorkerReport
	moves  []decision
}

// lookAt looks at the slice of the catalog after a place.
func (w *worker) lookAt(s *findings, after string, held *tiers.Held) (next string, more bool, err error) {
	seen := 0
	return w.catalog.slice(akigw.Pattern{}, after, sliceLength, func(k known) {
		w.look(s, k, held)
		if seen++; seen%pauseEvery == 0 {
			time.Sleep(pause)
		}
	})
}

// look counts an object and decides whether to move it.
func (w *worker) look(s *findings, k known, held *tiers.Held) {
	store := w.catalog.store
	settings, now := store.Settings(k.Key), time.Now()
	memory, disk := held.Bytes(k.Known)
	s.report.add(k.Size, tierOf(k.Size, memory, disk), settings.Pin)
	if k.usage.last == 0 { // its last use is unknown: its idle time begins now
		if memory+disk > 0 {
			w.catalog.usage.accesses.count(k.Key, settings, 0)
		}
		return
	}
	idle := k.usage.idle(now)
	switch {
	case disk > 0 && memory == 0 && settings.WarmIdle > 0 && idle >= settings.WarmIdle && !settings.Pin:
		s.moves = append(s.moves, decision{k.Key, DemoteToCold})
	case memory > 0 && settings.HotIdle > 0 && idle >= settings.HotIdle && !settings.PinHot:
		s.moves = append(s.moves, decision{k.Key, DemoteToWarm})
	case memory < k.Size && disk > 0 && settings.Memory && settings.PromoteAt > 0 && k.usage.within(settings.AccessWindow, now) >= settings.PromoteAt && k.Size <= store.Room().Memory/8:
		s.moves = append(s.moves, decision{k.Key, PromoteToHot})
	case settings.PinHot && memory < k.Size && settings.Memory: // not in memory, for example after a restart
		s.moves = append(s.moves, decision{k.Key, PromoteToHot})
	}
}

// answers reports whether the upstream of a bucket responds: while it does not, nothing that could
// be needed leaves the disk. known caches the results of this cycle.
func (w *worker) answers(ctx context.Context, known map[string]bool, bucket string) bool {
	ok, asked := known[bucket]
	if !asked {
		ok = w.mover.reachable(ctx, bucket) == nil
		known[bucket] = ok
		if !ok {
			w.log.Warn("the upstream does not respond for a bucket: its objects stay on disk", "bucket", bucket)
		}
	}
	return ok
}

// do carries out the decisions. It skips what has been done already, so it can be repeated.
func (w *worker) do(ctx context.Context, c *checkpoint) {
	for ; len(c.Moves) > 0 && ctx.Err() == nil; c.Moves = c.Moves[1:] {
		d := c.Moves[0]
		moved, err := w.move(ctx, d)
		switch {
		case errors.Is(err, ErrMoving): // an operator's move has priority
		case err != nil:
			c.SoFar.Failed++
			w.log.Debug("the tier worker could not move an object", "key", d.Key.String(), "action", d.Action, "error", err)
		case moved:
			w.mover.counters.moved(d.Action, byWorker).Inc()
			w.log.Debug("the tier worker moved an object", "key", d.Key.String(), "action", d.Action, "cycle", c.Cycle)
			if d.Action == PromoteToHot {
				c.SoFar.Promoted++
			} else {
				c.SoFar.Demoted++
			}
			failpoint.Here("worker.afterMoveBeforeCheckpoint")
		}
	}
}

// move moves one object, unless it was used since the decision.
func (w *worker) move(ctx context.Context, d decision) (moved bool, err error) {
	end, err := w.mover.underway.try(d.Key)
	if err != nil {
		return false, err
	}
	defer end()
	settings := w.catalog.store.Settings(d.Key)
	switch d.Action {
	case PromoteToHot:
		moved, _, err = w.mover.toMemory(ctx, d.Key)
	case DemoteToWarm:
		if w.catalog.store.HasDisk() && settings.Disk {
			err = w.mover.keepOnDisk(ctx, d.Key)
		}
		if err == nil && w.idle(d.Key) >= settings.HotIdle {
			moved, _, err = w.mover.leaveMemory(ctx, d.Key)
		}
	case DemoteToCold:
		if w.mover.writes.HasPending(d.Key) {
			return false, nil
		}
		if w.idle(d.Key) >= settings.WarmIdle && !settings.Pin {
			moved, _, err = w.mover.leave(ctx, d.Key)
		}
	}
	return moved, err
}

// idle returns the time since an object was last used.
func (w *worker) idle(key akigw.Key) time.Duration { return w.catalog.usage.of(key).idle(time.Now()) }
