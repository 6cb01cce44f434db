package tiers

import (
	"context"
	"sync"

	"github.com/akidb/akigw"
)

// sequences detects clients that read an object one range after another, as a file is read through
// a mount, and fetches what comes next before it is requested. Each request that continues where
// the previous one ended doubles the amount, up to a bound; when the reader stops or jumps, nothing
// more is fetched. The zero value is ready to use.
type sequences struct {
	mu       sync.Mutex
	byExtent map[uint64]*sequence // guarded by mu
}

// sequence is the progress of one client through an object.
type sequence struct {
	next    int64 // the offset at which the last range ended
	streak  int   // ranges that continued where the previous one ended
	window  int64 // bytes to fetch ahead
	fetched int64 // the first block after what is, or was, fetched ahead
}

const (
	// sequenceLeast is how many ranges must continue where the previous one ended before anything
	// is fetched ahead.
	sequenceLeast = 2
	// maxSequences bounds the memory; beyond it, an arbitrary sequence is dropped for each new one.
	maxSequences = 4096
)

// follow records that a range of e is read and returns the blocks to fetch ahead, none if first
// equals end.
func (q *sequences) follow(e *entry, r akigw.Range, most int64) (first, end int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.byExtent[e.extent]
	if s == nil {
		if q.byExtent == nil {
			q.byExtent = make(map[uint64]*sequence)
		}
		if len(q.byExtent) >= maxSequences {
			for extent := range q.byExtent {
				delete(q.byExtent, extent)
				break
			}
		}
		s = &sequence{next: -1}
		q.byExtent[e.extent] = s
	}
	if r.Start != s.next {
		*s = sequence{next: r.End()}
		return 0, 0
	}
	s.next = r.End()
	if s.streak++; s.streak < sequenceLeast {
		return 0, 0
	}
	s.window = min(max(2*s.window, 2*r.Length, e.block), most)
	first = max(e.blocksUpTo(r.End()), s.fetched)
	end = e.blocksUpTo(min(r.End()+s.window, e.Size))
	s.fetched = max(s.fetched, end)
	return first, max(first, end)
}

// readOn fetches what probably comes next, if r continues where another range ended. It does
// nothing for a client that requests large ranges: such a client gains nothing, and fetching ahead
// would only split its ranges.
func (r *Reader) readOn(ctx context.Context, most int64) {
	if r.Range.Length > most/4 || r.Range.Length == 0 || r.Range.Length == r.entry.Size || r.entry.body != nil {
		return
	}
	first, end := r.source.sequences.follow(r.entry, r.Range, most)
	for first < end {
		last := min(r.source.fetcher.segmentEnd(r.entry, first), end)
		f, ok := r.source.fetcher.prefetch(ctx, r.entry, first, last, true)
		if !ok {
			return // no memory for it now
		}
		if f != nil {
			r.source.counters.sequentialBytes.Add(int((last - first) * r.entry.block))
			f.detach()
		}
		first = last
	}
}
