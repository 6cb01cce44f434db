package journal

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/akidb/akigw"
)

// A multipart upload of a client is a record when it begins and one of each of its
// parts, whose bodies are spool files. Completing it is one more record, which makes
// those files the body of an entry: nothing is copied, and there is no moment at
// which the parts are neither.

// Upload is an open multipart upload. It is shared and must not be changed.
type Upload struct {
	// Number is that of its record: later ones have higher numbers.
	Number uint64
	// ID is what the client calls it (UploadId).
	ID  string
	Key akigw.Key
	// Begun is when it was acknowledged.
	Begun time.Time
	// Header is what goes to the upstream with CreateMultipartUpload.
	Header http.Header
}

// Uploads are the multipart uploads of clients in a journal.
type Uploads struct{ journal *Journal }

// Begin makes a multipart upload acknowledged, with u's ID, Key, Begun and Header
// (CreateMultipartUpload).
func (s *Uploads) Begin(ctx context.Context, u Upload) error {
	return s.journal.committer.commit(ctx, &op{kind: kindBegin, put: &Entry{Key: u.Key, UploadID: u.ID, Modified: u.Begun, Header: u.Header}, key: u.Key})
}

// Receive starts the body of a part.
func (s *Uploads) Receive() *Draft { return s.journal.spool.ReceiveSpooled() }

// AddPart makes d an acknowledged part of an upload (UploadPart), with p's Number, ETag, Header
// and Modified; one of that number is replaced. The error is ErrNoUpload if the
// upload is over. Like Commit, it ends d.
func (s *Uploads) AddPart(ctx context.Context, u *Upload, d *Draft, p Part) error {
	e := &Entry{Key: u.Key, Size: d.Size(), ETag: p.ETag, Header: p.Header, Modified: p.Modified}
	return s.journal.commitBody(ctx, d, &op{kind: kindPart, put: e, key: u.Key, upload: u.Number, part: p.Number})
}

// Complete makes e an acknowledged write whose body are parts of an upload, which is
// over (CompleteMultipartUpload): with e's Key, ETag, Modified, Header and Parts, of which the
// number and the ETag have to be those of parts that are there, else the error is ErrNoPart. It
// is ErrNoUpload if the upload is over. Parts that are not named are dropped.
func (s *Uploads) Complete(ctx context.Context, u *Upload, e Entry) error {
	e.UploadID = u.ID
	return s.journal.committer.commit(ctx, &op{kind: kindComplete, put: &e, key: e.Key, upload: u.Number})
}

// Abort ends an upload and drops its parts (AbortMultipartUpload). The error is ErrNoUpload if
// it is over.
func (s *Uploads) Abort(ctx context.Context, u *Upload) error {
	return s.journal.committer.commit(ctx, &op{kind: kindAbort, entry: u.Number, key: u.Key})
}

// Find finds an open upload by its ID. It returns nil if there is none.
func (s *Uploads) Find(id string) (found *Upload) {
	s.journal.table.read(func(st *state) {
		if u := st.uploads.named[id]; u != nil {
			found = u.public()
		}
	})
	return found
}

// List returns the open uploads to a bucket, those to all buckets for "", by key and
// then by age.
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

// Parts are the parts of an upload, by number. The error is ErrNoUpload if it is
// over.
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

// Completed returns what an upload was completed to not long ago, without its Parts; nil
// if that is not known. It may have left the journal.
func (s *Uploads) Completed(id string) (e *Entry) {
	s.journal.table.read(func(st *state) { e = st.uploads.completed.named[id] })
	return e
}
