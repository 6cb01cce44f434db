package tiers

import (
	"net/http"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/warm"
)

// Write is one write-through change of a key, from before the upstream request until after it.
// Meanwhile nothing older can enter the cache. It is for one goroutine, which must call End;
// Written and Body are optional.
type Write struct {
	changes  *changes
	settings *rules.Settings // for the body: rules.Settings.ForWrite
	size     int64           // bytes that went through Body
	write    *write
	key      akigw.Key
	extent   warm.Run
	block    []byte // the current block
	n        int64  // its number
	ended    bool
}

// Key is the key that is being changed.
func (w *Write) Key() akigw.Key { return w.key }

// Body records the next bytes of the new object on their way to the upstream. It does not retain p.
func (w *Write) Body(p []byte) {
	w.size += int64(len(p))
	if !w.settings.CachedSize(w.size) {
		return // and nothing after it will be
	}
	size := int(w.settings.Block)
	for len(p) > 0 {
		if len(w.block) == size {
			w.put()
			w.n++
		}
		if cap(w.block)-len(w.block) < min(len(p), size-len(w.block)) {
			w.grow(len(p))
		}
		k := min(len(p), cap(w.block)-len(w.block))
		w.block = append(w.block, p[:k]...)
		p = p[k:]
	}
}

// grow makes room in the current block for more bytes: for all of a block, unless there are few.
func (w *Write) grow(more int) {
	room := max(2*cap(w.block), more)
	if w.n == 0 && room <= int(w.settings.Block)/4 {
		w.block = append(make([]byte, 0, room), w.block...)
	} else {
		w.block = append(w.changes.buffers.get(w.settings.Block), w.block...)
	}
}

// put stores the current block, and begins a new one.
func (w *Write) put() {
	b := w.take().trim()
	w.changes.putBlock(w.key, w.settings, w.extent, w.n, b, false)
	b.release()
}

// take returns the current block, of which the caller is the only user, and begins a new one.
func (w *Write) take() *sharedBlock {
	b := newBlock(w.block, nil)
	if int64(cap(w.block)) == w.settings.Block {
		b.buffers = &w.changes.buffers
	}
	w.block = nil
	return b
}

// Written says that the upstream stored the body that was passed to Body. sent and answer are the
// headers of the upload's request and response, and seen those of a HEAD that verified it, nil for
// none. The object enters the tiers that take the bodies of writes, unless another write of the key
// overlapped this one. Its headers stay unknown until the first read, unless they can be predicted.
// Written retains the values of the headers.
func (w *Write) Written(sent, answer, seen http.Header) {
	etag := answer.Get("Etag")
	generation, alone := w.end()
	defer w.leave()
	settings := w.changes.settings(w.key)
	if !alone || !strongETag(etag) || !settings.CachedSize(w.size) {
		w.drop()
		return
	}
	e := w.changes.newEntry(akigw.Object{Key: w.key, Size: w.size, ETag: etag}, generation, time.Now())
	e.extent, e.block = w.extent.ID, w.settings.Block
	if held := w.n*w.settings.Block + int64(len(w.block)); w.settings.Cached() && held == w.size {
		if settings.Freshness == rules.Exclusive {
			w.changes.predictions.predict(e, sent, answer, seen)
		}
		w.keep(e, settings.ForWrite())
	} else {
		w.drop()
	}
	w.changes.observers.accessed(e, settings, akigw.Range{Length: w.size}, "")
}

// keep adds the new object to the cache.
func (w *Write) keep(e *entry, settings *rules.Settings) {
	if w.changes.small(e) {
		e.body = w.whole()
	} else {
		w.put()
	}
	w.changes.publishAs(e, settings, handling(settings))
}

// End ends a change without caching anything: because it failed, its outcome is unknown, or it left
// no object. After Written it does nothing.
func (w *Write) End() {
	if w.ended {
		return
	}
	w.end()
	w.drop()
	w.leave()
}

// whole returns the bytes of an object in one block, in memory of their size.
func (w *Write) whole() []byte {
	if len(w.block) < cap(w.block) || len(w.block) == 0 || int64(len(w.block)) == w.settings.Block {
		return append(make([]byte, 0, w.size), w.block...)
	}
	body := w.block // it came in one piece
	w.block = nil
	return body
}

// leave lets other changes of the key go on, and releases the current block.
func (w *Write) leave() {
	w.free()
	w.write.leave()
}

// free releases the current block.
func (w *Write) free() {
	if w.block != nil {
		w.take().release()
	}
}

// end ends the write in the fence: see write.done.
func (w *Write) end() (generation uint64, alone bool) {
	w.ended = true
	generation, alone = w.write.done()
	w.changes.revisions.advance(w.key.Bucket)
	w.changes.openings.forgetOpening(w.key, nil)
	return generation, alone
}

// drop removes the cached data of the key, including what this write added.
func (w *Write) drop() {
	w.changes.dropEntry(w.key)
	if w.n > 0 {
		w.changes.freeBlocks(w.extent.ID)
	}
}
