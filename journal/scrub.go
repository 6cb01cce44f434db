package journal

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tidwall/btree"
	"golang.org/x/time/rate"

	"github.com/akidb/akigw/internal/vfs"
)

// scrub is what reads and verifies both directories of a journal in the background, and repairs
// what it, or a reader, has found damaged in one of them.
type scrub struct {
	cancel context.CancelFunc // nil: there is one directory
	done   sync.WaitGroup
	wake   chan struct{}

	// What follows is guarded by the journal's mu.
	bodies   map[uint64]body          // to be repaired
	segments map[*segment]struct{}    // likewise
	mending  map[uint64]chan struct{} // bodies that are being repaired; closed when that is over
	lost     map[uint64]bool          // bodies that are damaged in both directories
}

func newScrub() scrub {
	return scrub{wake: make(chan struct{}, 1), bodies: map[uint64]body{}, segments: map[*segment]struct{}{}, mending: map[uint64]chan struct{}{}, lost: map[uint64]bool{}}
}

const (
	// scrubPause is between the end of a scrub and the next one.
	scrubPause = time.Hour
	// mendPause is how long nothing is repaired after a repair that failed: the disk of the
	// directory is full, or has gone.
	mendPause = time.Minute
	// scrubChunk is how many bytes are read at a time.
	scrubChunk = 1 << 20
)

// startScrub starts the scrub of a journal with two directories.
func (j *Journal) startScrub() {
	if j.mirror == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	j.scrub.cancel = cancel
	j.scrub.done.Go(func() { j.runMending(ctx) })
	if j.config.ScrubRate > 0 {
		j.scrub.done.Go(func() { j.runScrub(ctx) })
	}
}

// stopScrub returns when nothing is read or repaired in the background any more.
func (j *Journal) stopScrub() {
	if j.scrub.cancel != nil {
		j.scrub.cancel()
		j.scrub.done.Wait()
	}
}

// runScrub verifies everything again and again.
func (j *Journal) runScrub(ctx context.Context) {
	limit := rate.NewLimiter(rate.Limit(j.config.ScrubRate), scrubChunk)
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
			if err := j.scrubAll(ctx, limit); err != nil {
				j.config.Log.Error("the journal could not be repaired; the next scrub tries again", "after", scrubPause, "error", err)
			}
			next.Reset(scrubPause)
		}
	}
}

// runMending repairs what readers have found. It does not wait for the scrub, which may take hours.
func (j *Journal) runMending(ctx context.Context) {
	retry := time.NewTimer(0)
	defer retry.Stop()
	wake := j.scrub.wake
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
			if err := j.mendAll(); err != nil {
				j.config.Log.Error("the journal could not be repaired; it is tried again", "after", mendPause, "error", err)
				wake = nil
				retry.Reset(mendPause)
			}
		case <-retry.C:
			wake = j.scrub.wake
		}
	}
}

// mendBody has a body repaired in the background: a copy of it was found damaged.
func (j *Journal) mendBody(p piece, named string) {
	if j.mirror == nil {
		return
	}
	j.mu.Lock()
	j.scrub.bodies[p.spool] = body{piece: p, named: named}
	j.mu.Unlock()
	j.wakeScrub()
}

// mendSegment is mendBody for a segment.
func (j *Journal) mendSegment(s *segment) {
	if j.mirror == nil {
		return
	}
	j.mu.Lock()
	j.scrub.segments[s] = struct{}{}
	j.mu.Unlock()
	j.wakeScrub()
}

func (j *Journal) wakeScrub() {
	select {
	case j.scrub.wake <- struct{}{}:
	default: // it is going to look anyway
	}
}

// beginMending takes a body for a repair. It returns false if somebody else has it, nobody can
// repair it, or its entry has gone.
func (j *Journal) beginMending(p piece) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.scrub.mending[p.spool] != nil || j.scrub.lost[p.spool] || !j.refers(p) {
		return false
	}
	j.scrub.mending[p.spool] = make(chan struct{})
	j.readers[p.spool]++ // it is not removed meanwhile
	return true
}

// giveUp notes that a body is intact in neither directory.
func (j *Journal) giveUp(spool uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.scrub.lost[spool] = true
}

func (j *Journal) endMending(spool uint64) {
	j.mu.Lock()
	close(j.scrub.mending[spool])
	delete(j.scrub.mending, spool)
	j.mu.Unlock()
	j.unread(spool)
}

// awaitMending returns when a repair of a body that is under way is over.
func (j *Journal) awaitMending(spool uint64) {
	j.mu.Lock()
	over := j.scrub.mending[spool]
	j.mu.Unlock()
	if over != nil {
		<-over
	}
}

// mendAll repairs what readers have found, up to the first repair that fails. What is left is found
// again by the next reader, or the next scrub.
func (j *Journal) mendAll() error {
	j.mu.Lock()
	bodies, segments := slices.Collect(maps.Values(j.scrub.bodies)), slices.Collect(maps.Keys(j.scrub.segments))
	clear(j.scrub.bodies)
	clear(j.scrub.segments)
	j.mu.Unlock()
	for _, b := range bodies {
		if err := j.mendOne(b); err != nil {
			return err
		}
	}
	for _, s := range segments {
		if err := j.repairSegment(s); err != nil {
			return err
		}
	}
	return nil
}

// mendOne repairs a body unless its entry has gone. The error says that a copy of it could not be
// written.
func (j *Journal) mendOne(b body) error {
	err := j.repairBody(b.piece, b.named)
	if errors.Is(err, errRepair) {
		return err
	}
	if err != nil && !errors.Is(err, errMending) && j.needs(b.piece) {
		j.config.Log.Error("a body in the journal is damaged in both directories", "key", b.named, "error", err)
	}
	return nil
}

// needs reports whether the entry of a body is still here, with that body.
func (j *Journal) needs(p piece) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.refers(p)
}

// refers is needs with mu held.
func (j *Journal) refers(p piece) bool {
	it := j.ids[p.entry]
	return it != nil && slices.Contains(it.spools, p.spool)
}

// fixing keeps a segment from being removed while it is repaired. It returns false for one that
// has gone, is being repaired, or is still written.
func (j *Journal) fixing(s *segment) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if s.gone || s.fixing || s == j.segments[len(j.segments)-1] || j.mirror.misplaced {
		return false
	}
	s.fixing = true
	return true
}

// repairSegment writes the copies of a segment again that lack records that the other one has.
func (j *Journal) repairSegment(s *segment) error {
	if !j.fixing(s) {
		return nil
	}
	err := j.mirror.repairSegment(s)
	j.mu.Lock()
	defer j.mu.Unlock()
	s.fixing = false
	return err
}

// scrubAll verifies everything once, up to the first repair that fails.
func (j *Journal) scrubAll(ctx context.Context, limit *rate.Limiter) error {
	j.mu.Lock()
	segments := slices.Clone(j.segments[:max(0, len(j.segments)-1)]) // the last one is written
	j.mu.Unlock()
	for _, s := range segments {
		if err := j.scrubSegment(ctx, limit, s); err != nil {
			return err
		}
	}
	for _, list := range []*btree.Map[uint64, *item]{&j.pending, &j.dead} {
		for from, more := uint64(0), true; more && ctx.Err() == nil; {
			var page []body
			page, from, more = j.bodiesFrom(list, from)
			if err := j.scrubBodies(ctx, limit, page); err != nil {
				return err
			}
		}
	}
	return j.scrubBodies(ctx, limit, j.partBodies())
}

// bodiesFrom returns bodies of entries from a number on, and where to go on if there are more.
func (j *Journal) bodiesFrom(list *btree.Map[uint64, *item], from uint64) (page []body, next uint64, more bool) {
	const entries = 256
	j.mu.Lock()
	defer j.mu.Unlock()
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

// partBodies are those of open uploads.
func (j *Journal) partBodies() (all []body) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, u := range j.uploads {
		for _, it := range u.parts {
			all = append(all, it.bodies()...)
		}
	}
	return all
}

// bodies are the spool files of an item.
func (it *item) bodies() (all []body) {
	if len(it.spools) == 0 {
		return nil
	}
	for _, p := range it.pieces() {
		all = append(all, body{piece: p, named: it.entry.Key.String()})
	}
	return all
}

func (j *Journal) scrubBodies(ctx context.Context, limit *rate.Limiter, all []body) error {
	for _, b := range all {
		if ctx.Err() != nil {
			return nil
		}
		if j.isIntact(ctx, limit, b) || ctx.Err() != nil || !j.needs(b.piece) {
			continue
		}
		if err := j.mendOne(b); err != nil {
			return err
		}
	}
	return nil
}

// isIntact reads the copies of a body. It is true if they are as they should be, or the entry has
// gone.
func (j *Journal) isIntact(ctx context.Context, limit *rate.Limiter, b body) bool {
	m := j.mirror
	for i := range m.dirs {
		f, err := m.FS.Open(m.on(i, j.spoolName(b.spool)))
		if err != nil {
			return false
		}
		intact := b.isIntact(f, func(n int) error { return limit.WaitN(ctx, n) })
		if err := f.Close(); err != nil || !intact {
			return false
		}
	}
	return true
}

// isIntact reads a copy of the body. pace is called before so many bytes are read.
func (p piece) isIntact(f vfs.File, pace func(int) error) bool {
	sums, err := p.readTable(f)
	if err != nil {
		return false
	}
	block := make([]byte, spoolBlock)
	for i := range p.blocks() {
		from, to := p.block(i)
		if pace(int(to-from)) != nil {
			return true // nobody wants to know any more
		}
		if n, _ := f.ReadAt(block[:to-from], from); int64(n) < to-from || !fits(block[:n], sums, i) {
			return false
		}
	}
	return true
}

// scrubSegment compares the copies of a segment that is not written any more, and repairs them if
// they differ.
func (j *Journal) scrubSegment(ctx context.Context, limit *rate.Limiter, s *segment) error {
	if j.mirror.sameSegments(s, func(n int64) error { return limit.WaitN(ctx, int(n)) }) {
		return nil
	}
	return j.repairSegment(s)
}

// sameSegments compares the files of a segment by their names: a file that was removed can still
// be read by those who have it open. pace is called before so many bytes are read.
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
			return true // nobody wants to know any more
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
