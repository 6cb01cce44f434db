package tiers

import (
	"context"
	"math"
)

// partBytes is the largest range of a known object that is fetched by one request: clients that
// read a large object in parallel ask for such ranges.
const partBytes = 16 << 20

// ahead is the read-ahead of one reader: parallel requests fetch the segments after the one being
// read. It starts with none, and adds a segment each time that the upstream kept the reader
// waiting, so that nothing is fetched early for a slow client. The zero value reads nothing ahead.
type ahead struct {
	fills   []*fill // attached to, in order
	planned int64   // the first block without a planned fill
	width   int64   // segments to read ahead
	waits   int64   // waits since width changed
	calm    int64   // blocks since the last wait that were available at once
}

// growAfter is the number of waits after which another segment is read ahead.
const growAfter = 2

// endBlock is the first block after the range of r.
func (r *Reader) endBlock() int64 { return r.entry.blocksUpTo(r.Range.End()) }

// adapt widens the read-ahead when the upstream keeps the reader waiting, and narrows it when every
// block was available before it was requested.
func (r *Reader) adapt(waited bool) {
	a := &r.ahead
	if !waited {
		if a.calm++; a.calm > (a.width+1)*r.source.fetcher.segment(r.entry) {
			a.width, a.calm, a.waits = a.width/2, 0, 0
		}
		return
	}
	a.calm = 0
	if a.waits++; a.waits >= growAfter && a.width < int64(r.source.config.ParallelFetches)-1 {
		a.width, a.waits = a.width+1, 0
	}
}

// fetchEnd is the end of a fill that begins at block n and was not planned. The first fill is
// short, so that parallel requests can fetch the rest. A reader that turned out not to need them
// gets long fills, and a single one if the upstream ignores Range.
func (r *Reader) fetchEnd(n int64) int64 {
	ft := r.source.fetcher
	switch {
	case ft.noRanges.has(r.entry.origin):
		return r.endBlock()
	case r.Range.Length <= partBytes: // the client itself reads in parallel
		return r.endBlock()
	case ft.inParts(r.entry) && (r.ahead.planned == 0 || r.ahead.planned > n):
		return min(r.endBlock(), ft.segmentEnd(r.entry, n))
	}
	return min(r.endBlock(), n+mostBlocks)
}

// plan starts fills for the segments after that of block n that the current fill does not cover.
func (r *Reader) plan(ctx context.Context, n int64) {
	a, ft := &r.ahead, r.source.fetcher
	if !ft.inParts(r.entry) {
		return
	}
	end := min(r.endBlock(), ft.segmentEnd(r.entry, n)+a.width*ft.segment(r.entry))
	for a.planned = max(a.planned, ft.segmentEnd(r.entry, n), r.fill.end); a.planned < end; a.planned = ft.segmentEnd(r.entry, a.planned) {
		f, ok := ft.prefetch(ctx, r.entry, a.planned, min(ft.segmentEnd(r.entry, a.planned), r.endBlock()), false)
		if !ok {
			return
		}
		if f != nil {
			a.fills = append(a.fills, f)
		}
	}
}

// take returns the fill that was planned for block n, nil if there is none, and detaches from the
// fills before it.
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
