package admin

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// rejectedBurst rejected requests are taken down at once, and one each rejectedEvery
	// after that: a flood of them neither fills the audit log nor hides the rest of it.
	rejectedBurst = 60
	rejectedEvery = 10 * time.Second
)

// sampler bounds how many rejected requests are written down, and counts those that are
// not. Any goroutine may use it.
type sampler struct {
	mu      sync.Mutex
	limiter *rate.Limiter // guarded by mu
	left    int           // left out and not told yet; guarded by mu
}

func newSampler() *sampler {
	return &sampler{limiter: rate.NewLimiter(rate.Every(rejectedEvery), rejectedBurst)}
}

// allow reports whether a rejected request may be written down. If not, it is counted.
func (s *sampler) allow(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limiter.AllowN(now, 1) {
		return true
	}
	s.left++
	return false
}

// take returns how many were left out since the last call.
func (s *sampler) take() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.left
	s.left = 0
	return n
}

// add counts n that were left out: what was taken and could not be told.
func (s *sampler) add(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left += n
}

// shortened is text, cut to limit bytes and marked if it is longer.
func shortened(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return fmt.Sprintf("%s...(%d bytes more)", strings.ToValidUTF8(text[:limit], ""), len(text)-limit)
}
