package journal

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/akidb/akigw"
)

// A multipart upload of a client is a record when it begins and one of each of its
// parts, whose bodies are spool files. Completing it is one more record, which makes
// those files the body of an entry: nothing is copied, and there is no moment at
// which the parts are neither.

// Errors of uploads.
var (
	// ErrNoUpload: there is no such upload; it may be over.
	ErrNoUpload = errors.New("no such multipart upload in the journal")
	// ErrNoPart: a part that is to be completed is not there, or another one is.
	ErrNoPart = errors.New("no such part of the multipart upload in the journal")
)

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

// upload is an upload with its parts.
type upload struct {
	item  *item // nil while its record has not been read yet
	parts map[int]*item
}

func (u *upload) public() *Upload {
	e := u.item.entry
	return &Upload{e.ID, e.UploadID, e.Key, e.Modified, e.Header}
}

// Begin makes a multipart upload acknowledged, with u's ID, Key, Begun and Header.
func (j *Journal) Begin(ctx context.Context, u Upload) error {
	return j.commit(ctx, &op{kind: kindBegin, put: &Entry{Key: u.Key, UploadID: u.ID, Modified: u.Begun, Header: u.Header}, key: u.Key})
}

// ReceivePart starts the body of a part.
func (j *Journal) ReceivePart() *Draft { return &Draft{journal: j, spooled: true} }

// AddPart makes d an acknowledged part of an upload, with p's Number, ETag, Header
// and Modified; one of that number is replaced. The error is ErrNoUpload if the
// upload is over. Like Commit, it ends d.
func (j *Journal) AddPart(ctx context.Context, u *Upload, d *Draft, p Part) error {
	defer d.Discard()
	if d.file == nil {
		if err := d.spill(); err != nil {
			return err
		}
	}
	e := &Entry{Key: u.Key, Size: d.size, ETag: p.ETag, Header: p.Header, Modified: p.Modified}
	return j.commitBody(ctx, d, &op{kind: kindPart, put: e, key: u.Key, upload: u.Number, part: p.Number})
}

// Complete makes e an acknowledged write whose body are parts of an upload, which is
// over: with e's Key, ETag, Modified, Header and Parts, of which the number and the
// ETag have to be those of parts that are there, else the error is ErrNoPart. It is
// ErrNoUpload if the upload is over. Parts that are not named are dropped.
func (j *Journal) Complete(ctx context.Context, u *Upload, e Entry) error {
	e.UploadID = u.ID
	return j.commit(ctx, &op{kind: kindComplete, put: &e, key: e.Key, upload: u.Number})
}

// AbortUpload ends an upload and drops its parts. The error is ErrNoUpload if it is
// over.
func (j *Journal) AbortUpload(ctx context.Context, u *Upload) error {
	return j.commit(ctx, &op{kind: kindAbort, entry: u.Number, key: u.Key})
}

// Upload finds an open upload by its ID. It returns nil if there is none.
func (j *Journal) Upload(id string) *Upload {
	j.mu.Lock()
	defer j.mu.Unlock()
	if u := j.named[id]; u != nil {
		return u.public()
	}
	return nil
}

// Uploads are the open uploads to a bucket, those to all buckets for "", by key and
// then by age.
func (j *Journal) Uploads(bucket string) []*Upload {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []*Upload
	for _, u := range j.named {
		if bucket == "" || u.item.entry.Key.Bucket == bucket {
			all = append(all, u.public())
		}
	}
	slices.SortFunc(all, func(a, b *Upload) int {
		if c := strings.Compare(index(a.Key.Bucket, a.Key.Name), index(b.Key.Bucket, b.Key.Name)); c != 0 {
			return c
		}
		return int(a.Number) - int(b.Number)
	})
	return all
}

// Parts are the parts of an upload, by number. The error is ErrNoUpload if it is
// over.
func (j *Journal) Parts(u *Upload) ([]Part, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	up := j.uploads[u.Number]
	if up == nil {
		return nil, ErrNoUpload
	}
	all := make([]Part, 0, len(up.parts))
	for n, it := range up.parts {
		e := it.entry
		all = append(all, Part{Number: n, Size: e.Size, ETag: e.ETag, Header: e.Header, Modified: e.Modified, entry: e})
	}
	slices.SortFunc(all, func(a, b Part) int { return a.Number - b.Number })
	return all, nil
}

// PartBody opens the body of a part that Parts returned. The error is ErrGone if it
// has been replaced, or its upload is over.
func (j *Journal) PartBody(p Part) (*Body, error) { return j.Body(p.entry, 0, p.Size) }

// Completed returns what an upload was completed to not long ago, without its Parts; nil
// if that is not known. It may have left the journal.
func (j *Journal) Completed(id string) *Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.over.find(id)
}

// completions remembers the last entries that were uploads, so that a client that
// did not get the answer gets it when it asks again.
type completions struct {
	named map[string]*Entry
	order []string // the oldest first
}

// maxCompletions is how many are remembered.
const maxCompletions = 1000

func (c *completions) add(e *Entry) {
	if c.named == nil {
		c.named = map[string]*Entry{}
	}
	small := *e
	small.Parts = nil
	c.named[e.UploadID] = &small
	c.order = append(c.order, e.UploadID)
	if len(c.order) > maxCompletions {
		delete(c.named, c.order[0])
		c.order = slices.Delete(c.order, 0, 1)
	}
}

func (c *completions) find(id string) *Entry { return c.named[id] }

// alone reports whether records have to be written by themselves, because what they
// say depends on what was written before.
func (w *writing) alone() bool {
	return len(w.ops) == 1 && (w.ops[0].kind == kindComplete && w.ops[0].entry == 0 || w.ops[0].kind == kindAbort)
}

// check takes records off a batch that cannot be: of uploads that are over by now.
// Those of an upload that is not come before any that ends it.
func (j *Journal) check(batch []*writing) (good []*writing) {
	var bad []*writing
	var errs []error
	j.mu.Lock()
	for _, w := range batch {
		err := j.possible(w.ops[0]) // several at once are of no upload
		if err == nil {
			good = append(good, w)
			continue
		}
		bad, errs = append(bad, w), append(errs, err)
		j.abandon(w.ops[0])
		j.written(w.ops[0], false)
	}
	if len(bad) > 0 {
		j.endRound()
	}
	j.mu.Unlock()
	for i, w := range bad {
		w.done <- errs[i]
	}
	return good
}

// possible says whether a new record fits what there is. To one that completes an
// upload it adds the files of its parts. It needs mu.
func (j *Journal) possible(o *op) error {
	number := o.upload
	switch {
	case o.entry != 0 && o.kind != kindAbort: // it is written once more
		return nil
	case o.kind == kindAbort:
		number = o.entry
	case o.kind != kindPart && o.kind != kindComplete:
		return nil
	}
	u := j.uploads[number]
	if u == nil {
		return ErrNoUpload
	}
	if o.kind != kindComplete {
		return nil
	}
	o.spools, o.checks, o.put.Size = nil, nil, 0
	parts := make([]Part, len(o.put.Parts))
	for i, wanted := range o.put.Parts {
		it := u.parts[wanted.Number]
		if it == nil || it.entry.ETag != wanted.ETag {
			return ErrNoPart
		}
		o.spools, o.checks = append(o.spools, it.spools[0]), append(o.checks, it.checks...)
		o.put.Size += it.entry.Size
		parts[i] = Part{Number: wanted.Number, Size: it.entry.Size, ETag: it.entry.ETag, Header: it.entry.Header}
	}
	o.put.Parts = parts
	if len(o.checks) < len(o.spools) { // the record of a part is an older gateway's
		o.checks = nil
	}
	return nil
}

// applyBegin, like the functions after it, needs mu.
func (j *Journal) applyBegin(o *op, p place, in *segment) {
	it := j.place(o, p, in)
	if it == nil {
		return
	}
	u := j.openUpload(it.entry.ID)
	u.item = it
	j.named[it.entry.UploadID] = u
	j.hold(it)
}

// applyPart keeps a part. At a start the record of its upload may come later: it may
// have been written once more.
func (j *Journal) applyPart(o *op, p place, in *segment) {
	it := j.place(o, p, in)
	if it == nil {
		return
	}
	u := j.openUpload(o.upload)
	if older := u.parts[o.part]; older != nil {
		if older.entry.ID > it.entry.ID {
			return // it was written once more after it had been replaced
		}
		j.free(older)
	}
	u.parts[o.part] = it
	j.hold(it)
}

func (j *Journal) openUpload(number uint64) *upload {
	u := j.uploads[number]
	if u == nil {
		u = &upload{parts: map[int]*item{}}
		j.uploads[number] = u
	}
	return u
}

// endUpload drops an upload and its parts, but the files to keep.
func (j *Journal) endUpload(number uint64, keep []uint64) {
	u := j.uploads[number]
	if u == nil {
		return
	}
	delete(j.uploads, number)
	kept := make(map[uint64]bool, len(keep))
	for _, n := range keep {
		kept[n] = true
	}
	for _, it := range u.parts {
		if kept[it.spools[0]] {
			it.spools = nil
		}
		j.free(it)
	}
	if u.item != nil {
		delete(j.named, u.item.entry.UploadID)
		j.free(u.item)
		if u.item.remote != "" { // it may be completed there; then there is nothing to abort
			j.addOrphan(Orphan{number, u.item.entry.Key, u.item.remote}, u.item.segment)
		}
	}
}

// dropUnnamed drops parts of uploads that are over: their records were there without
// those of the upload.
func (j *Journal) dropUnnamed() {
	for number, u := range j.uploads {
		if u.item == nil {
			j.endUpload(number, nil)
		}
	}
}
