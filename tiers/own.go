package tiers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
)

// Own is a place upstream for what the gateway writes for itself: objects of a bucket whose
// keys begin with a prefix.
type Own struct {
	store          *Store
	bucket, prefix string
	contentType    string
}

// Own makes a place for objects of a Content-Type.
func (s *Store) Own(bucket, prefix, contentType string) *Own {
	return &Own{s, bucket, prefix, contentType}
}

func (o *Own) key(name string) akigw.Key { return akigw.Key{Bucket: o.bucket, Name: o.prefix + name} }

// errNoJournal: what is written upstream has to be in the journal first.
var errNoJournal = errors.New("the journal is not open")

// Put writes an object as one multipart upload that leaves nothing behind, whatever happens
// meanwhile. body may be read by several at a time.
func (o *Own) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	if o.store.back == nil {
		return errNoJournal
	}
	defer o.store.Begin(o.key(name)).End()
	return o.store.back.pool.Send(ctx, o.key(name), o.contentType, body, size)
}

// List calls yield with the objects that are there.
func (o *Own) List(ctx context.Context, yield func(name string, size int64)) error {
	return o.store.list(ctx, o.bucket, o.prefix, "", func(l listed) error {
		yield(strings.TrimPrefix(l.Key, o.prefix), l.Size)
		return nil
	})
}

// Get opens an object.
func (o *Own) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	resp, err := o.store.upstream.Do(ctx, &cold.Request{Op: "GetObject", Method: http.MethodGet, Key: o.key(name), Header: http.Header{}})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, cold.NewResponseError(resp)
	}
	return resp.Body, nil
}

// Delete removes an object.
func (o *Own) Delete(ctx context.Context, name string) error {
	defer o.store.Begin(o.key(name)).End()
	resp, err := o.store.upstream.Do(ctx, &cold.Request{Op: "DeleteObject", Method: http.MethodDelete, Key: o.key(name), Header: http.Header{}})
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%w: the deletion of %s was answered with %s", akigw.ErrUpstreamUnavailable, o.key(name), resp.Status)
	}
	return nil
}
