package tiers

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
)

// fillRange fetches blocks first up to end of a known object. If-Match ensures that they belong to
// the known version.
func (ft *fetcher) fillRange(ctx context.Context, f *fill, e *entry, first, end int64) error {
	generation := ft.fence.enter(f.key)
	defer ft.fence.leave(f.key)
	if err := ft.reserve(ctx, f, e, first, end); err != nil {
		return err
	}
	want := akigw.Range{Start: first * e.block}
	want.Length = min(end*e.block, e.Size) - want.Start
	resp, err := ft.askRange(ctx, f, e, want, generation)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := ft.checkRange(resp, e, want, generation)
	if err != nil {
		return err
	}
	if err := skip(resp.Body, f.key, want.Start-got.Start); err != nil {
		return err
	}
	var whole *verifier
	if got.Length == e.Size && end*e.block >= e.Size {
		whole = ft.verifier(resp.Header, end-first)
	}
	err = ft.receive(ctx, f, resp.Body, whole, func(filled *entry) {
		if filled != e {
			filled.Generation = generation
			ft.publish(filled)
		}
	})
	if errors.Is(err, akigw.ErrChecksum) {
		ft.discard(e, first, f.next)
	}
	return err
}

// askRange sends a GET of a generation for a range of a known object, and returns the response if it is a success.
func (ft *fetcher) askRange(ctx context.Context, f *fill, e *entry, want akigw.Range, generation uint64) (*http.Response, error) {
	header := readHeader(fmt.Sprintf("bytes=%d-%d", want.Start, want.End()-1), e.ETag)
	if want.Length == e.Size {
		header.Del("Range")
	}
	resp, err := ft.upstream.Do(ctx, &cold.Request{Op: "GetObject", Method: http.MethodGet, Key: f.key, Header: header, Repeat: f.repeat, Bytes: want.Length})
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
		return resp, nil
	case http.StatusPreconditionFailed, http.StatusNotFound, http.StatusRequestedRangeNotSatisfiable:
		resp.Body.Close()
		ft.dropUpTo(f.key, generation)
		return nil, fmt.Errorf("%w: %s", akigw.ErrChanged, f.key)
	}
	return nil, cold.NewResponseError(resp)
}

// checkRange returns the range of a response to a request of a generation, after checking that it belongs to the
// known version and includes everything that was requested.
func (ft *fetcher) checkRange(resp *http.Response, e *entry, want akigw.Range, generation uint64) (got akigw.Range, err error) {
	got, size, err := answeredRange(resp)
	if err != nil {
		return got, err
	}
	if resp.StatusCode == http.StatusOK && want.Length < e.Size && ft.noRanges.add(e.origin) {
		ft.log.Warn("the upstream responds to range requests with whole objects: from now on each large object is fetched by a single request", "key", e.Key.String())
	}
	if size != e.Size || resp.Header.Get("Etag") != e.ETag {
		ft.dropUpTo(e.Key, generation)
		return got, fmt.Errorf("%w: %s", akigw.ErrChanged, e.Key)
	}
	if got.Start > want.Start || got.End() < want.End() {
		return got, fmt.Errorf("%w: %s: asked for %s, got %s", akigw.ErrShortBody, e.Key, want.ContentRange(size), got.ContentRange(size))
	}
	return got, nil
}
