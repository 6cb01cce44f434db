package tiers

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
)

// Part is one part of an object, as the upstream numbers them. It is shared and must not be
// changed.
type Part struct {
	Number int
	// Status is 200 or 206: the status of the upstream's response for the part.
	Status int
	// Header holds the upstream's response headers that describe the part, such as
	// x-amz-mp-parts-count and its checksums.
	Header http.Header
	// Range is the part's range in the object.
	Range akigw.Range
}

// weight is the approximate memory use of a part in bytes.
func (p *Part) weight() int { return 1024 + 64*len(p.Header) }

// part returns the location of a requested part of e. If the gateway has uploaded the object, and HEADs have
// agreed with what it knows about such objects, it knows the location; otherwise only the upstream does. That
// is asked once for each part of a version. The bytes are served from blocks as usual. ErrUncacheable means
// that the upstream's response says nothing about this version, so the read must be forwarded.
func (s *source) part(ctx context.Context, e *entry, spec akigw.RangeSpec) (*Part, error) {
	key := hotKey{extent: e.extent, n: -int64(spec.Part())}
	if v, ok := s.hot.Get(key); ok {
		return v.part, nil
	}
	predicted := predictPart(e, spec.Part())
	if predicted != nil && s.validator.predictions.usePart(e, spec.Checksum()) {
		return predicted, nil
	}
	resp, err := s.upstream.Do(ctx, &cold.Request{Op: "HeadObject", Method: http.MethodHead, Key: e.Key, Query: url.Values{"partNumber": {strconv.Itoa(spec.Part())}}, Header: readHeader("", e.ETag)})
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent || resp.Header.Get("Etag") != e.ETag {
		return nil, ErrUncacheable // no such part, another version, or a service with its own idea of parts: only its response tells
	}
	p, err := shownPart(e, spec.Part(), resp)
	if predicted != nil {
		s.validator.predictions.comparePart(e, predicted, p)
	}
	if err != nil {
		return nil, err
	}
	s.hot.Keep(key, hotValue{part: p})
	return p, nil
}

// shownPart returns the part of e that the response to a HEAD describes.
func shownPart(e *entry, number int, resp *http.Response) (*Part, error) {
	p := &Part{Number: number, Status: resp.StatusCode, Header: ObjectHeader(resp.Header)}
	r, size, err := answeredRange(resp)
	if err != nil {
		return nil, err
	}
	if size != e.Size { // the length is the part's, and its position is unknown
		return nil, ErrUncacheable
	}
	if p.Range = r; size == 0 { // no 206 can describe a range of an empty object
		p.Status = http.StatusOK
	}
	return p, nil
}
