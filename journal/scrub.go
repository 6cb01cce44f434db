package journal

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/akidb/akigw/journal/internal/spool"

	"github.com/tidwall/btree"
	"golang.org/x/time/rate"

	"github.com/akidb/akigw/internal/vfs"
)

// scrubber repeatedly reads and verifies both directories of a journal in the background, and
// repairs damage that it finds in one of them.
type scrubber struct {
	mirror *mirror
	repair *repairer
	table  *table
	log    *wal
	spool  *spool.Spool
	logger *slog.Logger
	rate   int64 // bytes of each directory per second; 0: no scrubbing

	cancel context.CancelFunc // nil before start
	done   sync.WaitGroup
}

const (
	// scrubPause is the pause between two scrubs.
	scrubPause = time.Hour
	// scrubChunk is the size of a read in bytes.
	scrubChunk = 1 << 20
)

// start starts the scrub, and the repair of damage that readers report. Without a second directory
// it does nothing.
func (s *scrubber) start() {
	if s.mirror == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.done.Go(func() { s.repair.run(ctx) })
	if s.rate > 0 {
		s.done.Go(func() { s.run(ctx) })
	}
}

// stop returns when the background work has ended.
func (s *scrubber) stop() {
	if s.cancel != nil {
		s.cancel()
		s.done.Wait()
	}
}

// run scrubs again and again.
func (s *scrubber) run(ctx context.Context) {
	limit := rate.NewLimiter(rate.Limit(s.rate), scrubChunk)
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
			if err := s.all(ctx, limit); err != nil {
				s.logger.Error("the journal could not be repaired; the next scrub tries again", "after", scrubPause, "error", err)
			}
			next.Reset(scrubPause)
		}
	}
}

// all verifies everything once, up to the first repair that fails.
func (s *scrubber) all(ctx context.Context, limit *rate.Limiter) error {
	for _, seg := range s.log.complete() {
		if err := s.segment(ctx, limit, seg); err != nil {
			return err
		}
	}
	state := s.table.state
	for _, list := range []*btree.Map[uint64, *item]{&state.lists.pending, &state.lists.dead, &state.streams.live} {
		for from, more := uint64(0), true; more && ctx.Err() == nil; {
			var page []body
			page, from, more = s.table.bodiesFrom(list, from)
			if err := s.bodies(ctx, limit, page); err != nil {
				return err
			}
		}
	}
	return s.bodies(ctx, limit, s.table.partBodies())
}

// bodiesFrom returns a page of bodies of a list, starting at a number, and where the next page
// starts.
func (t *table) bodiesFrom(list *btree.Map[uint64, *item], from uint64) (page []body, next uint64, more bool) {
	const entries = 256
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	list.Ascend(from, func(id uint64, it *item) bool {
		if n++; n > entries {
			next, more = id, true
			return false
		}
		page = append(page, it.bodies()...)
		return true
	})
	return page, next, more
}

// partBodies returns the bodies of the parts of open uploads.
func (t *table) partBodies() (all []body) {
	t.read(func(s *state) {
		for _, u := range s.uploads.open {
			for _, it := range u.parts {
				all = append(all, it.bodies()...)
			}
		}
	})
	return all
}

func (s *scrubber) bodies(ctx context.Context, limit *rate.Limiter, all []body) error {
	for _, b := range all {
		if ctx.Err() != nil {
			return nil
		}
		if s.isIntact(ctx, limit, b) || ctx.Err() != nil || !s.table.needs(b.Piece) {
			continue
		}
		if err := s.repair.one(b); err != nil {
			return err
		}
	}
	return nil
}

// isIntact reads and verifies the copies of a body. It returns true if they are intact, or if the
// scrub is stopping.
func (s *scrubber) isIntact(ctx context.Context, limit *rate.Limiter, b body) bool {
	m := s.mirror
	for i := range m.dirs {
		f, err := m.FS.Open(m.on(i, s.spool.Name(b.Number)))
		if err != nil {
			return false
		}
		intact := b.IsIntact(f, func(n int) error { return limit.WaitN(ctx, n) })
		if err := f.Close(); err != nil || !intact {
			return false
		}
	}
	return true
}

// segment compares the copies of a complete segment, and repairs them if they differ.
func (s *scrubber) segment(ctx context.Context, limit *rate.Limiter, seg *segment) error {
	if s.mirror.sameSegments(seg, func(n int64) error { return limit.WaitN(ctx, int(n)) }) {
		return nil
	}
	return s.repair.segment(seg)
}

// sameSegments compares the files of a segment by name: an open file stays readable after it was
// removed, so the open ones prove nothing. pace is called with the number of bytes before each
// read.
func (m *mirror) sameSegments(s *segment, pace func(int64) error) bool {
	var files [2]vfs.File
	for i := range files {
		f, err := m.FS.Open(m.segment(i, s.id))
		if err != nil {
			return false
		}
		defer f.Close()
		files[i] = f
	}
	for at := int64(0); at < s.size; at += scrubChunk {
		n := min(scrubChunk, s.size-at)
		if pace(n) != nil || pace(n) != nil { // both are read
			return true // the scrub is stopping
		}
		if !sameStretch(files[0], files[1], at, n) {
			return false
		}
	}
	return true
}

func sameStretch(a, b vfs.File, at, n int64) bool {
	x, y := make([]byte, n), make([]byte, n)
	i, _ := a.ReadAt(x, at)
	k, _ := b.ReadAt(y, at)
	return int64(i) == n && int64(k) == n && slices.Equal(x, y)
}
