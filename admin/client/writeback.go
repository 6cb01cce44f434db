package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/akidb/akigw/writeback"
)

// DeadLetters returns the pending writes that cannot be uploaded without an operator.
func (c *Client) DeadLetters(ctx context.Context) ([]writeback.DeadLetter, error) {
	return get[[]writeback.DeadLetter](ctx, c, request{path: "/api/v1/dead-letters"})
}

// onDeadLetter returns a request that concerns one dead letter.
func onDeadLetter(what string, id uint64) request {
	return request{method: http.MethodPost, path: "/api/v1/dead-letters/" + what, query: url.Values{"id": {strconv.FormatUint(id, 10)}}}
}

// RetryDeadLetter queues a dead letter for upload again. It requires a key.
func (c *Client) RetryDeadLetter(ctx context.Context, id uint64) error {
	return c.do(ctx, onDeadLetter("retry", id))
}

// DropDeadLetter discards a dead letter permanently. It requires a key.
func (c *Client) DropDeadLetter(ctx context.Context, id uint64) error {
	return c.do(ctx, onDeadLetter("drop", id))
}

// ExportDeadLetter returns the body of a dead letter, which the caller closes. It requires a key.
func (c *Client) ExportDeadLetter(ctx context.Context, id uint64) (io.ReadCloser, error) {
	return c.send(ctx, onDeadLetter("export", id))
}

// ArchiveDeadLetters writes the bodies of all dead letters into one upstream object, a pack, and
// returns their number. It requires a key.
func (c *Client) ArchiveDeadLetters(ctx context.Context, bucket, key string) (archived int, err error) {
	done, err := get[struct {
		Archived int `json:"archived"`
	}](ctx, c, request{method: http.MethodPost, path: "/api/v1/dead-letters/archive", query: url.Values{"bucket": {bucket}, "key": {key}}})
	return done.Archived, err
}

// AcceptDamage makes a journal that was found damaged take writes again. It requires a key.
func (c *Client) AcceptDamage(ctx context.Context) error {
	return c.do(ctx, request{method: http.MethodPost, path: "/api/v1/journal/accept"})
}

// ResumeUploads uploads the pending writes of a bucket although the bucket has changed since they
// were acknowledged. forget also drops everything else that the gateway has learned about the bucket.
// It requires a key.
func (c *Client) ResumeUploads(ctx context.Context, bucket string, forget bool) error {
	return c.do(ctx, request{method: http.MethodPost, path: "/api/v1/journal/resume", query: url.Values{"bucket": {bucket}, "forget": {strconv.FormatBool(forget)}}})
}

// Unpack copies every packed object of a bucket into an object of its own and returns their number.
// It requires a key.
func (c *Client) Unpack(ctx context.Context, bucket string) (unpacked int, err error) {
	done, err := get[struct {
		Unpacked int `json:"unpacked"`
	}](ctx, c, request{method: http.MethodPost, path: "/api/v1/journal/unpack", query: url.Values{"bucket": {bucket}}})
	return done.Unpacked, err
}
