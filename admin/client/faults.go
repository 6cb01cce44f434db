package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/akidb/akigw/faults"
)

const faultsPath = "/api/v1/faults"

// Faults returns the fault plan in force and the faults injected so far, nil if there is no plan.
func (c *Client) Faults(ctx context.Context) (*faults.Report, error) {
	return get[*faults.Report](ctx, c, request{path: faultsPath})
}

// SetFaults puts a fault plan in force, in TOML or JSON. It requires a key.
func (c *Client) SetFaults(ctx context.Context, plan []byte) (*faults.Report, error) {
	return get[*faults.Report](ctx, c, request{method: http.MethodPost, path: faultsPath, body: plan})
}

// SetFaultPreset puts a preset fault plan in force. It requires a key.
func (c *Client) SetFaultPreset(ctx context.Context, name string) (*faults.Report, error) {
	return get[*faults.Report](ctx, c, request{method: http.MethodPost, path: faultsPath, query: url.Values{"preset": {name}}})
}

// ClearFaults ends the fault plan in force. It requires a key.
func (c *Client) ClearFaults(ctx context.Context) error {
	return c.do(ctx, request{method: http.MethodDelete, path: faultsPath})
}
