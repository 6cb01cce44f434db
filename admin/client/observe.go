package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/advise"
	"github.com/akidb/akigw/compare"
	"github.com/akidb/akigw/cost"
)

// Status returns what the gateway holds and what is not upstream yet.
func (c *Client) Status(ctx context.Context) (admin.Status, error) {
	return get[admin.Status](ctx, c, request{path: "/api/v1/status"})
}

// Cost returns the cost report.
func (c *Client) Cost(ctx context.Context) (cost.Report, error) {
	return get[cost.Report](ctx, c, request{path: "/api/v1/cost"})
}

// Compared returns what comparisons of answers from the cache with the upstream's have found. It
// requires a key.
func (c *Client) Compared(ctx context.Context) (compare.Report, error) {
	return get[compare.Report](ctx, c, request{path: "/api/v1/compare", private: true})
}

// Audit returns the last changes that were made or attempted on the admin listener, newest first, up
// to limit (1 to 1000). It requires a key.
func (c *Client) Audit(ctx context.Context, limit int) ([]admin.Audited, error) {
	return get[[]admin.Audited](ctx, c, request{path: "/api/v1/audit", query: url.Values{"limit": {strconv.Itoa(limit)}}, private: true})
}

// Explain returns the settings that apply to an object and the rules that they come from.
func (c *Client) Explain(ctx context.Context, bucket, key string) ([]admin.Setting, error) {
	return get[[]admin.Setting](ctx, c, request{path: "/api/v1/rules/explain", query: url.Values{"bucket": {bucket}, "key": {key}}})
}

// ErrGone is the error of an endless stream when the gateway closes it.
const ErrGone = akigw.Error("the gateway has closed the stream")

// maxLogLine is the longest line of the log in bytes.
const maxLogLine = 1 << 20

// Logs calls yield with each record of the log: first the last ones, then each new one. A record is a
// JSON object that is valid until yield returns. Logs returns the error of yield, nil when ctx is
// done, or ErrGone when the gateway ends. It requires a key.
func (c *Client) Logs(ctx context.Context, yield func(record []byte) error) error {
	body, err := c.send(ctx, request{path: "/api/v1/logs", private: true})
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxLogLine)
	for lines.Scan() {
		if record, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			if err := yield([]byte(record)); err != nil {
				return err
			}
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(lines.Err(), ErrGone)
}

// Trace records the accesses to the tiers for the given number of seconds, as lines of JSON:
// trace.Access between lines of trace.Header. nameless leaves out names and ETags. The caller reads
// the trace while it is recorded, and closes it. It requires a key.
func (c *Client) Trace(ctx context.Context, seconds float64, nameless bool) (io.ReadCloser, error) {
	query := url.Values{"seconds": {strconv.FormatFloat(seconds, 'f', -1, 64)}, "nameless": {strconv.FormatBool(nameless)}}
	return c.send(ctx, request{path: "/api/v1/trace", query: query, private: true})
}

// Advice returns proposals for the gateway's configuration. If seconds is not 0, the gateway records its
// accesses for so long first. It requires a key.
func (c *Client) Advice(ctx context.Context, seconds float64) (*advise.Report, error) {
	return get[*advise.Report](ctx, c, request{path: "/api/v1/advice", query: url.Values{"seconds": {strconv.FormatFloat(seconds, 'f', -1, 64)}}, private: true})
}

// Profile fetches a profile of the gateway in pprof format, or an execution trace. kind is cpu, heap,
// allocs, mutex, block, goroutine or trace. heap and goroutine are snapshots; the others are measured
// for the given number of seconds, at least 1.
func (c *Client) Profile(ctx context.Context, kind string, seconds float64) ([]byte, error) {
	name, query := kind, url.Values{}
	switch kind {
	case "cpu":
		name = "profile"
	case "heap":
		query.Set("gc", "1")
	}
	if kind != "heap" && kind != "goroutine" {
		query.Set("seconds", strconv.Itoa(max(1, int(seconds))))
	}
	body, err := c.send(ctx, request{path: "/debug/pprof/" + name, query: query})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	raw, err := io.ReadAll(body)
	if err != nil {
		return nil, fmt.Errorf("profile %s: %w", kind, err)
	}
	return raw, nil
}
