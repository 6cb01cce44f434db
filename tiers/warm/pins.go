package warm

import (
	"encoding/binary"
	"sync"

	"github.com/akidb/akigw"
)

// pins are the objects that are never evicted. They are kept in memory alone:
// who opens the tier pins again what has to be.
type pins struct {
	mu      sync.RWMutex
	entries map[string]pin  // by the database's key of the record; guarded by mu
	runs    map[uint64]bool // guarded by mu
	bytes   int64           // guarded by mu
	round   uint64          // of Repin; guarded by mu
}

type pin struct {
	run   uint64
	bytes int64
	round uint64
}

// Pin keeps the record of a key and its run of blocks, of so many bytes, from
// being evicted. It is false if pins would leave too little room for the rest:
// three quarters of the quota can be pinned.
func (t *Tier) Pin(key akigw.Key, run uint64, bytes int64) bool {
	id, p := t.entryKey(key), &t.pins
	p.mu.Lock()
	defer p.mu.Unlock()
	old, again := p.entries[string(id)]
	if p.bytes-old.bytes+bytes > t.space.limit()/4*3 {
		t.counters.pinsRefused.Inc()
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

// Repin ends all pins but those that are made while again runs.
func (t *Tier) Repin(again func()) {
	p := &t.pins
	p.mu.Lock()
	p.round++
	p.mu.Unlock()
	again()
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, old := range p.entries {
		if old.round < p.round {
			p.drop(id, old)
		}
	}
}

// Unpin ends the pin of a key.
func (t *Tier) Unpin(key akigw.Key) { t.pins.remove(t.entryKey(key)) }

// drop needs mu.
func (p *pins) drop(id string, old pin) {
	delete(p.entries, id)
	delete(p.runs, old.run)
	p.bytes -= old.bytes
}

// Pinned is the number of bytes that pins hold.
func (t *Tier) Pinned() int64 {
	t.pins.mu.RLock()
	defer t.pins.mu.RUnlock()
	return t.pins.bytes
}

func (p *pins) remove(id []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old, ok := p.entries[string(id)]; ok {
		p.drop(string(id), old)
	}
}

// has reports whether a key of the database is one of a pinned object.
func (p *pins) has(key []byte) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if key[0] == blockPrefix {
		return p.runs[binary.BigEndian.Uint64(key[1:])]
	}
	_, ok := p.entries[string(key)]
	return ok
}
