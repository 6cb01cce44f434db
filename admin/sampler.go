package admin

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// rejectedBurst rejected requests are recorded at once, and one per rejectedEvery after that, so
	// that a flood of them neither fills the audit log nor buries its other lines.
	rejectedBurst = 60
	rejectedEvery = 10 * time.Second
)

// sampler limits the rate at which rejected requests are recorded and counts those that are left
// out. Its methods may be called concurrently.
type sampler struct {
	mu      sync.Mutex
	limiter *rate.Limiter // guarded by mu
	left    int           // left out and not reported yet; guarded by mu
}

func newSampler() *sampler {
	return &sampler{limiter: rate.NewLimiter(rate.Every(rejectedEvery), rejectedBurst)}
}

// allow reports whether a rejected request may be recorded. If not, it counts the request.
func (s *sampler) allow(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limiter.AllowN(now, 1) {
		return true
	}
	s.left++
	return false
}

// take returns how many requests were left out since the last call.
func (s *sampler) take() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.left
	s.left = 0
	return n
}

// add puts back a count that take has returned and that could not be reported.
func (s *sampler) add(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left += n
}

// shortened truncates text to limit bytes and appends how many bytes are missing, if any.
func shortened(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return fmt.Sprintf("%s...(%d bytes more)", strings.ToValidUTF8(text[:limit], ""), len(text)-limit)
}
