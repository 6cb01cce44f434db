package tiers

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
func (s *storage) Room() Room {
	pinned := s.hot.Pinned()
	r := Room{Memory: int64(s.config.HotBytes)/16*15 - pinned, MemoryPins: s.hot.MostPinned() - pinned}
	if s.warm != nil {
		r.Disk, r.DiskFree, r.DiskPins = s.warm.MostHeld(), s.warm.Room(), s.warm.PinRoom()
	}
	return r
}

// Usage is what the tiers hold.
type Usage struct {
	HotBytes   int64 `json:"hot_bytes"` // of memory
	HotQuota   int64 `json:"hot_quota_bytes"`
	HotPinned  int64 `json:"hot_pinned_bytes"`
	HotValues  int   `json:"hot_values"` // entries and blocks in memory
	WarmBytes  int64 `json:"warm_bytes"` // of disk, as occupied
	WarmQuota  int64 `json:"warm_quota_bytes"`
	WarmPinned int64 `json:"warm_pinned_bytes"`
}

// Usage returns the present fill of the tiers.
func (s *storage) Usage() Usage {
	u := Usage{HotBytes: s.hot.Bytes(), HotQuota: int64(s.config.HotBytes), HotPinned: s.hot.Pinned(), HotValues: s.hot.Len(), WarmQuota: int64(s.config.WarmBytes)}
	if s.warm != nil {
		u.WarmBytes, u.WarmPinned = s.warm.Used(), s.warm.Pinned()
	}
	return u
}

// WarmProblem says why nothing more is cached on disk, "" if it is.
func (s *storage) WarmProblem() string {
	if s.warm == nil {
		return s.warmOff
	}
	return s.warm.Problem()
}

// HasDisk reports whether there is a warm tier.
func (s *storage) HasDisk() bool { return s.warm != nil }

// Ordered reports whether Walk goes in the order of bucket and key. It does unless there is no
// warm tier, or one that is encrypted, which hides names.
func (s *storage) Ordered() bool { return s.warm != nil && !s.warm.HidesNames() }
