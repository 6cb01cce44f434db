package uploadpool

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

// An object that the gateway itself writes to the upstream is one multipart upload with parallel
// parts. The journal knows of the upload before it begins in the upstream, so that a crash leaves
// nothing behind: the next epoch aborts it.

// ownPrefix begins the IDs of the gateway's own uploads in the journal.
const ownPrefix = "own-"

// Own reports whether an upload in the journal is not a client's.
func Own(u *journal.Upload) bool { return strings.HasPrefix(u.ID, ownPrefix) }

// Limits of parts: at least leastPart, and no more than maxParts of them (S3).
const (
	leastPart = 8 << 20
	maxParts  = 10_000
)

// Send writes an object of the gateway itself, of size bytes: the object exists when Send returns
// nil. body must not change meanwhile, and may be read concurrently.
func (p *Pool) Send(ctx context.Context, key akigw.Key, contentType string, body io.ReaderAt, size int64) error {
	parts, err := partsOf(body, size)
	if err != nil {
		return err
	}
	id := ownPrefix + rand.Text()
	if err := p.Journal.Uploads.Begin(ctx, journal.Upload{ID: id, Key: key, Begun: time.Now(), Header: http.Header{"Content-Type": {contentType}}}); err != nil {
		return err
	}
	u := p.Journal.Uploads.Find(id)
	r := p.uploader.send(ctx, u, parts, body, size)
	ended, cancel := context.WithTimeout(context.WithoutCancel(ctx), ownPatience)
	defer cancel()
	if r.err == nil {
		err = p.Journal.Uploading(ended, u.Number, key, "") // nothing is left to abort
	}
	err = errors.Join(err, p.Journal.Uploads.Abort(ended, u))
	p.queue.stir()
	if r.err != nil {
		return fmt.Errorf("upload of %s: %w", key, r.failure())
	}
	return err
}

// ownPatience is how long the end of an upload may take to be recorded.
const ownPatience = 10 * time.Second

// send uploads the parts of an object, and verifies it.
func (up *uploader) send(ctx context.Context, u *journal.Upload, parts []journal.Part, body io.ReaderAt, size int64) result {
	m := &multipart{up: up, number: u.Number, key: u.Key, header: u.Header, parts: parts, tags: map[int]string{}, obsolete: func() bool { return false }}
	m.body = func(i int) (io.ReadSeekCloser, error) {
		return struct {
			io.ReadSeeker
			io.Closer
		}{io.NewSectionReader(body, int64(i)*parts[0].Size, parts[i].Size), io.NopCloser(nil)}, nil
	}
	r := m.open(ctx, false)
	if r.err == nil {
		r = m.sendAll(ctx)
	}
	if r.err == nil {
		failpoint.Here("own.beforeComplete")
		if r = m.complete(ctx); cold.Unfinished(r.err) {
			up.doubts.begin(u.Key, nil)
		}
	}
	if r.err != nil {
		return r
	}
	_, there, err := up.has(ctx, &journal.Entry{Key: u.Key, Size: size, ETag: r.answer.Get("Etag")}, nil)
	if err == nil && !there {
		err = errOther
	}
	return up.judge(err, nil, true)
}

// partsOf splits a body into parts, and computes their ETags.
func partsOf(body io.ReaderAt, size int64) (parts []journal.Part, err error) {
	each := max(leastPart, (size+maxParts-1)/maxParts)
	for at := int64(0); at < size || len(parts) == 0; at += each {
		n := min(each, size-at)
		sum := md5.New()
		if _, err := io.Copy(sum, io.NewSectionReader(body, at, n)); err != nil {
			return nil, err
		}
		parts = append(parts, journal.Part{Number: len(parts) + 1, Size: n, ETag: `"` + hex.EncodeToString(sum.Sum(nil)) + `"`})
	}
	return parts, nil
}

// endOwn aborts the gateway's own uploads of an earlier epoch.
func (p *Pool) endOwn(ctx context.Context) {
	for _, u := range p.Journal.Uploads.List("") {
		if Own(u) && u.Number <= p.queue.known {
			_ = p.Journal.Uploads.Abort(ctx, u) // if that fails, the next epoch tries again
		}
	}
}
