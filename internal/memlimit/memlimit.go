// Package memlimit keeps the garbage collector between two evils: a process that takes more
// memory than it needs, and one that collects all the time because it may not have what it needs.
package memlimit

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// every is how often the collector's share of the processor is looked at.
	every = time.Second
	// A share above busy raises the limit by a raise-th of it, up to a quarter more than the
	// least, one above thrashing beyond that; one below idle lowers it by a lower-th.
	busy, thrashing, idle = 0.10, 0.50, 0.02
	raise, lower          = 8, 64
)

// Run sets the runtime's soft memory limit to least, in bytes, and raises it, up to most, while
// the collector takes too much of the processor under it; and lowers it again when it does not.
// It returns when ctx ends.
func Run(ctx context.Context, least, most int64) error {
	limit := least
	debug.SetMemoryLimit(limit)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	before := read()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := read()
		if next := step(limit, least, most, now.share(before)); next != limit {
			limit = next
			debug.SetMemoryLimit(limit)
		}
		before = now
	}
}

// step is the limit that follows one under which the collector took a share of the processor.
func step(limit, least, most int64, share float64) int64 {
	switch {
	case share > thrashing:
		limit += limit / raise
	case share > busy:
		limit = max(limit, min(limit+limit/raise, least+least/4))
	case share < idle:
		limit -= limit / lower
	}
	return max(least, min(limit, most))
}

// used is processor time, in seconds: what the collector took, and what all of the process did.
type used struct{ collector, all float64 }

func read() used {
	samples := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/idle:cpu-seconds"}, {Name: "/cpu/classes/user:cpu-seconds"}}
	metrics.Read(samples)
	for _, s := range samples {
		if s.Value.Kind() != metrics.KindFloat64 {
			return used{} // another runtime: the limit stays where it is
		}
	}
	// What the collector does while there is nothing else to do takes nothing from anybody.
	collector := samples[0].Value.Float64() - samples[1].Value.Float64()
	return used{collector, collector + samples[2].Value.Float64()}
}

// share is the collector's share of what was used since before.
func (u used) share(before used) float64 {
	if all := u.all - before.all; all > 0 {
		return (u.collector - before.collector) / all
	}
	return 0
}
