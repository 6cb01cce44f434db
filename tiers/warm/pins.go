package warm

import (
	"encoding/binary"
	"sync"

	"github.com/VictoriaMetrics/metrics"
)

// pins are the objects that are never evicted. They are kept in memory only: the user of the tier
// pins objects again after opening it.
type pins struct {
	refused *metrics.Counter // pins that did not fit

	mu      sync.RWMutex
	entries map[string]pin  // by the database key of the record; guarded by mu
	runs    map[uint64]bool // guarded by mu
	bytes   int64           // guarded by mu
	round   uint64          // of repin; guarded by mu
}

type pin struct {
	run   uint64
	bytes int64
	round uint64
}

// add pins a record and the blocks of an extent of a size in bytes. It reports whether all pins
// stay within most bytes; if not, nothing changes.
func (p *pins) add(id []byte, run uint64, bytes, most int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	old, again := p.entries[string(id)]
	if p.bytes-old.bytes+bytes > most {
		p.refused.Inc()
		return false
	}
	if p.entries == nil {
		p.entries, p.runs = make(map[string]pin), make(map[uint64]bool)
	}
	if again {
		delete(p.runs, old.run)
	}
	p.entries[string(id)], p.runs[run] = pin{run, bytes, p.round}, true
	p.bytes += bytes - old.bytes
	return true
}

// repin removes all pins except those that are added while again runs.
func (p *pins) repin(again func()) {
	p.mu.Lock()
	p.round++
	p.mu.Unlock()
	again()
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, old := range p.entries {
		if old.round < p.round {
			p.dropLocked(id, old)
		}
	}
}

// dropLocked removes a pin.
func (p *pins) dropLocked(id string, old pin) {
	delete(p.entries, id)
	delete(p.runs, old.run)
	p.bytes -= old.bytes
}

// remove removes the pin of a record, if there is one.
func (p *pins) remove(id []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old, ok := p.entries[string(id)]; ok {
		p.dropLocked(string(id), old)
	}
}

// total is the number of bytes that are pinned.
func (p *pins) total() int64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.bytes
}

// hasRun reports whether an extent belongs to a pinned object.
func (p *pins) hasRun(id uint64) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.runs[id]
}

// has reports whether a database key belongs to a pinned object.
func (p *pins) has(key []byte) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if key[0] == blockPrefix {
		return p.runs[binary.BigEndian.Uint64(key[1:])]
	}
	_, ok := p.entries[string(key)]
	return ok
}
