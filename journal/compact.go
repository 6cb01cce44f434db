package journal

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/akidb/akigw/journal/internal/spool"

	"github.com/akidb/akigw/internal/failpoint"
)

// compactor removes what nobody needs, in the background: spool files, and the oldest segments
// without live records. Segments go strictly in order, each removal durable before the next: a
// record that ends an entry never goes before the entry's own. Nothing is removed before what
// replaces it is durable, because only durable records are applied.
type compactor struct {
	health       *health
	log          *wal
	table        *table
	spool        *spool.Spool
	side         *sideFiles
	committer    *committer
	bodies       *bodyOpener
	segmentBytes int64
	logger       *slog.Logger

	wake chan struct{}
	stop chan struct{}
	done sync.WaitGroup

	postponed atomic.Bool // the oldest segment can go when there is room for the side files

	// What follows is for the goroutine, and the recovery before it.
	keep bool // segments stay, because removing one failed, or they must not be touched
}

func (c *compactor) start() { c.done.Go(c.run) }

// close returns when nothing is removed in the background any more. What can go without a
// record being written has gone then.
func (c *compactor) close() {
	close(c.stop)
	c.done.Wait()
}

// poke has the compactor look whether something can go.
func (c *compactor) poke() {
	select {
	case c.wake <- struct{}{}:
	default: // it is going to look anyway
	}
}

// retry is poke if something could not go for want of room.
func (c *compactor) retry() {
	if c.postponed.Load() || !c.side.joined() {
		c.poke()
	}
}

func (c *compactor) run() {
	for {
		select {
		case <-c.wake:
			c.clean()
		case <-c.stop:
			select {
			case <-c.wake:
				c.clean()
			default:
			}
			return
		}
	}
}

func (c *compactor) clean() {
	c.spool.Clear()
	if c.side.join() {
		c.committer.poke() // that may be what it waits for
	}
	c.compact()
}

// maxSealed is how many segments' worth of records are kept before live ones are rewritten so
// that old segments can go.
const maxSealed = 4

// compact removes the oldest segments that nothing live is in, and rewrites what is live in
// them if it is time.
func (c *compactor) compact() {
	for !c.keep && c.health.compacting() {
		oldest, next := c.log.oldest()
		if oldest == nil {
			return
		}
		left := c.table.left(oldest.id)
		switch {
		case left == 0:
			if !c.drop(oldest, next) {
				return
			}
		case !c.crowded(oldest) || !c.rewrite(oldest) || !c.moved(oldest, left):
			return
		}
	}
}

// drop removes the oldest segment; next is the one after it. It returns false if the segment stays.
// A disk without room for the side file is no reason to keep it for good: it is tried again.
func (c *compactor) drop(s *segment, next uint64) bool {
	failpoint.Here("compact.beforeUnlink")
	err := c.side.raiseFloor(next)
	c.postponed.Store(unwritten(err))
	if unwritten(err) {
		return false
	}
	if err == nil {
		err = c.log.remove(s)
	}
	if err != nil {
		c.keep = true // nobody knows whether it comes back: those after it have to stay
		c.logger.Warn("could not remove an old journal segment; segments stay until the gateway is restarted", "segment", c.log.segmentName(s.id), "error", err)
		return false
	}
	c.table.forget(s.id)
	return true
}

// dropEmpty removes the oldest segments that nothing live is in, the last one apart: it says
// what is known of all of them. It reports whether there were any. It is for a start without
// room.
func (c *compactor) dropEmpty() (dropped bool) {
	for !c.keep && c.health.undamaged() {
		oldest, next := c.log.oldest()
		if oldest == nil || c.table.left(oldest.id) > 0 || !c.drop(oldest, next) {
			break
		}
		dropped = true
	}
	return dropped
}

// crowded reports whether it is time to give up the oldest segment: there is much more in
// segments than is live, or all that is left in it are a few dates.
func (c *compactor) crowded(oldest *segment) bool {
	_, size, length := c.log.sizes()
	var crowded, fits bool
	c.table.read(func(s *state) {
		l := s.in(oldest.id)
		crowded = size >= maxSealed*c.segmentBytes && size >= 2*s.records || c.onlyDates(oldest, l)
		fits = l.bytes+l.datedBytes <= (c.log.reserve.pieceBytes()-length)/2
	})
	if full, _ := c.health.room(); full != nil && !fits { // half of the reserve has to be left
		return false
	}
	return crowded
}

// onlyDates reports whether a segment holds nothing but dates, and so few or so small a number
// of bytes that rewriting them is cheaper than keeping the segment. Without this a journal whose
// writes are all upstream would not give up its segments.
func (c *compactor) onlyDates(s *segment, l *contents) bool {
	few := l.datedBytes <= s.size/4 || s.size < c.segmentBytes/4
	return len(l.dates) > 0 && len(l.items)+len(l.orphans) == 0 && few
}

// moved reports whether a rewrite left less in a segment than there was. If it did not, nothing
// that is rewritten would.
func (c *compactor) moved(s *segment, before int) bool {
	if c.table.left(s.id) < before {
		return true
	}
	c.keep = true
	c.logger.Error("live records do not leave an old journal segment; segments stay until the gateway is restarted", "segment", c.log.segmentName(s.id))
	return false
}

// rewrite has records of the oldest segment written once more by the committer, with their
// bodies.
func (c *compactor) rewrite(oldest *segment) bool {
	r := &rewrite{segment: oldest.id, bodies: map[uint64][]byte{}}
	for _, it := range c.table.inlineOf(r) {
		data := make([]byte, it.entry.Size)
		if err := c.bodies.readInline(oldest, data, it.at, it.sum); err != nil {
			c.logger.Error("a body in the journal is damaged; its segment is kept", "key", it.entry.Key.String(), "error", err)
			c.keep = true
			return false
		}
		r.bodies[it.entry.ID] = data
	}
	w, err := c.committer.enqueue(&writing{rewrite: r})
	return err == nil && <-w.done == nil
}

// rewrite is what of a segment is to be written once more: some of its items, and if that are
// all of them, also what else is live in it.
type rewrite struct {
	segment uint64
	items   []uint64
	bodies  map[uint64][]byte // inline ones, by item
	rest    bool
}

// inlineOf chooses what of a segment a rewrite writes, and returns the items whose bodies have to be
// read for it.
func (t *table) inlineOf(r *rewrite) (inline []*item) {
	t.read(func(s *state) {
		size := int64(0)
		for n := range s.in(r.segment).items {
			it := s.items[n]
			r.items = append(r.items, n)
			if it.inline() {
				inline = append(inline, it)
			}
			if size += it.size; size > maxBatch {
				return
			}
		}
		r.rest = true
	})
	return inline
}

// inline reports whether the body of an item is in its record.
func (it *item) inline() bool {
	switch it.kind {
	case kindComplete, kindPacked, kindTranslate:
		return false
	}
	return len(it.spools) == 0 && it.entry.Size > 0
}

// rewritten returns the records of a rewrite as they have to be now: of what is still live, and
// still in the segment. It announces them.
func (t *table) rewritten(r *rewrite) (ops []*op) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.state
	for _, n := range r.items {
		if it := s.items[n]; it != nil && it.segment == r.segment {
			ops = append(ops, recordsOf(it, r.bodies[n])...)
		}
	}
	if r.rest {
		ops = append(ops, s.restOf(r.segment)...)
	}
	t.announceLocked(ops)
	return ops
}

// recordsOf are the records that say all that there is to say of a live item.
func recordsOf(it *item, body []byte) []*op {
	o := &op{kind: it.kind, entry: it.entry.ID, key: it.entry.Key, put: it.entry, upload: it.upload, part: it.part, pack: it.pack, offset: it.offset}
	switch {
	case it.kind == kindComplete:
		o.spools, o.checks = it.spools, it.checks
	case it.kind == kindPacked:
		o.text = it.packKey.Name
	case it.kind == kindTranslate:
		o.text = it.etag
	case len(it.spools) > 0:
		o.spool, o.checks = it.spools[0], it.checks
	default:
		o.data = body
	}
	ops := []*op{o}
	if it.remote != "" {
		ops = append(ops, &op{kind: kindUpload, entry: it.entry.ID, key: it.entry.Key, text: it.remote})
	}
	if it.reason != "" {
		ops = append(ops, &op{kind: kindDead, entry: it.entry.ID, key: it.entry.Key, text: it.reason, when: it.since})
	}
	return ops
}

// restOf are the records of the orphans of a segment, and of its dates or some of them.
func (s *state) restOf(segment uint64) (ops []*op) {
	c := s.in(segment)
	for n := range c.orphans {
		o := s.orphans[n]
		ops = append(ops, &op{kind: kindUpload, entry: o.Entry, key: o.Key, text: o.UploadID})
	}
	size := int64(0)
	for _, d := range c.dates {
		ops = append(ops, d.done())
		if size += d.record; size > maxBatch {
			break
		}
	}
	return ops
}

// left is how many live things are in a segment.
func (t *table) left(segment uint64) (n int) {
	t.read(func(s *state) { n = s.left(segment) })
	return n
}

// forget forgets a segment that was removed.
func (t *table) forget(segment uint64) {
	t.read(func(s *state) { delete(s.segments, segment) })
}
