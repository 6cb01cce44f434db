package journal

import (
	"fmt"

	"github.com/tidwall/btree"
)

// streamIndex is the part of a state that holds the records of streams.
type streamIndex struct {
	live  btree.Map[uint64, *item] // by number: the oldest first
	bytes int64                    // size of their bodies
}

func (x *streamIndex) held() Held {
	h := Held{Number: x.live.Len(), Bytes: x.bytes}
	if _, oldest, ok := x.live.Min(); ok {
		h.Oldest = oldest.entry.Modified
	}
	return h
}

func (s *state) applyRecord(o *op, p place) {
	it := s.place(o, p)
	if it == nil {
		return
	}
	s.streams.live.Set(it.entry.ID, it)
	s.streams.bytes += it.entry.Size
	s.hold(it)
}

// applyRecordsDone drops records of streams. Some may have left already: callers may repeat a call
// whose result they did not learn.
func (s *state) applyRecordsDone(o *op) {
	for _, n := range o.done {
		it, ok := s.streams.live.Delete(n)
		if !ok {
			continue
		}
		s.streams.bytes -= it.entry.Size
		s.free(it)
	}
}

// named says which item it is, for the operator.
func (it *item) named() string {
	if it.kind == kindRecord {
		return fmt.Sprintf("record %d of stream %q", it.entry.ID, it.entry.Key.Name)
	}
	return it.entry.Key.String()
}
