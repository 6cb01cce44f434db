package tiers

import (
	"fmt"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
)

const (
	// ErrNoRoom: a tier has no room for what is asked of it.
	ErrNoRoom = akigw.Error("no room")
	// ErrTierOff: the tier does not exist, or may not hold the object.
	ErrTierOff = akigw.Error("the tier does not take it")
)

// mover moves objects between the tiers when it is told to.
type mover struct {
	*catalog
	source *source
}

// admits returns ErrTierOff unless an object with these settings can be in a tier, Hot or Warm.
func (m *mover) admits(tier akigw.Outcome, key akigw.Key, settings *rules.Settings) error {
	switch {
	case tier == akigw.Hot && (m.config.HotBytes == 0 || !settings.Memory):
		return fmt.Errorf("%w: %s cannot be in memory (cache.hot_bytes, and tiers in its rules)", ErrTierOff, key)
	case tier == akigw.Warm && (m.warm == nil || !settings.Disk):
		return fmt.Errorf("%w: %s cannot be on disk (cache.warm_bytes, and tiers in its rules)", ErrTierOff, key)
	}
	return nil
}

// Admits returns ErrTierOff unless the object of a key can be in a tier, Hot or Warm.
func (m *mover) Admits(tier akigw.Outcome, key akigw.Key) error {
	return m.admits(tier, key, m.settings(key))
}

// notKept says why an object that was brought in is not there.
func (m *mover) notKept(e *entry, where string) error {
	if now := m.peek(e.Key); now != nil && now.extent != e.extent || !m.fence.alive(e.Key, e.Generation) {
		return fmt.Errorf("%w: %s", akigw.ErrChanged, e.Key)
	}
	return fmt.Errorf("%w %s for %s", ErrNoRoom, where, e.Key)
}
