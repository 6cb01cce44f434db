package tiers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// Listing is the upstream's response to a listing. It is shared and must not be changed.
type Listing struct {
	Header  http.Header
	Body    []byte
	Outcome akigw.Outcome
	// Age is the time since the request to the upstream.
	Age time.Duration

	asked    time.Time
	revision uint64 // of the bucket
}

// maxListing is the size in bytes of the largest listing that is cached: a thousand long keys fit.
const maxListing = 4 << 20

// listingVersion marks the key of a listing: no version ID contains a NUL.
const listingVersion = "\x00list"

// weight is the approximate memory use of a listing in bytes.
func (l *Listing) weight() int { return len(l.Body) + 2048 }

// listings caches the upstream's listings of buckets. Some are kept in memory for a while.
type listings struct {
	*catalog
	upstream  Upstream
	revisions *revisions
}

// List returns a listing of a bucket: query identifies the request, and ask sends it to the
// upstream. In mode TTL with list_ttl_secs the response is cached for that time, unless something
// in the bucket changes through this gateway. Where listings are not cached, List returns nil
// without calling ask.
func (l *listings) List(ctx context.Context, bucket, prefix, query string, c akigw.Conditions, ask func(context.Context) (*http.Response, error)) (*Listing, *http.Response, error) {
	settings := l.rules.For(bucket, prefix)
	if settings.Freshness != rules.TTL || settings.ListTTL == 0 || !settings.Memory || settings.Shadow.On() {
		return nil, nil, nil
	}
	key := hotKey{key: akigw.Key{Bucket: bucket, Name: query, Version: listingVersion}}
	if v, ok := l.hot.Get(key); ok && !c.NoCache {
		age := time.Since(v.listing.asked)
		if age >= 0 && age < settings.ListTTL && (c.MaxAge == 0 || age < c.MaxAge) && v.listing.revision == l.revisions.current(bucket) {
			l.counters.listingsHot.Inc()
			answer := *v.listing
			answer.Outcome, answer.Age = akigw.Hot, age
			return &answer, nil, nil
		}
	}
	fetched := &Listing{Outcome: akigw.Cold, asked: time.Now(), revision: l.revisions.current(bucket)}
	resp, err := ask(ctx)
	if err != nil || resp.StatusCode != http.StatusOK || resp.ContentLength > maxListing {
		return nil, resp, err
	}
	l.counters.listingsCold.Inc()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxListing+1))
	switch {
	case err == nil && len(body) > maxListing: // too large to cache: pass it on
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(body), resp.Body), resp.Body}
		return nil, resp, nil
	case err == nil && !bytes.HasSuffix(bytes.TrimSpace(body), []byte("</ListBucketResult>")):
		err = io.ErrUnexpectedEOF
	}
	resp.Body.Close()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: listing of %s: %w", akigw.ErrUpstreamUnavailable, bucket, err)
	}
	fetched.Header, fetched.Body = resp.Header, body
	l.hot.Put(key, hotValue{listing: fetched})
	return fetched, nil, nil
}

// BytesOf returns the total size in bytes of all objects that a bucket has in the upstream.
func (l *listings) BytesOf(ctx context.Context, bucket string) (sum int64, err error) {
	err = cold.List(ctx, l.upstream, bucket, "", "", func(o cold.Listed) error {
		sum += o.Size
		return nil
	})
	return sum, err
}
