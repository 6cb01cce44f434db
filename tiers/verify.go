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
	queue  chan passing     // what is to be hashed; nil: it is hashed at once
	hashed sync.WaitGroup   // the goroutine that hashes it
}

// passing is bytes of a block on their way through a verifier, which is a user of the block.
type passing struct {
	of   *sharedBlock
	data []byte
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
		v.queue = make(chan passing, lag)
		v.hashed.Go(func() {
			for next := range v.queue {
				v.digest.Write(next.data)
				next.of.release()
			}
		})
	}
	return v
}

// write adds the next bytes, which are part of a block. The caller is a user of it.
func (v *verifier) write(of *sharedBlock, data []byte) {
	switch {
	case v == nil || v.digest == nil:
	case v.queue != nil:
		of.share()
		v.queue <- passing{of, data}
	default:
		v.digest.Write(data)
	}
}

// stop waits until all blocks have been hashed. Nothing can be written after it.
func (v *verifier) stop() {
	if v != nil && v.queue != nil {
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
