package advise

import (
	"sync"
	"sync/atomic"
	"time"
)

// Validations counts by bucket what the upstream answers when it is asked whether cached objects are
// current. It is a tiers.Validations, and safe for concurrent use.
type Validations struct {
	// Since is when counting began.
	Since   time.Time
	buckets sync.Map // of names to *validated
	known   atomic.Int64
}

// Validated are the answers about the objects of a bucket.
type Validated struct {
	Unchanged int64 `json:"unchanged"`
	// Changed counts objects that were replaced or deleted, and refusals.
	Changed int64   `json:"changed"`
	Mean    float64 `json:"mean_ms"` // time of a validation
}

// validated is Validated while it is being counted.
type validated struct{ unchanged, changed, nanoseconds atomic.Int64 }

// mostBuckets bounds the number of buckets that are counted.
const mostBuckets = 10_000

// NewValidations returns counts that begin now.
func NewValidations() *Validations { return &Validations{Since: time.Now()} }

// Validated counts an answer.
func (v *Validations) Validated(bucket string, unchanged bool, took time.Duration) {
	found, ok := v.buckets.Load(bucket)
	if !ok {
		if v.known.Load() >= mostBuckets {
			return
		}
		if found, ok = v.buckets.LoadOrStore(bucket, &validated{}); !ok {
			v.known.Add(1)
		}
	}
	c := found.(*validated)
	if unchanged {
		c.unchanged.Add(1)
	} else {
		c.changed.Add(1)
	}
	c.nanoseconds.Add(int64(took))
}

// Counts returns the answers by bucket. The caller owns the map.
func (v *Validations) Counts() map[string]Validated {
	all := map[string]Validated{}
	for name, found := range v.buckets.Range {
		c := found.(*validated)
		one := Validated{Unchanged: c.unchanged.Load(), Changed: c.changed.Load()}
		if n := one.Unchanged + one.Changed; n > 0 {
			one.Mean = time.Duration(c.nanoseconds.Load()/n).Seconds() * 1000
		}
		all[name.(string)] = one
	}
	return all
}
