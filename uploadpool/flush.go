package uploadpool

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

// result is how a try ended.
type result struct {
	err       error          // nil: it is upstream, and verified
	answer    http.Header    // of the upstream, to a body
	wait      time.Duration  // before the next try, at least
	unknown   bool           // it may have been carried out
	unsent    bool           // it was no try at all
	refused   bool           // the upstream refuses us: every other try would fail as well
	final     string         // no repetition helps, for this reason
	code      string         // of S3's error, "" for none
	progress  bool           // some of it got there
	stored    journal.Stored // how the upstream describes it
	seen      http.Header    // the same, all of it; nil for nothing
	confirmed bool           // no older request can take its place any more
	change    Change         // to be ended before the journal lets go
}

// settle makes of a result what has to be made of it.
func (p *Pool) settle(ctx context.Context, e *journal.Entry, r result) {
	if r.change == nil {
		r.change = p.Begin(e.Key)
	}
	defer r.change.End()
	err := r.err
	if err == errReplaced { // that is no failure, and the later one need not wait
		p.Journal.Return(e, true)
		p.push(e.Key)
		return
	}
	if err == nil && p.stays(e, r) {
		p.awaitConfirmation(e)
		return
	}
	if err == nil {
		// What was cached before the upstream had it is out of the way before the journal lets
		// go: from then on the cache is asked.
		if r.answer != nil {
			r.change.Written(r.answer)
		} else {
			r.change.End()
		}
		if err = p.done(ctx, e, r.stored); err == nil {
			failpoint.Here("journal.afterDone")
			p.counters.flushed.Inc()
			p.counters.flushedBytes.Add(int(e.Size))
			p.rate.add(e.Size)
			p.succeeded(e)
			return
		}
		r.unknown = true // it is there, but nobody knows
	}
	if r.code == noSuchBucket && r.final != "" && p.Gone != nil && p.Gone(e.Key.Bucket) {
		r.final = ""
	}
	refused := r.final != "" && r.code != ""
	if r.final == "" && time.Since(e.Modified) > time.Duration(p.Parallel.MaxAgeSecs)*time.Second {
		r.final = fmt.Sprintf("not taken to the upstream in %s: %v", time.Since(e.Modified).Round(time.Second), err)
	}
	if r.final != "" && ctx.Err() == nil {
		if refused && p.Refused != nil {
			p.Refused(e.Key, e.Header, r.code)
		}
		p.abort(ctx, e)
		if p.Journal.Bury(ctx, e, r.final, time.Now()) == nil {
			p.counters.deadLetters.Inc()
			p.Log.Error("a write could not be taken to the upstream and is a dead letter now: it is kept and can be read; see akigw dead-letters", "key", e.Key.String(), "reason", r.final)
			p.forget(e.Key)
			p.Journal.Return(e, true)
			return
		}
	}
	p.Journal.Return(e, !r.unsent)
	if ctx.Err() == nil {
		p.again(e, r, err)
	}
}

// noSuchBucket is S3's code for a bucket that is not there.
const noSuchBucket = "NoSuchBucket"

// done takes an entry that is upstream out of the journal, which remembers what was
// promised of it. If it has another ETag there, its bucket is written through from now on.
func (p *Pool) done(ctx context.Context, e *journal.Entry, s journal.Stored) error {
	if s.ETag == "" {
		return p.Journal.Flushed(ctx, e, s)
	}
	if p.Unlike != nil {
		p.Unlike(e.Key.Bucket)
	}
	p.counters.translated.Inc()
	p.Log.Warn("the upstream gave an object another ETag than was promised (encryption with KMS?): both are remembered, and its bucket is written through from now on", "key", e.Key.String(), "promised", e.ETag, "upstream", s.ETag)
	return p.Journal.Flushed(ctx, e, s)
}

// succeeded lets more uploads run at a time, up to what was configured.
func (p *Pool) succeeded(e *journal.Entry) {
	last := p.Journal.Last(e.Key)
	p.mu.Lock()
	more := last != nil && (last != e || p.hurries(e.Key)) // a later one, or it is in a pack and should not be
	if last == nil || last != e && e.ID >= p.wanted[e.Key] {
		delete(p.wanted, e.Key) // else it is the later one that is waited for
	}
	p.delivered(e.Key)
	p.mu.Unlock()
	if more {
		p.push(e.Key)
	}
}

// delivered notes that something of a key is upstream: its lane bears more. It needs mu.
func (p *Pool) delivered(key akigw.Key) {
	delete(p.tries, key)
	l := p.lane(key.Bucket)
	delete(p.paused, l.name)
	l.limit = min(l.limit+1/l.limit, float64(p.Parallel.Concurrency))
	if l.heard.IsZero() {
		l.heard = time.Now()
	}
	if l.down { // it is back
		l.down = false
		if p.Succeeded != nil {
			p.Succeeded(key.Bucket)
		}
		if time.Since(l.since) >= outage {
			p.hasten(func(bucket string) bool { return p.lane(bucket) == l })
		}
	}
}

// Resume tries at once what waits for its next try at an upstream that answers again,
// and counts its tries anew.
func (p *Pool) Resume(upstream string) {
	p.mu.Lock()
	theirs := func(bucket string) bool { return p.Upstream.Owner(bucket) == upstream }
	for key, t := range p.tries {
		if theirs(key.Bucket) {
			t.n = 0
		}
	}
	p.hasten(theirs)
	p.mu.Unlock()
	p.stir()
}

// hasten has what waits for its time in some buckets go now. It needs mu.
func (p *Pool) hasten(which func(bucket string) bool) {
	var others delays
	for _, t := range p.later {
		switch {
		case t.gone:
		case which(t.key.Bucket):
			p.line(t)
		default:
			others = append(others, t)
		}
	}
	heap.Init(&others)
	p.later = others
	for bucket, w := range p.parked {
		if which(bucket) {
			w.due = time.Time{}
		}
	}
}

func (p *Pool) forget(key akigw.Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.tries, key)
	delete(p.wanted, key)
}

const (
	// throttledBase is the upper bound of the first wait after the upstream said
	// to slow down, slowBase that of an entry that has had its quick tries.
	throttledBase = time.Second
	slowBase      = 5 * time.Second
	maxWait       = time.Minute
	// refusedWait is how long an upstream that refuses us is left alone.
	refusedWait = 30 * time.Second
	// cutEvery is how often the number of uploads is halved at the most: answers to
	// requests that were under way say nothing new.
	cutEvery = time.Second
	// outage is how long nothing goes well before that counts as an outage, after which all
	// that waits is tried at once. Else one write that fails again and again would be tried
	// each time that another one succeeds.
	outage = time.Second
)

// again plans the next try of an entry.
func (p *Pool) again(e *journal.Entry, r result, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	t := p.tries[e.Key]
	if t == nil || t.entry != e.ID {
		t = &trying{entry: e.ID}
		p.tries[e.Key] = t
	}
	t.unknown, t.err = t.unknown || r.unknown, err
	wait := p.backOff(t.n)
	switch {
	case r.unsent:
		wait = min(wait, slowBase)
	case r.progress:
		t.n = 1
	default:
		t.n++
	}
	l := p.lane(e.Key.Bucket)
	if !l.down && (r.unsent || r.unknown) {
		l.down, l.since = true, now
	}
	if p.Unanswered != nil && errors.Is(err, akigw.ErrUpstreamUnavailable) {
		p.Unanswered(e.Key.Bucket)
	}
	wait = max(r.wait, wait)
	if r.refused {
		name := l.name
		if !p.paused[name].until.After(now) {
			p.Log.Error("the upstream refuses uploads; they are paused and tried again: check its credentials and their permissions", "upstream", name, "key", e.Key.String(), "error", err)
		}
		p.paused[name] = pause{now.Add(refusedWait), err}
		wait = max(wait, refusedWait)
	}
	if r.wait > 0 {
		l.cut(now, err)
	}
	if p.turns[e.Key] == nil {
		next := &turn{key: e.Key, due: now.Add(wait)}
		p.turns[e.Key] = next
		heap.Push(&p.later, next)
	}
	p.Log.Debug("an upload failed and is tried again", "key", e.Key.String(), "try", t.n, "wait", wait, "error", err)
}

// throttle lets fewer uploads run at a time in a lane: its upstream says to slow down, by err.
func (p *Pool) throttle(l *lane, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.cut(time.Now(), err)
}

// cut halves the number of uploads that may run. It needs the pool's mu.
func (l *lane) cut(now time.Time, err error) {
	if now.Sub(l.throttled) > cutEvery {
		l.throttled, l.slower = now, err
		l.limit = max(1, l.limit/2)
	}
}

// backOff is how long to wait before the n-th repetition, from 0: anything up to a
// bound that doubles.
func (p *Pool) backOff(n int) time.Duration {
	base := time.Duration(p.Parallel.BackoffBaseMs) * time.Millisecond << min(n, 20)
	if n >= p.Parallel.MaxRetries {
		base = slowBase << min(n-p.Parallel.MaxRetries, 10)
	}
	return rand.N(min(base, maxWait)) + 1
}

// attempt says which try of e this is, from 0, and whether an earlier one may have
// been carried out.
func (p *Pool) attempt(e *journal.Entry) (n int, unknown bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	unknown = e.ID <= p.known
	if t := p.tries[e.Key]; t != nil && t.entry == e.ID {
		n, unknown = t.n, unknown || t.unknown
	}
	if n > 0 {
		p.counters.retries.Inc()
	}
	return n, unknown
}

// put uploads a body in the shape in which the client did, so that the ETag is the
// one that was promised, and sees that it is there.
func (p *Pool) put(ctx context.Context, e *journal.Entry) (r result) {
	n, unknown := p.attempt(e)
	if unknown {
		seen, there, err := p.there(ctx, e, described)
		if err != nil || there {
			r = p.judge(err, nil, true)
			r.stored, r.seen = storedAs(seen), seen
			return r
		}
	}
	change := p.Begin(e.Key)
	defer func() { r.change = change }()
	whole := false
	if len(e.Parts) > 0 {
		r = p.sendParts(ctx, e, n > 0)
	} else {
		r, whole = p.sendWhole(ctx, e, change, n > 0)
	}
	if r.err != nil {
		return r
	}
	if r = p.verify(ctx, e, r); !whole {
		r.answer = nil
	}
	failpoint.Here("flush.afterVerify")
	return r
}

// verify sees that the upstream has what its answer to an upload, r's, says.
func (p *Pool) verify(ctx context.Context, e *journal.Entry, r result) result {
	if got := r.answer.Get("Etag"); got != "" && !sameETag(got, e.ETag) {
		return p.readBack(ctx, e, got, r)
	}
	seen, there, err := p.there(ctx, e, nil)
	if err != nil {
		return p.judge(err, nil, true)
	}
	if !there {
		return result{err: errOther, unknown: true}
	}
	r.stored, r.seen = storedAs(seen), seen
	return r
}

// readBack verifies an upload that got another ETag than was promised by reading all of
// it back: nothing else says that it is what was sent.
func (p *Pool) readBack(ctx context.Context, e *journal.Entry, etag string, r result) result {
	resp, err := p.Upstream.Do(ctx, &cold.Request{Op: "GetObject", Method: http.MethodGet, Key: e.Key, Header: http.Header{"If-Match": {etag}}, Bytes: e.Size})
	if err != nil || resp.StatusCode != http.StatusOK {
		return p.judge(err, resp, true)
	}
	defer resp.Body.Close()
	sum, err := etagOf(resp.Body, e)
	switch {
	case err != nil:
		return p.judge(fmt.Errorf("%w: reading back: %w", akigw.ErrUpstreamUnavailable, err), nil, true)
	case sum != e.ETag:
		return otherETag(etag, e.ETag)
	}
	r.stored, r.seen = storedAs(resp.Header), resp.Header
	r.stored.ETag = etag
	return r
}

// etagOf is the ETag that a body has in the shape of an entry.
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
		return "", nil // of no entry
	}
	return fmt.Sprintf("\"%x-%d\"", all.Sum(nil), len(e.Parts)), nil
}

// sendWhole uploads a body in one request. whole tells whether the cache has seen
// all of it.
func (p *Pool) sendWhole(ctx context.Context, e *journal.Entry, change Change, repeat bool) (r result, whole bool) {
	body, err := p.body(ctx, e)
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
	resp, err := p.Upstream.Do(ctx, &cold.Request{Op: "PutObject", Method: http.MethodPut, Key: e.Key, Header: header, Body: sent, Length: e.Size, Repeat: repeat})
	seen, failed := sent.end()
	failpoint.Here("flush.afterPut")
	if failed != nil { // the journal's own trouble
		return bodyFailed(failed), false
	}
	r = p.judge(err, resp, false)
	p.attempted(e, r.err)
	if r.err == nil {
		r.answer = resp.Header
	}
	return r, seen == e.Size
}

// addMD5 adds the Content-MD5 of a body that has this ETag.
func addMD5(header http.Header, etag string) {
	if sum, err := hex.DecodeString(strings.Trim(etag, `"`)); err == nil && len(sum) == md5.Size {
		header.Set("Content-Md5", base64.StdEncoding.EncodeToString(sum))
	}
}

// otherETag is the result of an upload that is not what was sent.
func otherETag(got, promised string) result {
	return result{err: errOther, final: fmt.Sprintf("the upstream gave it the ETag %s, and %s was promised, and its bytes are others than were sent: write this bucket through", got, promised)}
}

var errOther = errors.New("the upstream does not have what it acknowledged")

// bodyFailed is the result of a body that the journal cannot give.
func bodyFailed(err error) result {
	if errors.Is(err, akigw.ErrChecksum) {
		return result{err: err, final: "its body in the journal is damaged: " + err.Error()}
	}
	return result{err: err}
}

// tee shows a body to the cache, once and in order, until end.
type tee struct {
	io.ReadSeeker
	change Change

	mu   sync.Mutex // held during a Read, so that end waits for it
	over bool       // guarded by mu
	at   int64      // next offset of the body; guarded by mu
	seen int64      // how far the cache has it; guarded by mu
	err  error      // of the body; guarded by mu
}

// errOver is the error of a body whose request is over.
var errOver = errors.New("the request is over")

func (t *tee) Read(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return 0, errOver
	}
	n, err := t.ReadSeeker.Read(b)
	if err != nil && err != io.EOF {
		t.err = err
	}
	if t.at == t.seen {
		t.change.Body(b[:n])
		t.seen += int64(n)
	}
	t.at += int64(n)
	return n, err
}

func (t *tee) Seek(offset int64, whence int) (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return 0, errOver
	}
	at, err := t.ReadSeeker.Seek(offset, whence)
	t.at = at
	return at, err
}

// end keeps everybody from the body. When an answer comes before the end of a body, or none
// at all, net/http may still be reading it. It returns how much of it the cache has seen,
// and why it could not be read, nil if it could.
func (t *tee) end() (seen int64, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	return t.seen, t.err
}

// storedAs reads from an answer how the upstream describes an object.
func storedAs(h http.Header) (s journal.Stored) {
	s.Modified, _ = http.ParseTime(h.Get("Last-Modified")) // without one it stays zero
	s.Version = h.Get("X-Amz-Version-Id")
	return s
}

// there asks whether the upstream has what e says: its size, its ETag, and those of its
// headers that same names. An upstream may keep headers in a form of its own, so they
// only matter where nobody has heard that it took this upload: then what is there may
// be the same bytes with other metadata. seen is how the upstream describes it.
func (p *Pool) there(ctx context.Context, e *journal.Entry, same func(header string) bool) (seen http.Header, there bool, err error) {
	seen, size, found, err := p.head(ctx, e.Key)
	switch {
	case err != nil:
		return nil, false, err
	case !found:
		return nil, e.Deleted, nil
	case e.Deleted || size != e.Size || !sameETag(seen.Get("Etag"), e.ETag):
		return nil, false, nil
	}
	for name, values := range e.Header {
		if got := seen[name]; same != nil && same(name) && strings.Join(got, ",") != strings.Join(values, ",") {
			return nil, false, nil
		}
	}
	return seen, true, nil
}

// described reports whether a header is one that an object is known by.
func described(header string) bool {
	switch header {
	case "Content-Type", "Content-Encoding", "Content-Disposition", "Content-Language", "Cache-Control":
		return true
	}
	return strings.HasPrefix(header, "X-Amz-Meta-")
}

// delete deletes an object.
func (p *Pool) delete(ctx context.Context, e *journal.Entry) result {
	n, _ := p.attempt(e)
	change := p.Begin(e.Key)
	resp, err := p.Upstream.Do(ctx, &cold.Request{Op: "DeleteObject", Method: http.MethodDelete, Key: e.Key, Header: http.Header{}, Repeat: n > 0})
	failpoint.Here("delete.afterUpstream")
	if err == nil && resp.StatusCode == http.StatusNotFound { // nothing is there, not even a bucket
		resp.Body.Close()
		return result{change: change}
	}
	r := p.judge(err, resp, false)
	p.attempted(e, r.err)
	if r.err == nil {
		_, there, err := p.there(ctx, e, nil)
		if err == nil && !there {
			err = errOther
		}
		r = p.judge(err, nil, true)
	}
	r.change = change
	return r
}

// deleteBatch deletes objects of one bucket in one request. The answer names each.
func (p *Pool) deleteBatch(ctx context.Context, batch []*journal.Entry) []result {
	type object struct{ Key s3xml.Text }
	request := struct {
		XMLName xml.Name `xml:"Delete"`
		Object  []object
	}{}
	results := make([]result, len(batch))
	n := 0
	for i, e := range batch {
		tries, _ := p.attempt(e)
		n = max(n, tries)
		request.Object = append(request.Object, object{s3xml.Text(e.Key.Name)})
		results[i].change = p.Begin(e.Key)
	}
	answer := struct {
		Deleted []object
		Error   []struct {
			Key           s3xml.Text
			Code, Message string
		}
	}{}
	document, err := s3xml.Marshal(request)
	var resp *http.Response
	if err == nil {
		sum := md5.Sum(document)
		resp, err = p.Upstream.Do(ctx, &cold.Request{Op: "DeleteObjects", Method: http.MethodPost, Key: akigw.Key{Bucket: batch[0].Key.Bucket}, Query: url.Values{"delete": {""}},
			Header: http.Header{"Content-Md5": {base64.StdEncoding.EncodeToString(sum[:])}, "Content-Type": {"application/xml"}}, Body: bytes.NewReader(document), Length: int64(len(document)), Repeat: n > 0})
	}
	failpoint.Here("delete.afterUpstream")
	all := p.judgeBody(err, resp, &answer)
	said := map[s3xml.Text]result{}
	for _, o := range answer.Deleted {
		said[o.Key] = result{}
	}
	for _, o := range answer.Error {
		err := fmt.Errorf("%s: %s", o.Code, o.Message)
		said[o.Key] = result{err: err, refused: o.Code == "AccessDenied"}
	}
	for i, e := range batch {
		p.attempted(e, all.err)
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

// maxAnswer bounds what is read of an answer, in bytes: a thousand long keys fit.
const maxAnswer = 8 << 20

// judge says what an answer, or none, means for the entry that it is about. It
// closes its body. asked tells that it was a question about what was sent: whatever the
// answer, that may be there or not, and can be sent again.
func (p *Pool) judge(err error, resp *http.Response, asked bool) result {
	r := p.judgeBody(err, resp, nil)
	if asked && r.err != nil {
		r.unknown, r.final = true, ""
	}
	return r
}

// judgeBody is judge, and parses the document of a success into v.
func (p *Pool) judgeBody(err error, resp *http.Response, v any) result {
	var body []byte
	if err == nil && resp != nil {
		body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		resp.Body.Close()
		if err != nil {
			err = fmt.Errorf("%w: the answer broke off: %w", akigw.ErrUpstreamUnavailable, err)
		}
	}
	var refused *cold.ResponseError
	status, header := 0, http.Header{}
	switch {
	case errors.As(err, &refused):
		status, header, body = refused.Status, refused.Header, refused.Body
	case errors.Is(err, cold.ErrNotSent):
		return result{err: err, unsent: true}
	case err != nil: // what became of it nobody knows
		return result{err: err, unknown: true}
	case resp == nil:
		return result{}
	default:
		status, header = resp.StatusCode, resp.Header
	}
	code := errorCode(body)
	if status < 300 && code == "" {
		if v != nil {
			err = s3xml.Unmarshal(body, v)
		}
		return result{err: err, unknown: err != nil}
	}
	if status < 300 { // a 200 that carries an error is one
		status = http.StatusInternalServerError
	}
	r := result{err: fmt.Errorf("the upstream answered %d %s", status, cmp.Or(code, http.StatusText(status))), code: code} // a HEAD's answer has no code
	switch {
	case status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests || code == "SlowDown":
		p.counters.throttled.Inc()
		r.wait = rand.N(throttledBase) + retryAfter(header)
	case status == http.StatusForbidden || status == http.StatusUnauthorized || status/100 == 3:
		r.refused = true
	case status >= 500 || status == http.StatusRequestTimeout || conflicts[code] && status == http.StatusConflict || code == "RequestTimeout":
	case status == http.StatusBadRequest && (code == "BadDigest" || code == "IncompleteBody" || code == "ExpiredToken" || code == "InvalidToken" || code == ""):
	default:
		r.final = r.err.Error()
	}
	return r
}

// conflicts are the codes of a 409 that says that something else is under way; other
// ones say that it never can be.
var conflicts = map[string]bool{"": true, "OperationAborted": true, "ConditionalRequestConflict": true}

func retryAfter(h http.Header) time.Duration {
	secs, err := time.ParseDuration(h.Get("Retry-After") + "s")
	if err != nil || secs < 0 {
		return 0
	}
	return min(secs, maxWait)
}

// errorCode is the code of an S3 error document, "" if it is none.
func errorCode(body []byte) string {
	var document struct {
		XMLName xml.Name
		Code    string
	}
	if !bytes.Contains(body, []byte("<Error")) || s3xml.Unmarshal(body, &document) != nil || document.XMLName.Local != "Error" {
		return ""
	}
	if document.Code == "" {
		return "Unknown"
	}
	return document.Code
}
