package tiers

import (
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
)

// fresh reports whether e may be served to a request without asking the upstream. In mode Exclusive
// a key with a version is never fresh: its bytes are constant, but its tags and its retention can
// be changed by requests that do not name the version, and it can be deleted. While a write is
// under way, or its outcome is unknown, the upstream may or may not have it: a reader that has seen
// it must not then see what was filled a moment before.
func (v *validator) fresh(e *entry, settings *rules.Settings, c akigw.Conditions) bool {
	if !e.known() || e.epoch < v.trusted || c.NoCache || c.MaxAge > 0 && !within(e, c.MaxAge) || v.fence.writing(e.Key) {
		return false
	}
	switch settings.Freshness {
	case rules.TTL:
		return within(e, settings.TTL)
	case rules.Immutable:
		return true
	case rules.Exclusive:
		return e.Key.Version == ""
	case rules.Events:
		return v.follower.unchanged(e, settings)
	}
	return false
}

// usable reports whether e may be served when the upstream could not be reached. It may not after a
// write through this gateway that replaced it, or may have.
func (v *validator) usable(e *entry, settings *rules.Settings, c akigw.Conditions) bool {
	return settings.Freshness == rules.TTL && e.known() && e.epoch >= v.trusted && !c.NoCache && c.MaxAge == 0 &&
		within(e, settings.TTL+settings.MaxStale) && v.fence.alive(e.Key, e.Generation) && !v.fence.writing(e.Key)
}

// within reports whether the upstream confirmed e at most d ago. A time in the future means that
// the clock was set back; then the age is unknown.
func within(e *entry, d time.Duration) bool {
	age := time.Since(e.validated)
	return age >= 0 && age < d
}

// age is the time since the upstream last confirmed an object.
func age(e *entry) time.Duration { return max(0, time.Since(e.validated)) }
