package journal

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/akidb/akigw/journal/internal/spool"

	"github.com/akidb/akigw"
)

// table is the state of an open journal, with everything that waits for it to change. Readers of
// the overlay take no lock: they use the view that was published last. mu is held while a batch of
// records is applied, never across I/O.
type table struct {
	health *health

	view     atomic.Pointer[view]
	inFlight atomic.Bool // queued or inDoubt is not empty

	mu      sync.Mutex
	state   *state                   // guarded by mu
	queued  map[akigw.Key]int        // keys of records that wait for a sync; guarded by mu
	inDoubt map[akigw.Key]bool       // keys of records that may or may not be on disk, because their write failed; guarded by mu
	held    map[akigw.Key]int        // held keys, whose entries are not leased; guarded by mu
	waiters map[uint64]chan struct{} // by entry; closed when the fate of the entry changes; guarded by mu
	round   chan struct{}            // closed when the records that wait now have been written; guarded by mu
}

// view is what readers see of a state. It never changes.
type view struct {
	live         int // number of live entries
	entries      keyMap[[]*item]
	translations keyMap[*item]
	dates        keyMap[*dated]
}

func newTable(h *health) *table {
	t := &table{health: h, state: newState(), queued: map[akigw.Key]int{}, inDoubt: map[akigw.Key]bool{}, held: map[akigw.Key]int{}, waiters: map[uint64]chan struct{}{}, round: make(chan struct{})}
	t.view.Store(&view{})
	return t
}

// read calls look with the state, which look must not change or retain.
func (t *table) read(look func(*state)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	look(t.state)
}

// update calls change with the state, publishes the new view, and wakes the callers that wait for
// the change. It returns the spool files that no item needs any more.
func (t *table) update(change func(*state)) (released []uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(t.state)
	return t.publishLocked()
}

func (t *table) publishLocked() (released []uint64) {
	s, v := t.state, *t.view.Load()
	if s.entries.changed || s.translations.changed || s.dates.keys.changed {
		v.live = s.live
		republish(&v.entries, &s.entries)
		republish(&v.translations, &s.translations)
		republish(&v.dates, &s.dates.keys)
		t.view.Store(&v)
	}
	for _, n := range s.ended {
		if c := t.waiters[n]; c != nil {
			close(c)
			delete(t.waiters, n)
		}
	}
	released = s.released
	s.released, s.ended = nil, s.ended[:0]
	return released
}

// republish freezes a map if it has changed since the last freeze.
func republish[V any](frozen, m *keyMap[V]) {
	if m.changed {
		*frozen = m.freeze()
	}
}

// outcome is the result of writing records.
type outcome struct {
	places  []place // place of each record
	err     error   // why they were not written
	inDoubt bool    // they may be on disk nevertheless
}

// finish applies records unless they were not written, and wakes the callers that wait for them. It
// returns the spool files that nothing needs any more.
func (t *table) finish(ops []*op, out outcome) (released []uint64) {
	return t.update(func(s *state) {
		for i, o := range ops {
			if out.err == nil {
				s.apply(o, out.places[i])
			} else if !out.inDoubt {
				s.released = append(s.released, o.own()...)
			}
			t.writtenLocked(o, out.inDoubt)
		}
		t.endRoundLocked()
	})
}

// own returns the spool file of a new record. If the record is not written, the file is useless.
func (o *op) own() []uint64 {
	if o.entry == 0 && o.spool != 0 {
		return []uint64{o.spool}
	}
	return nil
}

// announce counts records that are about to be written.
func (t *table) announce(ops []*op) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.announceLocked(ops)
}

func (t *table) announceLocked(ops []*op) {
	for _, o := range ops {
		if o.kind.changes() {
			t.queued[o.key]++
			t.inFlight.Store(true)
		}
	}
}

// writtenLocked removes a record from the announced ones. inDoubt means that it may be on disk,
// although its write was not acknowledged.
func (t *table) writtenLocked(o *op, inDoubt bool) {
	if !o.kind.changes() {
		return
	}
	if t.queued[o.key]--; t.queued[o.key] == 0 {
		delete(t.queued, o.key)
	}
	if inDoubt {
		t.inDoubt[o.key] = true
	}
}

// endRoundLocked wakes the callers that wait for records without a sync.
func (t *table) endRoundLocked() {
	close(t.round)
	t.round = make(chan struct{})
	t.inFlight.Store(len(t.queued)+len(t.inDoubt) > 0)
}

// clearDoubt records that no record is in doubt any more: a new segment says what counts.
func (t *table) clearDoubt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.inDoubt)
}

// check checks whether a new record fits the state, see state.fits. One that does not fit is not
// written.
func (t *table) check(o *op) (released []uint64, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err = t.state.fits(o); err != nil {
		t.writtenLocked(o, false)
		t.endRoundLocked()
		released = o.own()
	}
	return released, err
}

// item returns the live item of an entry, nil for none. It takes no lock if readers of the overlay
// can see the entry.
func (t *table) item(e *Entry) (it *item) {
	for _, it := range t.view.Load().entries.get(e.Key) {
		if it.entry.ID == e.ID {
			return it
		}
	}
	t.read(func(s *state) { it = s.items[e.ID] })
	return it
}

// needs reports whether the journal still needs the body of an entry.
func (t *table) needs(p spool.Piece) (needed bool) {
	t.read(func(s *state) {
		it := s.items[p.Entry]
		needed = it != nil && slices.Contains(it.spools, p.Number)
	})
	return needed
}

// idle reports whether there is no entry and none is being written.
func (t *table) idle() bool { return t.view.Load().live == 0 && !t.inFlight.Load() }

// take leases the newest entry of a key, unless the key is held.
func (t *table) take(key akigw.Key) *Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held[key] > 0 {
		return nil
	}
	return t.state.take(key)
}

// takeDeletions leases up to limit pending deletions of a bucket, the oldest first, for which
// wanted returns true.
func (t *table) takeDeletions(bucket string, limit int, wanted func(*Entry) bool) (all []*Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.state.lists.deletions[bucket]
	if l == nil || limit <= 0 {
		return nil
	}
	l.Scan(func(_ uint64, it *item) bool {
		key := it.entry.Key
		if !it.leased && t.held[key] == 0 && t.state.last(key) == it && wanted(it.entry) {
			if e := t.state.take(key); e != nil {
				all = append(all, e)
			}
		}
		return len(all) < limit
	})
	return all
}

// wait returns when all present entries of a key have been flushed or replaced. With hold, it also
// waits until no entry of the key is being uploaded, and then holds the key.
func (t *table) wait(ctx context.Context, key akigw.Key, hold bool) error {
	until := t.until(key)
	for {
		wait, err := t.waiting(key, until, hold)
		if wait == nil || err != nil {
			return err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// until returns the highest entry number that a key can have by now, see Journal.Until.
func (t *table) until(key akigw.Key) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.queued[key] > 0 {
		return math.MaxUint64
	}
	if it := t.state.last(key); it != nil {
		return it.entry.ID
	}
	return 0
}

// waiting returns a channel to wait on until a key has no entry that stands for one up to a number,
// nil if there is nothing to wait for. With hold, no entry may be uploading either, and the key is
// then held.
func (t *table) waiting(key akigw.Key, until uint64, hold bool) (<-chan struct{}, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inDoubt[key] {
		return nil, t.health.why()
	}
	items := t.state.entries.get(key)
	if len(items) > 0 && items[0].covers <= until {
		return t.endOfLocked(items[0])
	}
	if t.queued[key] > 0 && until == math.MaxUint64 {
		return t.round, nil
	}
	if !hold {
		return nil, nil
	}
	if i := slices.IndexFunc(items, func(it *item) bool { return it.leased || it.tried }); i >= 0 {
		return t.endOfLocked(items[i])
	}
	t.held[key]++
	return nil, nil
}

// endOfLocked returns a channel that is closed when the fate of an entry changes. The errors are
// those of Wait.
func (t *table) endOfLocked(it *item) (<-chan struct{}, error) {
	if it.reason != "" {
		return nil, fmt.Errorf("%w: %s: %s", errDeadLetter, it.entry.Key, it.reason)
	}
	if err := t.health.releasing(); err != nil {
		return nil, err
	}
	n := it.entry.ID
	if t.waiters[n] == nil {
		t.waiters[n] = make(chan struct{})
	}
	return t.waiters[n], nil
}

// unhold ends a hold, and reports whether the key has entries that can be leased now.
func (t *table) unhold(key akigw.Key) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held[key]--; t.held[key] > 0 {
		return false
	}
	delete(t.held, key)
	return t.state.last(key) != nil
}

// translation returns the known ETags and dates of a key; false if there are none.
func (v *view) translation(key akigw.Key) (t Translation, ok bool) {
	if v.translations.len() > 0 {
		if it := v.translations.get(key); it != nil {
			t = Translation{Key: key, Promised: it.entry.ETag, Upstream: it.etag, PromisedModified: it.entry.Modified, number: it.entry.ID}
			t.dates(it.entry.Header)
			return t, true
		}
	}
	if v.dates.len() == 0 {
		return t, false
	}
	d := v.dates.get(key)
	if d == nil {
		return t, false
	}
	return Translation{Key: d.key, Promised: d.etag, Upstream: d.etag, PromisedModified: time.Unix(0, d.promised), UpstreamModified: time.Unix(d.stored, 0), Spread: d.spread, Size: d.size, Version: d.version, number: d.entry}, true
}

// newest returns the newest entry of a key, nil for none.
func (v *view) newest(key akigw.Key) *Entry {
	if it := newest(v.entries.get(key)); it != nil {
		return it.entry
	}
	return nil
}
