package tiers

import (
	"context"
	"math"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/budget"
)

// wholeBytes is the size up to which an object that is not known yet is
// fetched by the one request that learns of it. Of a larger one that request
// brings the first segment, and the rest comes by parallel requests.
const wholeBytes = 64 << 20

// partBytes is the size up to which a range of a known object is fetched by one
// request: clients that read a large object in parallel ask for such ranges.
const partBytes = 16 << 20

// ahead is how a reader has the segments behind the one that it reads fetched
// by parallel requests. It starts with none, and with one more segment each
// time that the upstream kept it waiting, so that a slow client has nothing
// fetched early. The zero value reads nothing ahead.
type ahead struct {
	fills   []*fill // attached to, in order
	planned int64   // the first block that nothing is planned for
	width   int64   // segments to read ahead
	waits   int64   // since width changed
	calm    int64   // blocks since the last wait that were there at once
}

// growAfter is the number of waits after which one more segment is read ahead.
const growAfter = 2

// segment is the number of blocks of e that one of several parallel requests
// fetches.
func (s *Store) segment(e *entry) int64 { return max(1, int64(s.config.FetchBytes)/e.block) }

// segmentEnd is the first block behind the segment of block n of e.
func (s *Store) segmentEnd(e *entry, n int64) int64 { return (n/s.segment(e) + 1) * s.segment(e) }

// endBlock is the first block behind what r reads.
func (r *Reader) endBlock() int64 { return r.entry.blocksUpTo(r.Range.End()) }

// parallel reports whether an object is fetched by parallel requests from the start.
func (s *Store) parallel(e *entry) bool {
	return e.Size > wholeBytes && s.inParts(e)
}

// inParts reports whether an object, if it is large, is fetched by several requests.
func (s *Store) inParts(e *entry) bool {
	return s.config.ParallelFetches > 1 && !s.noRanges.has(e.origin)
}

// adapt widens the read-ahead when the upstream keeps the reader waiting, and
// narrows it when all that was read ahead was there before it was asked for.
func (r *Reader) adapt(waited bool) {
	a := &r.ahead
	if !waited {
		if a.calm++; a.calm > (a.width+1)*r.store.segment(r.entry) {
			a.width, a.calm, a.waits = a.width/2, 0, 0
		}
		return
	}
	a.calm = 0
	if a.waits++; a.waits >= growAfter && a.width < int64(r.store.config.ParallelFetches)-1 {
		a.width, a.waits = a.width+1, 0
	}
}

// runEnd is where the run ends that is fetched from block n on, which nothing
// was planned for. The first is short, so that what follows can come by
// parallel requests; a reader that turned out to need none gets long ones, and
// all at once if parts cost as much as the whole.
func (r *Reader) runEnd(n int64) int64 {
	s := r.store
	switch {
	case s.noRanges.has(r.entry.origin):
		return r.endBlock()
	case r.Range.Length <= partBytes: // the client does the parallel part itself
		return r.endBlock()
	case s.inParts(r.entry) && (r.ahead.planned == 0 || r.ahead.planned > n):
		return min(r.endBlock(), s.segmentEnd(r.entry, n))
	}
	return min(r.endBlock(), n+runBlocks)
}

// plan has the segments behind that of block n fetched, as far as the fill that
// is followed does not bring them.
func (r *Reader) plan(ctx context.Context, n int64) {
	a, s := &r.ahead, r.store
	if !s.inParts(r.entry) {
		return
	}
	end := min(r.endBlock(), s.segmentEnd(r.entry, n)+a.width*s.segment(r.entry))
	for a.planned = max(a.planned, s.segmentEnd(r.entry, n), r.fill.end); a.planned < end; a.planned = s.segmentEnd(r.entry, a.planned) {
		f, ok := s.prefetch(ctx, r.entry, a.planned, min(s.segmentEnd(r.entry, a.planned), r.endBlock()), false)
		if !ok {
			return
		}
		if f != nil {
			a.fills = append(a.fills, f)
		}
	}
}

// take returns the fill that was planned for block n, nil if there is none, and
// leaves those that came too early.
func (a *ahead) take(n int64) *fill {
	for len(a.fills) > 0 {
		f := a.fills[0]
		if f.start > n {
			return nil
		}
		a.fills = a.fills[1:]
		if f.covers(n, math.MaxInt32) {
			return f
		}
		f.detach()
	}
	return nil
}

func (a *ahead) leave() {
	for _, f := range a.fills {
		f.detach()
	}
	a.fills = nil
}

// prefetch returns a fill that brings the first block of first to end that is
// missing, and those behind it: one under way, or a new one; nil if none is
// missing. It is not ok if there is no memory for it. A fill that stays goes on
// without a reader, and what it brings is kept as if it had been asked for often.
func (s *Store) prefetch(from context.Context, e *entry, first, end int64, stays bool) (f *fill, ok bool) {
	for first < end && s.locate(e, first) != akigw.Cold {
		first++
	}
	last := s.missingUntil(e, first, end)
	if first == last {
		return nil, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.attachTo(e, first, math.MaxInt32); f != nil {
		return f, true
	}
	size := (last - first) * e.block
	memory := s.readAheadFor(e.Key.Bucket)
	if !memory.Acquire(size) {
		return nil, false
	}
	f, ctx := s.newFill(from, e.Key)
	f.window, f.finish, f.wantedLater = last-first, 0, stays
	if stays {
		f.finish = last - first
	}
	f.release = func() { memory.Release(size) }
	s.begin(ctx, f, e, first, last)
	return f, true
}

// readAheadFor is the memory that what is fetched ahead of a bucket draws on: the part of its
// upstream.
func (s *Store) readAheadFor(bucket string) budget.Taker {
	if s.owners == nil {
		return s.readAhead
	}
	return s.readAhead.Of(s.owners.Owner(bucket))
}
