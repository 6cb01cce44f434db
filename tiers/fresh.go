package tiers

import (
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
)

// fresh reports whether e may be served to a request without asking the
// upstream. In mode Exclusive a version never is: its bytes stay what they are,
// but its tags and its retention can be changed by requests that do not name
// it, and it can be deleted. While a write is under way, or its outcome is unknown, the
// upstream may have it or not: a reader who has seen it must not see what was filled a
// moment before.
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

// usable reports whether e may be served although the upstream could not be
// asked. It may not be once a write through this gateway has replaced it, or may
// have.
func (v *validator) usable(e *entry, settings *rules.Settings, c akigw.Conditions) bool {
	return settings.Freshness == rules.TTL && e.known() && e.epoch >= v.trusted && !c.NoCache && c.MaxAge == 0 &&
		within(e, settings.TTL+settings.MaxStale) && v.fence.alive(e.Key, e.Generation) && !v.fence.writing(e.Key)
}

// within reports whether the upstream confirmed e at most d ago. A time that
// is still to come says that the clock was set back: then nobody knows.
func within(e *entry, d time.Duration) bool {
	age := time.Since(e.validated)
	return age >= 0 && age < d
}

// age is the time since the upstream last confirmed an object.
func age(e *entry) time.Duration { return max(0, time.Since(e.validated)) }
