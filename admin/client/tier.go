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

// State is the sums of what is known about objects.
func (c *Client) State(ctx context.Context, what Objects) (placement.State, error) {
	return get[placement.State](ctx, c, request{path: "/api/v1/tier", query: what.query()})
}

// Object is what is known about one object.
func (c *Client) Object(ctx context.Context, bucket, key string) (admin.Object, error) {
	return get[admin.Object](ctx, c, request{path: "/api/v1/tier", query: Objects{bucket, key, true}.query()})
}

// maxPage is how many objects are fetched at a time.
const maxPage = 1000

// List is the first known objects in the order of their keys, up to limit.
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

// Prefixes is sums by bucket if bucket is "", else sums of the bucket's objects below a prefix by the
// next part of their keys. The largest come first.
func (c *Client) Prefixes(ctx context.Context, bucket, prefix string) ([]admin.Prefix, error) {
	query := url.Values{}
	if bucket != "" {
		query = Objects{Bucket: bucket, Prefix: prefix}.query()
	}
	return get[[]admin.Prefix](ctx, c, request{path: "/api/v1/tier/prefixes", query: query})
}

// TierMetrics says how full the tiers are, and what the policy worker does.
func (c *Client) TierMetrics(ctx context.Context) (admin.TierMetrics, error) {
	return get[admin.TierMetrics](ctx, c, request{path: "/api/v1/metrics/tiers"})
}

// Pins is the pins that operators have set.
func (c *Client) Pins(ctx context.Context) ([]placement.Pin, error) {
	return get[[]placement.Pin](ctx, c, request{path: "/api/v1/tier/pins"})
}

// Move promotes, demotes, pins or unpins objects. tier is where a pin keeps them, warm or hot; the
// other actions have none. It needs a key.
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

// Prefetch is what Warm fetches.
type Prefetch struct {
	Objects
	Tier  string // warm or hot
	Rate  int64  // bytes per second, 0 for no bound
	After string // key behind which it begins, "" for the first
}

// Warm fetches objects before anybody asks for them, and calls yield each time that it has come
// further. The last progress says whether it is done: if it is not, the gateway failed, or has gone.
// It needs a key.
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

// Purge forgets what is cached of objects, and returns of how many. It needs a key.
func (c *Client) Purge(ctx context.Context, what Objects) (purged int, err error) {
	done, err := get[struct {
		Purged int `json:"purged"`
	}](ctx, c, request{method: http.MethodPost, path: "/api/v1/purge", query: what.query()})
	return done.Purged, err
}
