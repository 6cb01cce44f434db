package placement

import (
	"time"

	"github.com/akidb/akigw"
)

// Counts holds numbers of objects.
type Counts struct {
	Objects int   `json:"objects"` // known objects
	Bytes   int64 `json:"bytes"`   // total size of the known objects
	// Hot, Warm and Cold count objects by the fastest tier that has all of them.
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

// State summarises what the tiers hold of some objects.
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

// WorkerReport is the state of the worker, and the result of its last complete cycle.
type WorkerReport struct {
	Cycle   uint64 `json:"cycle"` // number of the current cycle, or else of the last
	Running bool   `json:"running"`
	// Ended is the end of the last complete cycle, zero for none, and Seconds its duration. The
	// other fields are its result.
	Ended   time.Time `json:"ended,omitzero"`
	Seconds float64   `json:"seconds"`
	Counts
	Promoted int `json:"promoted"`
	Demoted  int `json:"demoted"`
	Failed   int `json:"failed"` // moves that failed
}
