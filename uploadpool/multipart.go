package uploadpool

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

// multipart uploads an object in the parts in which the client uploaded it, so that its ETag is the
// promised one. The upload ID is in the journal before the first part is sent: a later attempt
// continues where this one stopped, and an upload that is no longer needed is aborted.
type multipart struct {
	up       *uploader
	number   uint64 // of the entry
	key      akigw.Key
	header   http.Header
	parts    []journal.Part
	id       string
	body     func(i int) (io.ReadSeekCloser, error) // body of a part, by its index
	obsolete func() bool                            // reports whether the upload is no longer needed
	// tags are the upstream's ETags of parts, by number, where they are not the promised ones. nil:
	// they must be the promised ones, because the client will name them.
	tags map[int]string // guarded by mu

	mu     sync.Mutex
	todo   []int  // parts to send, by index; guarded by mu
	sent   int    // guarded by mu
	tries  int    // failures since the last uploaded part; guarded by mu
	failed result // why no more parts are sent; guarded by mu
}

// sendParts uploads the body of an entry in its parts.
func (u *uploader) sendParts(ctx context.Context, e *journal.Entry, repeat bool) result {
	m := &multipart{up: u, number: e.ID, key: e.Key, header: e.Header, parts: e.Parts, tags: map[int]string{}, obsolete: func() bool { return u.journal.Last(e.Key) != e }}
	froms, at := make([]int64, len(e.Parts)), int64(0)
	for i, part := range e.Parts {
		froms[i] = at
		at += part.Size
	}
	m.body = func(i int) (io.ReadSeekCloser, error) { return u.journal.Body(e, froms[i], e.Parts[i].Size) }
	r := m.open(ctx, repeat)
	if r.err == nil {
		r = m.sendAll(ctx)
	}
	if r.err == nil {
		r = m.complete(ctx)
		u.doubts.failed(e, r.err)
	}
	if r.code == noSuchUpload { // it has ended: completed by an earlier attempt, or aborted by someone else
		r.final, r.unknown = "", true
		if err := u.journal.Uploading(ctx, e.ID, e.Key, ""); err != nil {
			r.err = err
		}
	}
	r.progress = m.sent > 0
	return r
}

// do sends a request about the upload.
func (m *multipart) do(ctx context.Context, r cold.Request) (*http.Response, error) {
	r.Key = m.key
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if m.id != "" {
		r.Query.Set("uploadId", m.id)
	}
	return m.up.upstream.Do(ctx, &r)
}

// open continues the upload that an earlier attempt began, or begins one.
func (m *multipart) open(ctx context.Context, repeat bool) result {
	for i := range m.parts {
		m.todo = append(m.todo, i)
	}
	if m.id = m.up.journal.UploadID(m.number); m.id != "" {
		return m.resume(ctx, repeat)
	}
	header := make(http.Header, len(m.header))
	for name, values := range m.header {
		if !objectChecksum(name) || name == "X-Amz-Checksum-Type" {
			header[name] = values
		}
	}
	var answer struct {
		UploadID string `xml:"UploadId"`
	}
	resp, err := m.do(ctx, cold.Request{Op: "CreateMultipartUpload", Method: http.MethodPost, Query: url.Values{"uploads": {""}}, Header: header, Repeat: repeat})
	r := m.up.judgeBody(err, resp, &answer)
	switch {
	case r.err != nil:
		r.unknown = false // an upload without a known ID changes nothing
		return r
	case answer.UploadID == "":
		return result{err: fmt.Errorf("%w: the response to CreateMultipartUpload has no UploadId", akigw.ErrUpstreamUnavailable)}
	}
	m.id = answer.UploadID
	if err := m.up.journal.Uploading(ctx, m.number, m.key, m.id); err != nil {
		return result{err: err}
	}
	failpoint.Here("flush.afterCreateUpload")
	return result{}
}

// objectChecksum reports whether a header is about the checksum of the whole object, which is sent
// with CompleteMultipartUpload.
func objectChecksum(name string) bool {
	return strings.HasPrefix(name, "X-Amz-Checksum-") && name != "X-Amz-Checksum-Algorithm"
}

// resume skips the parts that the upstream already has (ListParts).
func (m *multipart) resume(ctx context.Context, repeat bool) result {
	all, r := m.up.uploadedParts(ctx, m.key, m.id, repeat)
	if r.err != nil {
		return r
	}
	there := map[int]string{}
	for _, part := range all {
		there[part.Number] = part.ETag
	}
	m.todo = slices.DeleteFunc(m.todo, func(i int) bool { return sameETag(there[m.parts[i].Number], m.parts[i].ETag) })
	return result{}
}

// sendAll sends the missing parts: one at a time, and more in parallel as long as the pool has
// slots that nothing else needs.
func (m *multipart) sendAll(ctx context.Context) result {
	var helpers sync.WaitGroup
	l := m.up.queue.lane(m.key.Bucket)
	for m.send(ctx) {
		for m.left() > 1 && m.up.queue.borrow(l) {
			helpers.Go(func() {
				defer m.up.queue.giveBack(l)
				for m.send(ctx) && !m.up.queue.crowded(l) {
				}
			})
		}
	}
	helpers.Wait()
	for m.send(ctx) { // parts that helpers returned
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed.err == nil && len(m.todo) > 0 {
		return result{err: ctx.Err()}
	}
	return m.failed
}

// left returns the number of parts that remain to be sent.
func (m *multipart) left() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.todo)
}

// send sends the next part. It returns false if there is none, or one failed.
func (m *multipart) send(ctx context.Context) bool {
	m.mu.Lock()
	if len(m.todo) == 0 {
		m.mu.Unlock()
		return false
	}
	i, tries := m.todo[0], m.tries
	m.todo = m.todo[1:]
	m.mu.Unlock()
	r := result{err: errReplaced}
	if !m.obsolete() {
		r = m.part(ctx, i, tries > 0)
	}
	if r.err != nil && r.wait > 0 {
		m.up.queue.throttle(m.up.queue.lane(m.key.Bucket), r.err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case r.err == nil:
		m.sent++
		m.tries = 0
		return true
	case m.failed.err != nil:
	case r.final == "" && !r.refused && r.code != noSuchUpload && r.err != errReplaced && m.tries < m.up.queue.config.MaxRetries && ctx.Err() == nil:
		m.todo = append(m.todo, i)
		m.tries++
		return m.pauseLocked(ctx, max(r.wait, m.up.queue.config.backOff(m.tries-1)))
	default:
		m.todo, m.failed = nil, r
	}
	return false
}

// pauseLocked waits, releasing mu meanwhile. It returns false if ctx ended.
func (m *multipart) pauseLocked(ctx context.Context, wait time.Duration) bool {
	m.mu.Unlock()
	defer m.mu.Lock()
	select {
	case <-time.After(wait):
		return true
	case <-ctx.Done():
		return false
	}
}

// part sends one part.
func (m *multipart) part(ctx context.Context, i int, repeat bool) result {
	part := m.parts[i]
	body, err := m.body(i)
	if err != nil {
		return bodyFailed(err)
	}
	defer body.Close()
	header := http.Header{}
	if m.header.Get("X-Amz-Checksum-Algorithm") != "" { // otherwise the upstream does not expect one
		maps.Copy(header, part.Header)
	}
	addMD5(header, part.ETag)
	sent := &tee{ReadSeeker: body, change: nothing{}}
	resp, err := m.do(ctx, cold.Request{Op: "UploadPart", Method: http.MethodPut, Query: url.Values{"partNumber": {strconv.Itoa(part.Number)}}, Header: header, Body: sent, Length: part.Size, Repeat: repeat})
	_, _, failed := sent.end()
	failpoint.Here("flush.afterPart")
	if failed != nil {
		return bodyFailed(failed)
	}
	r := m.up.judge(err, resp, false)
	r.unknown = false // it can be sent again
	if r.err != nil {
		return r
	}
	if got := resp.Header.Get("Etag"); !sameETag(got, part.ETag) {
		if m.tags == nil || got == "" {
			return otherETag(got, part.ETag)
		}
		m.mu.Lock()
		m.tags[part.Number] = got
		m.mu.Unlock()
	}
	return r
}

// complete completes the upload.
func (m *multipart) complete(ctx context.Context) result {
	algorithm := m.header.Get("X-Amz-Checksum-Algorithm")
	var b bytes.Buffer
	b.WriteString(`<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`)
	for _, part := range m.parts {
		fmt.Fprintf(&b, "<Part><PartNumber>%d</PartNumber>", part.Number)
		s3xml.WriteElement(&b, "ETag", cmp.Or(m.tags[part.Number], part.ETag))
		if value := part.Header.Get("X-Amz-Checksum-" + algorithm); algorithm != "" && value != "" {
			fmt.Fprintf(&b, "<Checksum%[1]s>%[2]s</Checksum%[1]s>", algorithm, value)
		}
		b.WriteString("</Part>")
	}
	b.WriteString("</CompleteMultipartUpload>")
	header := http.Header{"Content-Type": {"application/xml"}}
	if m.header.Get("X-Amz-Checksum-Type") == "FULL_OBJECT" {
		for name, values := range m.header {
			if objectChecksum(name) {
				header[name] = values
			}
		}
	}
	var answer struct{ ETag string }
	failpoint.Here("flush.beforeComplete")
	sum := sha256.Sum256(b.Bytes())
	resp, err := m.do(ctx, cold.Request{Op: "CompleteMultipartUpload", Method: http.MethodPost, Query: url.Values{}, Header: header, Body: bytes.NewReader(b.Bytes()), Length: int64(b.Len()), SHA256: hex.EncodeToString(sum[:])})
	failpoint.Here("flush.afterComplete")
	r := m.up.judgeBody(err, resp, &answer)
	if r.err == nil {
		r.answer = http.Header{"Etag": {answer.ETag}}
	}
	return r
}
