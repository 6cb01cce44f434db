package tiers

import (
	"hash/maphash"

	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/warm"
)

// PartWrite is a part of a multipart upload on its way to the upstream. It is for one goroutine, which
// must call End. The methods of a nil PartWrite do nothing.
type PartWrite struct {
	uploads  *uploads
	upload   *upload
	part     *partContent
	settings *rules.Settings // rules.Settings.ForWrite
	size     int64           // of the part in bytes
	extent   uint64          // of its blocks
	first    int64           // number of its first block in the object
	body     cutter
	seen     int64 // bytes that went through Body
	keep     bool  // its blocks are stored
	stored   bool  // one was
}

// Body records the next bytes of the part on their way to the upstream. It does not retain p.
func (w *PartWrite) Body(p []byte) {
	if w == nil {
		return
	}
	if w.seen += int64(len(p)); w.keep {
		w.body.write(p, w.put)
	}
}

// put stores a block of the part.
func (w *PartWrite) put(n int64, b *sharedBlock) {
	if w.keep = w.keep && w.uploads.claim(w, n, maphash.Bytes(w.uploads.seed, b.data)); w.keep {
		key := w.upload.key
		w.uploads.putBlock(key, w.settings, warm.Run{ID: w.extent, Object: objectNumber(key)}, w.first+n, b, false)
		w.stored = true
	}
}

// Written says that the upstream stored the bytes that were passed to Body, and answered with this ETag.
func (w *PartWrite) Written(etag string) {
	if w == nil || w.seen != w.size {
		return
	}
	if w.keep {
		w.body.flush(w.put)
	}
	w.uploads.mu.Lock()
	defer w.uploads.mu.Unlock()
	p := w.part
	switch {
	case w.keep && w.upload.extent == w.extent: // all its blocks are p's
		p.etag = bareETag(etag)
	case len(p.sums) == 0:
		p.size, p.etag = w.size, bareETag(etag)
	}
}

// End ends the write of a part, whatever became of it.
func (w *PartWrite) End() {
	if w == nil {
		return
	}
	w.body.free()
	w.uploads.mu.Lock()
	stray := w.stored && w.upload.extent != w.extent && w.upload.taken != w.extent
	w.uploads.mu.Unlock()
	if stray { // a block may have been stored after its extent was freed
		w.uploads.free(w.extent)
	}
}
