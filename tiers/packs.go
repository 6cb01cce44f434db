package tiers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/pack"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

// ReservedPrefix is what the gateway's own keys begin with, in buckets that are written
// back: those of packs. Clients neither see nor touch them.
const ReservedPrefix = pack.Prefix

// Reserved reports whether a key is the gateway's own.
func (s *Store) Reserved(key akigw.Key) bool {
	return pack.IsName(key.Name) && s.WritesBack(key.Bucket)
}

// packs reports whether a rule lets an object of size bytes go into a pack.
func (s *Store) packs(key akigw.Key, size int64) bool {
	settings := s.settings(key)
	return settings.Back && size <= settings.Pack && settings.Pack > 0
}

// pendingBody is the body of an object that the journal knows.
type pendingBody interface {
	// Next returns the next bytes, io.EOF at the end. They are shared and must not be
	// changed; they stay valid.
	Next() ([]byte, error)
	io.Closer
}

// pendingBody opens a stretch of the body of an entry: from the journal, or from the
// pack that it is in, like any other object. The outcome says from where.
func (s *Store) pendingBody(ctx context.Context, e *journal.Entry, stretch akigw.Range) (pendingBody, akigw.Outcome, error) {
	for {
		key, at, ok := s.back.journal.Packs.Find(e)
		if !ok {
			b, err := s.back.journal.Body(e, stretch.Start, stretch.Length)
			if errors.Is(err, journal.ErrPacked) {
				continue // meanwhile
			}
			if err != nil {
				return nil, "", err
			}
			return b, akigw.Overlay, nil
		}
		data, outcome, err := s.fromPack(ctx, e, key, at)
		if err != nil {
			if s.back.journal.Last(e.Key) != e {
				return nil, "", journal.ErrGone // and its pack with it, perhaps
			}
			return nil, "", err
		}
		return &bytesBody{data[stretch.Start:stretch.End()]}, outcome, nil
	}
}

// fromPack reads the body of an entry from its pack. It is small, so it is compared with
// its ETag each time: a tier took it as a range of something larger, which has no
// checksum. What was damaged on the way is read once more.
func (s *Store) fromPack(ctx context.Context, e *journal.Entry, key akigw.Key, at int64) ([]byte, akigw.Outcome, error) {
	if e.Size == 0 {
		return nil, akigw.Overlay, nil
	}
	for again := false; ; again = true {
		data, outcome, err := s.readPack(ctx, e.Size, key, at)
		if err == nil && !intact(data, e.ETag) {
			s.Begin(key).End() // none of it is used again
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

// intact reports whether a body has the ETag that was promised.
func intact(data []byte, etag string) bool {
	d := checksum.OfObject(http.Header{"Etag": {etag}}, true)
	if d != nil {
		d.Write(data)
	}
	return d == nil || d.OK()
}

// readPack reads size bytes of a pack.
func (s *Store) readPack(ctx context.Context, size int64, key akigw.Key, at int64) ([]byte, akigw.Outcome, error) {
	text := fmt.Sprintf("bytes=%d-%d", at, at+size-1)
	r, err := s.Get(ctx, key, akigw.ParseRange(text), akigw.Conditions{})
	if r != nil {
		defer r.Close()
	}
	data := make([]byte, 0, size)
	if errors.Is(err, ErrUncacheable) {
		data, err = s.uncached(ctx, key, text, data)
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

// uncached reads a range of an object that no tier may hold.
func (s *Store) uncached(ctx context.Context, key akigw.Key, text string, into []byte) ([]byte, error) {
	resp, err := s.upstream.Do(ctx, &cold.Request{Op: "GetObject", Method: http.MethodGet, Key: key, Header: http.Header{"Range": {text}}})
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

// Next implements pendingBody.
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

// Unpack makes objects of their own of all that is in packs in a bucket, and returns
// how many that were. What is written meanwhile is packed, as long as a rule says so.
func (s *Store) Unpack(ctx context.Context, bucket string) (n int, err error) {
	if s.back == nil {
		return 0, nil
	}
	j := s.back.journal
	var all []*journal.Entry
	j.Ascend(bucket, "", func(e *journal.Entry) bool {
		all = append(all, e)
		return true
	})
	for _, e := range all {
		if _, _, packed := j.Packs.Find(e); !packed {
			continue
		}
		s.back.pool.Hurry(e.Key)
		if n++; n%unpackAtOnce == 0 {
			if err := s.wait(ctx, e.Key); err != nil {
				return n, err
			}
		}
	}
	for _, e := range all {
		if _, _, packed := j.Packs.Find(e); packed {
			if err := s.wait(ctx, e.Key); err != nil {
				return n, err
			}
		}
	}
	s.back.pool.DropPacks(ctx, bucket)
	return n, nil
}

// unpackAtOnce is about how many objects are taken out of packs before their uploads
// are waited for.
const unpackAtOnce = 100

// wait waits until what a key has now has left the journal.
func (s *Store) wait(ctx context.Context, key akigw.Key) error {
	ctx, cancel := context.WithTimeout(ctx, unpackPatience)
	defer cancel()
	if err := s.back.journal.Wait(ctx, key); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrPending, key, err)
	}
	return nil
}

// unpackPatience is how long is waited for a hundred objects.
const unpackPatience = 5 * time.Minute
