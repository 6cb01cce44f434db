// Package s3mem is an upstream in memory for tests: Memory answers requests as S3 does, counts them and
// can misbehave, and Faulty has fault plans break the way to it. It needs no sockets and no signatures;
// for a service with both see internal/double.
package s3mem

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
)

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

func (m *Memory) count(r *cold.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts[r.Method]++
	m.counts[r.Op]++
	if r.Header.Get("Range") != "" {
		m.counts[r.Method+" range"]++
	}
	if r.Header.Get("If-None-Match") != "" {
		m.counts[r.Method+" conditional"]++
	}
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
