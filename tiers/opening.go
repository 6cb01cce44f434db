package tiers

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
)

// fillOpening requests the object that a key holds, learns what it is, and brings in its blocks. It
// publishes the entry at the end, when length and checksum have been verified.
func (ft *fetcher) fillOpening(ctx context.Context, f *fill, spec akigw.RangeSpec) error {
	generation := ft.fence.enter(f.key)
	defer ft.fence.leave(f.key)
	asked := time.Now()
	block := ft.settings(f.key).Block
	resp, err := ft.upstream.Do(ctx, &cold.Request{Op: "GetObject", Method: http.MethodGet, Key: f.key, Header: readHeader(alignedRange(spec, block), "")})
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		err := cold.NewResponseError(resp)
		ft.rememberAbsence(f.key, generation, asked, err, false)
		return err
	}
	defer resp.Body.Close()
	got, size, err := answeredRange(resp)
	if err != nil {
		return err
	}
	if !strongETag(resp.Header.Get("Etag")) {
		return ErrUncacheable
	}
	e := ft.newEntry(objectOf(f.key, resp.Header, size), generation, asked)
	e.block, e.strong = block, strongValidator(resp.Header)
	if !e.asked() {
		return ErrUncacheable
	}
	if !ft.settings(f.key).CachedSize(size) {
		ft.publish(e) // so that the next reader finds it at once
		return ErrUncacheable
	}
	return ft.fillLearned(ctx, f, e, got, resp)
}

// fillLearned brings in the bytes got of a response whose object has just been learned.
func (ft *fetcher) fillLearned(ctx context.Context, f *fill, e *entry, got akigw.Range, resp *http.Response) error {
	first, end := wholeBlocks(got, e.Size, e.block)
	large := ft.parallel(e)
	if large { // parallel requests fetch the rest
		end = min(end, ft.segmentEnd(e, first))
	}
	if err := skip(resp.Body, f.key, min(first*e.block, got.End())-got.Start); err != nil {
		return err
	}
	if e.Size == 0 {
		e.body = []byte{}
		ft.publish(e)
	}
	if err := ft.reserve(ctx, f, e, first, end); err != nil {
		return err
	}
	f.open(e, first, end)
	ft.register(f)
	var whole *verifier
	if got.Length == e.Size && !large { // otherwise the reader verifies
		whole = ft.verifier(resp.Header, end-first)
	}
	err := ft.receive(ctx, f, resp.Body, whole, ft.publish)
	switch {
	case (errors.Is(err, errAbandoned) || errors.Is(err, errYielded)) && !ft.tasks.closing() && f.next > first:
		ft.publish(e) // what arrived is valid, and the rest can be fetched later
	case err != nil:
		ft.discard(e, first, f.next)
	}
	return err
}
