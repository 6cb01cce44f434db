package tiers

import (
	"context"
	"sync"

	"github.com/akidb/akigw"
)

// sequences notice who reads an object by one range after the other, as a file
// is read through a mount, and have what comes next fetched before it is asked
// for. Each request that goes on where the last one ended doubles how much, up
// to a bound; nothing more is fetched when the reader stops or jumps. The zero
// value is ready.
type sequences struct {
	mu       sync.Mutex
	byExtent map[uint64]*sequence // guarded by mu
}

// sequence is one reader's way through an object.
type sequence struct {
	next    int64 // the offset where the last range ended
	streak  int   // ranges that went on where one ended
	window  int64 // bytes to fetch ahead
	fetched int64 // the first block behind what is, or was, fetched ahead
}

const (
	// sequenceLeast is how many ranges have to go on where one ended before
	// anything is fetched ahead.
	sequenceLeast = 2
	// maxSequences bounds the memory; beyond it any one starts anew for each new one.
	maxSequences = 4096
)

// follow takes a range that is read of e and returns the blocks to fetch ahead,
// none if first is end.
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

// readOn has what probably comes next fetched, if r goes on where another range
// ended. A client that asks for much at a time does by itself what this would
// do, and fetching ahead would only cut its ranges in two.
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
