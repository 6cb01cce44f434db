package remote

import (
	"context"
	"fmt"

	"github.com/akidb/akigw/vectors/segment"
)

// LoadedManifest is a manifest, and how it was found.
type LoadedManifest struct {
	*segment.Manifest
	// Document is the encoded manifest: what the local copy should be.
	Document []byte
	// ETag is what the next commit replaces, "" if it creates the object.
	ETag   string
	Source Source
	// Degraded means that an older manifest stands in for a damaged one: acknowledged writes are missing.
	// The collection must be read-only, and CommitManifest refuses to replace it.
	Degraded bool
}

// LoadedCatalog is a catalog, and how it was found. See LoadedManifest.
type LoadedCatalog struct {
	*segment.Catalog
	Document []byte
	ETag     string
	Source   Source
	Degraded bool
}

// manifests returns the place of the manifest of a collection. A manifest of another collection is
// refused.
func manifests(c Collection) place {
	return place{dir: c.dir(), base: "manifest", parse: func(document []byte) (version, error) {
		m, err := segment.ParseManifest(document)
		if err != nil {
			return version{}, err
		}
		if CollectionOf(m.Head) != c {
			return version{}, fmt.Errorf("%w: it is the manifest of %s, incarnation %s", segment.ErrFormat, CollectionOf(m.Head), m.Incarnation)
		}
		return version{m.Commit, m.Generation, m}, nil
	}}
}

// catalogs returns the place of the catalog.
func catalogs() place {
	return place{base: "catalog", parse: func(document []byte) (version, error) {
		c, err := segment.ParseCatalog(document)
		if err != nil {
			return version{}, err
		}
		return version{c.Commit, c.Generation, c}, nil
	}}
}

func (l *loaded) manifest() LoadedManifest {
	m, _ := l.value.(*segment.Manifest)
	return LoadedManifest{m, l.document, l.etag, l.source, l.degraded}
}

// LoadManifest reads the manifest of a collection. The error is ErrAbsent if it has none, which is so
// until its first commit; segment.ErrCorrupt if it is damaged and nothing can stand in for it; and
// segment.ErrFormat if another version of akigw wrote it.
//
// local returns the local copy of the manifest, nil if there is none; local may be nil. A local copy
// that this gateway wrote must be written after the commit and before the records of the journal that
// it covers are released: then it and the journal have all that was acknowledged.
func (r *Remote) LoadManifest(ctx context.Context, c Collection, local func() ([]byte, error)) (LoadedManifest, error) {
	l, err := r.load(ctx, manifests(c), local)
	if err != nil {
		return LoadedManifest{}, err
	}
	return l.manifest(), nil
}

// OlderManifest returns the newest intact copy of a manifest before a generation, as degraded: the
// last resort if a part of the current manifest is lost (OpenPart). etag is that of the current one.
// From then on, CommitManifest refuses to commit to the collection, until LoadManifest succeeds.
func (r *Remote) OlderManifest(ctx context.Context, c Collection, before uint64, etag string) (LoadedManifest, error) {
	l, err := r.older(ctx, manifests(c), before, etag)
	if err != nil {
		return LoadedManifest{}, err
	}
	return l.manifest(), nil
}

// CommitManifest replaces the manifest that has the ETag previous, or creates it if that is "". It
// sets m.Commit, and returns the encoded manifest and its ETag. The parts must have been uploaded. The
// error is ErrFenced if another gateway has the prefix, ErrStale if the manifest has to be loaded again,
// ErrDegraded, or akigw.ErrUpstreamUnavailable: then the manifest may or may not be replaced, now or
// later, and LoadManifest says which.
func (r *Remote) CommitManifest(ctx context.Context, m *segment.Manifest, previous string) (document []byte, etag string, err error) {
	if m.Commit, err = r.stamp(); err != nil {
		return nil, "", err
	}
	if document, err = m.Encode(); err != nil {
		return nil, "", err
	}
	etag, err = r.commit(ctx, manifests(CollectionOf(m.Head)), document, m.Commit, previous)
	return document, etag, err
}

// LoadCatalog reads the catalog, as LoadManifest reads a manifest.
func (r *Remote) LoadCatalog(ctx context.Context, local func() ([]byte, error)) (LoadedCatalog, error) {
	return r.loadCatalog(ctx, local)
}

func (r *Remote) loadCatalog(ctx context.Context, local func() ([]byte, error)) (LoadedCatalog, error) {
	l, err := r.load(ctx, catalogs(), local)
	if err != nil {
		return LoadedCatalog{}, err
	}
	c, _ := l.value.(*segment.Catalog)
	return LoadedCatalog{c, l.document, l.etag, l.source, l.degraded}, nil
}

// CommitCatalog replaces the catalog, as CommitManifest replaces a manifest.
func (r *Remote) CommitCatalog(ctx context.Context, c *segment.Catalog, previous string) (document []byte, etag string, err error) {
	if c.Commit, err = r.stamp(); err != nil {
		return nil, "", err
	}
	if document, err = c.Encode(); err != nil {
		return nil, "", err
	}
	etag, err = r.commit(ctx, catalogs(), document, c.Commit, previous)
	return document, etag, err
}
