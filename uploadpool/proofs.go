package uploadpool

import (
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/akidb/akigw/journal"
)

// An upload is verified by its own response if that proves that the upstream has the object: the first
// attempt, never repeated, a complete response with status 200, the promised ETag, and each
// checksum that was sent. An upstream that answers so without having the object would lie to every S3
// client. Whether it does is learned for each bucket: the first uploads are verified by a HEAD as
// well, and later one in a thousand. A HEAD that disagrees starts the count again.
//
// The response to a PUT has no Last-Modified. The upstream sets it while the request is under way, by
// the clock that its Date shows, so the date is known within bounds. The HEADs check that too.

const (
	// proofsNeeded is how many uploads of a bucket in a row HEADs must have confirmed before the
	// response to an upload is proof.
	proofsNeeded = 32
	// proofSample is one in how many proven uploads is verified by a HEAD nevertheless.
	proofSample = 1000
	// maxProofs is how many buckets are remembered. Beyond it the oldest knowledge is dropped, which
	// costs HEADs.
	maxProofs = 10_000
)

// proofs are the buckets whose upstream answers uploads truthfully, as far as HEADs can tell.
type proofs struct {
	always  bool        // every upload is verified by a HEAD
	sampled func() bool // reports whether the sample has chosen a proven upload

	mu     sync.Mutex
	agreed map[string]int // uploads in a row, by bucket, that a HEAD confirmed; guarded by mu
}

func newProofs(always bool) *proofs {
	return &proofs{always: always, sampled: func() bool { return rand.N(proofSample) == 0 }, agreed: map[string]int{}}
}

// suffices reports whether the response to an upload to a bucket is proof without a HEAD.
func (p *proofs) suffices(bucket string) bool {
	if p.always {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.agreed[bucket] >= proofsNeeded && !p.sampled()
}

// note notes whether a HEAD confirmed what the response to an upload had proven.
func (p *proofs) note(bucket string, confirmed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !confirmed {
		delete(p.agreed, bucket)
		return
	}
	if _, known := p.agreed[bucket]; !known && len(p.agreed) >= maxProofs {
		for other := range p.agreed {
			delete(p.agreed, other)
			break
		}
	}
	p.agreed[bucket]++
}

// proof is what the response to an upload proves.
type proof struct {
	ok     bool // it proves that the upstream has the object
	stored journal.Stored
}

// prove returns what the response to the upload of an entry proves. took is the time from before the
// request was sent until the response was complete.
func prove(e *journal.Entry, sent, answer http.Header, took time.Duration) (p proof) {
	date, err := http.ParseTime(answer.Get("Date"))
	if err != nil || !sameETag(answer.Get("Etag"), e.ETag) || e.ETag == "" {
		return p
	}
	for name := range sent {
		if isChecksum(name) && answer.Get(name) != sent.Get(name) {
			return p
		}
	}
	p.ok = true
	p.stored = journal.Stored{Modified: date, Spread: int(math.Ceil(took.Seconds())) + 1, Version: answer.Get("X-Amz-Version-Id")}
	return p
}

// isChecksum reports whether a header carries the checksum of a body, which the response repeats.
func isChecksum(name string) bool {
	return strings.HasPrefix(name, "X-Amz-Checksum-") && name != "X-Amz-Checksum-Algorithm" && name != "X-Amz-Checksum-Type"
}

// allows reports whether a HEAD's description agrees with a proof.
func (p *proof) allows(seen journal.Stored) bool {
	earlier, later := journal.DateBounds(p.stored.Modified, p.stored.Spread)
	return !seen.Modified.Before(earlier) && !seen.Modified.After(later) && seen.Version == p.stored.Version
}
