package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/part"
	"github.com/akidb/akigw/vectors/remote"
	"github.com/akidb/akigw/vectors/search"
	"github.com/akidb/akigw/vectors/segment"
)

// Tier is where a collection is searched.
type Tier int

// The tiers.
const (
	Cold Tier = iota // in the upstream: a read promotes it first
	Warm             // on local disk
	Hot              // in memory
)

// tierNames are the names of the tiers.
func tierNames() [3]string { return [...]string{"cold", "warm", "hot"} }

// String implements fmt.Stringer.
func (t Tier) String() string { return tierNames()[t] }

// MarshalText implements encoding.TextMarshaler.
func (t Tier) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler: the names are hot, warm and cold.
func (t *Tier) UnmarshalText(text []byte) error {
	for n, name := range tierNames() {
		if name == string(text) {
			*t = Tier(n)
			return nil
		}
	}
	return fmt.Errorf("%q is no tier: hot, warm or cold", text)
}

// ErrNoMemory: a collection does not fit into the memory for hot collections.
const ErrNoMemory = akigw.Error("the collection does not fit into vectors.memory_bytes beside the other hot collections")

// ErrNoDisk: a collection could not be stored in the warm tier.
const ErrNoDisk = akigw.Error("the collection could not be stored in the warm tier: the disk is full, cannot be written, or vectors.warm_bytes is too small")

// moveTimeout bounds a promotion or demotion.
const moveTimeout = 30 * time.Minute

// readable returns the state of a collection that can be read. A cold one is promoted to warm, once for
// all who wait; a caller waits for at most search_secs, and the promotion goes on.
func (s *tierer) readable(ctx context.Context, c *collection) (*snapshot, error) {
	if snap := c.snapshot(); snap.tier != Cold {
		return snap, nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(s.config.SearchSecs)*time.Second)
	defer cancel()
	for { // it may be cold again by the time that the promotion has ended
		promotion := s.promotions.join(ctx, c, func(ctx context.Context) error { return s.take(ctx, c, Warm) })
		select {
		case <-promotion.done:
		case <-ctx.Done():
			return nil, &vectors.Error{Code: vectors.Unavailable, Message: "The index is being loaded. Try again later.", RetryAfter: 1}
		}
		if promotion.err != nil {
			return nil, &vectors.Error{Code: vectors.Unavailable, Message: "The index could not be loaded. Try again later.", RetryAfter: 1, Cause: promotion.err}
		}
		if snap := c.snapshot(); snap.tier != Cold {
			return snap, nil
		}
	}
}

// lost says that blocks of a warm collection are missing, as a read has found: unless it has other
// parts by now, it is cold.
func (s *tierer) lost(c *collection, snap *snapshot, cause error) {
	if snap == nil || !c.drop(snap.parts) {
		return
	}
	s.log.Warn("a warm vector collection lost blocks on disk: it is promoted from the upstream again", "bucket", c.index.Bucket, "index", c.index.Name, "error", cause)
	for _, p := range snap.parts {
		s.extents.drop([]segment.Part{p.ref})
	}
}

// drop makes a warm collection cold, if its parts are those given.
func (c *collection) drop(parts []held) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	same := func(a, b held) bool { return a.ref.Name == b.ref.Name }
	if c.tier != Warm || !slices.EqualFunc(c.parts, parts, same) {
		return false
	}
	c.snap, c.parts, c.alive, c.tier = nil, nil, nil, Cold
	return true
}

// Move moves a collection to a tier. It stays where it is if that fails.
func (s *tierer) Move(ctx context.Context, bucket, index string, to Tier) error {
	if err := s.session.ready(); err != nil {
		return err
	}
	e, err := s.catalog.current.Load().index(bucket, index)
	if err != nil {
		return err
	}
	return s.take(ctx, e.collection, to)
}

// take moves a collection to a tier when it is its turn.
func (s *tierer) take(ctx context.Context, c *collection, to Tier) error {
	if err := c.turn.take(ctx); err != nil {
		return err
	}
	defer c.turn.release()
	return s.move(ctx, c, to)
}

// move is Move with c's turn taken.
func (s *tierer) move(ctx context.Context, c *collection, to Tier) error {
	if c.deleted.Load() { // what it had is released, or will be
		return errDeleted
	}
	from := c.state().tier
	switch {
	case from == to:
		return nil
	case to == Hot:
		return s.toHot(ctx, c)
	case to == Warm:
		return s.toWarm(ctx, c)
	}
	return s.toCold(ctx, c)
}

// toWarm brings all parts to local disk. c's turn is taken.
func (s *tierer) toWarm(ctx context.Context, c *collection) error {
	before := c.state()
	parts, err := s.warmParts(ctx, c, before, before.refs())
	for errors.Is(err, segment.ErrCorrupt) || errors.Is(err, remote.ErrAbsent) {
		// Perhaps the manifest is only older than that of the upstream, where its parts were merged since.
		if s.reload(ctx, c) != nil {
			if lost := s.degrade(ctx, c, err); lost != nil {
				return lost
			}
		}
		before = c.state()
		parts, err = s.warmParts(ctx, c, before, before.refs())
	}
	if err != nil {
		return err
	}
	c.install(parts, Warm, false)
	s.freeHot(before.parts)
	return nil
}

// degrade replaces the manifest of a collection by an older one, because parts of it are lost. From then on
// the collection is read-only.
func (s *tierer) degrade(ctx context.Context, c *collection, cause error) error {
	r, err := s.reader()
	if err != nil {
		return err
	}
	state := c.state()
	older, err := r.OlderManifest(ctx, collectionOf(&c.index), state.Generation, state.etag)
	if err != nil {
		return errors.Join(cause, err)
	}
	reason := fmt.Sprintf("objects of it are lost in the upstream; what is served is the state of %s", older.Created.UTC().Format(time.DateTime))
	s.log.Error("a vector collection has lost data: it is read-only from now on. Restore its objects in the upstream and restart the gateway, or create the index anew", "bucket", c.index.Bucket, "index", c.index.Name, "state_of", older.Created, "error", cause)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.manifest, c.etag, c.degraded = older.Manifest, older.ETag, reason
	return nil
}

// warmParts returns the parts of refs on local disk: those that are there, and the others from memory or
// from the upstream.
func (s *tierer) warmParts(ctx context.Context, c *collection, have manifestState, refs []segment.Part) (parts []held, err error) {
	for _, ref := range refs {
		p, err := s.warmPart(ctx, c, have, ref)
		if err != nil {
			return nil, err
		}
		parts = append(parts, held{p, ref})
	}
	return parts, nil
}

func (s *tierer) warmPart(ctx context.Context, c *collection, have manifestState, ref segment.Part) (part.Part, error) {
	if p, err := s.extents.open(ctx, ref); err == nil {
		return p, nil
	}
	if p := have.find(ref.Name); p != nil {
		return s.writeWarm(ctx, c, ref, ascending(ctx, p))
	}
	return s.fetch(ctx, c, have.Manifest, ref)
}

// fetch brings a part from the upstream to local disk: its object, or what stands in for it.
func (s *tierer) fetch(ctx context.Context, c *collection, m *segment.Manifest, ref segment.Part) (_ part.Part, err error) {
	r, err := s.reader()
	if err != nil {
		return nil, err
	}
	files, err := r.OpenPart(ctx, m, ref, nil)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
	}()
	var all []ascend
	for _, f := range files {
		all = append(all, func(yield func(segment.Row) error) error { return segment.Read(ctx, f, m.Head, f.Summary, yield) })
	}
	if len(all) == 1 {
		return s.writeWarm(ctx, c, ref, all[0])
	}
	return s.writeWarm(ctx, c, ref, mergedRows(all).ascend)
}

// find returns the part of a name, nil if there is none.
func (m manifestState) find(name string) part.Part {
	for _, p := range m.parts {
		if p.ref.Name == name {
			return p.Part
		}
	}
	return nil
}

// reader returns what reads from the upstream, also if the prefix is another gateway's by now.
func (s *core) reader() (*remote.Remote, error) {
	s.session.mu.Lock()
	defer s.session.mu.Unlock()
	if s.session.remote == nil {
		return nil, fmt.Errorf("%w: %w", errDetached, s.session.cause)
	}
	return s.session.remote, nil
}

// toHot brings all parts into memory. c's turn is taken.
func (s *tierer) toHot(ctx context.Context, c *collection) error {
	if c.state().tier == Cold {
		if err := s.toWarm(ctx, c); err != nil {
			return err
		}
	}
	before := c.state()
	if need := estimate(c.index, before.refs()); !s.memory.fitsHot(need) {
		return ErrNoMemory
	}
	parts := make([]held, 0, len(before.parts))
	for _, p := range before.parts {
		m, err := s.inMemory(ctx, c.index, p.ref, exactRows(p.ref, before.refs()), ascending(ctx, p.Part))
		if err != nil {
			s.freeHot(parts)
			return err
		}
		parts = append(parts, held{m, p.ref})
	}
	c.install(parts, Hot, false)
	return nil
}

// estimate is the memory that parts will take, in bytes.
func estimate(i vectors.Index, refs []segment.Part) (n int64) {
	for _, ref := range refs {
		n += ref.Rows * (int64(i.Dimension)*5 + 128)
	}
	return n
}

// inMemory builds a part in memory, within the limit.
func (s *tierer) inMemory(ctx context.Context, i vectors.Index, ref segment.Part, exact int, from ascend) (*part.Memory, error) {
	b := part.NewBuilder(optionsOf(i, ref))
	if err := from(b.Add); err != nil {
		return nil, err
	}
	m, err := b.Finish(ctx, search.Options{Threads: max(1, runtime.GOMAXPROCS(0)/2), ExactRows: exact})
	if err != nil {
		return nil, err
	}
	if !s.memory.acquireHot(m.Bytes()) {
		return nil, ErrNoMemory
	}
	return m, nil
}

// optionsOf are the options of a part.
func optionsOf(i vectors.Index, ref segment.Part) part.Options {
	return part.Options{Dimension: i.Dimension, Metric: i.Metric, Rows: int(ref.Rows), NonFilterable: i.NonFilterable}
}

// smallPart is the number of rows below which a later part of a large collection is searched exactly.
const smallPart = 2000

// exactRows is the number of rows below which a part in memory is searched exactly, 0 for the default. The
// later parts of a collection whose base is searched approximately are so as well.
func exactRows(ref segment.Part, refs []segment.Part) int {
	if ref.Level == segment.Base || len(refs) == 0 || refs[0].Rows < search.ExactRows {
		return 0
	}
	return smallPart
}

// freeHot releases the memory of parts that are not used any more.
func (s *tierer) freeHot(parts []held) {
	for _, p := range parts {
		if m, ok := p.Part.(*part.Memory); ok {
			s.memory.releaseHot(m.Bytes())
		}
	}
}

// toCold uploads what is in memory only, and drops the local copies of a collection. It stays where it is
// if it cannot be uploaded. c's turn is taken.
func (s *tierer) toCold(ctx context.Context, c *collection) error {
	if err := s.flushFirst(ctx, c); err != nil {
		return err
	}
	before := c.state()
	c.install(nil, Cold, false)
	s.freeHot(before.parts)
	s.extents.drop(before.refs())
	return nil
}

// withFlushed returns the parts of a collection with the one that a flush made of mem (ref nil: of which
// nothing was left), and the tier that they are in: a lower one if there is no room.
func (s *tierer) withFlushed(ctx context.Context, c *collection, before manifestState, mem *memtable, ref *segment.Part) ([]held, Tier) {
	if ref == nil {
		return before.parts, before.tier
	}
	rows := memRows(mem, ref.Level == segment.Base).ascend
	if before.tier == Hot {
		m, err := s.inMemory(ctx, c.index, *ref, exactRows(*ref, before.refs()), rows)
		if err == nil {
			return append(before.parts[:len(before.parts):len(before.parts)], held{m, *ref}), Hot
		}
		s.log.Info("a hot vector collection becomes warm", "bucket", c.index.Bucket, "index", c.index.Name, "error", err)
	}
	if before.tier != Cold {
		parts, err := s.warmParts(ctx, c, before, before.refs())
		if err == nil {
			var p part.Part
			p, err = s.writeWarm(ctx, c, *ref, rows)
			parts = append(parts, held{p, *ref})
		}
		if err == nil {
			s.freeHot(before.parts)
			return parts, Warm
		}
		s.log.Warn("a vector collection becomes cold", "bucket", c.index.Bucket, "index", c.index.Name, "error", err)
	}
	s.freeHot(before.parts)
	return nil, Cold
}

// replace installs the part that a merge has made (refs: one or none) instead of all others.
func (s *tierer) replace(ctx context.Context, c *collection, before manifestState, refs []segment.Part) error {
	parts, tier := s.merged(ctx, c, before, refs)
	c.install(parts, tier, false)
	s.freeHot(before.parts)
	s.extents.drop(before.refs())
	return nil
}

func (s *tierer) merged(ctx context.Context, c *collection, before manifestState, refs []segment.Part) ([]held, Tier) {
	if len(refs) == 0 {
		return nil, before.tier
	}
	rows := mergedRows(ascends(ctx, before.parts)).ascend
	if before.tier == Hot {
		m, err := s.inMemory(ctx, c.index, refs[0], 0, rows)
		if err == nil {
			return []held{{m, refs[0]}}, Hot
		}
		s.log.Info("a hot vector collection becomes warm", "bucket", c.index.Bucket, "index", c.index.Name, "error", err)
	}
	p, err := s.writeWarm(ctx, c, refs[0], rows)
	if err == nil {
		return []held{{p, refs[0]}}, Warm
	}
	s.log.Warn("a vector collection becomes cold", "bucket", c.index.Bucket, "index", c.index.Name, "error", err)
	return nil, Cold
}
