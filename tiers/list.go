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

// Listing is the upstream's answer to a listing. It is shared and must not be
// changed.
type Listing struct {
	Header  http.Header
	Body    []byte
	Outcome akigw.Outcome
	// Age is the time since the upstream was asked.
	Age time.Duration

	asked    time.Time
	revision uint64 // of the bucket
}

// maxListing is the largest listing in bytes that is kept: a thousand long keys
// fit.
const maxListing = 4 << 20

// listingVersion marks the key of a listing: no version id contains a NUL.
const listingVersion = "\x00list"

// weight is the memory that a listing takes, roughly.
func (l *Listing) weight() int { return len(l.Body) + 2048 }

// listings are the upstream's listings of buckets. Some are kept in memory for a while.
type listings struct {
	*catalog
	upstream  Upstream
	revisions *revisions
}

// List answers a listing of a bucket: query is all that was asked, and ask sends
// it upstream. In mode TTL with list_ttl_secs it is kept in memory for so long,
// unless something in the bucket changes through this gateway. It returns nil,
// and has asked nobody, where listings are not kept.
func (l *listings) List(ctx context.Context, bucket, prefix, query string, c akigw.Conditions, ask func(context.Context) (*http.Response, error)) (*Listing, *http.Response, error) {
	settings := l.rules.For(bucket, prefix)
	if settings.Freshness != rules.TTL || settings.ListTTL == 0 || !settings.Memory {
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
	case err == nil && len(body) > maxListing: // on it goes
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

// BytesOf returns the size in bytes of all objects that a bucket has upstream.
func (l *listings) BytesOf(ctx context.Context, bucket string) (sum int64, err error) {
	err = cold.List(ctx, l.upstream, bucket, "", "", func(o cold.Listed) error {
		sum += o.Size
		return nil
	})
	return sum, err
}
