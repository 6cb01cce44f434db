package journal

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/akidb/akigw/journal/internal/spool"

	"github.com/akidb/akigw/internal/failpoint"
)

// compactor removes garbage in the background: spool files that are no longer needed, and the
// oldest segments once they hold no live records. Segments are removed strictly in order, and each
// removal is durable before the next: a record that ends an entry never disappears before the
// entry's own record. Nothing is removed before its replacement is durable, because only durable
// records are applied.
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

	postponed atomic.Bool // the oldest segment can be removed when there is space for the side files

	// The remaining fields belong to the goroutine, and to the recovery before it starts.
	keep bool // segments are kept, because a removal failed or they must not be touched
}

func (c *compactor) start() { c.done.Go(c.run) }

// close ends the background goroutine. By then it has removed everything that can be removed
// without writing a record.
func (c *compactor) close() {
	close(c.stop)
	c.done.Wait()
}

// poke tells the compactor to check whether something can be removed.
func (c *compactor) poke() {
	select {
	case c.wake <- struct{}{}:
	default: // a check is already due
	}
}

// retry is poke if something could not be removed because the disk was full.
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
		c.committer.poke() // the committer may be waiting for that space
	}
	c.compact()
}

// maxSealed is the size of records, in segments, above which live records are rewritten so that old
// segments can be removed.
const maxSealed = 4

// compact removes the oldest segments that hold nothing live, and rewrites the live records of the
// oldest segment when it is worth it.
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
// If the disk is too full for the side file, the removal is retried later.
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
		c.keep = true // it may reappear after a crash, so later segments must stay
		c.logger.Warn("could not remove an old journal segment; segments are kept until the gateway is restarted", "segment", c.log.segmentName(s.id), "error", err)
		return false
	}
	c.table.forget(s.id)
	return true
}

// dropEmpty removes the oldest segments that hold nothing live, but never the last one, which
// describes all the others. It reports whether it removed any. It is for a start on a full disk.
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

// crowded reports whether the oldest segment should be rewritten: segments hold much more than what
// is live, or the oldest one holds only a few date pairs.
func (c *compactor) crowded(oldest *segment) bool {
	_, size, length := c.log.sizes()
	var crowded, fits bool
	c.table.read(func(s *state) {
		l := s.in(oldest.id)
		crowded = size >= maxSealed*c.segmentBytes && size >= 2*s.records || c.onlyDates(oldest, l)
		fits = l.bytes+l.datedBytes <= (c.log.reserve.pieceBytes()-length)/2
	})
	if full, _ := c.health.room(); full != nil && !fits { // half of the reserve must remain
		return false
	}
	return crowded
}

// onlyDates reports whether a segment holds nothing but date pairs, and so few of them that
// rewriting them is cheaper than keeping the segment. Without this, a journal whose writes are all
// in the upstream would never give up its segments.
func (c *compactor) onlyDates(s *segment, l *contents) bool {
	few := l.datedBytes <= s.size/4 || s.size < c.segmentBytes/4
	return len(l.dates) > 0 && len(l.items)+len(l.orphans) == 0 && few
}

// moved reports whether a rewrite reduced what is live in a segment. If it did not, rewriting again
// would not help.
func (c *compactor) moved(s *segment, before int) bool {
	if c.table.left(s.id) < before {
		return true
	}
	c.keep = true
	c.logger.Error("live records could not be moved out of an old journal segment; segments are kept until the gateway is restarted", "segment", c.log.segmentName(s.id))
	return false
}

// rewrite asks the committer to write live records of the oldest segment again, with their bodies.
func (c *compactor) rewrite(oldest *segment) bool {
	r := &rewrite{segment: oldest.id, bodies: map[uint64][]byte{}}
	for _, it := range c.table.inlineOf(r) {
		data := make([]byte, it.entry.Size)
		if err := c.bodies.readInline(oldest, data, it.at, it.sum); err != nil {
			c.logger.Error("a body in the journal is damaged; its segment is kept", "key", it.named(), "error", err)
			c.keep = true
			return false
		}
		r.bodies[it.entry.ID] = data
	}
	done := make(chan error, 1)
	err := c.committer.enqueue(&writing{rewrite: r, then: func(err error) { done <- err }})
	return err == nil && <-done == nil
}

// left returns the number of live items in a segment.
func (t *table) left(segment uint64) (n int) {
	t.read(func(s *state) { n = s.left(segment) })
	return n
}

// forget drops the state of a removed segment.
func (t *table) forget(segment uint64) {
	t.read(func(s *state) { delete(s.segments, segment) })
}
