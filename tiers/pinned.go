package tiers

import (
	"context"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
)

// noPins are Pins without any.
type noPins struct{}

// Apply implements Pins.
func (noPins) Apply(_ akigw.Key, settings *rules.Settings) *rules.Settings { return settings }

// Any implements Pins.
func (noPins) Any() bool { return false }

// pinning reports whether anything is pinned.
func (s *Store) pinning() bool {
	_, byRule := s.rules.Pinning()
	return byRule || s.pins.Any()
}

// repinAll pins in memory and on disk what the settings say now, and nothing else.
func (s *Store) repinAll(ctx context.Context) {
	if s.warm == nil {
		return
	}
	s.repinning.Lock()
	defer s.repinning.Unlock()
	any := s.pinning()
	pinned := map[uint64]bool{} // extents that stay in memory
	s.warm.Repin(func() {
		if !any {
			return
		}
		if err := s.walkObjects(akigw.Pattern{}, func(k Known) bool {
			settings := s.settings(k.Key)
			if settings.Pin {
				s.pinOnDisk(k.Key, k.blocks, k.Size)
			}
			if settings.PinHot {
				pinned[k.blocks] = true
			}
			return ctx.Err() == nil
		}); err != nil {
			s.log.Warn("not everything was pinned", "error", err)
		}
	})
	for _, extent := range s.hot.Groups() {
		if !pinned[extent] {
			s.hot.Release(extent, true)
		}
	}
}

// Repin makes the pins of the objects that a pattern names what the settings say now, after
// Options.Pins has changed. It looks at no other objects. A change of Options.Rules needs no
// call: Run notices it.
func (s *Store) Repin(what akigw.Pattern) {
	if s.warm == nil {
		return
	}
	s.repinning.Lock()
	defer s.repinning.Unlock()
	if err := s.walkObjects(what, func(k Known) bool {
		settings := s.settings(k.Key)
		if settings.Pin {
			s.pinOnDisk(k.Key, k.blocks, k.Size)
		} else {
			s.warm.Unpin(k.Key)
		}
		if !settings.PinHot {
			s.hot.Release(k.blocks, true)
		}
		return true
	}); err != nil {
		s.log.Warn("not everything was pinned", "error", err)
	}
}

// pinOnDisk keeps an object on disk.
func (s *Store) pinOnDisk(key akigw.Key, extent uint64, size int64) {
	if !s.warm.Pin(key, extent, size) {
		s.log.Warn("an object was not pinned: three quarters of the warm tier are pinned already; make it larger, or pin less", "key", key.String(), "bytes", size)
	}
	if !s.warm.HasEntry(key) { // dropped meanwhile
		s.warm.Unpin(key)
	}
}

// keepInMemory keeps a value of an extent in memory, pinned if its settings say so.
func (s *Store) keepInMemory(settings *rules.Settings, extent uint64, key hotKey, value hotValue) {
	if settings.PinHot && s.hot.Pin(extent, key, value) {
		return
	}
	s.hot.Keep(key, value)
}
