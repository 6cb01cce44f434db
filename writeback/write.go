package writeback

import (
	"context"
	"fmt"
	"hash"
	"net/http"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/writeback/overlay"
)

// Write is a body that the journal will acknowledge: an object's or a part's. It is for one
// goroutine, which must call Discard at the end.
type Write struct {
	acceptor *acceptor
	cache    overlay.Cache
	hashers  *hashers
	key      akigw.Key
	draft    *journal.Draft
	size     int64  // bytes that are reserved
	epoch    uint64 // of the bucket
	endMD5   func() // nil without one
}

// Write implements io.Writer. It does not retain p.
func (w *Write) Write(p []byte) (int, error) {
	n, err := w.draft.Write(p)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrJournal, err)
	}
	return n, err
}

// MD5 starts an MD5 of the body. The caller writes the same bytes to it. It ends with Discard.
func (w *Write) MD5() hash.Hash {
	sum, end := w.hashers.start(w.size)
	w.endMD5 = end
	return sum
}

// Discard drops a body that will not be committed. It must be called, also after Commit.
func (w *Write) Discard() {
	w.draft.Discard()
	if w.endMD5 != nil {
		w.endMD5()
		w.endMD5 = nil
	}
	w.acceptor.space.release(w.size)
	w.size = 0
}

// Commit acknowledges the body of an object: when it returns nil, the body is synced to disk, and
// is what the key holds. etag is its MD5 in quoted hex, header is sent to the upstream with it. It
// returns the object's Last-Modified. The error is ErrPending if the bucket was changed since
// Accept and can no longer be written back.
func (w *Write) Commit(ctx context.Context, etag string, header http.Header) (modified time.Time, err error) {
	if err := w.acceptor.still(ctx, w.key.Bucket, w.epoch); err != nil {
		return modified, err
	}
	replaced(w.cache, w.key)
	e := journal.Entry{Key: w.key, ETag: etag, Modified: now(), Header: header}
	return e.Modified, w.acceptor.acknowledged(w.acceptor.journal.Commit(ctx, w.draft, e))
}

// Upload is an open multipart upload in the journal. It is shared and must not be
// changed.
type Upload = journal.Upload

// Part is a part of a multipart upload.
type Part = journal.Part

// CommitPart acknowledges the body as a part of an upload; p has its Number, ETag and Header. It
// returns the part's Modified.
func (w *Write) CommitPart(ctx context.Context, u *Upload, p Part) (modified time.Time, err error) {
	p.Modified = now()
	return p.Modified, w.acceptor.acknowledged(w.acceptor.journal.Uploads.AddPart(ctx, u, w.draft, p))
}
