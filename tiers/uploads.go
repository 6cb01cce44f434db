package tiers

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/uploadpool"
)

// Multipart uploads to buckets that are written back stay in the journal until they
// are completed. One that outgrows the journal, or asks for what only the upstream
// can judge, is moved: its parts go to an upload at the upstream, and the rest of it
// goes there directly.

// Upload is an open multipart upload in the journal. It is shared and must not be
// changed.
type Upload = journal.Upload

// UploadPart is a part of one.
type UploadPart = journal.Part

// Errors of uploads.
var (
	// ErrNoUpload: the upload is over, or never was.
	ErrNoUpload = journal.ErrNoUpload
	// ErrNoPart: a part is not what it was said to be.
	ErrNoPart = journal.ErrNoPart
)

// uploadIDPrefix is what the ids of uploads in the journal begin with.
const uploadIDPrefix = "akigw-"

// Local reports whether an upload id is of an upload in the journal, open or over.
func Local(uploadID string) bool { return strings.HasPrefix(uploadID, uploadIDPrefix) }

// BeginUpload acknowledges CreateMultipartUpload by the journal. The id is "" if it
// has to go through, for one of the reasons of Accept.
func (s *Store) BeginUpload(ctx context.Context, key akigw.Key, header http.Header) (id string, err error) {
	if ok, err := s.accepts(ctx, key, 0, header); !ok {
		return "", err
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // it does not fail
	id = uploadIDPrefix + hex.EncodeToString(random[:])
	return id, acknowledged(s.back.journal.Uploads.Begin(ctx, Upload{ID: id, Key: key, Begun: now(), Header: header}))
}

// now is the present as S3 tells it.
func now() time.Time { return time.Now().Truncate(time.Second) }

// Upload finds an open upload in the journal. The error is ErrNoUpload if there is
// none of this key.
func (s *Store) Upload(key akigw.Key, id string) (*Upload, error) {
	if s.back != nil {
		if u := s.back.journal.Uploads.Find(id); u != nil && u.Key == key {
			return u, nil
		}
	}
	return nil, ErrNoUpload
}

// Uploads are the open uploads to a bucket in the journal, by key and then by age.
func (s *Store) Uploads(bucket string) []*Upload {
	if s.back == nil {
		return nil
	}
	return slices.DeleteFunc(s.back.journal.Uploads.List(bucket), uploadpool.Own)
}

// AcceptPart starts a part of size bytes. It returns nil if it has to go to the
// upstream: the upload was moved, or the journal takes no more.
func (s *Store) AcceptPart(u *Upload, size int64) *BackWrite {
	if s.Moved(u) {
		backWrites["through"].Inc()
		return nil
	}
	if why := s.back.reserve(size); why != throughNone {
		s.goesThrough(u.Key.Bucket, why)
		return nil
	}
	return &BackWrite{store: s, key: u.Key, draft: s.back.journal.Uploads.Receive(), size: size}
}

// CommitPart acknowledges the body as a part of an upload; p says its Number, ETag
// and Header. It returns the part's Modified.
func (w *BackWrite) CommitPart(ctx context.Context, u *Upload, p UploadPart) (modified time.Time, err error) {
	p.Modified = now()
	return p.Modified, acknowledged(w.store.back.journal.Uploads.AddPart(ctx, u, w.draft, p))
}

// Parts are the parts of an upload, by number: those in the journal, and if it was
// moved those at the upstream.
func (s *Store) Parts(ctx context.Context, u *Upload) ([]UploadPart, error) {
	parts, err := s.back.journal.Uploads.Parts(u)
	if err != nil || !s.Moved(u) {
		return parts, err
	}
	there, err := s.back.pool.Uploaded(ctx, u.Key, s.back.journal.UploadID(u.Number))
	all := map[int]UploadPart{}
	for _, p := range slices.Concat(parts, there) {
		all[p.Number] = p
	}
	return slices.SortedFunc(maps.Values(all), func(a, b UploadPart) int { return a.Number - b.Number }), err
}

// AcceptComplete reports whether the completion of an upload may be acknowledged by the journal:
// its bucket may have been changed since the upload was begun. An error is that of Accept.
func (s *Store) AcceptComplete(ctx context.Context, u *Upload) (bool, error) {
	if s.Moved(u) {
		return false, nil
	}
	why, err := s.back.buckets.know(ctx, u.Key.Bucket)
	if err == nil && why == throughNone {
		return !s.unusual(u.Key, u.Header), nil
	}
	s.goesThrough(u.Key.Bucket, why)
	return false, err
}

// CompleteUpload acknowledges the completion of an upload by the journal, of the
// parts that are named by Number and ETag. When it returns nil the object is on
// disk, synced, and what the key holds.
func (s *Store) CompleteUpload(ctx context.Context, u *Upload, etag string, header http.Header, parts []UploadPart) error {
	change := s.Begin(u.Key)
	defer change.End()
	return acknowledged(s.back.journal.Uploads.Complete(ctx, u, journal.Entry{Key: u.Key, ETag: etag, Modified: now(), Header: header, Parts: parts}))
}

// Completed returns the ETag and the headers of the object that an upload of a key was
// completed to not long ago; false if that is not known.
func (s *Store) Completed(key akigw.Key, id string) (etag string, header http.Header, ok bool) {
	if s.back == nil {
		return "", nil, false
	}
	if e := s.back.journal.Uploads.Completed(id); e != nil && e.Key == key {
		return e.ETag, e.Header, true
	}
	return "", nil, false
}

// AbortUpload acknowledges the abort of an upload, also of one that was moved: then
// the one at the upstream is aborted soon.
func (s *Store) AbortUpload(ctx context.Context, u *Upload) error {
	return acknowledged(s.back.journal.Uploads.Abort(ctx, u))
}

// Moved reports whether an upload goes on at the upstream.
func (s *Store) Moved(u *Upload) bool { return s.back.journal.UploadID(u.Number) != "" }

// MoveUpload takes an upload to the upstream, with some of its parts in the journal,
// and returns the upload id there. From then on new parts go to that. When it is
// completed there, AbortUpload ends it here.
func (s *Store) MoveUpload(ctx context.Context, u *Upload, parts []UploadPart) (string, error) {
	return s.back.pool.Forward(ctx, u, parts)
}

// LocalParts are those of the wanted parts that are in the journal.
func (s *Store) LocalParts(u *Upload, wanted []UploadPart) ([]UploadPart, error) {
	have, err := s.back.journal.Uploads.Parts(u)
	return slices.DeleteFunc(have, func(p UploadPart) bool {
		return !slices.ContainsFunc(wanted, func(w UploadPart) bool { return w.Number == p.Number && w.ETag == p.ETag })
	}), err
}

// expireUploads aborts uploads that nobody has sent a part of for long.
func (s *Store) expireUploads(ctx context.Context) {
	limit := time.Duration(s.back.config.MaxUploadSecs) * time.Second
	for _, u := range s.back.journal.Uploads.List("") {
		last := u.Begun
		parts, err := s.back.journal.Uploads.Parts(u)
		for _, p := range parts {
			if p.Modified.After(last) {
				last = p.Modified
			}
		}
		if err != nil || time.Since(last) < limit {
			continue
		}
		if err := s.back.journal.Uploads.Abort(ctx, u); err != nil && !errors.Is(err, ErrNoUpload) {
			s.log.Warn("a multipart upload that nobody goes on with could not be aborted", "key", u.Key.String(), "error", err)
			continue
		}
		s.log.Info("aborted a multipart upload that nobody went on with", "key", u.Key.String(), "upload_id", u.ID, "parts", len(parts), "last_part", last)
	}
}

// AbortUploads ends the uploads to a bucket that is gone.
func (s *Store) AbortUploads(ctx context.Context, bucket string) {
	for _, u := range s.Uploads(bucket) {
		if err := s.back.journal.Uploads.Abort(ctx, u); err != nil && !errors.Is(err, ErrNoUpload) {
			s.log.Warn("a multipart upload to a bucket that is gone could not be aborted; it is when it expires", "key", u.Key.String(), "error", err)
		}
	}
}

// expireEvery is how often uploads are looked through.
const expireEvery = time.Hour

// runExpiry expires uploads until ctx ends.
func (s *Store) runExpiry(ctx context.Context) {
	if s.back.config.MaxUploadSecs == 0 {
		return
	}
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		s.expireUploads(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// pendingPart describes a part of a pending object.
func pendingPart(e *journal.Entry, number int) *Part {
	at := int64(0)
	for _, p := range e.Parts {
		if p.Number == number {
			h := http.Header{"X-Amz-Mp-Parts-Count": {strconv.Itoa(len(e.Parts))}}
			maps.Copy(h, p.Header)
			return &Part{Number: number, Status: http.StatusPartialContent, Header: h, Range: akigw.Range{Start: at, Length: p.Size}}
		}
		at += p.Size
	}
	return nil
}
