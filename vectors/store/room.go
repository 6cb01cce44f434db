package store

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/akidb/akigw/vectors/part"
	"github.com/akidb/akigw/vectors/segment"
)

const (
	// writeAttempts is how often a part is written to the warm tier, and writeRest the time between, in which
	// the tier reclaims the space of what was dropped.
	writeAttempts = 40
	writeRest     = 250 * time.Millisecond
)

// writeWarm stores a part of a collection on local disk. While there is no room for it, warm collections
// become cold, whole ones: the tier would evict single blocks of all of them.
func (s *tierer) writeWarm(ctx context.Context, c *collection, ref segment.Part, from ascend) (p part.Part, err error) {
	need, limit := s.onDisk(c)+diskSize(c, ref), int64(s.config.WarmBytes)/10*warmTenths
	for need <= limit && s.warmBytes(c)+need > limit && s.makeRoom(ctx, c) {
	}
	for range writeAttempts {
		p, err = s.extents.write(ctx, c.index, ref, from)
		if !errors.Is(err, part.ErrRefused) || s.extents.tier.Problem() != "" || !s.makeRoom(ctx, c) && !s.extents.tier.Full() {
			return p, err // the tier is not about to reclaim what was dropped
		}
		select {
		case <-time.After(writeRest):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return p, err
}

// warmTenths is the share of vectors.warm_bytes that collections fill. The rest is for what the tier has not
// reclaimed yet.
const warmTenths = 7

// diskSize is about how many bytes a part takes on disk.
func diskSize(c *collection, ref segment.Part) int64 {
	return ref.Rows * (4*int64(c.index.Dimension) + rowOverhead)
}

// onDisk is about how many bytes a warm collection takes on disk, 0 for one that is not.
func (s *tierer) onDisk(c *collection) (n int64) {
	state := c.state()
	if state.tier != Warm {
		return 0
	}
	for _, ref := range state.refs() {
		n += diskSize(c, ref)
	}
	return n
}

// warmBytes is about how many bytes all warm collections but one take on disk.
func (s *tierer) warmBytes(but *collection) (n int64) {
	for _, e := range s.catalog.current.Load().indexes {
		if e.collection != but {
			n += s.onDisk(e.collection)
		}
	}
	return n
}

// idle is a warm collection that may become cold.
type idle struct {
	*collection
	last time.Time
}

// makeRoom demotes the warm collection that was not used for the longest time, and reports whether there was
// one. It leaves out c, pinned ones, and those that are worked on.
func (s *tierer) makeRoom(ctx context.Context, c *collection) bool {
	var all []idle
	for _, e := range s.catalog.current.Load().indexes {
		other := e.collection
		if _, pinned := s.pins.get(other); other == c || pinned || other.state().tier != Warm || len(other.state().refs()) == 0 {
			continue
		}
		_, last := other.use.state(s.now())
		all = append(all, idle{other, last})
	}
	slices.SortFunc(all, func(a, b idle) int { return a.last.Compare(b.last) })
	for _, candidate := range all {
		if !candidate.turn.try() {
			continue
		}
		err := s.toCold(ctx, candidate.collection)
		candidate.turn.release()
		if err != nil {
			continue
		}
		s.log.Info("a warm vector collection becomes cold, because another one needs the disk", "bucket", candidate.index.Bucket, "index", candidate.index.Name)
		return true
	}
	return false
}
