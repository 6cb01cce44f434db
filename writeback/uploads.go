package writeback

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/uploadpool"
	"github.com/akidb/akigw/writeback/buckets"
	"github.com/akidb/akigw/writeback/overlay"
)

// Errors of uploads.
const (
	// ErrNoUpload: the upload has ended, or never existed.
	ErrNoUpload = journal.ErrNoUpload
	// ErrNoPart: a part does not exist, or has another ETag.
	ErrNoPart = journal.ErrNoPart
)

// Uploads are the multipart uploads to buckets that are written back. They stay in the journal
// until they are completed. An upload that outgrows the journal, or needs what only the upstream
// can decide, is moved: its parts are sent to an upload in the upstream, and the rest of it goes
// there directly.
type Uploads struct {
	journal  *journal.Journal // nil: nothing is written back
	pool     *uploadpool.Pool
	cache    overlay.Cache
	acceptor *acceptor
	hashers  *hashers
	maxAge   time.Duration // 0: none expires
	log      *slog.Logger
}

// uploadIDPrefix begins the IDs of uploads in the journal.
const uploadIDPrefix = "akigw-"

// Local reports whether an upload ID is that of an upload in the journal, open or ended.
func Local(uploadID string) bool { return strings.HasPrefix(uploadID, uploadIDPrefix) }

// Begin acknowledges CreateMultipartUpload in the journal. The ID is "" if the upload must go
// through, for one of the reasons of WriteBack.Accept.
func (u *Uploads) Begin(ctx context.Context, key akigw.Key, header http.Header) (id string, err error) {
	if ok, err := u.acceptor.accepts(ctx, key, 0, header); !ok {
		return "", err
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // it never fails
	id = uploadIDPrefix + hex.EncodeToString(random[:])
	return id, u.acceptor.acknowledged(u.journal.Uploads.Begin(ctx, Upload{ID: id, Key: key, Begun: now(), Header: header}))
}

// Find returns an open upload of a key. The error is ErrNoUpload if there is none.
func (u *Uploads) Find(key akigw.Key, id string) (*Upload, error) {
	if u.journal != nil {
		if up := u.journal.Uploads.Find(id); up != nil && up.Key == key {
			return up, nil
		}
	}
	return nil, ErrNoUpload
}

// Of returns the open uploads to a bucket, by key and then by age.
func (u *Uploads) Of(bucket string) []*Upload {
	if u.journal == nil {
		return nil
	}
	return slices.DeleteFunc(u.journal.Uploads.List(bucket), uploadpool.Own)
}

// AcceptPart starts a part of size bytes. It returns nil if the part must go to the upstream: the
// upload was moved, or the journal accepts no more.
func (u *Uploads) AcceptPart(up *Upload, size int64) *Write {
	if u.moved(up) {
		u.acceptor.counters.upstream.Inc()
		return nil
	}
	if why := u.acceptor.space.reserve(size); why != buckets.NoCause {
		u.acceptor.goesThrough(up.Key.Bucket, why)
		return nil
	}
	return &Write{acceptor: u.acceptor, cache: u.cache, hashers: u.hashers, key: up.Key, draft: u.journal.Uploads.Receive(), size: size}
}

// Parts returns the parts of an upload, by number: those in the journal and, if it was moved, those
// in the upstream.
func (u *Uploads) Parts(ctx context.Context, up *Upload) ([]Part, error) {
	parts, err := u.journal.Uploads.Parts(up)
	if err != nil || !u.moved(up) {
		return parts, err
	}
	there, err := u.pool.Uploaded(ctx, up.Key, u.journal.UploadID(up.Number))
	all := map[int]Part{}
	for _, p := range slices.Concat(parts, there) {
		all[p.Number] = p
	}
	return slices.SortedFunc(maps.Values(all), func(a, b Part) int { return a.Number - b.Number }), err
}

// AcceptComplete reports whether the journal may acknowledge the completion of an upload: its
// bucket may have been changed since the upload began. Errors are those of WriteBack.Accept.
func (u *Uploads) AcceptComplete(ctx context.Context, up *Upload) (bool, error) {
	if u.moved(up) {
		return false, nil
	}
	why, err := u.acceptor.buckets.Know(ctx, up.Key.Bucket)
	if err == nil && why == buckets.NoCause {
		return !u.acceptor.unusual(up.Key, up.Header), nil
	}
	u.acceptor.goesThrough(up.Key.Bucket, why)
	return false, err
}

// Complete acknowledges the completion of an upload, with the parts named by Number and ETag. When
// it returns nil, the object is synced to disk, and is what the key holds.
func (u *Uploads) Complete(ctx context.Context, up *Upload, etag string, header http.Header, parts []Part) error {
	replaced(u.cache, up.Key)
	return u.acceptor.acknowledged(u.journal.Uploads.Complete(ctx, up, journal.Entry{Key: up.Key, ETag: etag, Modified: now(), Header: header, Parts: parts}))
}

// Completed returns the ETag and the headers of the object that an upload of a key recently became;
// false if that is not known.
func (u *Uploads) Completed(key akigw.Key, id string) (etag string, header http.Header, ok bool) {
	if u.journal == nil {
		return "", nil, false
	}
	if e := u.journal.Uploads.Completed(id); e != nil && e.Key == key {
		return e.ETag, e.Header, true
	}
	return "", nil, false
}

// Abort acknowledges the abort of an upload. If the upload was moved, the one in the upstream is
// aborted soon.
func (u *Uploads) Abort(ctx context.Context, up *Upload) error {
	return u.acceptor.acknowledged(u.journal.Uploads.Abort(ctx, up))
}

// AbortAll aborts the uploads to a bucket that was deleted.
func (u *Uploads) AbortAll(ctx context.Context, bucket string) {
	for _, up := range u.Of(bucket) {
		if err := u.journal.Uploads.Abort(ctx, up); err != nil && !errors.Is(err, ErrNoUpload) {
			u.log.Warn("a multipart upload to a deleted bucket could not be aborted; it will be aborted when it expires", "key", up.Key.String(), "error", err)
		}
	}
}

// moved reports whether an upload continues in the upstream.
func (u *Uploads) moved(up *Upload) bool { return u.journal.UploadID(up.Number) != "" }

// Move moves an upload to the upstream, with some of its parts in the journal, and returns the
// upload ID there. From then on new parts go to that upload. When it has been completed there,
// Abort ends it here.
func (u *Uploads) Move(ctx context.Context, up *Upload, parts []Part) (string, error) {
	return u.pool.Forward(ctx, up, parts)
}

// LocalParts returns the wanted parts that are in the journal.
func (u *Uploads) LocalParts(up *Upload, wanted []Part) ([]Part, error) {
	have, err := u.journal.Uploads.Parts(up)
	return slices.DeleteFunc(have, func(p Part) bool {
		return !slices.ContainsFunc(wanted, func(w Part) bool { return w.Number == p.Number && w.ETag == p.ETag })
	}), err
}

// expireEvery is how often uploads are checked for expiry.
const expireEvery = time.Hour

// runExpiry aborts uploads that have received no part for too long, until ctx ends.
func (u *Uploads) runExpiry(ctx context.Context) {
	if u.maxAge == 0 {
		return
	}
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		for _, up := range u.journal.Uploads.List("") {
			u.expire(ctx, up)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// expire aborts an upload if it has received no part for too long.
func (u *Uploads) expire(ctx context.Context, up *Upload) {
	last := up.Begun
	parts, err := u.journal.Uploads.Parts(up)
	for _, p := range parts {
		if p.Modified.After(last) {
			last = p.Modified
		}
	}
	if err != nil || time.Since(last) < u.maxAge {
		return
	}
	if err := u.journal.Uploads.Abort(ctx, up); err != nil && !errors.Is(err, ErrNoUpload) {
		u.log.Warn("an expired multipart upload could not be aborted", "key", up.Key.String(), "error", err)
		return
	}
	u.log.Info("aborted an expired multipart upload, which had received no part for too long", "key", up.Key.String(), "upload_id", up.ID, "parts", len(parts), "last_part", last)
}
