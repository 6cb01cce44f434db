package client

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/vectors/store"
)

// Vectors returns the vector collections. The error has status 404 if none are configured.
func (c *Client) Vectors(ctx context.Context) (admin.Vectors, error) {
	return get[admin.Vectors](ctx, c, request{path: "/api/v1/vectors"})
}

// MoveVectors promotes, demotes, pins or unpins a vector collection; with index "", all of a vector
// bucket. For a pin, tier is hot, warm or cold; for other actions it is empty. It requires a key.
func (c *Client) MoveVectors(ctx context.Context, action placement.Action, bucket, index, tier string) (admin.VectorsMoved, error) {
	fields := map[string]string{"action": string(action), "bucket": bucket}
	for name, value := range map[string]string{"index": index, "tier": tier} {
		if value != "" {
			fields[name] = value
		}
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return admin.VectorsMoved{}, err
	}
	return get[admin.VectorsMoved](ctx, c, request{method: http.MethodPost, path: "/api/v1/vectors/move", body: body})
}

// FlushVectors uploads all acknowledged vectors. It requires a key.
func (c *Client) FlushVectors(ctx context.Context) (admin.VectorsFlushed, error) {
	return get[admin.VectorsFlushed](ctx, c, request{method: http.MethodPost, path: "/api/v1/vectors/flush"})
}

// SweepVectors removes what no vector collection needs any more from the upstream. It requires a key.
func (c *Client) SweepVectors(ctx context.Context) error {
	return c.do(ctx, request{method: http.MethodPost, path: "/api/v1/vectors/sweep"})
}

// TakeVectors takes the prefix of the vector collections from another gateway. It requires a key.
func (c *Client) TakeVectors(ctx context.Context) (store.Takeover, error) {
	return get[store.Takeover](ctx, c, request{method: http.MethodPost, path: "/api/v1/vectors/takeover"})
}
