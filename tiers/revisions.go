package tiers

import (
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// revisions counts the changes of each bucket, both when they begin and when they end, whether by
// this gateway or by an event. A cached listing is current while its bucket's revision is the one
// at which it was requested. Buckets can share a counter: then a change of one also invalidates
// listings of the other. The zero value is ready to use.
type revisions [1024]atomic.Uint64

func (r *revisions) of(bucket string) *atomic.Uint64 {
	return &r[xxhash.Sum64String(bucket)%uint64(len(r))]
}

// current returns the revision of a bucket.
func (r *revisions) current(bucket string) uint64 { return r.of(bucket).Load() }

// advance records that something in a bucket is changing or has changed.
func (r *revisions) advance(bucket string) { r.of(bucket).Add(1) }
