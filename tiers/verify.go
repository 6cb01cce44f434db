package tiers

import (
	"fmt"
	"net/http"
	"sync"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/checksum"
)

// verifier verifies a whole body from the upstream while its blocks pass. It is for one goroutine,
// which must call stop. A slow algorithm runs on a goroutine of its own, so blocks are not held up
// by it: only the last one, which waits for the result. The nil verifier is for a range, which no
// checksum of an object covers, and does nothing.
type verifier struct {
	digest *checksum.Digest // nil: there is nothing to verify the body with
	queue  chan []byte      // blocks to be hashed; nil: they are hashed at once
	hashed sync.WaitGroup   // the goroutine that hashes them
}

// lag is the number of blocks that may wait to be hashed. With the one that is being hashed, these
// are blocks that a fill keeps for its readers anyway (see window).
const lag = window - 1

// verifier returns the verifier of a whole body of so many blocks, whose object has these headers.
func (ft *fetcher) verifier(object http.Header, blocks int64) *verifier {
	return newVerifier(checksum.OfObject(object, ft.config.MD5ETags), blocks)
}

func newVerifier(digest *checksum.Digest, blocks int64) *verifier {
	v := &verifier{digest: digest}
	if v.digest != nil && v.digest.By.Slow && blocks > 1 {
		v.queue = make(chan []byte, lag)
		v.hashed.Go(func() {
			for block := range v.queue {
				v.digest.Write(block)
			}
		})
	}
	return v
}

// shares reports whether blocks are still read after write has returned.
func (v *verifier) shares() bool { return v != nil && v.queue != nil }

// write adds the next block, which must not change.
func (v *verifier) write(block []byte) {
	switch {
	case v == nil || v.digest == nil:
	case v.queue != nil:
		v.queue <- block
	default:
		v.digest.Write(block)
	}
}

// stop waits until all blocks have been hashed. Nothing can be written after it.
func (v *verifier) stop() {
	if v.shares() {
		close(v.queue)
		v.hashed.Wait()
		v.queue = nil
	}
}

// judge compares a whole body, after its last block was written, with the checksum that came with
// it. transfer is a generation that identifies the transfer.
func (ft *fetcher) judge(e *entry, v *verifier, transfer uint64) error {
	if v == nil {
		return nil
	}
	v.stop()
	switch {
	case v.digest == nil:
		ft.counters.verified[unverified].Inc()
	case v.digest.OK():
		ft.counters.verified[v.digest.By.Name].Inc()
	case ft.suspects.confirms(e, v.digest.Sum(nil), transfer): // the checksum is not one of the body
		ft.counters.verified[unverified].Inc()
	default:
		ft.counters.corrupt.Inc()
		ft.log.Error("the upstream sent a body that does not match its checksum; it is not cached and its readers are cut off", "key", e.Key.String(), "etag", e.ETag, "algorithm", v.digest.By.Name)
		return fmt.Errorf("%w: %s", akigw.ErrChecksum, e.Key)
	}
	return nil
}
