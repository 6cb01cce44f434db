package tiers

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
)

const (
	// maxUploads is how many open uploads are remembered; beyond it the oldest is forgotten.
	maxUploads = 1000
	// maxUploadParts is how many parts of all of them are remembered, at about 200 bytes each.
	maxUploadParts = 100_000
	// maxUploadBlocks is how many blocks are kept of all of them, each of which takes 8 to 16 bytes
	// of memory.
	maxUploadBlocks = 1 << 20
	// maxUploadAge is how long an open upload is remembered, and until another one begins.
	maxUploadAge = 24 * time.Hour
)

// uploads keeps the bytes of multipart uploads that go through this gateway. They are in blocks of an
// extent that no entry refers to, at the places that they will have in the object, and become its
// blocks when the upload is completed (Write.Assembled). Until then they are evicted like any others. A
// block that is missing then is fetched when it is read.
//
// The place of a part is known only if all parts but the last have one size, a multiple of a block.
// That size is taken to be the largest seen. If a larger part follows, the upload begins a new extent;
// if the list of parts turns out to be another one, nothing of the object is kept.
//
// A block of an extent never changes: if two bodies of one part differ, all that is kept of the upload
// is given up. So it does not matter whether uploads of a part overlap, fail, or are carried out late.
// The blocks of a part are those of each body that has its ETag.
//
// What is remembered is lost at a restart. A clean stop removes the blocks as well; after a crash they
// are evicted in time.
type uploads struct {
	*catalog
	seed maphash.Seed // of the digests of blocks: a client cannot create two blocks with the same

	mu     sync.Mutex
	open   map[uploadID]*upload // guarded by mu
	parts  int                  // of all of them; guarded by mu
	blocks int                  // likewise; guarded by mu
}

func newUploads(c *catalog) *uploads {
	return &uploads{catalog: c, seed: maphash.MakeSeed(), open: make(map[uploadID]*upload)}
}

// uploadID identifies an upload.
type uploadID struct {
	key akigw.Key
	id  string
}

// upload is an open multipart upload. Its fields below header are guarded by uploads.mu.
type upload struct {
	uploadID
	began  time.Time
	block  int64       // size of its blocks in bytes
	header http.Header // of its CreateMultipartUpload

	extent uint64               // of its blocks; 0: they are no longer kept
	taken  uint64               // the extent that has become an object's
	size   int64                // the size of each part but the last in bytes, as far as is known
	parts  map[int]*partContent // by number
}

// partContent is what is known of a part of an open upload.
type partContent struct {
	size int64
	etag string   // "": not known for the blocks
	sums []uint64 // digests of its blocks in the extent, in order
}

// UploadedPart is a part that a CompleteMultipartUpload lists.
type UploadedPart struct {
	Number int
	ETag   string
}

// BeginUpload says that the upstream has begun a multipart upload. sent is the header of its
// CreateMultipartUpload, which is retained.
func (u *uploads) BeginUpload(key akigw.Key, id string, sent http.Header) {
	settings := u.settings(key).ForWrite()
	if id == "" || !settings.Cached() {
		return
	}
	u.ForgetUpload(key, id)
	o := &upload{uploadID: uploadID{key, id}, began: time.Now(), block: settings.Block, header: sent, extent: u.fence.generation(), parts: make(map[int]*partContent)}
	u.forget(u.add(o)...)
}

// add adds an upload. It returns those to be forgotten.
func (u *uploads) add(o *upload) (old []uploadID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	oldest := o
	for id, other := range u.open {
		if o.began.Sub(other.began) > maxUploadAge {
			old = append(old, id)
		}
		if !other.began.After(oldest.began) {
			oldest = other
		}
	}
	if len(old) == 0 && len(u.open) >= maxUploads {
		old = append(old, oldest.uploadID)
	}
	u.open[o.uploadID] = o
	return old
}

// ForgetUpload drops what is kept of an open upload: it was aborted, or gets parts from elsewhere.
func (u *uploads) ForgetUpload(key akigw.Key, id string) { u.forget(uploadID{key, id}) }

// forget drops open uploads.
func (u *uploads) forget(ids ...uploadID) {
	for _, id := range ids {
		u.mu.Lock()
		o := u.open[id]
		if o == nil {
			u.mu.Unlock()
			continue
		}
		extent := u.removeLocked(o)
		u.mu.Unlock()
		u.counters.uploadsDropped.Inc()
		u.free(extent)
	}
}

// forgetAll drops all open uploads.
func (u *uploads) forgetAll() {
	u.mu.Lock()
	var all []uploadID
	for id := range u.open {
		all = append(all, id)
	}
	u.mu.Unlock()
	u.forget(all...)
}

// removeLocked removes an upload. It returns the extent that its blocks are in, 0 for none.
func (u *uploads) removeLocked(o *upload) (extent uint64) {
	delete(u.open, o.uploadID)
	u.parts -= len(o.parts)
	return u.moveLocked(o, 0)
}

// free removes the blocks of an extent, unless it is 0.
func (u *uploads) free(extent uint64) {
	if extent != 0 {
		u.freeBlocks(extent)
	}
}

// moveLocked makes an upload continue in another extent, which is empty, or 0. It returns the one to be
// freed, 0 for none.
func (u *uploads) moveLocked(o *upload, to uint64) (from uint64) {
	for _, p := range o.parts {
		u.blocks -= len(p.sums)
		p.sums = nil
	}
	from, o.extent = o.extent, to
	return from
}

// BeginPart says that a part of size bytes is about to be sent. It returns nil if the upload or the part
// cannot be remembered. Otherwise the caller must call End.
func (u *uploads) BeginPart(key akigw.Key, id string, number int, size int64) *PartWrite {
	settings := u.settings(key).ForWrite()
	u.mu.Lock()
	o := u.open[uploadID{key, id}]
	if o == nil || o.parts[number] == nil && u.parts == maxUploadParts {
		u.mu.Unlock()
		return nil
	}
	free := u.placeLocked(o, number, size, settings)
	p := o.parts[number]
	if p == nil {
		p = &partContent{}
		o.parts[number] = p
		u.parts++
	}
	start := int64(number-1) * o.size
	w := &PartWrite{
		uploads: u, upload: o, part: p, settings: settings, size: size, extent: o.extent, first: start / o.block,
		keep: o.extent != 0 && size > 0 && start%o.block == 0, body: cutter{buffers: &u.buffers, length: int(o.block)},
	}
	u.mu.Unlock()
	u.free(free)
	return w
}

// placeLocked takes the size of another part into account, which may move the others to other places, those
// included that are still being sent, or make the object too large. It returns the extent to be freed, 0
// for none.
func (u *uploads) placeLocked(o *upload, number int, size int64, settings *rules.Settings) (free uint64) {
	before := o.size
	o.size = max(before, size)
	switch {
	case o.extent == 0:
		return 0
	case !settings.CachedSize(int64(number-1)*o.size + size):
		return u.moveLocked(o, 0)
	case before > 0 && before < size:
		return u.moveLocked(o, u.fence.generation())
	}
	return 0
}

// kept returns how many parts have blocks in the extent.
func (o *upload) kept() (n int) {
	for _, p := range o.parts {
		if len(p.sums) > 0 {
			n++
		}
	}
	return n
}

// claim reports whether a block of a part may be stored: the upload is still in the extent, and the block
// is the one that was there before, if there was one. Otherwise nothing more of the upload is kept.
func (u *uploads) claim(w *PartWrite, n int64, sum uint64) bool {
	u.mu.Lock()
	if w.upload.extent != w.extent {
		u.mu.Unlock()
		return false
	}
	p := w.part
	if len(p.sums) == 0 { // what was known before is about a body that is not kept
		p.size, p.etag = w.size, ""
	}
	var free uint64
	at := int64(len(p.sums))
	same := p.size == w.size && (n == at && u.blocks < maxUploadBlocks || n < at && p.sums[n] == sum)
	switch {
	case !same:
		free = u.moveLocked(w.upload, 0)
	case n == at:
		p.sums = append(p.sums, sum)
		u.blocks++
	}
	u.mu.Unlock()
	u.free(free)
	return same
}

// complete ends an upload that the upstream has completed with these parts as an object with this ETag.
// It returns nil if nothing is known of the upload. ok means that the extent o.taken has blocks of the
// object, all at their places, and that the object has the parts of these sizes in bytes; otherwise the
// caller drops the upload.
func (u *uploads) complete(id uploadID, listed []UploadedPart, etag string) (o *upload, sizes []int64, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if o = u.open[id]; o == nil {
		return nil, nil, false
	}
	sizes, ok = o.assembled(listed, etag)
	o.taken = u.removeLocked(o)
	return o, sizes, ok
}

// drop drops what was kept of a completed upload.
func (u *uploads) drop(o *upload) {
	u.mu.Lock()
	extent := o.taken
	o.taken = 0
	u.mu.Unlock()
	u.counters.uploadsDropped.Inc()
	u.free(extent)
}

// assembled returns the sizes of the listed parts, and whether the blocks are those of the object that they
// make: each part was sent under the listed ETag, together they give the object's, no other part is kept, and
// those that are kept are where they have to be.
func (o *upload) assembled(listed []UploadedPart, etag string) (sizes []int64, ok bool) {
	all, kept, at := md5.New(), 0, int64(0)
	for i, l := range listed {
		p := o.parts[l.Number]
		if p == nil || p.etag != bareETag(l.ETag) {
			return nil, false
		}
		sum, err := hex.DecodeString(p.etag)
		if err != nil || len(sum) != md5.Size {
			return nil, false
		}
		all.Write(sum)
		if len(p.sums) > 0 {
			kept++
			if at != int64(l.Number-1)*o.size || i < len(listed)-1 && p.size%o.block != 0 {
				return nil, false
			}
		}
		at += p.size
		sizes = append(sizes, p.size)
	}
	return sizes, kept > 0 && kept == o.kept() && o.extent != 0 && etag == fmt.Sprintf("\"%x-%d\"", all.Sum(nil), len(listed))
}

// bareETag returns an ETag without its quotes.
func bareETag(etag string) string { return strings.Trim(etag, `"`) }
