package tiers

import (
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// revisions count the changes of each bucket, those that begin and those that end, through this
// gateway or by an event. A kept listing is current while its bucket's revision is the one that
// it was asked for at. Buckets can share a counter: then a change of one invalidates listings of
// the other. The zero value is ready.
type revisions [1024]atomic.Uint64

func (r *revisions) of(bucket string) *atomic.Uint64 {
	return &r[xxhash.Sum64String(bucket)%uint64(len(r))]
}

// current returns the revision of a bucket.
func (r *revisions) current(bucket string) uint64 { return r.of(bucket).Load() }

// advance says that something in a bucket changes or has changed.
func (r *revisions) advance(bucket string) { r.of(bucket).Add(1) }
