// Package testkit has helpers for the tests of several packages: among others an upstream in memory
// that counts requests and can misbehave, and a client that signs requests. It is not part of the
// product.
package testkit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
)

// Memory is an upstream in memory. It implements PUT, GET, HEAD and DELETE of objects with ranges and
// conditions as S3 does, and counts requests.
type Memory struct {
	mu      sync.Mutex
	objects map[akigw.Key]Stored
	counts  map[string]int
	sent    int64
	streams map[chan cold.Change]string // open event streams and their buckets
	uploads map[string]*memoryUpload    // open multipart uploads by id
	told    atomic.Int64                // changes that were sent into streams
	taken   atomic.Int64                // changes that were received from streams

	// Deaf keeps streams of events from opening.
	Deaf atomic.Bool

	// KMS gives objects that are written from then on ETags as in a bucket that is encrypted with KMS
	// keys, which are not the MD5.
	KMS atomic.Bool

	// Clock, if set, provides the times of objects. The default is the current time in whole seconds.
	Clock func() time.Time

	// Before, if set, is called before a request is handled. A response or an error that it returns
	// replaces the real one.
	Before func(r *cold.Request) (*http.Response, error)
	// After, if set, may change a response. Its Date is the current time, whatever Clock returns.
	After func(r *cold.Request, resp *http.Response)
}

// Stored is an object of Memory.
type Stored struct {
	Body     []byte
	ETag     string
	Modified time.Time
	Header   http.Header
}

// NewMemory returns an empty upstream.
func NewMemory() *Memory {
	return &Memory{objects: map[akigw.Key]Stored{}, counts: map[string]int{}, streams: map[chan cold.Change]string{}, uploads: map[string]*memoryUpload{}}
}

// Put stores an object directly, bypassing the gateway, and returns its ETag.
func (m *Memory) Put(key akigw.Key, body []byte) string {
	etag := etagOf(body)
	m.PutStored(key, Stored{Body: body, ETag: etag, Modified: m.now()})
	return etag
}

// PutStored stores an object whose fields are all chosen by the caller.
func (m *Memory) PutStored(key akigw.Key, o Stored) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(key, o)
}

// putIf stores an object under the conditions of a PutObject. If a condition fails, it returns the
// error response.
func (m *Memory) putIf(r *cold.Request, o Stored) *http.Response {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, there := m.objects[r.Key]
	match := r.Header.Get("If-Match")
	switch {
	case match != "" && !there:
		return Response(http.StatusNotFound, nil, []byte("<Error><Code>NoSuchKey</Code></Error>"))
	case match != "" && match != now.ETag, r.Header.Get("If-None-Match") == "*" && there:
		return Response(http.StatusPreconditionFailed, nil, []byte("<Error><Code>PreconditionFailed</Code></Error>"))
	}
	m.put(r.Key, o)
	return nil
}

// put stores an object. The caller holds mu.
func (m *Memory) put(key akigw.Key, o Stored) {
	m.objects[key] = o
	m.tell(cold.Change{Key: key, ETag: o.ETag, Size: int64(len(o.Body))})
}

// Get returns an object.
func (m *Memory) Get(key akigw.Key) (Stored, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[key]
	return o, ok
}

// Delete removes an object directly, bypassing the gateway.
func (m *Memory) Delete(key akigw.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	m.tell(cold.Change{Key: key, Removed: true})
}

// tell sends a change into the event streams. The caller holds mu.
func (m *Memory) tell(c cold.Change) {
	for stream, bucket := range m.streams {
		if bucket == c.Key.Bucket {
			m.told.Add(1)
			stream <- c
		}
	}
}

// Events implements the Notifier interface of tiers.
func (m *Memory) Events(string) cold.EventSource { return cold.Stream }

// Listen implements the Notifier interface of tiers.
func (m *Memory) Listen(ctx context.Context, bucket string, alive func(), changed func(cold.Change)) error {
	if m.Deaf.Load() {
		return errors.New("no stream")
	}
	stream := make(chan cold.Change, 100_000)
	m.mu.Lock()
	m.streams[stream] = bucket
	m.mu.Unlock()
	defer m.hangUp(stream)
	alive()
	ping := time.NewTicker(10 * time.Second)
	defer ping.Stop()
	for {
		select {
		case c, open := <-stream:
			if !open {
				return errors.New("the stream broke")
			}
			changed(c)
			m.taken.Add(1)
		case <-ping.C:
			alive()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// AwaitEvents waits until event streams have delivered every change.
func (m *Memory) AwaitEvents() {
	for m.taken.Load() != m.told.Load() {
		time.Sleep(100 * time.Microsecond)
	}
}

func (m *Memory) hangUp(stream chan cold.Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, open := m.streams[stream]; open {
		delete(m.streams, stream)
		m.lose(stream)
	}
}

// lose closes a stream and drops its undelivered changes. The caller holds mu.
func (m *Memory) lose(stream chan cold.Change) {
	close(stream)
	for range stream {
		m.taken.Add(1)
	}
}

// BreakStreams ends all event streams. Undelivered changes are lost.
func (m *Memory) BreakStreams() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for stream := range m.streams {
		delete(m.streams, stream)
		m.lose(stream)
	}
}

// Streams returns the number of open event streams.
func (m *Memory) Streams() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.streams)
}

// KeysOf returns the keys of a bucket's objects, in order.
func (m *Memory) KeysOf(bucket string) (all []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.objects {
		if key.Bucket == bucket {
			all = append(all, key.Name)
		}
	}
	slices.Sort(all)
	return all
}

// Len returns the number of objects.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.objects)
}

// Count returns the number of requests of a kind: "GET", "HEAD", "GET 304", "PUT 200", "GET range",
// "HEAD conditional".
func (m *Memory) Count(kind string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counts[kind]
}

// Sent returns the total Content-Length of all responses.
func (m *Memory) Sent() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sent
}

// Reset clears all counts.
func (m *Memory) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts = map[string]int{}
	m.sent = 0
}

func (m *Memory) now() time.Time {
	if m.Clock != nil {
		return m.Clock()
	}
	return time.Now().Truncate(time.Second)
}

func (m *Memory) count(r *cold.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts[r.Method]++
	if r.Header.Get("Range") != "" {
		m.counts[r.Method+" range"]++
	}
	if r.Header.Get("If-None-Match") != "" {
		m.counts[r.Method+" conditional"]++
	}
}

// Do implements the Upstream interfaces of tiers and gateway.
func (m *Memory) Do(ctx context.Context, r *cold.Request) (*http.Response, error) {
	m.count(r)
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if v := r.Query.Get("versionId"); v != "" {
		r.Key.Version = v
	}
	if m.Before != nil {
		if resp, err := m.Before(r); resp != nil || err != nil {
			return resp, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, err)
	}
	resp, err := m.serve(r)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.counts[r.Method+" "+strconv.Itoa(resp.StatusCode)]++
	if r.Method == http.MethodGet {
		m.sent += max(0, resp.ContentLength)
	}
	m.mu.Unlock()
	resp.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	if m.After != nil {
		m.After(r, resp)
	}
	resp.Body = &cancelBody{resp.Body, ctx}
	return resp, nil
}

// Owner implements the Upstream interface of gateway: there is one upstream.
func (m *Memory) Owner(string) string { return cold.DefaultName }

// Names implements the Upstream interface of gateway.
func (m *Memory) Names() []string { return []string{cold.DefaultName} }

// Origin implements the Upstream interface of tiers.
func (m *Memory) Origin(string) uint64 { return 1 }

func (m *Memory) serve(r *cold.Request) (*http.Response, error) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		switch {
		case r.Query.Has("versioning"):
			return Response(http.StatusOK, nil, []byte("<VersioningConfiguration/>")), nil
		case r.Query.Has("uploads"):
			return m.listUploads(r)
		case r.Query.Has("uploadId"):
			return m.listParts(r)
		case r.Key.Name == "":
			return m.list(r)
		}
		return m.read(r)
	case http.MethodPost:
		return m.multipart(r)
	case http.MethodPut:
		var body []byte
		if r.Body != nil {
			var err error
			if body, err = io.ReadAll(r.Body); err != nil {
				return nil, fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, err)
			}
			if int64(len(body)) != r.Length {
				return nil, fmt.Errorf("%w: body of %d bytes, announced %d", akigw.ErrUpstreamUnavailable, len(body), r.Length)
			}
		}
		switch {
		case r.Header.Get("X-Amz-Copy-Source") != "":
			return m.copy(r)
		case r.Query.Get("uploadId") != "":
			return m.part(r, body)
		}
		etag := m.etagOf(body)
		if refusal := m.putIf(r, Stored{Body: body, ETag: etag, Modified: m.now(), Header: metadata(r.Header)}); refusal != nil {
			return refusal, nil
		}
		return Response(http.StatusOK, http.Header{"Etag": {etag}}, nil), nil
	case http.MethodDelete:
		if r.Query.Has("uploadId") {
			return m.abort(r)
		}
		m.Delete(r.Key)
		return Response(http.StatusNoContent, nil, nil), nil
	}
	return Response(http.StatusNotImplemented, nil, []byte("<Error><Code>NotImplemented</Code></Error>")), nil
}

func (m *Memory) read(r *cold.Request) (*http.Response, error) {
	o, ok := m.Get(r.Key)
	if !ok {
		return Response(http.StatusNotFound, http.Header{"Content-Type": {"application/xml"}}, []byte("<Error><Code>NoSuchKey</Code></Error>")), nil
	}
	h := http.Header{"Etag": {o.ETag}, "Last-Modified": {o.Modified.UTC().Format(http.TimeFormat)}, "Accept-Ranges": {"bytes"}, "Content-Type": {"text/plain"}}
	for name, values := range o.Header {
		h[name] = values
	}
	if m.KMS.Load() {
		h.Set("X-Amz-Server-Side-Encryption", "aws:kms")
	}
	err := akigw.ConditionsOf(r.Header).Check(&akigw.Object{ETag: o.ETag, LastModified: o.Modified.Truncate(time.Second)})
	if errors.Is(err, akigw.ErrNotModified) {
		return Response(http.StatusNotModified, h, nil), nil
	} else if err != nil {
		return Response(http.StatusPreconditionFailed, nil, []byte("<Error><Code>PreconditionFailed</Code></Error>")), nil
	}
	spec := akigw.ParseRange(r.Header.Get("Range"))
	rng, err := spec.Resolve(int64(len(o.Body)))
	if err != nil {
		return Response(http.StatusRequestedRangeNotSatisfiable, nil, []byte("<Error><Code>InvalidRange</Code></Error>")), nil
	}
	status := http.StatusOK
	if spec.Partial(int64(len(o.Body))) {
		status = http.StatusPartialContent
		h.Set("Content-Range", rng.ContentRange(int64(len(o.Body))))
	}
	resp := Response(status, h, o.Body[rng.Start:rng.End()])
	if r.Method == http.MethodHead {
		resp.Body = http.NoBody
	}
	return resp, nil
}

// Response returns a response with the given status, headers and body.
func Response(status int, h http.Header, body []byte) *http.Response {
	if h == nil {
		h = http.Header{}
	}
	return &http.Response{StatusCode: status, Header: h, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body))}
}

// cancelBody fails when its context ends, as the body of a real connection does.
type cancelBody struct {
	io.ReadCloser
	ctx context.Context
}

func (b *cancelBody) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.ReadCloser.Read(p)
}

// Bytes returns n bytes that differ by position and by seed.
func Bytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	x := seed*0x9e3779b97f4a7c15 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}
