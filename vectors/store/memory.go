package store

import "sync"

// memory counts the memory of all collections. Vectors that are not in the upstream yet and collections
// in the hot tier have a limit each, so that neither keeps the other out.
type memory struct {
	limit int64

	mu      sync.Mutex
	pending int64 // of memtables
	hot     int64 // of parts in memory
}

func (m *memory) acquirePending(n int64) bool { return m.acquire(&m.pending, n) }

func (m *memory) releasePending(n int64) { m.acquire(&m.pending, -n) }

func (m *memory) acquireHot(n int64) bool { return m.acquire(&m.hot, n) }

func (m *memory) releaseHot(n int64) { m.acquire(&m.hot, -n) }

// acquire adds n to one of both, and reports whether it may. What is negative may always be added.
func (m *memory) acquire(used *int64, n int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n > 0 && *used+n > m.limit {
		return false
	}
	*used += n
	return true
}

// exceed adds n without a limit: to what a restart brings back.
func (m *memory) exceedPending(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pending += n
}

// used returns the memory of both, in bytes.
func (m *memory) used() (pending, hot int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pending, m.hot
}

// fitsHot reports whether n more bytes fit.
func (m *memory) fitsHot(n int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hot+n <= m.limit
}
