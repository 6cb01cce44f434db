package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"sync"

	"github.com/akidb/akigw/internal/vfs"
)

// pins are the tiers that operators keep collections in, in a file of the data directory.
type pins struct {
	files vfs.FS
	path  string

	mu sync.Mutex
	of map[string]Tier // by bucket and index, with a slash between them
}

func openPins(files vfs.FS, dir string) (*pins, error) {
	p := &pins{files: files, path: filepath.Join(dir, "pins.json"), of: map[string]Tier{}}
	raw, err := vfs.ReadFile(files, p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &p.of)
	}
	if err != nil {
		return nil, fmt.Errorf("pins of vector collections: %w; remove %s to start without pins", err, p.path)
	}
	return p, nil
}

func (p *pins) get(c *collection) (Tier, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, ok := p.of[c.index.Bucket+"/"+c.index.Name]
	return t, ok
}

// set sets or, with a nil tier, ends a pin.
func (p *pins) set(bucket, index string, tier *Tier) error {
	p.mu.Lock()
	next := maps.Clone(p.of)
	p.mu.Unlock()
	if tier == nil {
		delete(next, bucket+"/"+index)
	} else {
		next[bucket+"/"+index] = *tier
	}
	raw, err := json.Marshal(next)
	if err == nil {
		err = vfs.Replace(p.files, p.path, raw)
	}
	if err != nil {
		return fmt.Errorf("pins of vector collections could not be written: %w", err)
	}
	p.mu.Lock()
	p.of = next
	p.mu.Unlock()
	return nil
}

// Pin moves a collection to a tier and keeps it there, until it is unpinned.
func (s *Store) Pin(ctx context.Context, bucket, index string, tier Tier) error {
	if err := s.Move(ctx, bucket, index, tier); err != nil {
		return err
	}
	return s.changePin(ctx, bucket, index, &tier)
}

// Unpin ends the pin of a collection. It stays where it is until the tiering policy moves it.
func (s *Store) Unpin(ctx context.Context, bucket, index string) error {
	if _, err := s.Index(bucket, index); err != nil {
		return err
	}
	return s.changePin(ctx, bucket, index, nil)
}

// changePin changes pins one after the other.
func (s *Store) changePin(ctx context.Context, bucket, index string, tier *Tier) error {
	if err := s.catalog.turn.take(ctx); err != nil {
		return err
	}
	defer s.catalog.turn.release()
	return s.pins.set(bucket, index, tier)
}
