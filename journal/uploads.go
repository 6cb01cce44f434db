package journal

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/akidb/akigw"
)

// A client's multipart upload has one record for its beginning and one for each of its parts, whose
// bodies are spool files. Completing it is one more record, which makes those files the body of an
// entry: nothing is copied, and at every moment the files belong either to the upload or to the
// entry.

// Upload is an open multipart upload. It is shared and must not be changed.
type Upload struct {
	// Number is the number of the upload's record: later uploads have higher numbers.
	Number uint64
	// ID is the client's UploadId.
	ID  string
	Key akigw.Key
	// Begun is the time of the acknowledgement.
	Begun time.Time
	// Header is sent to the upstream with CreateMultipartUpload.
	Header http.Header
}

// Uploads manages the clients' multipart uploads in a journal.
type Uploads struct{ journal *Journal }

// Begin acknowledges a multipart upload, with u's ID, Key, Begun and Header
// (CreateMultipartUpload).
func (s *Uploads) Begin(ctx context.Context, u Upload) error {
	return s.journal.committer.commit(ctx, &op{kind: kindBegin, put: &Entry{Key: u.Key, UploadID: u.ID, Modified: u.Begun, Header: u.Header}, key: u.Key})
}

// Receive starts the body of a part.
func (s *Uploads) Receive() *Draft { return s.journal.spool.ReceiveSpooled() }

// AddPart makes d an acknowledged part of an upload (UploadPart), with p's Number, ETag, Header and
// Modified. It replaces a part with the same number. The error is ErrNoUpload if the upload has
// ended. Like Commit, it always ends d.
func (s *Uploads) AddPart(ctx context.Context, u *Upload, d *Draft, p Part) error {
	e := &Entry{Key: u.Key, Size: d.Size(), ETag: p.ETag, Header: p.Header, Modified: p.Modified}
	return s.journal.commitBody(ctx, d, &op{kind: kindPart, put: e, key: u.Key, upload: u.Number, part: p.Number})
}

// Complete acknowledges e, whose body consists of parts of an upload, and ends the upload
// (CompleteMultipartUpload). It uses e's Key, ETag, Modified, Header and Parts. The number and the
// ETag of each of the Parts must match an existing part, otherwise the error is ErrNoPart. It is
// ErrNoUpload if the upload has ended. Parts that are not named are dropped.
func (s *Uploads) Complete(ctx context.Context, u *Upload, e Entry) error {
	e.UploadID = u.ID
	return s.journal.committer.commit(ctx, &op{kind: kindComplete, put: &e, key: e.Key, upload: u.Number})
}

// Abort ends an upload and drops its parts (AbortMultipartUpload). The error is ErrNoUpload if it
// has ended.
func (s *Uploads) Abort(ctx context.Context, u *Upload) error {
	return s.journal.committer.commit(ctx, &op{kind: kindAbort, entry: u.Number, key: u.Key})
}

// Find returns the open upload with an ID, nil if there is none.
func (s *Uploads) Find(id string) (found *Upload) {
	s.journal.table.read(func(st *state) {
		if u := st.uploads.named[id]; u != nil {
			found = u.public()
		}
	})
	return found
}

// List returns the open uploads to a bucket, or to all buckets for "", by key and then by age.
func (s *Uploads) List(bucket string) (all []*Upload) {
	s.journal.table.read(func(st *state) {
		for _, u := range st.uploads.named {
			if bucket == "" || u.item.entry.Key.Bucket == bucket {
				all = append(all, u.public())
			}
		}
	})
	slices.SortFunc(all, func(a, b *Upload) int {
		return cmp.Or(cmp.Compare(a.Key.Bucket, b.Key.Bucket), cmp.Compare(a.Key.Name, b.Key.Name), cmp.Compare(a.Number, b.Number))
	})
	return all
}

// Parts returns the parts of an upload, by number. The error is ErrNoUpload if it has ended.
func (s *Uploads) Parts(u *Upload) (all []Part, err error) {
	s.journal.table.read(func(st *state) {
		up := st.uploads.open[u.Number]
		if up == nil {
			err = ErrNoUpload
			return
		}
		all = make([]Part, 0, len(up.parts))
		for n, it := range up.parts {
			e := it.entry
			all = append(all, Part{Number: n, Size: e.Size, ETag: e.ETag, Header: e.Header, Modified: e.Modified, Entry: e})
		}
	})
	slices.SortFunc(all, func(a, b Part) int { return a.Number - b.Number })
	return all, err
}

// Completed returns the entry that an upload became recently, without its Parts; nil if that is not
// known. The entry may have left the journal.
func (s *Uploads) Completed(id string) (e *Entry) {
	s.journal.table.read(func(st *state) { e = st.uploads.completed.named[id] })
	return e
}
