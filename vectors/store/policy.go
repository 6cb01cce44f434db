package store

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// Tiering says when collections move between the tiers by themselves.
type Tiering struct {
	// HotIdle is how long a hot collection may be unused before it becomes warm, and WarmIdle a warm one
	// before it becomes cold; 0: for ever.
	HotIdle, WarmIdle time.Duration
	// Searches is how many searches within Window make a collection hot; 0: none do.
	Searches int
	Window   time.Duration
	// Every is how often the policy looks; 0: never.
	Every time.Duration
}

// tierings moves collections by the policy until ctx ends.
func (s *tierer) tierings(ctx context.Context) {
	if s.tiering.Every <= 0 {
		return
	}
	tick := time.NewTicker(s.tiering.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.Retier(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// Retier applies the tiering policy once: hot collections that are idle become warm, warm ones that are
// idle become cold, and those that are searched often become hot. A collection that cannot be moved
// stays where it is, and is looked at again in the next cycle.
func (s *tierer) Retier(ctx context.Context) {
	entries := make([]entry, 0)
	for _, e := range s.catalog.current.Load().indexes {
		e.collection.use.setLength(s.tiering.Window)
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b entry) int { // room is made before it is needed
		return cmp.Compare(s.wanted(a.collection), s.wanted(b.collection))
	})
	for _, e := range entries {
		c := e.collection
		to := s.wanted(c)
		if to == c.state().tier || ctx.Err() != nil {
			continue
		}
		err := s.take(ctx, c, to)
		switch {
		case err == nil:
			s.moves.Inc()
		case errors.Is(err, errDeleted):
		case errors.Is(err, ErrNoMemory):
			s.log.Info("a vector collection that is searched often stays warm", "bucket", c.index.Bucket, "index", c.index.Name, "error", err)
		case !errStopped(ctx, err):
			s.log.Warn("a vector collection could not be moved; it stays where it is", "bucket", c.index.Bucket, "index", c.index.Name, "to", to.String(), "error", err)
		}
	}
}

// wanted is the tier that a collection should be in.
func (s *tierer) wanted(c *collection) Tier {
	tier := c.state().tier
	if pinned, ok := s.pins.get(c); ok {
		return pinned
	}
	now := s.now()
	searches, last := c.use.state(now)
	idle := now.Sub(last)
	switch {
	case s.tiering.Searches > 0 && searches >= s.tiering.Searches:
		return Hot
	case tier == Hot && s.tiering.HotIdle > 0 && idle >= s.tiering.HotIdle:
		return Warm
	case tier == Warm && s.tiering.WarmIdle > 0 && idle >= s.tiering.WarmIdle:
		return Cold
	}
	return tier
}
