package overlay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/pack"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

// ReservedPrefix begins the keys of the gateway's own objects, the packs, in buckets that are
// written back. Clients can neither see nor change them.
const ReservedPrefix = pack.Prefix

// Cache is the read cache, through which packs are read like other objects. *tiers.Store implements
// it.
type Cache interface {
	// Get opens an object of the upstream.
	Get(ctx context.Context, key akigw.Key, spec akigw.RangeSpec, conditions akigw.Conditions) (*tiers.Reader, error)
	// Begin fences a key: cached data of it becomes unreachable.
	Begin(key akigw.Key) *tiers.Write
}

// Body opens a range of the body of an entry, in the journal or in its pack. The outcome says where
// the bytes come from. The error is tiers.ErrNotPending if the entry has left the journal
// meanwhile.
func (o *Overlay) Body(ctx context.Context, cache Cache, e *journal.Entry, r akigw.Range) (tiers.Body, akigw.Outcome, error) {
	for {
		key, at, packed := o.journal.Packs.Find(e)
		if !packed {
			b, err := o.journal.Body(e, r.Start, r.Length)
			switch {
			case errors.Is(err, journal.ErrPacked):
				continue // it was packed meanwhile
			case errors.Is(err, journal.ErrGone):
				return nil, "", tiers.ErrNotPending
			case err != nil:
				return nil, "", err
			}
			return b, akigw.Overlay, nil
		}
		data, outcome, err := o.unpack(ctx, cache, e, key, at)
		if err != nil {
			if o.journal.Last(e.Key) != e {
				return nil, "", tiers.ErrNotPending // its pack may have been deleted
			}
			return nil, "", err
		}
		return &bytesBody{data[r.Start:r.End()]}, outcome, nil
	}
}

// File opens the whole body of an entry for random access.
func (o *Overlay) File(ctx context.Context, cache Cache, e *journal.Entry) (io.ReadSeekCloser, error) {
	key, at, packed := o.journal.Packs.Find(e)
	if !packed {
		return o.journal.Body(e, 0, e.Size)
	}
	data, _, err := o.unpack(ctx, cache, e, key, at)
	return file{bytes.NewReader(data)}, err
}

// file is a file in memory.
type file struct{ *bytes.Reader }

// Close implements io.Closer.
func (file) Close() error { return nil }

// unpack reads the body of an entry from its pack. The body is small, so it is compared with its
// ETag each time: to the cache it is a range of a larger object, and has no checksum. A body that
// was damaged in transit is read once more.
func (o *Overlay) unpack(ctx context.Context, cache Cache, e *journal.Entry, key akigw.Key, at int64) ([]byte, akigw.Outcome, error) {
	if e.Size == 0 {
		return nil, akigw.Overlay, nil
	}
	for again := false; ; again = true {
		data, outcome, err := o.readPack(ctx, cache, e.Size, key, at)
		if err == nil && !intact(data, e.ETag) {
			cache.Begin(key).End() // cached data of the pack is not used again
			err = fmt.Errorf("%w: %s", akigw.ErrChecksum, e.Key)
		}
		switch {
		case err == nil:
			return data, outcome, nil
		case again || !errors.Is(err, akigw.ErrChecksum):
			return nil, "", fmt.Errorf("%w: pack %s: %w", akigw.ErrUpstreamUnavailable, key, err)
		}
	}
}

// intact reports whether a body has the promised ETag.
func intact(data []byte, etag string) bool {
	d := checksum.OfObject(http.Header{"Etag": {etag}}, true)
	if d != nil {
		d.Write(data)
	}
	return d == nil || d.OK()
}

// readPack reads size bytes of a pack.
func (o *Overlay) readPack(ctx context.Context, cache Cache, size int64, key akigw.Key, at int64) ([]byte, akigw.Outcome, error) {
	text := fmt.Sprintf("bytes=%d-%d", at, at+size-1)
	r, err := cache.Get(ctx, key, akigw.ParseRange(text), akigw.Conditions{})
	if r != nil {
		defer r.Close()
	}
	data := make([]byte, 0, size)
	if errors.Is(err, tiers.ErrUncacheable) {
		data, err = o.readUncached(ctx, key, text, data)
		return data, akigw.Cold, err
	}
	if err != nil {
		return nil, "", err
	}
	for int64(len(data)) < size && err == nil {
		var piece []byte
		piece, err = r.Next(ctx)
		data = append(data, piece...)
	}
	return data, r.Outcome, err
}

// readUncached reads a range of a pack that no tier may hold from the upstream. It fills into to
// its capacity.
func (o *Overlay) readUncached(ctx context.Context, key akigw.Key, text string, into []byte) ([]byte, error) {
	resp, err := o.upstream.Do(ctx, &cold.Request{Op: "GetObject", Method: http.MethodGet, Key: key, Header: http.Header{"Range": {text}}})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusPartialContent {
		return nil, cold.NewResponseError(resp)
	}
	defer resp.Body.Close()
	into = into[:cap(into)]
	_, err = io.ReadFull(resp.Body, into)
	return into, err
}

// bytesBody is a body in memory.
type bytesBody struct{ data []byte }

// Next implements tiers.Body.
func (b *bytesBody) Next() ([]byte, error) {
	if len(b.data) == 0 {
		return nil, io.EOF
	}
	data := b.data
	b.data = nil
	return data, nil
}

// Close implements io.Closer.
func (b *bytesBody) Close() error { return nil }

// Own implements tiers.Overlay: packs are the gateway's own.
func (o *Overlay) Own(key akigw.Key) bool { return o.journal != nil && pack.IsName(key.Name) }
