package tiers

import (
	"fmt"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
)

const (
	// ErrNoRoom: a tier has no space for the object.
	ErrNoRoom = akigw.Error("no room")
	// ErrTierOff: the tier is switched off or may not hold the object.
	ErrTierOff = akigw.Error("the tier does not accept the object")
)

// mover moves objects between the tiers on request.
type mover struct {
	*catalog
	source *source
}

// admits returns ErrTierOff unless an object with these settings may be in a tier, Hot or Warm.
func (m *mover) admits(tier akigw.Outcome, key akigw.Key, settings *rules.Settings) error {
	switch {
	case tier == akigw.Hot && (m.config.HotBytes == 0 || !settings.Memory):
		return fmt.Errorf("%w: %s cannot be in memory (cache.hot_bytes, and tiers in its rules)", ErrTierOff, key)
	case tier == akigw.Warm && (m.warm == nil || !settings.Disk):
		return fmt.Errorf("%w: %s cannot be on disk (cache.warm_bytes, and tiers in its rules)", ErrTierOff, key)
	}
	return nil
}

// Admits returns ErrTierOff unless the object of a key may be in a tier, Hot or Warm.
func (m *mover) Admits(tier akigw.Outcome, key akigw.Key) error {
	return m.admits(tier, key, m.settings(key))
}

// notKept returns the reason why an object that was brought into a tier is not there.
func (m *mover) notKept(e *entry, where string) error {
	if now := m.peek(e.Key); now != nil && now.extent != e.extent || !m.fence.alive(e.Key, e.Generation) {
		return fmt.Errorf("%w: %s", akigw.ErrChanged, e.Key)
	}
	return fmt.Errorf("%w %s for %s", ErrNoRoom, where, e.Key)
}
