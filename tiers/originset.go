package tiers

import (
	"slices"
	"sync/atomic"
)

// originSet is the upstreams of which something was found out, by their Origin. There are few
// of them, and each read looks them up.
type originSet struct{ all atomic.Pointer[[]uint64] }

func (o *originSet) has(origin uint64) bool {
	all := o.all.Load()
	return all != nil && slices.Contains(*all, origin)
}

// add reports whether origin was not there.
func (o *originSet) add(origin uint64) bool {
	for {
		old := o.all.Load()
		next := []uint64{origin}
		if old != nil {
			if slices.Contains(*old, origin) {
				return false
			}
			next = append(next, *old...)
		}
		if o.all.CompareAndSwap(old, &next) {
			return true
		}
	}
}
