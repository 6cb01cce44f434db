package uploadpool

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
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

// noSuchUpload is S3's code for an upload that is over, or never was.
const noSuchUpload = "NoSuchUpload"

// multipart is an entry on its way to the upstream in the parts that the client
// uploaded it in, so that its ETag is the one that was promised. The upload id is in
// the journal before the first part is sent: a later try goes on where this one
// stopped, and an upload that is not needed any more is aborted.
type multipart struct {
	pool   *Pool
	number uint64 // of the entry
	key    akigw.Key
	header http.Header
	parts  []journal.Part
	id     string
	body   func(i int) (io.ReadSeekCloser, error) // of a part, by its place
	gone   func() bool                            // nobody needs it any more
	// tags are what the upstream calls parts that it gave another ETag, by number. nil:
	// that must not be, because the client is going to name them.
	tags map[int]string // guarded by mu

	mu     sync.Mutex
	todo   []int  // parts to send, by their place; guarded by mu
	sent   int    // guarded by mu
	tries  int    // that failed since the last part got there; guarded by mu
	failed result // why no more is sent; guarded by mu
}

// sendParts uploads the body of an entry in its parts.
func (p *Pool) sendParts(ctx context.Context, e *journal.Entry, repeat bool) result {
	m := &multipart{pool: p, number: e.ID, key: e.Key, header: e.Header, parts: e.Parts, tags: map[int]string{}, gone: func() bool { return p.Journal.Last(e.Key) != e }}
	froms, at := make([]int64, len(e.Parts)), int64(0)
	for i, part := range e.Parts {
		froms[i] = at
		at += part.Size
	}
	m.body = func(i int) (io.ReadSeekCloser, error) { return p.Journal.Body(e, froms[i], e.Parts[i].Size) }
	r := m.open(ctx, repeat)
	if r.err == nil {
		r = m.sendAll(ctx)
	}
	if r.err == nil {
		r = m.complete(ctx)
		p.attempted(e, r.err)
	}
	if r.code == noSuchUpload { // it is over: completed by an earlier try, or aborted by somebody
		r.final, r.unknown = "", true
		if err := p.Journal.Uploading(ctx, e.ID, e.Key, ""); err != nil {
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
	return m.pool.Upstream.Do(ctx, &r)
}

// open goes on with the upload that an earlier try began, or begins one.
func (m *multipart) open(ctx context.Context, repeat bool) result {
	for i := range m.parts {
		m.todo = append(m.todo, i)
	}
	if m.id = m.pool.Journal.UploadID(m.number); m.id != "" {
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
	r := m.pool.judgeBody(err, resp, &answer)
	switch {
	case r.err != nil:
		r.unknown = false // an upload that nobody knows of changes nothing
		return r
	case answer.UploadID == "":
		return result{err: fmt.Errorf("%w: CreateMultipartUpload was answered without an UploadId", akigw.ErrUpstreamUnavailable)}
	}
	m.id = answer.UploadID
	if err := m.pool.Journal.Uploading(ctx, m.number, m.key, m.id); err != nil {
		return result{err: err}
	}
	failpoint.Here("flush.afterCreateUpload")
	return result{}
}

// objectChecksum reports whether a header is about the checksum of the whole object,
// which is said when it is completed.
func objectChecksum(name string) bool {
	return strings.HasPrefix(name, "X-Amz-Checksum-") && name != "X-Amz-Checksum-Algorithm"
}

// resume leaves out the parts that are upstream already (ListParts).
func (m *multipart) resume(ctx context.Context, repeat bool) result {
	all, r := m.pool.uploaded(ctx, m.key, m.id, repeat)
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

// uploaded are the parts that the upstream has of an upload (ListParts).
func (p *Pool) uploaded(ctx context.Context, key akigw.Key, id string, repeat bool) (all []journal.Part, r result) {
	for marker := ""; ; {
		var page struct {
			IsTruncated          bool
			NextPartNumberMarker string
			Part                 []struct {
				PartNumber   int
				ETag         string
				Size         int64
				LastModified time.Time
				Other        []struct {
					XMLName xml.Name
					Value   string `xml:",chardata"`
				} `xml:",any"`
			}
		}
		query := url.Values{"uploadId": {id}}
		if marker != "" {
			query.Set("part-number-marker", marker)
		}
		resp, err := p.Upstream.Do(ctx, &cold.Request{Op: "ListParts", Method: http.MethodGet, Key: key, Query: query, Header: http.Header{}, Repeat: repeat})
		repeat = false
		if r := p.judgeBody(err, resp, &page); r.err != nil {
			r.unknown, r.final = false, "" // a question changes nothing
			return nil, r
		}
		for _, part := range page.Part {
			header := http.Header{}
			for _, e := range part.Other {
				if algorithm, ok := strings.CutPrefix(e.XMLName.Local, "Checksum"); ok {
					header.Set("X-Amz-Checksum-"+algorithm, e.Value)
				}
			}
			all = append(all, journal.Part{Number: part.PartNumber, Size: part.Size, ETag: part.ETag, Modified: part.LastModified, Header: header})
		}
		if !page.IsTruncated || page.NextPartNumberMarker == marker {
			return all, result{}
		}
		marker = page.NextPartNumberMarker
	}
}

// Uploaded are the parts that the upstream has of a multipart upload, by number.
func (p *Pool) Uploaded(ctx context.Context, key akigw.Key, id string) ([]journal.Part, error) {
	all, r := p.uploaded(ctx, key, id, false)
	return all, r.failure()
}

// failure is the error of a result, for who waits for it.
func (r result) failure() error {
	if r.code == noSuchUpload {
		return journal.ErrNoUpload
	}
	if r.err != nil && !errors.Is(r.err, akigw.ErrUpstreamUnavailable) {
		return fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, r.err)
	}
	return r.err
}

// Forward takes an open upload of a client to the upstream, with some of its parts:
// the rest of it goes past the journal. It returns the upstream's upload id.
func (p *Pool) Forward(ctx context.Context, u *journal.Upload, parts []journal.Part) (id string, err error) {
	m := &multipart{pool: p, number: u.Number, key: u.Key, header: u.Header, parts: parts, gone: func() bool { return false }}
	m.body = func(i int) (io.ReadSeekCloser, error) { return p.Journal.Uploads.Body(parts[i]) }
	if id = p.Journal.UploadID(u.Number); id == "" || len(parts) > 0 {
		leave, err := p.enter(ctx, u.Number)
		if err != nil {
			return "", err
		}
		r := m.open(ctx, false)
		leave()
		if r.err != nil {
			return "", r.failure()
		}
	}
	return cmp.Or(m.id, id), m.sendAll(ctx).failure()
}

// enter waits until nobody else opens an upload upstream, and keeps others from it until
// leave: each is begun once.
func (p *Pool) enter(ctx context.Context, number uint64) (leave func(), err error) {
	mine := make(chan struct{})
	for {
		p.mu.Lock()
		other := p.opening[number]
		if other == nil {
			p.opening[number] = mine
		}
		p.mu.Unlock()
		if other == nil {
			return func() {
				p.mu.Lock()
				delete(p.opening, number)
				p.mu.Unlock()
				close(mine)
			}, nil
		}
		select {
		case <-other:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: another request is taking the upload to the upstream: %w", akigw.ErrUpstreamUnavailable, context.Cause(ctx))
		}
	}
}

// sameETag compares ETags of parts: not every upstream puts quotes around them.
func sameETag(a, b string) bool { return strings.Trim(a, `"`) == strings.Trim(b, `"`) }

// sendAll sends the parts that are missing: one at a time, and more as long as the
// pool has room that nobody else waits for.
func (m *multipart) sendAll(ctx context.Context) result {
	var helpers sync.WaitGroup
	l := m.pool.laneOf(m.key.Bucket)
	for m.send(ctx) {
		for m.left() > 1 && m.pool.borrow(l) {
			helpers.Go(func() {
				defer m.pool.giveBack(l)
				for m.send(ctx) && !m.pool.crowded(l) {
				}
			})
		}
	}
	helpers.Wait()
	for m.send(ctx) { // what helpers put back
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed.err == nil && len(m.todo) > 0 {
		return result{err: ctx.Err()}
	}
	return m.failed
}

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
	if !m.gone() {
		r = m.part(ctx, i, tries > 0)
	}
	if r.err != nil && r.wait > 0 {
		m.pool.throttle(m.pool.laneOf(m.key.Bucket), r.err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case r.err == nil:
		m.sent++
		m.tries = 0
		return true
	case m.failed.err != nil:
	case r.final == "" && !r.refused && r.code != noSuchUpload && r.err != errReplaced && m.tries < m.pool.Parallel.MaxRetries && ctx.Err() == nil:
		m.todo = append(m.todo, i)
		m.tries++
		return m.pause(ctx, max(r.wait, m.pool.backOff(m.tries-1)))
	default:
		m.todo, m.failed = nil, r
	}
	return false
}

var errReplaced = errors.New("a later write has taken its place")

// pause waits, without mu, which the caller holds. It returns false if ctx ended.
func (m *multipart) pause(ctx context.Context, wait time.Duration) bool {
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
	if m.header.Get("X-Amz-Checksum-Algorithm") != "" { // else the upstream does not expect any
		maps.Copy(header, part.Header)
	}
	addMD5(header, part.ETag)
	sent := &tee{ReadSeeker: body, change: nothing{}}
	resp, err := m.do(ctx, cold.Request{Op: "UploadPart", Method: http.MethodPut, Query: url.Values{"partNumber": {strconv.Itoa(part.Number)}}, Header: header, Body: sent, Length: part.Size, Repeat: repeat})
	_, failed := sent.end()
	failpoint.Here("flush.afterPart")
	if failed != nil {
		return bodyFailed(failed)
	}
	r := m.pool.judge(err, resp, false)
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

// nothing is a change that is not seen.
type nothing struct{}

func (nothing) Body([]byte)         {}
func (nothing) Written(http.Header) {}
func (nothing) End()                {}

// complete makes the parts the object.
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
	r := m.pool.judgeBody(err, resp, &answer)
	if r.err == nil {
		r.answer = http.Header{"Etag": {answer.ETag}}
	}
	return r
}

// borrow takes room for one more request in a lane, if there is any that nobody waits for.
func (p *Pool) borrow(l *lane) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.room(l) {
		return false
	}
	l.active++
	if p.wanting(l) {
		l.active--
		return false
	}
	return true
}

func (p *Pool) giveBack(l *lane) {
	p.mu.Lock()
	l.active--
	p.mu.Unlock()
	p.stir()
}

// crowded reports whether room that was borrowed in a lane has to be given back.
func (p *Pool) crowded(l *lane) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return l.active > int(l.limit) || p.wanting(l)
}

// abort aborts the upload of an entry that is not going to be finished.
func (p *Pool) abort(ctx context.Context, e *journal.Entry) {
	if id := p.Journal.UploadID(e.ID); id != "" && p.aborted(ctx, e.Key, id) {
		_ = p.Journal.Uploading(ctx, e.ID, e.Key, "") // else it is tried again with it, and refused
	}
}

// aborted aborts an upload, and reports whether it is gone.
func (p *Pool) aborted(ctx context.Context, key akigw.Key, id string) bool {
	resp, err := p.Upstream.Do(ctx, &cold.Request{Op: "AbortMultipartUpload", Method: http.MethodDelete, Key: key, Query: url.Values{"uploadId": {id}}, Header: http.Header{}})
	r := p.judge(err, resp, false)
	return r.err == nil || resp != nil && resp.StatusCode == http.StatusNotFound
}

// sweepEvery is how often it is tried at the most.
const sweepEvery = 10 * time.Second

// garbage is what nobody needs any more of one upstream.
type garbage struct {
	orphans []journal.Orphan
	packs   []journal.Pack
}

// sweep aborts uploads that nobody is going to finish, and deletes packs that nothing is in, in the
// background and for each upstream by itself. The context is the pool's, not that of who began them.
// It reports whether there are any.
func (p *Pool) sweep(ctx context.Context) bool {
	orphans, packs := p.Journal.Garbage()
	if len(orphans)+len(packs) == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.swept) < sweepEvery {
		return true
	}
	p.swept = time.Now()
	for l, g := range p.garbage(orphans, packs) {
		if l.sweeping {
			continue
		}
		l.sweeping = true
		p.work.Go(func() {
			p.clear(ctx, g)
			p.mu.Lock()
			defer p.mu.Unlock()
			l.sweeping = false
		})
	}
	return true
}

// garbage sorts what can be cleared by the lanes of the upstreams that have it. It needs mu.
func (p *Pool) garbage(orphans []journal.Orphan, packs []journal.Pack) map[*lane]*garbage {
	all := map[*lane]*garbage{}
	of := func(bucket string) *garbage {
		l := p.lane(bucket)
		if all[l] == nil {
			all[l] = &garbage{}
		}
		return all[l]
	}
	for _, o := range orphans {
		g := of(o.Key.Bucket)
		g.orphans = append(g.orphans, o)
	}
	for _, k := range packs {
		g := of(k.Key.Bucket)
		g.packs = append(g.packs, k)
	}
	return all
}

// clear clears garbage, until ctx ends.
func (p *Pool) clear(ctx context.Context, g *garbage) {
	for _, o := range g.orphans {
		if ctx.Err() == nil && p.aborted(ctx, o.Key, o.UploadID) {
			_ = p.Journal.Uploading(ctx, o.Entry, o.Key, "") // else it is aborted again, and nothing found
		}
	}
	for _, k := range g.packs {
		if ctx.Err() == nil {
			p.dropPack(ctx, k)
		}
	}
}
