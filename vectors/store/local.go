package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/segment"
)

// local keeps copies of the documents in the upstream, so that a restart during an outage has them. A copy
// may be older than the document, because records leave the journal only after the copy has them: the copies
// and the journal together have everything that was acknowledged. For the same reason, a collection that
// the copy of the catalog has, and that has no copy of a manifest, was never flushed. Without a copy of the
// catalog, the upstream is asked.
type local struct {
	fs  vfs.FS
	dir string
	// incomplete says that the copies could not be brought up to date when the upstream was loaded. There is
	// no copy of the catalog then, and none is made.
	incomplete atomic.Bool
}

// saved is a copy of a document, which verifies itself, and its ETag in the upstream.
type saved struct {
	ETag     string
	Document []byte
}

func openLocal(files vfs.FS, dir string) (*local, error) {
	l := &local{fs: files, dir: dir}
	if err := os.RemoveAll(filepath.Join(dir, "tmp")); err != nil { // files of an earlier epoch
		return nil, err
	}
	return l, errors.Join(files.MkdirAll(filepath.Join(dir, "manifests")), files.MkdirAll(filepath.Join(dir, "tmp")))
}

func (l *local) catalogPath() string { return filepath.Join(l.dir, "catalog.json") }

func (l *local) manifestPath(i vectors.Incarnation) string {
	return filepath.Join(l.dir, "manifests", string(i)+".json")
}

// save replaces a copy. If that fails, the old one stays, and the records that it does not have must stay
// in the journal.
func (l *local) save(path, etag string, document []byte) error {
	if path == l.catalogPath() && l.incomplete.Load() {
		return nil // it would vouch for copies that are missing
	}
	raw, err := json.Marshal(saved{etag, document})
	if err == nil {
		err = vfs.Replace(l.fs, path, raw)
	}
	if err != nil {
		return fmt.Errorf("the copy %s of a document of vector collections cannot be written; records stay in the journal until it can: %w", path, err)
	}
	return nil
}

// refresh brings the copies up to date with what was loaded from the upstream. While it works there is no
// copy of the catalog. The error means that one is left that must not be used.
func (l *local) refresh(documents map[string]saved, log *slog.Logger) error {
	maps.DeleteFunc(documents, func(path string, s saved) bool {
		have, err := l.load(path)
		return err == nil && have.ETag == s.ETag && bytes.Equal(have.Document, s.Document)
	})
	l.incomplete.Store(false)
	if len(documents) == 0 {
		return nil
	}
	catalog := l.catalogPath()
	last, err := l.load(catalog)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	} else {
		err = vfs.Remove(l.fs, catalog)
	}
	if err != nil {
		return fmt.Errorf("the copy %s is out of date, and cannot be removed: %w", catalog, err)
	}
	if s, ok := documents[catalog]; ok {
		last = s
	}
	for path, s := range documents {
		if path != catalog {
			err = errors.Join(err, l.save(path, s.ETag, s.Document))
		}
	}
	if err == nil {
		err = l.save(catalog, last.ETag, last.Document)
	}
	if err != nil {
		l.incomplete.Store(true)
		log.Warn("copies of the documents of vector collections cannot be written: a restart needs the upstream", "error", err)
	}
	return nil
}

// document returns a function that returns the document of a copy, nil if there is none.
func (l *local) document(path string) func() ([]byte, error) {
	return func() ([]byte, error) {
		s, err := l.load(path)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return s.Document, err
	}
}

// load returns a copy; fs.ErrNotExist if there is none.
func (l *local) load(path string) (s saved, err error) {
	raw, err := vfs.ReadFile(l.fs, path)
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		return s, fmt.Errorf("copy of a document of vector collections: %w", err)
	}
	return s, nil
}

func (l *local) catalog() (*segment.Catalog, string, error) {
	s, err := l.load(l.catalogPath())
	if err != nil {
		return nil, "", err
	}
	c, err := segment.ParseCatalog(s.Document)
	return c, s.ETag, err
}

// manifest returns the copy of a manifest; nil for a collection that has none.
func (l *local) manifest(i vectors.Incarnation) (*segment.Manifest, string, error) {
	s, err := l.load(l.manifestPath(i))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	m, err := segment.ParseManifest(s.Document)
	return m, s.ETag, err
}

func (l *local) drop(i vectors.Incarnation) error { return vfs.Remove(l.fs, l.manifestPath(i)) }
