package tiers

import "github.com/akidb/akigw"

// Room is what the tiers can be made to hold, in bytes. A tier that is switched off has none.
type Room struct {
	// Memory and Disk are the largest objects that ToMemory and ToDisk can bring in.
	Memory, Disk int64
	// DiskFree is what the disk takes before it evicts.
	DiskFree int64
	// MemoryPins and DiskPins are what can be pinned besides what is. They can be negative.
	MemoryPins, DiskPins int64
}

// Room returns what the tiers can be made to hold at present.
func (s *Store) Room() Room {
	pinned := s.hot.Pinned()
	r := Room{Memory: int64(s.config.HotBytes)/16*15 - pinned, MemoryPins: s.hot.MostPinned() - pinned}
	if s.warm != nil {
		r.Disk, r.DiskFree, r.DiskPins = s.warm.MostHeld(), s.warm.Room(), s.warm.PinRoom()
	}
	return r
}

// Whole reports whether all of an object is in a tier, Hot or Warm, and returns its ETag, "" if
// nothing is known of it. It asks nobody and counts no access.
func (s *Store) Whole(key akigw.Key, tier akigw.Outcome) (etag string, whole bool) {
	e := s.peek(key)
	if e == nil {
		return "", false
	}
	if tier == akigw.Hot {
		return e.ETag, s.inMemory(e)
	}
	return e.ETag, s.warm != nil && s.onDisk(e)
}
