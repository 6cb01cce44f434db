package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/time/rate"
)

// Wrap applies the plan that is in force at the time of each request to a transport.
func (l *Layer) Wrap(next http.RoundTripper) http.RoundTripper { return &transport{l, next} }

type transport struct {
	layer *Layer
	next  http.RoundTripper
}

// operations maps the properties of a request to S3 API names, most specific first.
var operations = []struct {
	method string
	object bool     // the request names a key
	query  []string // parameters that have to be present
	header string
	op     string
}{
	{"PUT", true, []string{"partNumber", "uploadId"}, "X-Amz-Copy-Source", "UploadPartCopy"},
	{"PUT", true, []string{"partNumber", "uploadId"}, "", "UploadPart"},
	{"PUT", true, nil, "X-Amz-Copy-Source", "CopyObject"},
	{"POST", true, []string{"uploads"}, "", "CreateMultipartUpload"},
	{"POST", true, []string{"uploadId"}, "", "CompleteMultipartUpload"},
	{"DELETE", true, []string{"uploadId"}, "", "AbortMultipartUpload"},
	{"GET", true, []string{"uploadId"}, "", "ListParts"},
	{"GET", true, nil, "", "GetObject"},
	{"HEAD", true, nil, "", "HeadObject"},
	{"PUT", true, nil, "", "PutObject"},
	{"DELETE", true, nil, "", "DeleteObject"},
	{"POST", false, []string{"delete"}, "", "DeleteObjects"},
	{"GET", false, []string{"uploads"}, "", "ListMultipartUploads"},
	{"GET", false, []string{"versions"}, "", "ListObjectVersions"},
	{"GET", false, []string{"list-type"}, "", "ListObjectsV2"},
	{"GET", false, nil, "", "ListObjects"},
	{"HEAD", false, nil, "", "HeadBucket"},
	{"PUT", false, nil, "", "CreateBucket"},
	{"DELETE", false, nil, "", "DeleteBucket"},
}

// Identify returns the operation, bucket and key of a request. A subresource that has no name here,
// such as ?acl, makes the operation "".
func Identify(r *http.Request) (op, bucket, key string) {
	bucket, key, _ = strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if bucket == "" {
		return "ListBuckets", "", ""
	}
	query := r.URL.Query()
next:
	for _, o := range operations {
		if o.method != r.Method || o.object != (key != "") || o.header != "" && r.Header.Get(o.header) == "" {
			continue
		}
		for _, name := range o.query {
			if !query.Has(name) {
				continue next
			}
		}
		if o.query == nil && special(r) {
			return "", bucket, key
		}
		return o.op, bucket, key
	}
	return "", bucket, key
}

// special reports whether a request asks for a subresource, such as ?acl.
func special(r *http.Request) bool {
	for _, name := range [...]string{"acl", "tagging", "versioning", "policy", "lifecycle", "encryption", "cors", "location", "object-lock", "retention", "legal-hold", "notification", "website", "attributes", "torrent", "restore", "select"} {
		if r.URL.Query().Has(name) {
			return true
		}
	}
	return false
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	st := t.layer.state.Load()
	if st == nil {
		return t.next.RoundTrip(r)
	}
	u := use{tier: Cold, read: r.Method == http.MethodGet || r.Method == http.MethodHead}
	u.op, u.bucket, u.key = Identify(r)
	send := t.next.RoundTrip
	for _, f := range st.lines {
		if applies, how := f.applies(u, time.Since(st.since)); applies {
			send = f.around(send, how)
		}
	}
	return send(r)
}

type trip func(*http.Request) (*http.Response, error)

// around returns a round tripper that applies the effect of a fault to next.
func (f *line) around(send trip, how uint64) trip {
	switch f.Effect {
	case SlowDown:
		return answering(http.StatusServiceUnavailable, "SlowDown")
	case TooManyRequests:
		return answering(http.StatusTooManyRequests, "TooManyRequests")
	case InternalError:
		return answering(http.StatusInternalServerError, "InternalError")
	case AnyError:
		return answering(f.Status, f.Code)
	case ErrorIn200:
		return answering(http.StatusOK, "InternalError")
	case Refused:
		return failing(syscall.ECONNREFUSED)
	case ResetBefore:
		return failing(syscall.ECONNRESET)
	case TimeoutBefore:
		return f.late(failing(os.ErrDeadlineExceeded), 0)
	case Latency:
		return f.late(send, how)
	case ResetAfter:
		return lost(send, syscall.ECONNRESET)
	case TimeoutAfter:
		return f.late(lost(send, os.ErrDeadlineExceeded), 0)
	case Hang:
		return f.hanging
	case HangAfter:
		return f.hangingAfter(send)
	case HangBody:
		return f.hangingBody(send)
	case Duplicate:
		return twice(send)
	case Bandwidth:
		return f.slowed(send)
	}
	return altered(send, f.Effect, how)
}

// discard closes the body of a request that is not sent, as a RoundTripper has to.
func discard(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
}

// answering responds with an error document without sending the request.
func answering(status int, code string) trip {
	return func(r *http.Request) (*http.Response, error) {
		discard(r)
		body := fmt.Sprintf("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>This fault was injected on purpose.</Message></Error>", code)
		if r.Method == http.MethodHead {
			body = ""
		}
		return &http.Response{Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{"Content-Type": {"application/xml"}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: r}, nil
	}
}

func failing(err error) trip {
	return func(r *http.Request) (*http.Response, error) {
		discard(r)
		return nil, fault(err)
	}
}

// late delays a request.
func (f *line) late(send trip, how uint64) trip {
	wait := f.wait(how)
	if wait == 0 { // the effect is a time-out
		wait = 30 * time.Second
	}
	return func(r *http.Request) (*http.Response, error) {
		if err := sleep(r.Context(), wait); err != nil {
			discard(r)
			return nil, err
		}
		return send(r)
	}
}

// wait is how long an operation is delayed.
func (f *line) wait(how uint64) time.Duration {
	wait := time.Duration(f.LatencyMS) * time.Millisecond
	if f.JitterMS > 0 {
		wait += time.Duration(how % uint64(time.Duration(f.JitterMS)*time.Millisecond))
	}
	return wait
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sendAndDrop sends a request and drops its response.
func sendAndDrop(send trip, r *http.Request) error {
	resp, err := send(r)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, resp.Body) // the response is dropped
	_ = resp.Body.Close()
	return nil
}

// lost sends a request and loses its response.
func lost(send trip, failure error) trip {
	return func(r *http.Request) (*http.Response, error) {
		if err := sendAndDrop(send, r); err != nil {
			return nil, err
		}
		return nil, fault(failure)
	}
}

// hang returns an error when the request is cancelled, or when the plan is no longer in force.
func (f *line) hang(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-f.over:
		return fault(syscall.ECONNRESET)
	}
}

// hanging never responds and does not send the request.
func (f *line) hanging(r *http.Request) (*http.Response, error) {
	err := f.hang(r.Context())
	discard(r)
	return nil, err
}

// hangingAfter sends a request and never responds.
func (f *line) hangingAfter(send trip) trip {
	return func(r *http.Request) (*http.Response, error) {
		if err := sendAndDrop(send, r); err != nil {
			return nil, err
		}
		return nil, f.hang(r.Context())
	}
}

// hangingBody responds, and stops in the middle of the body. A response without a body is complete.
func (f *line) hangingBody(send trip) trip {
	return func(r *http.Request) (*http.Response, error) {
		resp, err := send(r)
		if err != nil || resp.ContentLength == 0 {
			return resp, err
		}
		ctx, giveUp := context.WithCancel(r.Context())
		resp.Body = &stuck{body{ReadCloser: resp.Body, corrupt: -1, end: max(resp.ContentLength, 0) / 2, stall: func() error { return f.hang(ctx) }}, giveUp}
		return resp, nil
	}
}

// stuck is a body that hangs.
type stuck struct {
	body
	giveUp context.CancelFunc
}

// Close implements io.Closer. It ends a Read that hangs, as that of a connection does.
func (s *stuck) Close() error {
	s.giveUp()
	return s.body.Close()
}

// mostTwice is the largest body, in bytes, of a request that can be delivered twice.
const mostTwice = 16 << 20

// twice delivers a request two times, and returns the second response.
func twice(send trip) trip {
	return func(r *http.Request) (*http.Response, error) {
		if r.ContentLength > mostTwice || r.ContentLength < 0 {
			return send(r)
		}
		var body []byte
		if r.Body != nil && r.Body != http.NoBody {
			var err error
			body, err = io.ReadAll(r.Body)
			if err = errors.Join(err, r.Body.Close()); err != nil {
				return nil, err
			}
		}
		copyOf := func() *http.Request {
			again := r.Clone(r.Context())
			again.Body = http.NoBody
			if len(body) > 0 {
				again.Body = io.NopCloser(bytes.NewReader(body))
			}
			return again
		}
		if resp, err := send(copyOf()); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		return send(copyOf())
	}
}

// slowed limits the rate of both bodies.
func (f *line) slowed(send trip) trip {
	return func(r *http.Request) (*http.Response, error) {
		limit := rate.NewLimiter(rate.Limit(f.BytesPerSec), max(f.BytesPerSec/10, 1))
		if r.Body != nil && r.Body != http.NoBody {
			r = r.Clone(r.Context())
			r.Body = &body{ReadCloser: r.Body, limit: limit, ctx: r.Context(), corrupt: -1, end: -1}
		}
		resp, err := send(r)
		if err == nil {
			resp.Body = &body{ReadCloser: resp.Body, limit: limit, ctx: r.Context(), corrupt: -1, end: -1}
		}
		return resp, err
	}
}

// altered changes a response.
func altered(send trip, effect Effect, how uint64) trip {
	return func(r *http.Request) (*http.Response, error) {
		resp, err := send(r)
		if err != nil || resp.StatusCode/100 != 2 {
			return resp, err
		}
		changed := &body{ReadCloser: resp.Body, corrupt: -1, end: -1}
		length := max(resp.ContentLength, 1)
		switch effect {
		case ShortBody:
			changed.end = length / 2
			resp.Body = changed
		case Corrupt:
			changed.corrupt, changed.bit = int64(how%uint64(length)), byte(1)<<(how>>32%8)
			resp.Body = changed
		case StaleETag:
			if resp.Header.Get("Etag") != "" {
				resp.Header.Set("Etag", fmt.Sprintf("\"%032x\"", how))
			}
		case WrongRange:
			var first, last, size int64
			if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size); err == nil {
				resp.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first+1, last+1, size+1))
			}
		}
		return resp, nil
	}
}

// body is a body with an effect.
type body struct {
	io.ReadCloser
	at      int64
	corrupt int64 // offset of the byte with a flipped bit, -1 for none
	bit     byte
	end     int64        // where it ends early, -1 for nowhere
	stall   func() error // what happens there, nil to end as if it were complete
	limit   *rate.Limiter
	ctx     context.Context // of the request; an io.Reader gets no context
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.end >= 0 {
		if b.at >= b.end && b.stall != nil {
			return 0, b.stall()
		}
		if b.at >= b.end {
			return 0, io.EOF
		}
		p = p[:min(int64(len(p)), b.end-b.at)]
	}
	if b.limit != nil {
		p = p[:min(len(p), b.limit.Burst())]
	}
	n, err := b.ReadCloser.Read(p)
	if i := b.corrupt - b.at; i >= 0 && i < int64(n) {
		p[i] ^= b.bit
	}
	b.at += int64(n)
	if b.limit != nil && n > 0 {
		if wait := b.limit.WaitN(b.ctx, n); wait != nil {
			return n, wait
		}
	}
	return n, err
}
