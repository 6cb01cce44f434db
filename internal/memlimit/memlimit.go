// Package memlimit adapts the garbage collector's memory limit, so that the process neither uses more
// memory than it needs nor spends its time collecting because the limit is too low.
package memlimit

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// every is how often the collector's share of the processor time is measured.
	every = time.Second
	// A share above busy raises the limit by 1/raise, up to a quarter above the least; a share
	// above thrashing raises it beyond that; a share below idle lowers it by 1/lower.
	busy, thrashing, idle = 0.10, 0.50, 0.02
	raise, lower          = 8, 64
)

// Run sets the runtime's soft memory limit to least, in bytes. It raises it, up to most, while the
// collector takes too much processor time, and lowers it again when it does not. It returns when
// ctx ends.
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

// step returns the next limit, by the collector's share of the processor time under the current
// one.
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

// used is processor time in seconds: of the collector and of the whole process.
type used struct{ collector, all float64 }

func read() used {
	samples := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/idle:cpu-seconds"}, {Name: "/cpu/classes/user:cpu-seconds"}}
	metrics.Read(samples)
	for _, s := range samples {
		if s.Value.Kind() != metrics.KindFloat64 {
			return used{} // unknown metrics of another Go version: the limit stays as it is
		}
	}
	// Collection on idle processors is not counted: it takes no time from the program.
	collector := samples[0].Value.Float64() - samples[1].Value.Float64()
	return used{collector, collector + samples[2].Value.Float64()}
}

// share returns the collector's share of the processor time since before.
func (u used) share(before used) float64 {
	if all := u.all - before.all; all > 0 {
		return (u.collector - before.collector) / all
	}
	return 0
}
