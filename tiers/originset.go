package tiers

import (
	"slices"
	"sync/atomic"
)

// originSet is a set of upstreams with some property, by their Origin. It is small, and every read
// looks it up.
type originSet struct{ all atomic.Pointer[[]uint64] }

func (o *originSet) has(origin uint64) bool {
	all := o.all.Load()
	return all != nil && slices.Contains(*all, origin)
}

// add adds origin, and reports whether it was new.
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
