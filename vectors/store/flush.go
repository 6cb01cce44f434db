package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/remote"
	"github.com/akidb/akigw/vectors/segment"
)

const (
	// maxFlushes is how many collections are flushed, merged or moved by the store itself at a time.
	maxFlushes = 8
	// lookEvery is how often the store looks for what is due.
	lookEvery = time.Second
	// flushTimeout bounds one flush or merge. It is tried again.
	flushTimeout = 10 * time.Minute
	// maxRest is how long a collection rests at most after its flush failed.
	maxRest = time.Minute
)

// work counts what runs in the background, and remembers which collections rest after a failure.
type work struct {
	slots turn
	woken chan struct{}
	tasks sync.WaitGroup

	mu    sync.Mutex
	busy  map[vectors.Incarnation]bool
	rests map[vectors.Incarnation]rest
}

// rest is a pause after failures.
type rest struct {
	failures int
	until    time.Time
}

func newWork() *work {
	return &work{slots: make(turn, maxFlushes), woken: make(chan struct{}, 1), busy: map[vectors.Incarnation]bool{}, rests: map[vectors.Incarnation]rest{}}
}

// wait returns when nothing runs any more.
func (w *work) wait() { w.tasks.Wait() }

// begin reports whether work on a collection may begin: it has none under way, and does not rest.
func (w *work) begin(i vectors.Incarnation, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy[i] || now.Before(w.rests[i].until) {
		return false
	}
	w.busy[i] = true
	return true
}

// end ends what begin began. After a failure the collection rests, longer each time.
func (w *work) end(i vectors.Incarnation, now time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.busy, i)
	if err == nil {
		delete(w.rests, i)
		return
	}
	r := w.rests[i]
	r.failures++
	r.until = now.Add(min(time.Second<<min(r.failures-1, 10), maxRest))
	w.rests[i] = r
}

// poke has the store look for what is due.
func (s *core) poke() {
	select {
	case s.work.woken <- struct{}{}:
	default:
	}
}

// flushIfDue has a collection flushed that has many acknowledged bytes.
func (s *core) flushIfDue(c *collection) {
	if bytes, _ := c.pending(); bytes >= int64(s.config.SegmentBytes) {
		s.poke()
	}
}

// pending returns the memory of the rows that are not in the upstream, and when the first of them was
// acknowledged.
func (c *collection) pending() (bytes int64, oldest time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	bytes, oldest = c.active.bytes, c.active.oldest
	if c.frozen != nil {
		bytes, oldest = bytes+c.frozen.bytes, c.frozen.oldest
	}
	return bytes, oldest
}

// flushing uploads what is due until ctx ends.
func (s *flusher) flushing(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if s.connected(ctx) {
			s.flushDue(ctx)
		}
		select {
		case <-tick.C:
		case <-s.work.woken:
		case <-ctx.Done():
			return
		}
	}
}

// connected reports whether the upstream is ours. Until it has confirmed that, it is asked again.
func (s *flusher) connected(ctx context.Context) bool {
	_, err := s.session.writer()
	if errors.Is(err, errDetached) {
		_, err = s.session.attach(ctx)
	}
	return err == nil
}

// flushDue starts the flushes that are due.
func (s *flusher) flushDue(ctx context.Context) {
	if err := s.flushCatalog(ctx); err != nil && !errStopped(ctx, err) {
		s.log.Warn("the catalog of vector collections could not be written; it is tried again", "error", err)
	}
	limit := time.Duration(s.config.FlushSecs) * time.Second
	for _, e := range s.catalog.current.Load().indexes {
		bytes, oldest := e.collection.pending()
		due := bytes >= int64(s.config.SegmentBytes) || bytes > 0 && s.now().Sub(oldest) >= limit
		switch {
		case due, s.foreign(e.collection):
			s.background(ctx, e.collection, s.flush)
		case e.collection.behind():
			s.background(ctx, e.collection, s.resave)
		}
	}
}

// background does work on a collection on a goroutine of its own, unless there is work on it already.
func (s *flusher) background(ctx context.Context, c *collection, do func(context.Context, *collection) error) {
	id := c.index.Incarnation
	if !s.work.begin(id, s.now()) {
		return
	}
	s.work.tasks.Go(func() {
		err := s.work.slots.take(ctx)
		if err == nil {
			ctx, cancel := context.WithTimeout(ctx, flushTimeout)
			err = do(ctx, c)
			cancel()
			s.work.slots.release()
		}
		s.work.end(id, s.now(), err)
		if err != nil && !errStopped(ctx, err) {
			s.failures.Inc()
			s.log.Warn("work on a vector collection failed; it is tried again", "bucket", c.index.Bucket, "index", c.index.Name, "error", err)
		}
	})
}

// Flush uploads everything that was acknowledged before it was called. The error says what could not
// be uploaded.
func (s *flusher) Flush(ctx context.Context) error {
	if err := s.session.ready(); err != nil {
		return err
	}
	err := s.flushCatalog(ctx)
	entries := slices.Collect(maps.Values(s.catalog.current.Load().indexes))
	return errors.Join(err, each(maxFlushes, entries, func(e entry) error { return s.flush(ctx, e.collection) }))
}

// flush uploads the acknowledged rows of a collection, and merges its parts if that is due.
func (s *flusher) flush(ctx context.Context, c *collection) error {
	if err := c.turn.take(ctx); err != nil {
		return err
	}
	defer c.turn.release()
	if err := s.flushRows(ctx, c); err != nil {
		return err
	}
	if c.mergeDue() {
		switch err := s.merge(ctx, c); {
		case errors.Is(err, ErrNoDisk): // a merge reads a cold collection from local disk; the rows are uploaded
			s.log.Warn("the segments of a cold vector collection cannot be merged now; the next flush tries again", "bucket", c.index.Bucket, "index", c.index.Name, "error", err)
		case err != nil:
			return s.session.failed(fmt.Errorf("merge: %w", s.reloadStale(ctx, c, err)))
		}
	}
	return nil
}

// flushRows uploads the acknowledged rows of a collection. c's turn is taken.
func (s *flusher) flushRows(ctx context.Context, c *collection) error {
	if c.problem() != "" { // what was acknowledged before stays in the journal
		return nil
	}
	for range 2 { // what was frozen before, and what came since
		mem := c.freeze()
		if mem == nil {
			break
		}
		if err := s.flushFrozen(ctx, c, mem); err != nil {
			return s.session.failed(fmt.Errorf("flush: %w", s.reloadStale(ctx, c, err)))
		}
	}
	if s.foreign(c) {
		if err := s.claim(ctx, c); err != nil {
			return s.session.failed(fmt.Errorf("commit: %w", s.reloadStale(ctx, c, err)))
		}
	}
	return nil
}

// foreign reports whether another gateway has written the manifest of a collection: the one from which the
// prefix was taken over. It could go on from there.
func (s *flusher) foreign(c *collection) bool {
	m := c.state()
	return m.Manifest != nil && m.Writer != s.session.self && c.problem() == "" && !c.deleted.Load()
}

// claim commits the manifest of a collection again, so that the gateway that had the prefix before is fenced.
// c's turn is taken.
func (s *flusher) claim(ctx context.Context, c *collection) error {
	r, err := s.session.writer()
	if err != nil {
		return err
	}
	now := c.state()
	return s.commit(ctx, r, c, now.refs(), nil, now.applied())
}

// freeze returns what is to be flushed, nil if there is nothing. It does not change any more.
func (c *collection) freeze() *memtable {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	if c.frozen == nil && c.active.last > 0 {
		c.frozen, c.active, c.snap = c.active, newMemtable(), nil
	}
	return c.frozen
}

// flushFrozen uploads a frozen memtable. c's turn is taken.
func (s *flusher) flushFrozen(ctx context.Context, c *collection, mem *memtable) error {
	if c.deleted.Load() {
		return nil // the change of the catalog releases the records
	}
	r, err := s.session.writer()
	if err != nil {
		return err
	}
	before := c.state()
	level := segment.Delta
	if len(before.refs()) == 0 {
		level = segment.Base
	}
	ref, err := s.uploadFrozen(ctx, r, c, mem, level)
	if err != nil {
		return err
	}
	refs := before.refs()
	if ref != nil {
		refs = append(slices.Clone(refs), *ref)
	}
	if err := s.commit(ctx, r, c, refs, nil, max(mem.last, before.applied())); err != nil {
		return err
	}
	c.discard()
	parts, tier := s.withFlushed(ctx, c, before, mem, ref)
	c.install(parts, tier, true)
	s.memory.releasePending(mem.bytes)
	s.flushes.Inc()
	failpoint.Here("vectors.beforeDone")
	return s.releaseOf(c, mem.records)
}

// memRows yields the rows of a memtable; without tombstones if nothing is below them.
func memRows(mem *memtable, base bool) rows {
	return func(yield func(segment.Row, error) bool) {
		mem.rows.Scan(func(r *row) bool { return base && r.deleted || yield(r.segment(), nil) })
	}
}

// written is a segment in a file.
type written struct {
	mem  *memtable // whose rows it has
	ref  segment.Part
	file *os.File
}

// discard removes the file. w may be nil.
func (w *written) discard() {
	if w != nil {
		_ = w.file.Close()           // nobody reads it any more
		_ = os.Remove(w.file.Name()) // the next start removes it otherwise
	}
}

// discard removes the segment of a flush. The turn is taken.
func (c *collection) discard() {
	c.made.discard()
	c.made = nil
}

// uploadFrozen uploads the rows of a memtable. A flush that is tried again uploads the same segment, under
// the same name: however often it fails, it leaves one object. It returns nil if there are no rows.
func (s *flusher) uploadFrozen(ctx context.Context, r *remote.Remote, c *collection, mem *memtable, level segment.Level) (*segment.Part, error) {
	if c.made != nil && (c.made.mem != mem || c.made.ref.Level != level) {
		c.discard()
	}
	if c.made == nil {
		made, err := s.write(c, level, memRows(mem, level == segment.Base))
		if err != nil || made == nil {
			return nil, err
		}
		made.mem, c.made = mem, made
	}
	ref := c.made.ref
	err := s.send(ctx, r, c, c.made)
	if err != nil && !errors.Is(err, akigw.ErrUpstreamUnavailable) { // perhaps the file is damaged
		c.discard()
	}
	return &ref, err
}

// upload writes rows to a segment and uploads it. It returns nil if there are no rows.
func (s *flusher) upload(ctx context.Context, r *remote.Remote, c *collection, level segment.Level, all rows) (*segment.Part, error) {
	made, err := s.write(c, level, all)
	if err != nil || made == nil {
		return nil, err
	}
	defer made.discard()
	return &made.ref, s.send(ctx, r, c, made)
}

// write writes rows to a segment. It returns nil if there are no rows.
func (s *flusher) write(c *collection, level segment.Level, all rows) (*written, error) {
	f, err := os.CreateTemp(temporary(s.local.dir), "segment-*")
	if err != nil {
		return nil, err
	}
	made := &written{file: f}
	w := segment.NewWriter(f, segment.HeadOf(&c.index))
	empty := true
	for r, err := range all {
		if err == nil {
			err = w.Add(r)
		}
		if err != nil {
			made.discard()
			return nil, err
		}
		empty = false
	}
	summary, err := w.Close()
	if err != nil || empty {
		made.discard()
		return nil, err
	}
	made.ref = segment.NewPart(level, summary)
	return made, nil
}

// send uploads a segment. The name is journalled first: after a crash the object is removed unless a
// manifest names it.
func (s *flusher) send(ctx context.Context, r *remote.Remote, c *collection, made *written) error {
	if err := s.announce(ctx, c, made.ref.Name); err != nil {
		return err
	}
	failpoint.Here("vectors.afterAnnounce")
	return r.PutPart(ctx, collectionOf(&c.index), made.ref, made.file)
}

// upload is an object that may be in the upstream, and the journal's record that says so.
type upload struct {
	name   string
	record uint64
}

// announce journals the name of an object that is about to be uploaded.
func (s *flusher) announce(ctx context.Context, c *collection, name string) error {
	if c.uploading(name) { // by an attempt that failed
		return nil
	}
	prepared, err := s.prepare(encodeJSON(nameOf(c.index)))
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	err = prepared.Append(stream{kind: uploadStream, incarnation: c.index.Incarnation, name: name}.String(), s.now(), func(r journal.Record, err error) {
		if err == nil {
			c.announced(upload{name, r.ID})
		}
		done <- err
	})
	if err != nil {
		return errJournal(err)
	}
	return wait(ctx, done)
}

// announced adds an upload. It is called by the goroutine that commits to the journal.
func (c *collection) announced(u upload) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.uploads = append(c.uploads, u)
}

// commit replaces the manifest of a collection: its parts are refs, and it has everything up to a
// sequence. merged are the parts that became the only one of refs; nil: nothing was merged.
func (s *flusher) commit(ctx context.Context, r *remote.Remote, c *collection, refs, merged []segment.Part, applied uint64) error {
	old := c.state()
	m := old.next(&c.index, s.now())
	m.Parts, m.Applied = refs, applied
	if len(merged) > 0 && len(refs) > 0 {
		m.Merges = append(m.Merges, segment.Merge{Result: refs[0].Name, Generation: m.Generation, Inputs: merged})
	}
	m.Forget(s.config.KeepSnapshots)
	failpoint.Here("vectors.beforeManifest")
	document, etag, err := r.CommitManifest(ctx, m, old.etag)
	if err != nil {
		return err
	}
	failpoint.Here("vectors.afterManifest")
	unsaved := s.local.save(s.local.manifestPath(c.index.Incarnation), etag, document)
	if unsaved != nil {
		s.log.Warn("vectors were uploaded, and stay in the journal for now", "bucket", c.index.Bucket, "index", c.index.Name, "error", unsaved)
	}
	failpoint.Here("vectors.afterCopy")
	c.mu.Lock()
	c.manifest, c.etag, c.unsaved = m, etag, unsaved != nil
	uploads := c.uploads
	c.uploads = nil
	c.mu.Unlock()
	return s.uploaded(c, m, uploads)
}

// uploaded releases the records of uploads that a manifest names. What it does not name is of an attempt
// that failed, and is removed by the next sweep.
func (s *flusher) uploaded(c *collection, m *segment.Manifest, uploads []upload) error {
	var records []uint64
	for _, u := range uploads {
		if slices.Contains(m.Names(), u.name) {
			records = append(records, u.record)
		} else {
			s.orphans.add(orphan{collectionOf(&c.index), u.name, u.record})
		}
	}
	return s.releaseOf(c, records)
}

// releaseOf has records of a collection leave the journal that its manifest has: once the local copy of the
// manifest has them as well.
func (s *core) releaseOf(c *collection, records []uint64) error {
	c.mu.Lock()
	c.kept = append(c.kept, records...)
	if c.unsaved {
		records = nil
	} else {
		records, c.kept = c.kept, nil
	}
	c.mu.Unlock()
	return s.release(records)
}

// resave writes the local copy of the manifest of a collection if that failed before.
func (s *flusher) resave(ctx context.Context, c *collection) error {
	if err := c.turn.take(ctx); err != nil {
		return err
	}
	defer c.turn.release()
	state := c.state()
	if c.deleted.Load() || state.Manifest == nil {
		return nil
	}
	document, err := state.Encode()
	if err == nil {
		err = s.local.save(s.local.manifestPath(c.index.Incarnation), state.etag, document)
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.unsaved = false
	c.mu.Unlock()
	return s.releaseOf(c, nil)
}

// behind reports whether the local copy of the manifest is behind.
func (c *collection) behind() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unsaved
}

// release has records leave the journal.
func (s *core) release(records []uint64) error {
	if len(records) == 0 {
		return nil
	}
	return s.journal.Records.Done(records, func(err error) {
		if err != nil {
			s.log.Warn("records of flushed vectors stay in the journal until the next start", "error", err)
		}
	})
}

// manifestState is the manifest of a collection, and what it was read as.
type manifestState struct {
	*segment.Manifest // nil: none
	etag              string
	tier              Tier
	parts             []held
}

func (c *collection) state() manifestState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return manifestState{c.manifest, c.etag, c.tier, c.parts}
}

func (m manifestState) refs() []segment.Part {
	if m.Manifest == nil {
		return nil
	}
	return m.Parts
}

func (m manifestState) applied() uint64 {
	if m.Manifest == nil {
		return 0
	}
	return m.Applied
}

// next returns the manifest that follows, with the same content.
func (m manifestState) next(i *vectors.Index, now time.Time) *segment.Manifest {
	n := &segment.Manifest{Head: segment.HeadOf(i), Created: now, Generation: 1}
	if m.Manifest != nil {
		n.Generation, n.Merges = m.Generation+1, slices.Clone(m.Merges)
	}
	return n
}

// stored returns the bytes of the segments that a manifest names.
func (c *collection) stored() (n int64) {
	if m := c.state(); m.Manifest != nil {
		n = m.Bytes()
	}
	return n
}

// problem returns why a collection is read-only, "" if it is not.
func (c *collection) problem() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.degraded
}

// errDeleted: the collection was deleted meanwhile.
const errDeleted = akigw.Error("the index was deleted")
