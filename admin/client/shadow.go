package client

import (
	"context"

	"github.com/akidb/akigw/shadow"
)

// Shadow returns what serving from the cache would have saved, as far as shadow mode has seen.
func (c *Client) Shadow(ctx context.Context) (shadow.Report, error) {
	return get[shadow.Report](ctx, c, request{path: "/api/v1/shadow"})
}
