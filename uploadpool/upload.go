package uploadpool

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

// uploader uploads one entry, or several deletions, and verifies the result. It sends each request
// once; the queue decides when to try again.
type uploader struct {
	*remote
	journal *journal.Journal
	queue   *queue // slots for the parts of one object
	doubts  *doubts
	proofs  *proofs
	begin   func(key akigw.Key) Change
	log     *slog.Logger
	counters
}

// upload uploads entries of one bucket: a single one, or several deletions.
func (u *uploader) upload(ctx context.Context, batch []*journal.Entry) []result {
	if len(batch) > 1 {
		return u.deleteBatch(ctx, batch)
	}
	e := batch[0]
	if r, ok := u.confirm(ctx, e); ok {
		return []result{r}
	}
	if e.Deleted {
		return []result{u.delete(ctx, e)}
	}
	return []result{u.put(ctx, e)}
}

// confirm looks again at an entry that was uploaded while its key was in doubt. It returns false if
// the entry must be uploaded: it does not wait for confirmation, or a late request replaced it.
// What anyone else has written since the upload stays, because it is newer.
func (u *uploader) confirm(ctx context.Context, e *journal.Entry) (r result, ok bool) {
	d := u.doubts.take(e.Key, e.ID)
	if d == nil {
		return r, false
	}
	change := u.begin(e.Key)
	h, size, there, err := u.head(ctx, e.Key)
	switch {
	case err != nil:
		u.doubts.restore(e.Key, d)
		r = u.judge(err, nil, true)
		r.change = change
		return r, true
	case there != e.Deleted && fingerprint(h) == d.check.seen:
		r.stored = storedAs(h)
		r.stored.ETag = d.check.etag
		r.found = u.foundAs(ctx, e, change, h)
	case d.late(there, h.Get("Etag"), size):
		u.lateRequests.Inc()
		u.log.Warn("the upstream applied a request that had met its deadline after a newer write of the same key; the newer write is uploaded again", "key", e.Key.String())
		d.clear, d.check = time.Time{}, nil // there may be more late requests
		u.doubts.restore(e.Key, d)
		change.End()
		return r, false
	}
	r.change, r.confirmed = change, true
	return r, true
}

// put uploads a body in the client's parts, so that its ETag is the promised one, and verifies it.
func (u *uploader) put(ctx context.Context, e *journal.Entry) (r result) {
	n, unknown := u.queue.attempt(e)
	change := u.begin(e.Key)
	defer func() { r.change = change }()
	if unknown {
		seen, there, err := u.has(ctx, e, described)
		if err != nil || there {
			r = u.judge(err, nil, true)
			r.stored, r.seen, r.found = storedAs(seen), seen, u.foundAs(ctx, e, change, seen)
			return r
		}
	}
	whole := false
	if len(e.Parts) > 0 {
		if r = u.sendParts(ctx, e, n > 0); r.err == nil {
			whole = u.show(ctx, e, change)
		}
	} else {
		r, whole = u.sendWhole(ctx, e, change, n > 0)
	}
	if r.err != nil {
		return r
	}
	if r = u.verify(ctx, e, r); !whole {
		r.answer = nil
	}
	failpoint.Here("flush.afterVerify")
	return r
}

// verify verifies that the upstream has what its response to an upload, in r, claims.
func (u *uploader) verify(ctx context.Context, e *journal.Entry, r result) result {
	if got := r.answer.Get("Etag"); got != "" && !sameETag(got, e.ETag) {
		u.verified("read_back").Inc()
		return u.readBack(ctx, e, got, r)
	}
	if r.proof.ok && u.proofs.suffices(e.Key.Bucket) {
		u.verified("answer").Inc()
		r.stored = r.proof.stored
		return r
	}
	return u.look(ctx, e, r)
}

// look verifies by a HEAD that the upstream has the entry.
func (u *uploader) look(ctx context.Context, e *journal.Entry, r result) result {
	u.verified("head").Inc()
	seen, there, err := u.has(ctx, e, nil)
	if err != nil {
		return u.judge(err, nil, true)
	}
	if !there {
		u.noteProof(e, r.proof, false)
		return result{err: errOther, unknown: true}
	}
	r.stored, r.seen = storedAs(seen), seen
	u.noteProof(e, r.proof, r.proof.allows(r.stored))
	return r
}

// noteProof notes whether a HEAD agrees with what the response to an upload had proven.
func (u *uploader) noteProof(e *journal.Entry, p proof, agrees bool) {
	if !p.ok {
		return
	}
	u.proofs.note(e.Key.Bucket, agrees)
	if !agrees {
		u.disagreed.Inc()
		u.log.Warn("the upstream's response to an upload does not agree with its response to a HEAD: uploads to the bucket are verified by HEADs for now", "key", e.Key.String())
	}
}

// readBack verifies an upload whose ETag is not the promised one by reading all of it back: nothing
// else proves that it is what was sent.
func (u *uploader) readBack(ctx context.Context, e *journal.Entry, etag string, r result) result {
	resp, err := u.upstream.Do(ctx, &cold.Request{Op: "GetObject", Method: http.MethodGet, Key: e.Key, Header: http.Header{"If-Match": {etag}}, Bytes: e.Size})
	if err != nil || resp.StatusCode != http.StatusOK {
		return u.judge(err, resp, true)
	}
	defer resp.Body.Close()
	sum, err := etagOf(resp.Body, e)
	switch {
	case err != nil:
		return u.judge(fmt.Errorf("%w: reading back: %w", akigw.ErrUpstreamUnavailable, err), nil, true)
	case sum != e.ETag:
		return otherETag(etag, e.ETag)
	}
	r.stored, r.seen = storedAs(resp.Header), resp.Header
	r.stored.ETag = etag
	return r
}

// etagOf computes the ETag of a body with the parts of an entry.
func etagOf(body io.Reader, e *journal.Entry) (string, error) {
	if len(e.Parts) == 0 {
		sum := md5.New()
		_, err := io.Copy(sum, body)
		return `"` + hex.EncodeToString(sum.Sum(nil)) + `"`, err
	}
	all := md5.New()
	for _, part := range e.Parts {
		sum := md5.New()
		if _, err := io.CopyN(sum, body, part.Size); err != nil {
			return "", err
		}
		all.Write(sum.Sum(nil))
	}
	if n, _ := io.ReadFull(body, make([]byte, 1)); n > 0 {
		return "", nil // matches no entry
	}
	return fmt.Sprintf("\"%x-%d\"", all.Sum(nil), len(e.Parts)), nil
}

// sendWhole uploads a body in one request. whole reports whether the cache has seen all of it.
func (u *uploader) sendWhole(ctx context.Context, e *journal.Entry, change Change, repeat bool) (r result, whole bool) {
	body, err := u.body(ctx, e)
	if err != nil {
		return bodyFailed(err), false
	}
	defer body.Close()
	header := maps.Clone(e.Header)
	if header == nil {
		header = http.Header{}
	}
	addMD5(header, e.ETag)
	failpoint.Here("flush.beforePut")
	sent := &tee{ReadSeeker: body, change: change}
	began := time.Now()
	resp, err := u.upstream.Do(ctx, &cold.Request{Op: "PutObject", Method: http.MethodPut, Key: e.Key, Header: header, Body: sent, Length: e.Size, Repeat: repeat})
	seen, again, failed := sent.end()
	failpoint.Here("flush.afterPut")
	if failed != nil { // a failure of the journal
		return bodyFailed(failed), false
	}
	r = u.judge(err, resp, false)
	u.doubts.failed(e, r.err)
	if r.err == nil {
		r.answer = resp.Header
		if !repeat && !again && resp.StatusCode == http.StatusOK {
			r.proof = prove(e, header, resp.Header, time.Since(began))
		}
	}
	return r, seen == e.Size
}

// foundAs passes the body of an entry to the cache if the upstream turned out to have it, by a HEAD that was
// sent after the change began and had the headers seen. It returns the ETag in the upstream, "" if there is
// nothing to cache.
func (u *uploader) foundAs(ctx context.Context, e *journal.Entry, change Change, seen http.Header) (etag string) {
	if e.Deleted || seen == nil || !u.show(ctx, e, change) {
		return ""
	}
	return seen.Get("Etag")
}

// show passes the body of an entry to the cache, where that has not seen it on its way to the upstream: it
// was uploaded in parts and in no order, or by an earlier attempt. It reports whether the cache has seen
// all of it; if the journal has no such body or it cannot be read, it is not cached.
func (u *uploader) show(ctx context.Context, e *journal.Entry, change Change) (whole bool) {
	if !change.Keeps(e.Size) {
		return false
	}
	body, err := u.journal.Body(e, 0, e.Size)
	if err != nil {
		return false
	}
	defer body.Close()
	if len(e.Parts) > 0 {
		numbers, sizes := make([]int, len(e.Parts)), make([]int64, len(e.Parts))
		for i, p := range e.Parts {
			numbers[i], sizes[i] = p.Number, p.Size
		}
		change.Parts(numbers, sizes)
	}
	buffer := make([]byte, 64<<10)
	for seen := int64(0); seen < e.Size; {
		n, err := body.Read(buffer)
		change.Body(buffer[:n])
		seen += int64(n)
		if ctx.Err() != nil || err != nil && (err != io.EOF || seen < e.Size) {
			return false
		}
	}
	return true
}

// addMD5 adds the Content-MD5 of a body that has this ETag.
func addMD5(header http.Header, etag string) {
	if sum, err := hex.DecodeString(strings.Trim(etag, `"`)); err == nil && len(sum) == md5.Size {
		header.Set("Content-Md5", base64.StdEncoding.EncodeToString(sum))
	}
}

// otherETag returns the result of an upload whose object is not what was sent.
func otherETag(got, promised string) result {
	return result{err: errOther, final: fmt.Sprintf("the upstream gave it the ETag %s instead of the promised %s, and its bytes are not those that were sent: write this bucket through", got, promised)}
}

// bodyFailed returns the result for a body that the journal cannot read.
func bodyFailed(err error) result {
	if errors.Is(err, akigw.ErrChecksum) {
		return result{err: err, final: "its body in the journal is damaged: " + err.Error()}
	}
	return result{err: err}
}

// delete deletes an object.
func (u *uploader) delete(ctx context.Context, e *journal.Entry) result {
	n, _ := u.queue.attempt(e)
	change := u.begin(e.Key)
	resp, err := u.upstream.Do(ctx, &cold.Request{Op: "DeleteObject", Method: http.MethodDelete, Key: e.Key, Header: http.Header{}, Repeat: n > 0})
	failpoint.Here("delete.afterUpstream")
	if err == nil && resp.StatusCode == http.StatusNotFound { // there is nothing to delete, not even a bucket
		resp.Body.Close()
		return result{change: change}
	}
	r := u.judge(err, resp, false)
	u.doubts.failed(e, r.err)
	if r.err == nil {
		_, there, err := u.has(ctx, e, nil)
		if err == nil && !there {
			err = errOther
		}
		r = u.judge(err, nil, true)
	}
	r.change = change
	return r
}

// deleteRequest and deleteResponse are the documents of DeleteObjects.
type (
	deleteRequest struct {
		XMLName xml.Name `xml:"Delete"`
		Object  []deleteObject
	}
	deleteObject   struct{ Key s3xml.Text }
	deleteResponse struct {
		Deleted []deleteObject
		Error   []struct {
			Key           s3xml.Text
			Code, Message string
		}
	}
)

// results returns what the response says about each key.
func (d *deleteResponse) results() map[s3xml.Text]result {
	all := map[s3xml.Text]result{}
	for _, o := range d.Deleted {
		all[o.Key] = result{}
	}
	for _, o := range d.Error {
		all[o.Key] = result{err: fmt.Errorf("%s: %s", o.Code, o.Message), refused: o.Code == "AccessDenied"}
	}
	return all
}

// deleteBatch deletes objects of one bucket in one request. The response lists each.
func (u *uploader) deleteBatch(ctx context.Context, batch []*journal.Entry) []result {
	var request deleteRequest
	results := make([]result, len(batch))
	n := 0
	for i, e := range batch {
		tries, _ := u.queue.attempt(e)
		n = max(n, tries)
		request.Object = append(request.Object, deleteObject{s3xml.Text(e.Key.Name)})
		results[i].change = u.begin(e.Key)
	}
	document, err := s3xml.Marshal(request)
	var resp *http.Response
	if err == nil {
		sum := md5.Sum(document)
		resp, err = u.upstream.Do(ctx, &cold.Request{Op: "DeleteObjects", Method: http.MethodPost, Key: akigw.Key{Bucket: batch[0].Key.Bucket}, Query: url.Values{"delete": {""}},
			Header: http.Header{"Content-Md5": {base64.StdEncoding.EncodeToString(sum[:])}, "Content-Type": {"application/xml"}}, Body: bytes.NewReader(document), Length: int64(len(document)), Repeat: n > 0})
	}
	failpoint.Here("delete.afterUpstream")
	var answer deleteResponse
	all := u.judgeBody(err, resp, &answer)
	said := answer.results()
	for i, e := range batch {
		u.doubts.failed(e, all.err)
		r, ok := said[s3xml.Text(e.Key.Name)]
		switch {
		case all.err != nil:
			r = all
		case !ok:
			r = result{err: errOther}
		}
		r.change = results[i].change
		results[i] = r
	}
	return results
}

// body opens the body of an entry, in the journal or in a pack.
func (u *uploader) body(ctx context.Context, e *journal.Entry) (io.ReadSeekCloser, error) {
	for {
		key, at, ok := u.journal.Packs.Find(e)
		if !ok {
			b, err := u.journal.Body(e, 0, e.Size)
			if err == journal.ErrPacked {
				continue // it was packed meanwhile
			}
			return b, err
		}
		data, err := u.fromPack(ctx, key, at, e)
		return struct {
			io.ReadSeeker
			io.Closer
		}{bytes.NewReader(data), io.NopCloser(nil)}, err
	}
}

// fromPack reads a body from a pack and verifies its ETag.
func (u *uploader) fromPack(ctx context.Context, key akigw.Key, at int64, e *journal.Entry) ([]byte, error) {
	if e.Size == 0 {
		return nil, nil
	}
	resp, err := u.upstream.Do(ctx, &cold.Request{Op: "GetObject", Method: http.MethodGet, Key: key, Header: http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", at, at+e.Size-1)}}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusPartialContent {
		return nil, fmt.Errorf("%w: pack %s: %d", akigw.ErrUpstreamUnavailable, key, resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, e.Size+1))
	if err != nil {
		return nil, fmt.Errorf("%w: pack %s: %w", akigw.ErrUpstreamUnavailable, key, err)
	}
	if sum := md5.Sum(data); `"`+hex.EncodeToString(sum[:])+`"` != e.ETag { // perhaps damaged in transit: it will be read again
		return nil, fmt.Errorf("%w: pack %s: %s in it does not have its ETag", akigw.ErrUpstreamUnavailable, key, e.Key)
	}
	return data, nil
}
