package journal

import "github.com/tidwall/btree"

// dateIndex is the part of a state that holds date pairs.
type dateIndex struct {
	keys   keyMap[*dated]            // a pair is never changed in place
	orders btree.Map[uint64, *dated] // by order
	floor  uint64                    // pairs up to this order were dropped to keep the bound
}

// applyDates stores the pair of a done record, or drops the pair of a key up to an entry.
func (s *state) applyDates(o *op, p place) {
	older := s.dates.keys.get(o.key)
	if older != nil && older.entry > o.entry {
		return
	}
	if older != nil {
		s.dropDate(older)
	}
	if o.dated == nil {
		return
	}
	d := *o.dated
	d.key, d.entry, d.order, d.promised, d.segment, d.record = o.key, o.entry, o.order, o.when.UnixNano(), p.segment, p.size
	if d.order == 0 {
		d.order = p.number
	}
	if o.floor > s.dates.floor { // in a recovery, records of dropped pairs may still exist
		s.forgetDates(o.floor)
	}
	if d.order > s.dates.floor {
		s.addDate(&d)
	}
}

func (s *state) addDate(d *dated) {
	s.dates.keys.set(d.key, d)
	s.dates.orders.Set(d.order, d)
	c := s.in(d.segment)
	c.dates[d.order] = d
	c.datedBytes += d.record
	s.records += d.record
}

func (s *state) dropDate(d *dated) {
	s.dates.keys.delete(d.key)
	s.dates.orders.Delete(d.order)
	c := s.in(d.segment)
	delete(c.dates, d.order)
	c.datedBytes -= d.record
	s.records -= d.record
}

// makeRoom drops pairs until those of the records about to be written fit the bound, and says in
// the records which pairs were dropped.
func (s *state) makeRoom(ops []*op, limit int) {
	added := 0
	for _, o := range ops {
		if s.dates.keys.get(o.key) == nil {
			added++
		}
	}
	s.trimDates(limit - added)
	for i, o := range ops {
		o.floor = s.dates.floor
		if i < added-limit {
			o.dated = nil // it would be dropped at once
		}
	}
}

// trimDates drops the oldest pairs until limit are left.
func (s *state) trimDates(limit int) {
	for s.dates.orders.Len() > max(limit, 0) {
		order, d, _ := s.dates.orders.Min()
		s.dropDate(d)
		s.dates.floor = max(s.dates.floor, order)
	}
}

// forgetDates drops the pairs up to an order, as was done when a record was written.
func (s *state) forgetDates(floor uint64) {
	s.dates.floor = floor
	for {
		order, d, ok := s.dates.orders.Min()
		if !ok || order > floor {
			return
		}
		s.dropDate(d)
	}
}

// hideDates drops the pair that a translation was made from.
func (s *state) hideDates(t Translation) {
	if d := s.dates.keys.get(t.Key); d != nil && d.entry == t.number {
		s.dropDate(d)
	}
}
