package tiers

// Room is the space that the tiers can offer, in bytes. A tier that is switched off has none.
type Room struct {
	// Memory and Disk are the sizes of the largest objects that ToMemory and ToDisk can bring in.
	Memory, Disk int64
	// DiskFree is how much can be added on disk before something is evicted.
	DiskFree int64
	// MemoryPins and DiskPins are how much more can be pinned. They can be negative.
	MemoryPins, DiskPins int64
}

// Room returns the space that the tiers can offer now.
func (s *storage) Room() Room {
	pinned := s.hot.Pinned()
	r := Room{Memory: int64(s.config.HotBytes)/16*15 - pinned, MemoryPins: s.hot.MostPinned() - pinned}
	if s.warm != nil {
		r.Disk, r.DiskFree, r.DiskPins = s.warm.MostHeld(), s.warm.Room(), s.warm.PinRoom()
	}
	return r
}

// Usage is the current content of the tiers.
type Usage struct {
	HotBytes   int64 `json:"hot_bytes"` // memory used
	HotQuota   int64 `json:"hot_quota_bytes"`
	HotPinned  int64 `json:"hot_pinned_bytes"`
	HotValues  int   `json:"hot_values"` // entries and blocks in memory
	WarmBytes  int64 `json:"warm_bytes"` // disk space occupied
	WarmQuota  int64 `json:"warm_quota_bytes"`
	WarmPinned int64 `json:"warm_pinned_bytes"`
}

// Usage returns the current content of the tiers.
func (s *storage) Usage() Usage {
	u := Usage{HotBytes: s.hot.Bytes(), HotQuota: int64(s.config.HotBytes), HotPinned: s.hot.Pinned(), HotValues: s.hot.Len(), WarmQuota: int64(s.config.WarmBytes)}
	if s.warm != nil {
		u.WarmBytes, u.WarmPinned = s.warm.Used(), s.warm.Pinned()
	}
	return u
}

// WarmProblem says why nothing is being cached on disk, "" if something is.
func (s *storage) WarmProblem() string {
	if s.warm == nil {
		return s.warmOff
	}
	return s.warm.Problem()
}

// HasDisk reports whether there is a warm tier.
func (s *storage) HasDisk() bool { return s.warm != nil }

// Ordered reports whether Walk goes in the order of bucket and key. It does if there is a warm tier
// that is not encrypted; an encrypted one hides the names.
func (s *storage) Ordered() bool { return s.warm != nil && !s.warm.HidesNames() }
