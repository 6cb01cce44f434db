package client

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/akidb/akigw/snapshot"
)

// snapshotPath returns the API path of a snapshot.
func snapshotPath(id string) string { return "/api/v1/snapshots/" + url.PathEscape(id) }

// Snapshots lists the snapshots of the catalog, newest first.
func (c *Client) Snapshots(ctx context.Context) ([]snapshot.Info, error) {
	return get[[]snapshot.Info](ctx, c, request{path: "/api/v1/snapshots"})
}

// CreateSnapshot creates a snapshot. It requires a key.
func (c *Client) CreateSnapshot(ctx context.Context) (snapshot.Info, error) {
	return get[snapshot.Info](ctx, c, request{method: http.MethodPost, path: "/api/v1/snapshots"})
}

// Snapshot has the gateway verify the digest of a snapshot and returns its metadata. id may be
// "latest".
func (c *Client) Snapshot(ctx context.Context, id string) (snapshot.Details, error) {
	return get[snapshot.Details](ctx, c, request{path: snapshotPath(id)})
}

// DeleteSnapshot deletes a snapshot; with force, even the last valid one. It requires a key.
func (c *Client) DeleteSnapshot(ctx context.Context, id string, force bool) error {
	return c.do(ctx, request{method: http.MethodDelete, path: snapshotPath(id), query: url.Values{"force": {strconv.FormatBool(force)}}})
}

// DiffSnapshots returns the differences between two snapshots, as lines of JSON for ReadChanges. The
// caller closes it.
func (c *Client) DiffSnapshots(ctx context.Context, from, to string) (io.ReadCloser, error) {
	return c.send(ctx, request{path: "/api/v1/snapshots-diff", query: url.Values{"from": {from}, "to": {to}}})
}

// ReadChanges calls yield with each change in the response of DiffSnapshots. The error is
// io.ErrUnexpectedEOF if the response was cut off.
func ReadChanges(body io.Reader, yield func(snapshot.Change)) error {
	for lines := bufio.NewScanner(body); lines.Scan(); {
		var c snapshot.Change
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return err
		}
		if c == (snapshot.Change{}) {
			return nil
		}
		yield(c)
	}
	return fmt.Errorf("the response was cut off: %w", io.ErrUnexpectedEOF)
}
