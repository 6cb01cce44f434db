package tiers

import (
	"net/http"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/warm"
)

// Write is one write-through change of a key, from before the upstream call
// until after it. While it lasts nothing older can enter the cache. It is for
// one goroutine, which must call End; Written and the body are optional.
type Write struct {
	store    *Store
	settings *rules.Settings
	size     int64 // bytes that went through Body
	write    *write
	key      akigw.Key
	run      warm.Run
	block    []byte // the block that is being collected
	n        int64  // its number
	ended    bool
}

// Begin starts a change of key: what is cached becomes unreachable at once.
func (s *Store) Begin(key akigw.Key) *Write {
	w := &Write{store: s, settings: s.settings(key), key: key, write: s.fence.beginWrite(key), run: warm.Run{ID: s.fence.generation(), Object: objectNumber(key)}}
	s.forgetOpening(key, nil)
	s.dropEntry(key)
	s.epoch(key.Bucket).Add(1)
	return w
}

// Key is the key that is changed.
func (w *Write) Key() akigw.Key { return w.key }

// Body takes the next bytes of the new object on their way to the upstream.
// It does not keep p.
func (w *Write) Body(p []byte) {
	w.size += int64(len(p))
	if !w.settings.CachedSize(w.size) {
		return // and nothing after it will be
	}
	size := int(w.settings.Block)
	for len(p) > 0 {
		if len(w.block) == size {
			w.store.putBlock(w.key, w.settings, w.run, w.n, w.block, false)
			w.block = nil
			w.n++
		}
		if cap(w.block)-len(w.block) < min(len(p), size-len(w.block)) {
			w.block = append(make([]byte, 0, min(size, max(2*cap(w.block), len(p)))), w.block...)
		}
		k := min(len(p), cap(w.block)-len(w.block))
		w.block = append(w.block, p[:k]...)
		p = p[k:]
	}
}

// Written says that the upstream stored the body that went through Body, under
// this ETag. The object enters the cache, unless another write of the key
// overlapped this one. Its headers stay unknown until the first read.
func (w *Write) Written(header http.Header) {
	etag := header.Get("Etag")
	generation, settled := w.end()
	defer w.write.leave()
	if held := w.n*w.settings.Block + int64(len(w.block)); !settled || !strongETag(etag) || held != w.size {
		w.drop()
		return
	}
	e := w.store.newEntry(akigw.Object{Key: w.key, Size: w.size, ETag: etag}, generation, time.Now())
	e.blocks, e.block = w.run.ID, w.settings.Block
	if e.inline(int64(w.store.config.SmallBytes)) {
		e.body = append(make([]byte, 0, w.size), w.block...)
	} else {
		w.store.putBlock(w.key, w.settings, w.run, w.n, w.block, false)
	}
	w.store.publish(e)
	w.store.accessed(e, w.settings, akigw.Range{Length: w.size}, "")
}

// End ends a change that is not in the cache: because it failed, its outcome
// is unknown, or it left no object. After Written it does nothing.
func (w *Write) End() {
	if w.ended {
		return
	}
	w.end()
	w.drop()
	w.write.leave()
}

func (w *Write) end() (uint64, bool) {
	w.ended = true
	generation, settled := w.write.done()
	w.store.epoch(w.key.Bucket).Add(1)
	w.store.forgetOpening(w.key, nil)
	return generation, settled
}

// forgetOpening keeps later readers from joining an opening fill, f or whichever
// there is, because it may have asked the upstream before this write. Those who
// follow it already are older than the write, or overlap it.
func (s *Store) forgetOpening(key akigw.Key, f *fill) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f == nil || s.openings[key] == f {
		delete(s.openings, key)
	}
}

func (w *Write) drop() {
	w.store.dropEntry(w.key)
	if w.n > 0 {
		w.store.freeBlocks(w.run.ID)
	}
}
