package journal

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/akidb/akigw/journal/internal/spool"

	"github.com/akidb/akigw/internal/failpoint"
)

// compactor removes garbage in the background: spool files that are not needed any more, and the
// oldest segments without live records. Segments go strictly in order, each removal durable before the next: a
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

// close ends the background goroutine. What can be removed without writing a record has been
// removed when it returns.
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
	if !c.log.beginRemoval(s) {
		return false
	}
	defer c.log.endRemoval(s)
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
		c.keep = true // it may come back after a crash: those after it have to stay
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

// left is how many live things are in a segment.
func (t *table) left(segment uint64) (n int) {
	t.read(func(s *state) { n = s.left(segment) })
	return n
}

// forget forgets a segment that was removed.
func (t *table) forget(segment uint64) {
	t.read(func(s *state) { delete(s.segments, segment) })
}
