package placement

import (
	"time"

	"github.com/akidb/akigw"
)

// Counts are numbers of objects.
type Counts struct {
	Objects int   `json:"objects"` // that are known
	Bytes   int64 `json:"bytes"`   // that they have
	// Hot, Warm and Cold are objects by the fastest tier that has all of them.
	Hot    int `json:"hot_objects"`
	Warm   int `json:"warm_objects"`
	Cold   int `json:"cold_objects"`
	Pinned int `json:"pinned_objects"`
}

// add counts an object.
func (c *Counts) add(size int64, tier akigw.Outcome, pinned bool) {
	c.Objects++
	c.Bytes += size
	switch tier {
	case akigw.Hot:
		c.Hot++
	case akigw.Warm:
		c.Warm++
	default:
		c.Cold++
	}
	if pinned {
		c.Pinned++
	}
}

// State is what the tiers hold of some objects.
type State struct {
	Counts
	HotBytes   int64     `json:"hot_bytes"`
	WarmBytes  int64     `json:"warm_bytes"`
	LastAccess time.Time `json:"last_access,omitzero"`
	Recent     int       `json:"recent_accesses"` // in the policy's window, estimated
}

// add counts an object.
func (t *State) add(c *akigw.CatalogEntry) {
	t.Counts.add(c.Size, c.Tier, c.Pinned)
	t.HotBytes += c.HotBytes
	t.WarmBytes += c.WarmBytes
	if c.LastAccess.After(t.LastAccess) {
		t.LastAccess = c.LastAccess
	}
	t.Recent += int(c.Recent)
}

// WorkerReport says what the worker is doing, and what its last whole cycle found.
type WorkerReport struct {
	Cycle   uint64 `json:"cycle"` // number of the present one, or of the last
	Running bool   `json:"running"`
	// Ended is when the last whole cycle ended, zero for never, and Seconds is how long it took.
	// The rest is what it found.
	Ended   time.Time `json:"ended,omitzero"`
	Seconds float64   `json:"seconds"`
	Counts
	Promoted int `json:"promoted"`
	Demoted  int `json:"demoted"`
	Failed   int `json:"failed"` // moves that were not possible
}
