package shadow

import (
	"github.com/akidb/akigw"
	"github.com/akidb/akigw/cost"
)

// account counts the requests of one bucket. All fields are guarded by Shadow.mu.
type account struct {
	clients  cost.Counts // all requests that passed
	always   cost.Counts // those that a gateway would have sent as well
	reads    uint64      // those that a gateway could have answered
	replaced uint64      // objects that were seen to be replaced or deleted without a write through this gateway
	revision uint64      // changes through this gateway

	modes      [modes]tally
	configured tally // in the mode of each key
	written    written
}

// tally counts what a gateway would have done for the reads of the sample, scaled up to all keys.
type tally struct {
	hot, warm, cold  uint64
	validated, stale uint64
	upstream         cost.Counts // requests that it would have sent for them
	lists            cost.Counts // and for listings
}

// add adds an answer, scale times.
func (t *tally) add(a *answer, scale uint64) {
	switch a.tier {
	case akigw.Hot:
		t.hot += scale
	case akigw.Warm:
		t.warm += scale
	default:
		t.cold += scale
	}
	if a.validated && a.tier != akigw.Cold {
		t.validated += scale
	}
	if a.stale {
		t.stale += scale
	}
	t.upstream.Reads += scale * uint64(a.heads+a.gets)
	t.upstream.Writes += scale * uint64(a.lists)
	t.upstream.Out += scale * uint64(a.bytes+int64(a.lists)*pageBytes)
}

// maxBuckets bounds the number of buckets that are counted by name.
const maxBuckets = 10_000

// accountLocked returns the account of a bucket.
func (s *Shadow) accountLocked(bucket string) *account {
	if a := s.accounts[bucket]; a != nil {
		return a
	}
	if len(s.accounts) >= maxBuckets {
		bucket = cost.Others
	}
	if s.accounts[bucket] == nil {
		s.accounts[bucket] = &account{written: newWritten()}
	}
	return s.accounts[bucket]
}

// count counts a request and the bytes of its bodies.
func count(c *cost.Counts, kind cost.Kind, in, out int64) {
	switch kind {
	case cost.Read:
		c.Reads++
	case cost.Write:
		c.Writes++
	default:
		c.Free++
	}
	c.In += uint64(max(0, in))
	c.Out += uint64(max(0, out))
}
