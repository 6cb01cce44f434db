package tiers

import (
	"fmt"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
)

// publishWanted publishes an entry however rarely it was requested. The caller has entered the
// fence before it learned the entry. The error is ErrChanged if a write has overtaken it.
func (m *mover) publishWanted(e *entry) error {
	own, settings := *e, m.settings(e.Key)
	if now := m.peek(e.Key); now != nil {
		if now.extent != e.extent {
			return fmt.Errorf("%w: %s", akigw.ErrChanged, e.Key)
		}
		own.Generation = max(own.Generation, now.Generation)
	}
	how := handling(settings)
	how.Wanted = true
	m.publishAs(&own, settings, how)
	if !m.fence.alive(e.Key, own.Generation) {
		return fmt.Errorf("%w: %s", akigw.ErrChanged, e.Key)
	}
	return nil
}

// putOnDisk stores a block on disk however rarely it was requested.
func (m *mover) putOnDisk(settings *rules.Settings, e *entry, n int64, data []byte) error {
	run := e.warmRun()
	run.Handling = handling(settings)
	run.Wanted = true
	if !m.warm.HasBlock(run, n) {
		m.warm.PutBlock(run, n, data)
	}
	if !m.warm.HasBlock(run, n) {
		return fmt.Errorf("%w on disk for %s", ErrNoRoom, e.Key)
	}
	return nil
}
