package writeback

import (
	"crypto/md5"
	"hash"
	"sync"
	"sync/atomic"

	md5simd "github.com/minio/md5-simd"
)

// hashers compute MD5 sums of bodies on their way into the journal. Several sums can share the wide
// registers of a processor: with eight or more that halves the time, with fewer than five or six it
// takes longer (measured by BenchmarkMD5).
type hashers struct {
	running atomic.Int64 // sums of large bodies under way

	mu     sync.Mutex
	server md5simd.Server // nil until needed; guarded by mu
}

const (
	// sharedStreams is the number of running sums from which on the next one shares.
	sharedStreams = 7
	// sharedBytes is the size of the smallest body whose sum shares.
	sharedBytes = 1 << 20
)

// start starts the sum of a body of about size bytes. end must be called.
func (h *hashers) start(size int64) (sum hash.Hash, end func()) {
	if size < sharedBytes {
		return md5.New(), func() {}
	}
	if h.running.Add(1) <= sharedStreams {
		return md5.New(), func() { h.running.Add(-1) }
	}
	h.mu.Lock()
	if h.server == nil {
		h.server = md5simd.NewServer()
	}
	shared := h.server.NewHash()
	h.mu.Unlock()
	return shared, func() {
		shared.Close()
		h.running.Add(-1)
	}
}

func (h *hashers) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.server != nil {
		h.server.Close()
	}
}
