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
// Written, Found and Body are optional.
type Write struct {
	changes  *changes
	settings *rules.Settings // for the body: rules.Settings.ForWrite
	size     int64           // bytes that went through Body
	write    *write
	key      akigw.Key
	extent   warm.Run
	body     cutter
	parts    layout // see Parts
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
	w.body.write(p, w.put)
}

// Keeps reports whether the cache takes the body of an object of size bytes.
func (w *Write) Keeps(size int64) bool { return w.settings.CachedSize(size) }

// Parts says that the object is uploaded in parts of these numbers and sizes in bytes, which Parts does not
// retain.
func (w *Write) Parts(numbers []int, sizes []int64) { w.parts = layoutOf(numbers, sizes) }

// put stores a block of the body.
func (w *Write) put(n int64, b *sharedBlock) {
	w.changes.putBlock(w.key, w.settings, w.extent, n, b, false)
}

// Written says that the upstream stored the body that was passed to Body. sent and answer are the
// headers of the upload's request and response, and seen those of a HEAD that verified it, nil for
// none. The object enters the tiers that take the bodies of writes, unless another write of the key
// overlapped this one. Its headers stay unknown until the first read, unless they can be predicted.
// Written retains the values of the headers.
func (w *Write) Written(sent, answer, seen http.Header) {
	w.written(answer.Get("Etag"), func(e *entry) { w.changes.predictions.predict(e, sent, answer, seen) })
}

// Found says that the upstream turned out to have the body that was passed to Body, with this ETag, although
// no response to its upload said so: the request that found it was sent after Begin. The object enters the
// tiers as after Written, with unknown headers.
func (w *Write) Found(etag string) { w.written(etag, func(*entry) {}) }

// written is Written for an object with this ETag. predict adds to its entry what is known of its headers.
func (w *Write) written(etag string, predict func(*entry)) {
	generation, alone := w.end()
	defer w.leave()
	settings := w.changes.settings(w.key)
	if !alone || !strongETag(etag) || !settings.CachedSize(w.size) {
		w.drop()
		return
	}
	e := w.changes.newEntry(akigw.Object{Key: w.key, Size: w.size, ETag: etag}, generation, time.Now())
	e.extent, e.block = w.extent.ID, w.settings.Block
	if w.parts.valid(e.Size) {
		e.parts = w.parts
	}
	if held := w.body.n*w.settings.Block + int64(len(w.body.block)); w.settings.Cached() && held == w.size {
		if settings.Freshness == rules.Exclusive {
			predict(e)
		}
		w.keep(e, settings.ForWrite())
	} else {
		w.drop()
	}
	w.changes.observers.accessed(e, settings, akigw.Range{Length: w.size}, "")
}

// Assembled says that the upstream has completed a multipart upload, whose parts went through BeginPart,
// with the listed parts. answer are the headers of the response, the object's ETag and checksums among
// them. The object enters the cache, with what is kept of the parts, if it is certain to be made of those
// and no other write of the key overlapped this one. Assembled retains the values of the headers.
func (w *Write) Assembled(id string, listed []UploadedPart, answer http.Header) {
	etag := answer.Get("Etag")
	generation, alone := w.end()
	defer w.leave()
	c := w.changes
	o, sizes, ok := c.uploads.complete(uploadID{w.key, id}, listed, etag)
	if o == nil {
		w.drop()
		return
	}
	e := c.newEntry(akigw.Object{Key: w.key, ETag: etag}, generation, time.Now())
	e.extent, e.block = o.taken, o.block
	numbers := make([]int, len(sizes))
	for i, size := range sizes {
		numbers[i] = listed[i].Number
		e.Size += size
	}
	e.parts = layoutOf(numbers, sizes)
	settings := c.settings(w.key)
	if !ok || !alone || !settings.ForWrite().CachedSize(e.Size) || c.small(e) {
		w.drop()
		c.uploads.drop(o)
		return
	}
	c.counters.uploadsCached.Inc()
	if settings.Freshness == rules.Exclusive {
		c.predictions.predict(e, o.header, answer, nil)
	}
	c.publishAs(e, settings.ForWrite(), handling(settings))
	c.observers.accessed(e, settings, akigw.Range{Length: e.Size}, "")
}

// keep adds the new object to the cache.
func (w *Write) keep(e *entry, settings *rules.Settings) {
	if w.changes.small(e) {
		e.body = w.body.whole()
	} else {
		w.body.flush(w.put)
	}
	w.changes.publishAs(e, settings, handling(settings))
}

// End ends a change without caching anything: because it failed, its outcome is unknown, or it left
// no object. After Written, Found and Assembled it does nothing.
func (w *Write) End() {
	if w.ended {
		return
	}
	w.end()
	w.drop()
	w.leave()
}

// leave lets other changes of the key go on, and releases the current block.
func (w *Write) leave() {
	w.body.free()
	w.write.leave()
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
	if w.body.n > 0 {
		w.changes.freeBlocks(w.extent.ID)
	}
}
