package shadow

import "github.com/akidb/akigw"

// sequence is the progress of a client that reads an object one range after another, see sequences in
// package tiers.
type sequence struct {
	next    int64 // the offset at which the last range ended
	streak  int
	window  int64 // bytes to fetch ahead
	fetched int64 // the first block after what was fetched ahead
}

// sequenceLeast is the limit of this name in package tiers.
const sequenceLeast = 2

// follow records a range and returns the blocks to fetch ahead, none if first equals end.
func (q *sequence) follow(o *object, r akigw.Range, most int64) (first, end int64) {
	if r.Start != q.next || q.next == 0 {
		*q = sequence{next: r.End()}
		return 0, 0
	}
	q.next = r.End()
	if q.streak++; q.streak < sequenceLeast {
		return 0, 0
	}
	q.window = min(max(2*q.window, 2*r.Length, o.block), most)
	first = max(o.blocksUpTo(r.End()), q.fetched)
	end = o.blocksUpTo(min(r.End()+q.window, o.size))
	q.fetched = max(q.fetched, end)
	return first, max(first, end)
}

// readOn fetches what probably comes next, as the gateway would, and returns what that costs.
func (s *simulation) readOn(o *object, r *Read) (f fetch) {
	most := r.Settings.ReadAhead
	if !r.wantsBytes() || o.body || s.small(o) || o.size < 0 {
		return f
	}
	want := r.bytes(o.size)
	if want.Length == 0 || want.Length > most/4 || want.Length == o.size {
		return f
	}
	first, end := o.ahead.follow(o, want, most)
	for first < end {
		segment := s.segment(o)
		last := min((first/segment+1)*segment, end)
		for first < last && s.place(o, first) != akigw.Cold {
			first++
		}
		run := s.missingUntil(o, first, last) // one request fetches it, and nothing after it
		f.add(s.missing(o, first, run, 0))
		for n := first; n < run; n++ {
			s.use(o, n, r.Settings, true)
		}
		first = last
	}
	return f
}
