package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/remote"
	"github.com/akidb/akigw/vectors/segment"
)

const (
	// loadEvery is how long the store waits before it tries again to load what there is.
	loadEvery = 2 * time.Second
	// maxLoads is how many manifests are loaded at a time.
	maxLoads = 16
)

// load loads the catalog and the manifests, from the upstream or from local copies, and applies the
// records of the journal. It tries until it has succeeded, and returns false if ctx ended before.
func (s *loader) load(ctx context.Context) bool {
	warned := false
	for {
		err := s.loadOnce(ctx)
		if err == nil {
			s.session.begin()
			s.log.Info("vector collections are loaded", "indexes", len(s.catalog.current.Load().indexes))
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		s.session.unloaded(err)
		if !warned {
			s.log.Error("vector collections could not be loaded, and are not served; it is tried again", "bucket", s.config.Bucket, "prefix", s.config.Prefix, "error", err)
			warned = true
		}
		select {
		case <-time.After(loadEvery):
		case <-ctx.Done():
			return false
		}
	}
}

// loadOnce prefers the upstream, and takes local copies while it does not respond.
func (s *loader) loadOnce(ctx context.Context) error {
	r, err := s.session.attach(ctx)
	if errors.Is(err, remote.ErrOwned) || errors.Is(err, remote.ErrFenced) {
		return err
	}
	var base *base
	if err == nil {
		base, err = s.remoteBase(ctx, r)
	}
	if err != nil {
		if errors.Is(err, errWiped) {
			return err
		}
		local, localErr := s.localBase()
		if localErr != nil {
			return errors.Join(err, localErr)
		}
		s.log.Warn("the upstream does not respond: vector collections are loaded from local copies", "error", err)
		base = local
	}
	return s.replay(ctx, base)
}

// base is what there was before the records of the journal.
type base struct {
	catalog *segment.Catalog // nil: none
	etag    string

	mu        sync.Mutex
	manifests map[vectors.Incarnation]loadedManifest
}

type loadedManifest struct {
	*segment.Manifest
	etag     string
	degraded string
}

// remoteBase loads from the upstream.
func (s *loader) remoteBase(ctx context.Context, r *remote.Remote) (*base, error) {
	b := &base{manifests: map[vectors.Incarnation]loadedManifest{}}
	found, err := r.LoadCatalog(ctx, s.local.document(s.local.catalogPath()))
	if errors.Is(err, remote.ErrAbsent) { // nothing was ever committed
		if _, _, err := s.local.catalog(); !errors.Is(err, fs.ErrNotExist) {
			return nil, errors.Join(fmt.Errorf("%w: %s has a copy of a catalog. Restore the bucket, correct vectors.bucket and vectors.prefix, or move that directory away to begin anew", errWiped, s.local.dir), err)
		}
		return b, nil
	}
	if err != nil {
		return nil, err
	}
	b.catalog, b.etag = found.Catalog, found.ETag
	if found.Degraded {
		s.session.restrict(fmt.Errorf("%w: the catalog is damaged in the upstream; what is served is the state of %s", ErrDegraded, found.Created.UTC().Format(time.DateTime)))
	}
	documents := map[string]saved{}
	if !found.Degraded {
		documents[s.local.catalogPath()] = saved{found.ETag, found.Document}
	}
	err = each(maxLoads, b.catalog.Indexes, func(i vectors.Index) error {
		loaded, err := r.LoadManifest(ctx, collectionOf(&i), s.local.document(s.local.manifestPath(i.Incarnation)))
		if errors.Is(err, remote.ErrAbsent) {
			return s.absent(b, i)
		}
		if err != nil {
			return fmt.Errorf("manifest of index %s in vector bucket %s: %w", i.Name, i.Bucket, err)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.manifests[i.Incarnation] = loadedManifest{loaded.Manifest, loaded.ETag, degradedBy(loaded)}
		if !loaded.Degraded {
			documents[s.local.manifestPath(i.Incarnation)] = saved{loaded.ETag, loaded.Document}
		}
		return nil
	})
	if err == nil {
		err = s.local.refresh(documents, s.log)
	}
	return b, err
}

// errWiped: the upstream has nothing of what it had.
const errWiped = akigw.Error("the upstream has no catalog of vector collections, although there was one")

// absent is called for a collection that has no manifest in the upstream: it was never flushed, or somebody
// removed its objects.
func (s *loader) absent(b *base, i vectors.Index) error {
	m, _, err := s.local.manifest(i.Incarnation)
	if m == nil || err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.manifests[i.Incarnation] = loadedManifest{m, "", "its manifest is gone from the upstream; what is served is what is left of it"}
	return nil
}

// degradedBy says why a collection is read-only whose manifest was found like that, "" if it is not.
func degradedBy(m remote.LoadedManifest) string {
	if !m.Degraded {
		return ""
	}
	return fmt.Sprintf("its manifest is damaged in the upstream; what is served is the state of %s", m.Created.UTC().Format(time.DateTime))
}

// localBase loads from local copies.
func (s *loader) localBase() (*base, error) {
	b := &base{manifests: map[vectors.Incarnation]loadedManifest{}}
	var err error
	if b.catalog, b.etag, err = s.local.catalog(); err != nil {
		return nil, err
	}
	for _, i := range b.catalog.Indexes {
		m, etag, err := s.local.manifest(i.Incarnation)
		if err != nil {
			return nil, err
		}
		if m != nil {
			b.manifests[i.Incarnation] = loadedManifest{m, etag, ""}
		}
	}
	return b, nil
}

// each calls f for all items, up to limit at a time.
func each[T any](limit int, items []T, f func(T) error) error {
	var (
		tasks sync.WaitGroup
		mu    sync.Mutex
		err   error
		slots = make(chan struct{}, limit)
	)
	for _, item := range items {
		slots <- struct{}{}
		tasks.Go(func() {
			defer func() { <-slots }()
			if failed := f(item); failed != nil {
				mu.Lock()
				err = errors.Join(err, failed)
				mu.Unlock()
			}
		})
	}
	tasks.Wait()
	return err
}

// replay sets the state: the base, and all records of the journal that it does not have.
func (s *loader) replay(ctx context.Context, b *base) error {
	p := &player{store: s.core, base: b, listing: newCatalog().current.Load(), collections: map[vectors.Incarnation]*collection{}}
	p.begin()
	var failed error
	s.journal.Records.All(func(r journal.Record) bool {
		failed = p.record(r)
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	if p.overtaken > 0 {
		s.log.Error("acknowledged calls of this gateway are dropped, because another gateway has had the vector collections meanwhile and has used their sequence numbers: unless they were uploaded before, what they wrote is lost", "records", p.overtaken)
	}
	s.memory.exceedPending(p.bytes)
	for _, o := range p.orphans {
		s.orphans.add(o)
	}
	c := s.catalog
	c.mu.Lock()
	c.current.Store(p.listing)
	c.records, c.applied, c.next = p.records, p.applied, p.applied+1
	c.etag, c.written = b.etag, b.catalog
	c.mu.Unlock()
	for _, e := range p.listing.indexes {
		s.place(ctx, e.collection)
	}
	return s.release(p.stale)
}

// player applies the records of the journal to a base.
type player struct {
	store       *core
	base        *base
	listing     *listing
	applied     uint64 // sequence of the last change
	records     []uint64
	collections map[vectors.Incarnation]*collection // also those that a later record deletes
	bytes       int64                               // memory of the calls
	orphans     []orphan
	stale       []uint64 // records that are not needed any more
	overtaken   int      // those of them whose sequences another gateway has flushed
}

func (p *player) begin() {
	cat := p.base.catalog
	if cat == nil {
		return
	}
	p.applied = cat.Applied
	for _, b := range cat.Buckets {
		p.listing.buckets[b.Name] = b
	}
	for _, i := range cat.Indexes {
		p.listing.indexes[nameOf(i)] = entry{i, p.collection(i)}
	}
	for _, d := range cat.Dropped {
		p.listing.dropped[d.Incarnation] = dropped{Index: vectors.Index{Bucket: d.Bucket, Name: d.Index, Incarnation: d.Incarnation}}
	}
}

// collection returns a collection as its manifest says.
func (p *player) collection(i vectors.Index) *collection {
	c := newCollection(i)
	if m, ok := p.base.manifests[i.Incarnation]; ok {
		c.manifest, c.etag, c.degraded, c.next = m.Manifest, m.etag, m.degraded, m.Applied+1
		c.tier = Cold
	}
	p.collections[i.Incarnation] = c
	return c
}

func (p *player) record(r journal.Record) error {
	st, err := parseStream(r.Stream)
	if err != nil {
		return err
	}
	switch st.kind {
	case catalogStream:
		return p.change(st, r)
	case callStream:
		return p.call(st, r)
	}
	return p.upload(st, r)
}

func (p *player) change(st stream, r journal.Record) error {
	if st.seq <= p.applied {
		p.stale = append(p.stale, r.ID)
		return nil
	}
	raw, err := p.body(r)
	if err != nil {
		return err
	}
	ch, err := decodeJSON[change](raw)
	if err != nil {
		return err
	}
	p.listing = p.listing.with(&ch)
	p.applied, p.records = st.seq, append(p.records, r.ID)
	if ch.CreateIndex != nil {
		if e, ok := p.listing.indexes[nameOf(*ch.CreateIndex)]; ok && e.Incarnation == ch.CreateIndex.Incarnation {
			p.collections[e.Incarnation] = e.collection
		}
	}
	return nil
}

func (p *player) call(st stream, r journal.Record) error {
	c := p.collections[st.incarnation]
	if c == nil || c.deleted.Load() || st.seq < c.next {
		if c != nil && c.manifest != nil && st.seq <= c.manifest.Applied && c.manifest.Writer != p.store.session.self {
			p.overtaken++
		}
		p.stale = append(p.stale, r.ID)
		return nil
	}
	raw, err := p.body(r)
	if err != nil {
		return err
	}
	dimension, rows, err := decodeCall(raw)
	if err == nil && dimension != c.index.Dimension {
		err = errRecord
	}
	if err != nil {
		return fmt.Errorf("record %d of index %s: %w", r.ID, c.index.Name, err)
	}
	made := call{seq: st.seq, record: r.ID, at: r.At, rows: rows}
	for _, row := range rows {
		row.seq = st.seq
		made.bytes += row.size()
	}
	p.bytes += made.bytes
	c.active.apply(made)
	c.next = st.seq + 1
	return nil
}

// upload keeps the record of an upload that no manifest names: the sweep removes the object first.
func (p *player) upload(st stream, r journal.Record) error {
	raw, err := p.body(r)
	if err != nil {
		return err
	}
	of, err := decodeJSON[indexName](raw)
	if err != nil {
		return fmt.Errorf("record %d of vector collections: %w", r.ID, err)
	}
	if m, ok := p.base.manifests[st.incarnation]; ok && slices.Contains(m.Names(), st.name) {
		p.stale = append(p.stale, r.ID)
		return nil
	}
	p.orphans = append(p.orphans, orphan{remote.Collection{Bucket: of.Bucket, Index: of.Name, Incarnation: st.incarnation}, st.name, r.ID})
	return nil
}

func (p *player) body(r journal.Record) ([]byte, error) {
	body, err := p.store.journal.Records.Body(r)
	if err != nil {
		return nil, fmt.Errorf("record %d of vector collections: %w", r.ID, err)
	}
	defer body.Close()
	return io.ReadAll(body)
}

// place puts a collection into the tier where it is: local disk if all parts are there.
func (s *loader) place(ctx context.Context, c *collection) {
	c.use.touch(s.now())
	before := c.state()
	parts := make([]held, 0, len(before.refs()))
	for _, ref := range before.refs() {
		p, err := s.extents.open(ctx, ref)
		if err != nil {
			return
		}
		parts = append(parts, held{p, ref})
	}
	tier := Warm
	if len(parts) == 0 {
		tier = Hot
	}
	c.install(parts, tier, false)
}
