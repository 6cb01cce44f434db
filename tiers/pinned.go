package tiers

import (
	"context"
	"sync"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/watch"
	"github.com/akidb/akigw/rules"
)

// noPins are Pins without any.
type noPins struct{}

// Apply implements Pins.
func (noPins) Apply(_ akigw.Key, settings *rules.Settings) *rules.Settings { return settings }

// Any implements Pins.
func (noPins) Any() bool { return false }

// pinner pins objects in memory and on disk, as the rules and Pins say.
type pinner struct {
	directory
	mu sync.Mutex // serializes changes of pins
}

// repinOnChange pins again after each change of the rules, starting from a version, until ctx ends.
func (p *pinner) repinOnChange(ctx context.Context, version uint64) {
	watch.Poll(ctx, func() {
		if now, _ := p.rules.Pinning(); now != version {
			version = now
			p.repinAll(ctx)
		}
	})
}

// pinning reports whether anything is pinned.
func (p *pinner) pinning() bool {
	_, byRule := p.rules.Pinning()
	return byRule || p.pins.Any()
}

// repinAll pins exactly what the settings say now, in memory and on disk.
func (p *pinner) repinAll(ctx context.Context) {
	if p.warm == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	any := p.pinning()
	pinned := map[uint64]bool{} // extents that stay in memory
	p.warm.Repin(func() {
		if !any {
			return
		}
		if err := p.walkObjects(akigw.Pattern{}, func(k Known) bool {
			settings := p.settings(k.Key)
			if settings.Pin {
				p.pinOnDisk(k.Key, k.extent, k.Size)
			}
			if settings.PinHot {
				pinned[k.extent] = true
			}
			return ctx.Err() == nil
		}); err != nil {
			p.log.Warn("some objects could not be pinned", "error", err)
		}
	})
	for _, extent := range p.hot.Groups() {
		if !pinned[extent] {
			p.hot.Release(extent, true)
		}
	}
}

// Repin applies the current pins to the objects that a pattern matches, after Options.Pins has
// changed. It looks at no other objects. After a change of Options.Rules, no call is needed: Run
// notices it.
func (p *pinner) Repin(what akigw.Pattern) {
	if p.warm == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.walkObjects(what, func(k Known) bool {
		settings := p.settings(k.Key)
		if settings.Pin {
			p.pinOnDisk(k.Key, k.extent, k.Size)
		} else {
			p.warm.Unpin(k.Key)
		}
		if !settings.PinHot {
			p.hot.Release(k.extent, true)
		}
		return true
	}); err != nil {
		p.log.Warn("some objects could not be pinned", "error", err)
	}
	if p.hot.Pinned() == 0 {
		return
	}
	p.walkHot(what, func(k Known) bool { // the disk may have had no space for its entry
		if !p.settings(k.Key).PinHot {
			p.hot.Release(k.extent, true)
		}
		return true
	})
}
