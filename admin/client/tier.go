package client

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/placement"
)

// State returns totals over the selected objects.
func (c *Client) State(ctx context.Context, what Objects) (placement.State, error) {
	return get[placement.State](ctx, c, request{path: "/api/v1/tier", query: what.query()})
}

// Object returns what the catalog knows about one object.
func (c *Client) Object(ctx context.Context, bucket, key string) (admin.Object, error) {
	return get[admin.Object](ctx, c, request{path: "/api/v1/tier", query: Objects{bucket, key, true}.query()})
}

// maxPage is the number of objects that are fetched per request.
const maxPage = 1000

// List returns the first known objects in key order, up to limit.
func (c *Client) List(ctx context.Context, what Objects, limit int) ([]admin.Object, error) {
	all, query := []admin.Object{}, what.query()
	for len(all) < limit {
		query.Set("limit", strconv.Itoa(min(limit-len(all), maxPage)))
		page, err := get[admin.Page](ctx, c, request{path: "/api/v1/tier/objects", query: query})
		if err != nil {
			return nil, err
		}
		all = append(all, page.Objects...)
		if page.Next == "" {
			break
		}
		query.Set("after", page.Next)
	}
	return all, nil
}

// Prefixes returns totals, largest first: by bucket if bucket is "", else for the bucket's objects
// below prefix by the next part of their keys.
func (c *Client) Prefixes(ctx context.Context, bucket, prefix string) ([]admin.Prefix, error) {
	query := url.Values{}
	if bucket != "" {
		query = Objects{Bucket: bucket, Prefix: prefix}.query()
	}
	return get[[]admin.Prefix](ctx, c, request{path: "/api/v1/tier/prefixes", query: query})
}

// TierMetrics returns the usage of the tiers and the state of the policy worker.
func (c *Client) TierMetrics(ctx context.Context) (admin.TierMetrics, error) {
	return get[admin.TierMetrics](ctx, c, request{path: "/api/v1/metrics/tiers"})
}

// Pins returns the pins that operators have set.
func (c *Client) Pins(ctx context.Context) ([]placement.Pin, error) {
	return get[[]placement.Pin](ctx, c, request{path: "/api/v1/tier/pins"})
}

// Move promotes, demotes, pins or unpins objects. For a pin, tier is warm or hot; for other actions
// it is empty. It requires a key.
func (c *Client) Move(ctx context.Context, action placement.Action, what Objects, tier string) (placement.MoveResult, error) {
	fields := map[string]string{"action": string(action)}
	for name, values := range what.query() {
		fields[name] = values[0]
	}
	if tier != "" {
		fields["tier"] = tier
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return placement.MoveResult{}, err
	}
	return get[placement.MoveResult](ctx, c, request{method: http.MethodPost, path: "/api/v1/tier", body: body})
}

// Prefetch selects what Warm fetches.
type Prefetch struct {
	Objects
	Tier  string // warm or hot
	Rate  int64  // bytes per second, 0 for no limit
	After string // key after which Warm starts, "" to start at the first key
}

// Warm prefetches objects and calls yield with each progress report. If the last report is not Done,
// the prefetch failed or the connection was lost. It requires a key.
func (c *Client) Warm(ctx context.Context, p Prefetch, yield func(placement.PrefetchProgress)) error {
	query := p.query()
	query.Set("tier", p.Tier)
	if p.Rate > 0 {
		query.Set("rate", strconv.FormatInt(p.Rate, 10))
	}
	if p.After != "" {
		query.Set("after", p.After)
	}
	body, err := c.send(ctx, request{method: http.MethodPost, path: "/api/v1/warm", query: query})
	if err != nil {
		return err
	}
	defer body.Close()
	var progress placement.PrefetchProgress
	for lines := bufio.NewScanner(body); lines.Scan(); yield(progress) {
		if err := json.Unmarshal(lines.Bytes(), &progress); err != nil {
			return err
		}
	}
	return nil
}

// Purge drops the cached data of objects and returns their number. It requires a key.
func (c *Client) Purge(ctx context.Context, what Objects) (purged int, err error) {
	done, err := get[struct {
		Purged int `json:"purged"`
	}](ctx, c, request{method: http.MethodPost, path: "/api/v1/purge", query: what.query()})
	return done.Purged, err
}
