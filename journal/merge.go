package journal

import (
	"bytes"
)

// intact is a record that is intact in one of several copies of a segment.
type intact struct {
	from, to int64
	copy     int
}

// merge finds each record of a segment that is intact in at least one copy. The next record begins
// where the previous one ends: a copy with a record at that offset is trusted over a copy whose
// next record begins later, because bytes of a body may look like a record. Records that begin at
// or after limit are ignored.
func merge(copies [][]byte, limit int64) (all []intact) {
	number, size := uint64(0), 0
	scans := make([]*scan, len(copies))
	for i, raw := range copies {
		scans[i] = &scan{segment: &segment{}, size: int64(len(raw))}
		scans[i].read(raw)
		size = max(size, len(raw))
	}
	for at := int64(0); at < min(int64(size), limit); {
		found := false
		for i, raw := range copies {
			if at >= int64(len(raw)) {
				continue
			}
			if _, f, n := recordAt(raw, at, number); n > 0 {
				all = append(all, intact{at, at + int64(n), i})
				number, found = f.number, true
				at += int64(n)
				break
			}
		}
		if !found {
			if at = nextRecord(scans, at, number); at < 0 {
				return all
			}
		}
	}
	return all
}

// nextRecord returns the offset of the first record after at in any copy, -1 for none.
func nextRecord(scans []*scan, at int64, number uint64) int64 {
	next := int64(-1)
	for _, s := range scans {
		for _, r := range s.records {
			if r.from > at && r.place.number > number {
				if next < 0 || r.from < next {
					next = r.from
				}
				break
			}
		}
	}
	return next
}

// patch returns a copy of a segment with the n records that it lacks. tail means that all of them
// follow its own records. Damage that no copy can repair stays as it is.
func patch(own []byte, copies [][]byte, records []intact) (better []byte, n int, tail bool) {
	tail = true
	better = bytes.Clone(own)
	for _, r := range records {
		good := copies[r.copy][r.from:r.to]
		if r.to <= int64(len(own)) && bytes.Equal(own[r.from:r.to], good) {
			tail = tail && n == 0
			continue
		}
		n++
		if short := r.to - int64(len(better)); short > 0 { // including the damaged bytes before it
			better = append(better, copies[r.copy][int64(len(better)):r.to]...)
		}
		copy(better[r.from:], good)
	}
	return better, n, tail
}
