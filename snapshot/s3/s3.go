// Package s3 keeps the files of snapshots upstream, as objects of a bucket whose keys begin
// with a prefix. It implements snapshot.Remote.
package s3

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
)

// ContentType is the content type of the objects.
const ContentType = "application/vnd.apache.parquet"

// Sender uploads objects.
type Sender interface {
	// Send writes an object as one multipart upload that leaves nothing behind. body may be
	// read by several goroutines at a time.
	Send(ctx context.Context, to akigw.Key, contentType string, body io.ReaderAt, size int64) error
}

// Remote keeps snapshots in an upstream bucket. All fields must be set.
type Remote struct {
	Bucket, Prefix string
	Upstream       cold.Doer
	Sender         Sender
	// Begin fences a key in the read cache until end is called, because the key is about to be
	// deleted.
	Begin func(key akigw.Key) (end func())
}

func (p *Remote) key(name string) akigw.Key {
	return akigw.Key{Bucket: p.Bucket, Name: p.Prefix + name}
}

// Put implements snapshot.Remote.
func (p *Remote) Put(ctx context.Context, name string, body io.ReaderAt, size int64) error {
	return p.Sender.Send(ctx, p.key(name), ContentType, body, size)
}

// List implements snapshot.Remote.
func (p *Remote) List(ctx context.Context, yield func(name string, size int64)) error {
	return cold.List(ctx, p.Upstream, p.Bucket, p.Prefix, "", func(o cold.Listed) error {
		yield(strings.TrimPrefix(o.Key, p.Prefix), o.Size)
		return nil
	})
}

// Get implements snapshot.Remote.
func (p *Remote) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	resp, err := p.Upstream.Do(ctx, &cold.Request{Op: "GetObject", Method: http.MethodGet, Key: p.key(name), Header: http.Header{}})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, cold.NewResponseError(resp)
	}
	return resp.Body, nil
}

// Delete implements snapshot.Remote.
func (p *Remote) Delete(ctx context.Context, name string) error {
	defer p.Begin(p.key(name))()
	resp, err := p.Upstream.Do(ctx, &cold.Request{Op: "DeleteObject", Method: http.MethodDelete, Key: p.key(name), Header: http.Header{}})
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%w: the deletion of %s got %s", akigw.ErrUpstreamUnavailable, p.key(name), resp.Status)
	}
	return nil
}
