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

// snapshotPath is the path of a snapshot.
func snapshotPath(id string) string { return "/api/v1/snapshots/" + url.PathEscape(id) }

// Snapshots lists the snapshots of the catalog, the newest first.
func (c *Client) Snapshots(ctx context.Context) ([]snapshot.Info, error) {
	return get[[]snapshot.Info](ctx, c, request{path: "/api/v1/snapshots"})
}

// CreateSnapshot makes a snapshot. It needs a key.
func (c *Client) CreateSnapshot(ctx context.Context) (snapshot.Info, error) {
	return get[snapshot.Info](ctx, c, request{method: http.MethodPost, path: "/api/v1/snapshots"})
}

// Snapshot has a snapshot read whole and compared with its digest. id may be "latest".
func (c *Client) Snapshot(ctx context.Context, id string) (snapshot.Details, error) {
	return get[snapshot.Details](ctx, c, request{path: snapshotPath(id)})
}

// DeleteSnapshot deletes a snapshot; force deletes the last good one as well. It needs a key.
func (c *Client) DeleteSnapshot(ctx context.Context, id string, force bool) error {
	return c.do(ctx, request{method: http.MethodDelete, path: snapshotPath(id), query: url.Values{"force": {strconv.FormatBool(force)}}})
}

// DiffSnapshots is what happened to objects between two snapshots, as lines of JSON that ReadChanges
// reads. The caller closes it.
func (c *Client) DiffSnapshots(ctx context.Context, from, to string) (io.ReadCloser, error) {
	return c.send(ctx, request{path: "/api/v1/snapshots-diff", query: url.Values{"from": {from}, "to": {to}}})
}

// ReadChanges calls yield with each change that DiffSnapshots has. The error is io.ErrUnexpectedEOF if
// the answer was cut off.
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
	return fmt.Errorf("the answer was cut off: %w", io.ErrUnexpectedEOF)
}
